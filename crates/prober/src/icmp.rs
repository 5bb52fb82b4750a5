//! The bytes of ECHO requests and replies (RFC 792, RFC 4443), and the kernel filter that
//! lets only our replies through.
//!
//! A request carries the session of this run, a random number, and its own number; a reply
//! brings both back. So a reply to another program, to another run, or made up by somebody
//! who does not see our requests never counts.

use socket2::SockFilter;

/// How a socket presents what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// IPv4, raw: behind the IP header.
    RawV4,
    /// IPv4, ping socket: without it.
    PingV4,
    /// IPv6, raw or ping socket: without it.
    V6,
}

const REQUEST_BYTES: usize = 24;
const V4_REQUEST: u8 = 8;
const V4_REPLY: u8 = 0;
const V6_REQUEST: u8 = 128;
const V6_REPLY: u8 = 129;

/// An ECHO request. The kernel fills in the checksum of IPv6, and the identifier of a ping
/// socket.
pub(crate) fn request(kind: Kind, session: u64, number: u64) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    bytes[0] = match kind {
        Kind::RawV4 | Kind::PingV4 => V4_REQUEST,
        Kind::V6 => V6_REQUEST,
    };
    bytes[4..6].copy_from_slice(&session.to_be_bytes()[..2]);
    bytes[6..8].copy_from_slice(&number.to_be_bytes()[6..]);
    bytes[8..16].copy_from_slice(&session.to_be_bytes());
    bytes[16..24].copy_from_slice(&number.to_be_bytes());
    if kind == Kind::RawV4 {
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// The number of a request of this session, if these bytes are its reply. Total.
pub(crate) fn reply(kind: Kind, session: u64, bytes: &[u8]) -> Option<u64> {
    let message = match kind {
        Kind::RawV4 => {
            let words = usize::from(bytes.first()? & 0x0f);
            bytes.get(words * 4..)?
        }
        Kind::PingV4 | Kind::V6 => bytes,
    };
    let expected = match kind {
        Kind::RawV4 | Kind::PingV4 => V4_REPLY,
        Kind::V6 => V6_REPLY,
    };
    let message: &[u8; REQUEST_BYTES] = message.try_into().ok()?;
    let (head, number) = message.split_last_chunk::<8>()?;
    let (head, of) = head.split_last_chunk::<8>()?;
    let ours = head[0] == expected && head[1] == 0 && u64::from_be_bytes(*of) == session;
    ours.then(|| u64::from_be_bytes(*number))
}

/// The checksum of RFC 1071 over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A socket filter (the kernel's Documentation/networking/filter.rst) that passes replies of
/// this session alone. Without it, every request that a neighbour sends to us would wake this
/// process as well.
pub(crate) fn filter(kind: Kind, session: u64) -> Vec<SockFilter> {
    // ldxb 4*([0]&0xf) | ldx #0: where the ICMP message begins.
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    const LOAD_INDEX: u16 = 0x01;
    const LOAD_BYTE_AT_INDEX: u16 = 0x50;
    const LOAD_WORD_AT_INDEX: u16 = 0x40;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let begin = match kind {
        Kind::RawV4 => LOAD_HEADER_LENGTH,
        Kind::PingV4 | Kind::V6 => LOAD_INDEX,
    };
    let reply = match kind {
        Kind::RawV4 | Kind::PingV4 => V4_REPLY,
        Kind::V6 => V6_REPLY,
    };
    let (high, low) = ((session >> 32) as u32, session as u32);
    // Each test that fails jumps to the last line, which drops the packet.
    vec![
        SockFilter::new(begin, 0, 0, 0),
        SockFilter::new(LOAD_BYTE_AT_INDEX, 0, 0, 0),
        SockFilter::new(JUMP_IF_EQUAL, 0, 5, reply.into()),
        SockFilter::new(LOAD_WORD_AT_INDEX, 0, 0, 8),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, high),
        SockFilter::new(LOAD_WORD_AT_INDEX, 0, 0, 12),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, low),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: u64 = 0x0102_0304_0506_0708;

    fn answered(kind: Kind) -> Vec<u8> {
        let mut bytes = request(kind, SESSION, 0x1_0002).to_vec();
        bytes[0] = if kind == Kind::V6 { V6_REPLY } else { V4_REPLY };
        if kind == Kind::RawV4 {
            let mut packet = vec![0; 20];
            packet[0] = 0x45;
            packet.extend_from_slice(&bytes);
            return packet;
        }
        bytes
    }

    #[test]
    fn a_reply_brings_back_the_number() {
        for kind in [Kind::RawV4, Kind::PingV4, Kind::V6] {
            let bytes = answered(kind);
            assert_eq!(reply(kind, SESSION, &bytes), Some(0x1_0002));
            assert_eq!(reply(kind, SESSION + 1, &bytes), None, "another run");
            let request = request(kind, SESSION, 1);
            assert_eq!(reply(kind, SESSION, &request), None, "a request");
            for length in 0..bytes.len() {
                assert_eq!(reply(kind, SESSION, &bytes[..length]), None);
            }
        }
    }

    #[test]
    fn the_checksum_makes_the_sum_zero() {
        let bytes = request(Kind::RawV4, SESSION, 42);
        assert_eq!(checksum(&bytes), 0);
    }
}
