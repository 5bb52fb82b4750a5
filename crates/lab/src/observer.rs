//! Watches the addresses of a server: who holds which virtual IP, and since when.
//!
//! Reads the kernel's address notifications in the server's network namespace; nothing in the server
//! takes part or can tell a different story. Holding an address is not serving: see
//! [`crate::analysis::active`] for that.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use crate::{
    analysis::Stretch,
    clock::Stamp,
    netlink::{local_address, messages},
    netns::NetNs,
    plan::ServerId,
};

/// `RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`.
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;

/// An address came or went on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddressEvent {
    /// When the lab read the notification.
    pub at: Stamp,
    /// The server.
    pub server: ServerId,
    /// The address.
    pub address: IpAddr,
    /// It came (or was renewed), or it went.
    pub held: bool,
}

/// The address events of all servers, in the order in which they were read.
#[derive(Debug, Clone, Default)]
pub struct AddressLog {
    events: Arc<Mutex<Vec<AddressEvent>>>,
}

impl AddressLog {
    /// Adds an event. A renewal of an address that is held already adds nothing.
    pub fn push(&self, event: AddressEvent) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let last = events
            .iter()
            .rev()
            .find(|old| old.server == event.server && old.address == event.address);
        if last.map_or(event.held, |last| last.held != event.held) {
            events.push(event);
        }
    }

    /// A server lost its power: whatever it held is gone.
    pub fn power_lost(&self, server: ServerId, at: Stamp) {
        for address in self.addresses_of(server) {
            self.push(AddressEvent {
                at,
                server,
                address,
                held: false,
            });
        }
    }

    /// Everything so far.
    #[must_use]
    pub fn events(&self) -> Vec<AddressEvent> {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The servers that hold `address` now.
    #[must_use]
    pub fn holders(&self, address: IpAddr, servers: usize) -> Vec<ServerId> {
        (0..servers)
            .filter(|server| self.addresses_of(*server).contains(&address))
            .collect()
    }

    /// When `server` held `address` within `from..=to`.
    #[must_use]
    pub fn held(&self, server: ServerId, address: IpAddr, from: Stamp, to: Stamp) -> Vec<Stretch> {
        held_stretches(&self.events(), server, address, from, to)
    }

    fn addresses_of(&self, server: ServerId) -> Vec<IpAddr> {
        let mut held = Vec::new();
        for event in self.events().iter().filter(|event| event.server == server) {
            held.retain(|address| *address != event.address);
            if event.held {
                held.push(event.address);
            }
        }
        held
    }
}

fn held_stretches(
    events: &[AddressEvent],
    server: ServerId,
    address: IpAddr,
    from: Stamp,
    to: Stamp,
) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    let mut since = None;
    for event in events
        .iter()
        .filter(|event| event.server == server && event.address == address)
    {
        if event.held {
            since.get_or_insert(event.at);
        } else if let Some(start) = since.take() {
            stretches.push(Stretch {
                from: start,
                to: event.at,
            });
        }
    }
    stretches.extend(since.map(|start| Stretch { from: start, to }));
    stretches
        .into_iter()
        .filter(|stretch| stretch.to >= from && stretch.from <= to)
        .map(|stretch| Stretch {
            from: stretch.from.max(from),
            to: stretch.to.min(to),
        })
        .collect()
}

/// Watches one server from power-on to power-off. Dropping it ends the watch.
pub struct AddressWatch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AddressWatch {
    /// Starts to watch `server`, whose network namespace is `netns`, into `log`.
    ///
    /// # Errors
    /// When the socket or the thread is refused.
    pub fn start(netns: &NetNs, server: ServerId, log: AddressLog) -> io::Result<Self> {
        let socket = netns.run(|| {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, ADDRESS_GROUPS))?;
            Ok(socket)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name(format!("addresses-{server}"))
            .spawn(move || {
                // Read late, two events of two servers would seem to overlap.
                crate::realtime::go_realtime();
                while !stopped.load(Ordering::Relaxed) {
                    // The time-out is only how soon a stop is noticed.
                    if waits(socket.as_fd())
                        && let Ok((datagram, _)) = socket.recv_from_full()
                    {
                        let at = Stamp::now();
                        for event in address_events(&datagram, server, at) {
                            log.push(event);
                        }
                    }
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for AddressWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn waits(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(50u8)).is_ok_and(|ready| ready > 0)
}

fn address_events(datagram: &[u8], server: ServerId, at: Stamp) -> Vec<AddressEvent> {
    messages(datagram)
        .filter_map(Result::ok)
        .filter_map(|message| match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => {
                local_address(&message).map(|address| AddressEvent {
                    at,
                    server,
                    address,
                    held: true,
                })
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => {
                local_address(&message).map(|address| AddressEvent {
                    at,
                    server,
                    address,
                    held: false,
                })
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(events: &[(u64, ServerId, bool)]) -> AddressLog {
        let log = AddressLog::default();
        for (at, server, held) in events {
            log.push(AddressEvent {
                at: Stamp(*at),
                server: *server,
                address: vip(),
                held: *held,
            });
        }
        log
    }

    fn vip() -> IpAddr {
        "10.77.1.100".parse().expect("an address")
    }

    #[test]
    fn stretches_follow_the_events_and_renewals_add_none() {
        let log = log(&[
            (5, 0, false),
            (10, 0, true),
            (12, 0, true),
            (20, 0, false),
            (30, 0, true),
            (15, 1, true),
        ]);
        let stretch = |from, to| Stretch {
            from: Stamp(from),
            to: Stamp(to),
        };
        assert_eq!(
            log.held(0, vip(), Stamp(0), Stamp(100)),
            [stretch(10, 20), stretch(30, 100)]
        );
        assert_eq!(
            log.held(0, vip(), Stamp(15), Stamp(40)),
            [stretch(15, 20), stretch(30, 40)]
        );
        assert_eq!(log.held(0, vip(), Stamp(21), Stamp(29)), []);
        assert_eq!(log.holders(vip(), 2), [0, 1]);
        assert_eq!(log.events().len(), 4);
    }

    #[test]
    fn a_server_without_power_holds_nothing() {
        let log = log(&[(10, 0, true), (11, 1, true)]);
        log.power_lost(0, Stamp(50));
        assert_eq!(log.holders(vip(), 2), [1]);
        assert_eq!(
            log.held(0, vip(), Stamp(0), Stamp(100)),
            [Stretch {
                from: Stamp(10),
                to: Stamp(50)
            }]
        );
    }
}
