//! Neighbour discovery frames for IPv6 over Ethernet: built whole, parsed totally. Never
//! touches a socket.
//!
//! The one thing to know: a probe is the solicitation of duplicate address detection (from
//! `::`), which the holder answers to all nodes; an announcement is an advertisement that
//! nobody asked for, with the override flag (RFC 4861, 7.2.6).

use std::net::Ipv6Addr;

use crate::claim::{Claim, Mac};

/// EtherType of IPv6 (RFC 2464).
pub const ETHERTYPE: u16 = 0x86dd;

const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Neighbour discovery never crosses a router: receivers check this (RFC 4861, 7.1).
const HOP_LIMIT: u8 = 255;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;
const OPTION_TARGET_MAC: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const IP: usize = 14;
const ICMP: usize = IP + 40;

/// Asks whether anybody has `address`, without saying who asks.
///
/// Source: RFC 4862, 5.4.2.
#[must_use]
pub fn probe(from: Mac, address: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = address.octets();
    let to = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    );
    let mut message = [0; 24];
    message[0] = SOLICITATION;
    message[8..24].copy_from_slice(&address.octets());
    frame(from, Ipv6Addr::UNSPECIFIED, to, &message)
}

/// Tells all nodes that `address` is at `from` now, and that they should believe it over
/// what they knew.
///
/// Source: RFC 4861, 4.4 and 7.2.6.
#[must_use]
pub fn announcement(from: Mac, address: Ipv6Addr) -> Vec<u8> {
    let mut message = [0; 32];
    message[0] = ADVERTISEMENT;
    message[4] = FLAG_OVERRIDE;
    message[8..24].copy_from_slice(&address.octets());
    // The length of an option counts units of eight bytes.
    message[24..26].copy_from_slice(&[OPTION_TARGET_MAC, 1]);
    message[26..32].copy_from_slice(&from.0);
    frame(from, address, ALL_NODES, &message)
}

/// `message` is an ICMPv6 message whose checksum is still zero; `to` is a multicast address.
fn frame(from: Mac, source: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ICMP + message.len());
    // RFC 2464, 7: 33:33 and the last four bytes of the group.
    frame.extend([0x33, 0x33]);
    frame.extend(&to.octets()[12..]);
    frame.extend(from.0);
    frame.extend(ETHERTYPE.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(source.octets());
    frame.extend(to.octets());
    frame.extend(message);
    let sum = checksum(source, to, message);
    frame[ICMP + 2..ICMP + 4].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The checksum of an ICMPv6 message; over a message that carries its right checksum: 0.
///
/// Source: RFC 4443, 2.3; RFC 8200, 8.1.
fn checksum(source: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| u32::from(b)))
            .sum()
    };
    let mut sum = words(&source.octets())
        + words(&to.octets())
        + message.len() as u32
        + u32::from(ICMPV6)
        + words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Whose address a received Ethernet frame claims: an advertisement claims its target, a
/// solicitation its source. `None` for everything else, for what fails the checks of
/// RFC 4861, 7.1, and for probes (their sender claims nothing).
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Claim> {
    let header = frame.get(..ICMP)?;
    if header[12..14] != ETHERTYPE.to_be_bytes()
        || header[IP] >> 4 != 6
        || header[IP + 6] != ICMPV6
        || header[IP + 7] != HOP_LIMIT
    {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([header[IP + 4], header[IP + 5]]));
    let message = frame.get(ICMP..ICMP + length)?;
    let source = address(&header[IP + 8..IP + 24])?;
    let to = address(&header[IP + 24..IP + 40])?;
    if length < 24 || message[1] != 0 || checksum(source, to, message) != 0 {
        return None;
    }
    let sender = Mac(header[6..12].try_into().ok()?);
    let target = address(&message[8..24])?;
    let (address, mac) = match message[0] {
        ADVERTISEMENT if to.is_multicast() && message[4] & FLAG_SOLICITED != 0 => return None,
        ADVERTISEMENT => (target, target_mac(&message[24..])?.unwrap_or(sender)),
        SOLICITATION if !source.is_unspecified() => (source, sender),
        _ => return None,
    };
    let plausible = !address.is_multicast() && mac != Mac::ZERO;
    plausible.then_some(Claim {
        address: address.into(),
        mac,
    })
}

fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
}

/// The target's MAC address among the options; the outer `None`: the options are malformed.
fn target_mac(mut options: &[u8]) -> Option<Option<Mac>> {
    let mut found = None;
    while !options.is_empty() {
        let length = usize::from(*options.get(1)?) * 8;
        // RFC 4861, 4.6: an option of length zero discards the packet.
        if length == 0 {
            return None;
        }
        let option = options.get(..length)?;
        if option[0] == OPTION_TARGET_MAC {
            found = Some(Mac(option[2..8].try_into().ok()?));
        }
        options = &options[length..];
    }
    Some(found)
}

#[cfg(test)]
mod tests;
