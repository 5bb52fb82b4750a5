//! A bad cable: loses, delays, reorders, walls off and forges frames, each direction on its own.
//!
//! A thread carries every frame from one interface to another, both in the switch's namespace, and does
//! to it what [`Flaws`] says. It needs no queueing discipline of the kernel and no rights beyond the
//! sandbox's. Frames keep their virtio header (`PACKET_VNET_HDR`), so checksums and segments that the
//! kernel leaves to the "hardware" are still finished at the other end.
//!
//! The thread is subject to the machine's stalls, so a delay is a lower bound.

mod frame;
mod mischief;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socket},
        time::TimeSpec,
    },
};

use crate::{clock::Stamp, netns::NetNs};

pub use frame::{Stop, Wall};
use mischief::Mischief;

/// What happens to the frames of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Flaws {
    /// Probability, 0 to 1, that a frame is lost. 1 cuts the direction.
    pub loss: f64,
    /// Added to every frame's way.
    pub delay: Duration,
    /// Up to this much more, evenly spread; what is sent later may overtake.
    pub jitter: Duration,
    /// What does not get through at all.
    pub wall: Wall,
    /// Probability, 0 to 1, that beside a datagram of a server an old one is sent again, and the same
    /// that a changed copy is sent.
    pub mischief: f64,
}

/// Both directions of a bad cable.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BadCable {
    /// From the switch to the machine.
    pub to_machine: Flaws,
    /// From the machine to the switch.
    pub from_machine: Flaws,
}

impl BadCable {
    /// The same flaws both ways.
    #[must_use]
    pub const fn both_ways(flaws: Flaws) -> Self {
        Self {
            to_machine: flaws,
            from_machine: flaws,
        }
    }
}

/// A thread that carries frames. Dropping it ends that.
pub(crate) struct Carrier {
    flaws: Arc<Mutex<BadCable>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A frame on its way.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    due: Stamp,
    /// Keeps frames of the same moment in order.
    number: u64,
    /// Index of the socket it leaves by.
    to: usize,
    frame: Vec<u8>,
}

/// The largest segment that the kernel hands over, and its headers.
const FRAME_MAX: usize = 70_000;
/// How soon a stop is noticed when nothing is under way.
const LOOK_UP: Duration = Duration::from_millis(50);

impl Carrier {
    /// Carries frames between two interfaces of `netns`: `machine` is the side of the machine.
    pub(crate) fn start(
        netns: &NetNs,
        machine: u32,
        switch: u32,
        cable: BadCable,
    ) -> io::Result<Self> {
        let sockets = netns.run(|| Ok([open(machine)?, open(switch)?]))?;
        let flaws = Arc::new(Mutex::new(cable));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen_flaws, seen_stop) = (Arc::clone(&flaws), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("bad-cable".into())
            .spawn(move || {
                // A relay that waits for a time slice would be a fault of its own.
                crate::realtime::go_realtime();
                let mut way = BinaryHeap::new();
                let mut mischief = [Mischief::default(), Mischief::default()];
                let mut dice = Dice(Stamp::now().0 | 1);
                let mut number = 0;
                while !seen_stop.load(Ordering::Relaxed) {
                    wait(
                        &sockets,
                        way.peek()
                            .map(|Reverse(frame): &Reverse<UnderWay>| frame.due),
                    );
                    let cable = *seen_flaws.lock().unwrap_or_else(PoisonError::into_inner);
                    for (from, flaws) in [(0, cable.from_machine), (1, cable.to_machine)] {
                        while let Some(frame) = read(&sockets[from]) {
                            if flaws.wall.stops(&frame) || dice.hits(flaws.loss) {
                                continue;
                            }
                            let more = mischief[from].beside(&frame, flaws.mischief, &mut dice);
                            for frame in std::iter::once(frame).chain(more) {
                                number += 1;
                                let due = Stamp::now()
                                    .plus(flaws.delay)
                                    .plus(dice.part_of(flaws.jitter));
                                way.push(Reverse(UnderWay {
                                    due,
                                    number,
                                    to: 1 - from,
                                    frame,
                                }));
                            }
                        }
                    }
                    while way
                        .peek()
                        .is_some_and(|Reverse(frame)| frame.due <= Stamp::now())
                    {
                        if let Some(Reverse(frame)) = way.pop() {
                            // Not sent because the interface is down: lost, as on any cable.
                            let _ = send(
                                sockets[frame.to].as_raw_fd(),
                                &frame.frame,
                                MsgFlags::MSG_DONTWAIT,
                            );
                        }
                    }
                }
            })?;
        Ok(Self {
            flaws,
            stop,
            thread: Some(thread),
        })
    }

