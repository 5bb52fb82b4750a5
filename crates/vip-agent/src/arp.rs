//! ARP frames for IPv4 over Ethernet: built whole, parsed totally. Never touches a socket.
//!
//! The one thing to know: a probe asks with the sender address 0.0.0.0 and so leaves every
//! cache as it is (RFC 5227, 2.1.1); an announcement says the same address twice and so
//! changes them (RFC 5227, 2.3).

use std::net::Ipv4Addr;

use crate::claim::{Claim, Mac};

/// EtherType of ARP (RFC 826).
pub const ETHERTYPE: u16 = 0x0806;

/// Ethernet header and ARP packet for IPv4; shorter frames are padded by the driver.
pub const FRAME_LEN: usize = 14 + 28;

/// What an ARP packet is for (RFC 826, `ar$op`).
#[derive(Clone, Copy)]
enum Operation {
    Request = 1,
    Reply = 2,
}

/// Asks whether anybody has `address`, without saying who asks.
///
/// Source: RFC 5227, 2.1.1.
#[must_use]
pub fn probe(from: Mac, address: Ipv4Addr) -> [u8; FRAME_LEN] {
    frame(
        Operation::Request,
        from,
        Ipv4Addr::UNSPECIFIED,
        Mac::ZERO,
        address,
    )
}

/// Tells everybody that `address` is at `from` now, in both forms: some stacks learn only
/// from requests, others only from replies.
///
/// Source: RFC 5227, 3 (why the request form is the standard one); RFC 5944, 4.6 (both forms).
#[must_use]
pub fn announcements(from: Mac, address: Ipv4Addr) -> [[u8; FRAME_LEN]; 2] {
    [
        frame(Operation::Request, from, address, Mac::ZERO, address),
        frame(Operation::Reply, from, address, Mac::BROADCAST, address),
    ]
}

fn frame(
    operation: Operation,
    from: Mac,
    sender: Ipv4Addr,
    target_mac: Mac,
    target: Ipv4Addr,
) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    frame[..6].copy_from_slice(&Mac::BROADCAST.0);
    frame[6..12].copy_from_slice(&from.0);
    frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    // Ethernet, IPv4, lengths 6 and 4.
    frame[14..20].copy_from_slice(&[0, 1, 0x08, 0, 6, 4]);
    frame[20..22].copy_from_slice(&(operation as u16).to_be_bytes());
    frame[22..28].copy_from_slice(&from.0);
    frame[28..32].copy_from_slice(&sender.octets());
    frame[32..38].copy_from_slice(&target_mac.0);
    frame[38..42].copy_from_slice(&target.octets());
    frame
}

/// Whose address a received Ethernet frame claims. `None` for everything that is no ARP for
/// IPv4 over Ethernet, is cut short, or is a probe (its sender claims nothing).
///
/// Source: RFC 826 (any packet tells where its sender is), RFC 5227, 2.4.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Claim> {
    let frame: &[u8; FRAME_LEN] = frame.get(..FRAME_LEN)?.try_into().ok()?;
    let operation = u16::from_be_bytes([frame[20], frame[21]]);
    if frame[12..14] != ETHERTYPE.to_be_bytes()
        || frame[14..20] != [0, 1, 0x08, 0, 6, 4]
        || !(1..=2).contains(&operation)
    {
        return None;
    }
    let sender = Ipv4Addr::from(<[u8; 4]>::try_from(&frame[28..32]).ok()?);
    let mac = Mac(frame[22..28].try_into().ok()?);
    if sender.is_unspecified() || mac == Mac::ZERO {
        return None;
    }
    Some(Claim {
        address: sender.into(),
        mac,
    })
}

#[cfg(test)]
mod tests;
