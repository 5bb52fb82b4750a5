//! Reading packets with the kernel's time stamps.

use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use haarb_daemon::clock;
use haarb_model::{Mono, Span};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use nix::time::{ClockId, clock_gettime};
use socket2::Socket;

/// Packets that are read from one socket before another has its turn: more than a neighbour
/// sends in a second, so that only a flood is interrupted.
const READ_MAX: usize = 256;
/// Longer than any datagram: what is longer is cut and fails its authentication.
const READ_BYTES: usize = 2048;
/// A kernel time stamp that is further back is the work of a wall clock that was set.
const STAMP_AGE_MAX: Span = Span::from_secs(1);

/// Length, sender, arrival.
type Packet = (usize, Option<IpAddr>, Mono);

/// Reads until nothing is there, or `take` wants no more.
pub(super) fn read_all(
    mut read: impl FnMut(&mut [u8; READ_BYTES]) -> io::Result<Packet>,
    mut take: impl FnMut(&[u8], Option<IpAddr>, Mono) -> bool,
) {
    let mut bytes = [0; READ_BYTES];
    for _ in 0..READ_MAX {
        match read(&mut bytes) {
            Ok((length, from, at)) => {
                if !take(&bytes[..length], from, at) {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // Interrupted; or the error of an earlier send, told once, with packets behind it.
            Err(_) => {}
        }
    }
}

pub(super) fn read_one(
    socket: &Socket,
    bytes: &mut [u8; READ_BYTES],
    clocks: &Clocks,
) -> io::Result<Packet> {
    let mut control = [0_u8; 128];
    let mut slices = [IoSliceMut::new(bytes.as_mut_slice())];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let from = message.address.as_ref().and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
    });
    let stamp = message.cmsgs().ok().and_then(|mut all| {
        all.find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(time) => Some(nanos(time)),
            _ => None,
        })
    });
    Ok((message.bytes, from, clocks.arrival(stamp)))
}

/// Both clocks at one moment: the kernel stamps packets with the wall clock, we count in
/// CLOCK_BOOTTIME.
#[derive(Debug)]
pub(super) struct Clocks {
    now: Mono,
    wall_ns: i128,
}

impl Clocks {
    pub(super) fn read() -> Self {
        Self {
            now: clock::now(),
            wall_ns: clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, nanos),
        }
    }

    /// When a packet arrived. Later than now, or too long ago: the wall clock was set between;
    /// then now is the best that is known.
    fn arrival(&self, stamp: Option<i128>) -> Mono {
        let age = stamp
            .map(|stamp| (self.wall_ns - stamp) / 1000)
            .and_then(|us| u64::try_from(us).ok())
            .map(Span::from_micros)
            .filter(|&age| age <= STAMP_AGE_MAX);
        match age {
            Some(age) => self.now - age,
            // It arrived after the clocks were read, or its age is not known.
            None => clock::now(),
        }
    }
}

fn nanos(time: nix::sys::time::TimeSpec) -> i128 {
    i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_stamp_counts_unless_the_wall_clock_was_set() {
        let now = clock::now();
        let clocks = Clocks {
            now,
            wall_ns: 5_000_000_000,
        };
        assert_eq!(
            clocks.arrival(Some(4_990_000_000)),
            now - Span::from_millis(10)
        );
        // From before the clock was set back, from before it was set ahead, and not at all.
        for stamp in [Some(9_000_000_000), Some(1_000_000_000), None] {
            assert!(clocks.arrival(stamp) >= now);
        }
    }
}