    /// Changes the flaws of the cable.
    pub(crate) fn set(&self, cable: BadCable) {
        *self.flaws.lock().unwrap_or_else(PoisonError::into_inner) = cable;
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for a frame, or until the next one is due, or a little.
fn wait(sockets: &[OwnedFd; 2], due: Option<Stamp>) {
    let until_due = due.map_or(LOOK_UP, |due| due.since(Stamp::now()).min(LOOK_UP));
    let mut fds =
        [&sockets[0], &sockets[1]].map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
    let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(until_due)), None);
}

/// The next waiting frame with its virtio header.
fn read(socket: &OwnedFd) -> Option<Vec<u8>> {
    let mut frame = vec![0; FRAME_MAX];
    loop {
        match recv(socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                frame.truncate(length);
                return Some(frame);
            }
            Err(Errno::EINTR | Errno::ENETDOWN) => {}
            Err(_) => return None,
        }
    }
}

/// A packet socket on one interface that sees what arrives there, not what leaves.
#[expect(
    unsafe_code,
    reason = "nix and socket2 know neither sockaddr_ll nor the options of packet sockets"
)]
fn open(interface: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Protocol 0: it hears nothing before it is bound.
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    for option in [libc::PACKET_VNET_HDR, libc::PACKET_IGNORE_OUTGOING] {
        let on: libc::c_int = 1;
        let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
        // SAFETY: the pointer is to a live int of that length; the kernel copies it.
        let done = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                (&raw const on).cast(),
                length,
            )
        };
        Errno::result(done)?;
    }
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: i32::try_from(interface).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the pointer is to a live sockaddr_ll of that length; the kernel copies it.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    Errno::result(bound)?;
    Ok(fd)
}

/// Chance for faults: good enough to lose frames evenly (xorshift64*), not for anything secret.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }

    fn hits(&mut self, probability: f64) -> bool {
        self.roll() < probability
    }

    /// A number below `limit`; 0 when that is 0.
    fn below(&mut self, limit: usize) -> usize {
        ((self.roll() * limit as f64) as usize).min(limit.saturating_sub(1))
    }

    fn part_of(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.roll())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_are_fair_and_reach_both_ends() {
        let mut dice = Dice(42);
        let hits = (0..100_000).filter(|_| dice.hits(0.3)).count();
        assert!((29_000..31_000).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| !dice.hits(0.0)) && (0..1000).all(|_| dice.hits(1.0)));
        assert!(
            (0..1000).all(|_| dice.part_of(Duration::from_millis(10)) < Duration::from_millis(10))
        );
    }

    #[test]
    fn frames_leave_in_the_order_in_which_they_are_due() {
        let frame = |due, number| {
            Reverse(UnderWay {
                due: Stamp(due),
                number,
                to: 0,
                frame: Vec::new(),
            })
        };
        let mut way = BinaryHeap::from([frame(5, 1), frame(3, 2), frame(3, 3)]);
        let order: Vec<u64> = std::iter::from_fn(|| way.pop())
            .map(|Reverse(frame)| frame.number)
            .collect();
        assert_eq!(order, [2, 3, 1]);
    }
}
