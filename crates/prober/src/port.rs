//! The sockets of one network: ICMP and UDP, bound to its interface and to our address there.
//!
//! An interface or address that is not there, or vanishes, is a fact and not an error: the
//! port stays closed, says so once, and tries again.

mod echo;
mod news;
mod read;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::task::Context;

use haarb_daemon::{clock, timer};
use haarb_model::{Mono, Span};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::icmp::{self, Kind};
use echo::{Echo, Reply};
use read::{Clocks, read_all, read_one};

/// Between two attempts to open a port. An attempt costs some 20 us.
const RETRY_AFTER: Span = Span::from_millis(100);
/// Of the kernel's priorities (socket(7), SO_PRIORITY) the highest that needs no privilege.
const PRIORITY: u32 = 6;
/// Class selector 6, network control (RFC 2474): what switches prefer under load.
const TRAFFIC_CLASS: u32 = 0xc0;

/// What a port is made for.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The interface to bind to.
    pub(crate) interface: String,
    /// Our own address there.
    pub(crate) address: IpAddr,
    /// The UDP port of all servers.
    pub(crate) port: u16,
    /// Addresses that will be asked are IPv4, or IPv6.
    pub(crate) asks: [bool; 2],
    /// The number of this run.
    pub(crate) session: u64,
}

/// What arrived.
#[derive(Debug)]
pub(crate) enum Arrived<'a> {
    /// The reply to one of our requests.
    Reply { from: IpAddr, number: u64 },
    /// A datagram from whomever.
    Datagram(&'a [u8]),
}

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Everything, also where the reactor has not heard of it yet.
    All,
    /// What the reactor knows of, and what never wakes us.
    Arrived,
    /// ECHO replies.
    Replies,
}

/// The sockets of one network.
#[derive(Debug)]
pub(crate) struct Port {
    place: Place,
    open: Option<Open>,
    retry_at: Mono,
    /// The last reason why it is closed, so that it is said once.
    complaint: Option<String>,
}

#[derive(Debug)]
struct Open {
    index: u32,
    /// Not known to the reactor: replies wait, with the kernel's time stamps, until the next
    /// turn, which comes often enough. So they cost no turn of their own.
    echo: Vec<Echo>,
    /// Regular datagrams, likewise: the kernel sorts them out ([`news::sort`]). `None` where it
    /// cannot; then all are in the other socket.
    regular: Option<Socket>,
    /// Datagrams with news, which wake us.
    news: AsyncFd<Socket>,
}

impl Port {
    pub(crate) const fn new(place: Place) -> Self {
        Self {
            place,
            open: None,
            retry_at: Mono::ZERO,
            complaint: None,
        }
    }

    /// Opens what is closed, if it is time to try.
    pub(crate) fn repair(&mut self, now: Mono) {
        if self.open.is_some() || now < self.retry_at {
            return;
        }
        self.retry_at = now + RETRY_AFTER;
        let Place {
            interface, address, ..
        } = &self.place;
        match self.place.open() {
            Ok(open) => {
                tracing::info!("{interface}: probing from {address}");
                self.open = Some(open);
                self.complaint = None;
            }
            Err(reason) => {
                if self.complaint.as_ref() != Some(&reason) {
                    tracing::warn!(
                        "{interface}: cannot probe from {address}: {reason}; trying again"
                    );
                    self.complaint = Some(reason);
                }
            }
        }
    }

    /// Sends an ECHO request. When it left, or `None` where it did not.
    pub(crate) fn echo(&mut self, to: IpAddr, number: u64) -> Option<Mono> {
        let open = self.open.as_mut()?;
        let echo = (open.echo.iter_mut()).find(|echo| (echo.kind == Kind::V6) == to.is_ipv6())?;
        let request = icmp::request(echo.kind, self.place.session, number);
        let at = clock::now();
        match echo.socket.send_to(&request, &target(to, 0, open.index)) {
            Ok(_) => {
                echo.sent(number);
                Some(at)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// Sends a datagram.
    pub(crate) fn datagram(&mut self, to: IpAddr, bytes: &[u8]) {
        let Some(open) = &self.open else { return };
        let to = target(to, self.place.port, open.index);
        if let Err(error) = open.news.get_ref().send_to(bytes, &to) {
            self.failed(&error);
        }
    }

    /// A send failed. Sockets whose interface or address is gone are closed, to be opened anew;
    /// a full queue, a firewall or a missing route leave them as they are.
    fn failed(&mut self, error: &io::Error) {
        let Some(open) = &self.open else { return };
        let gone = matches!(
            error.raw_os_error().map(Errno::from_raw),
            Some(Errno::ENODEV | Errno::ENXIO | Errno::EINVAL | Errno::EADDRNOTAVAIL)
        );
        if gone || index_of(&self.place.interface) != Some(open.index) {
            tracing::warn!(
                "{}: {} is gone ({error})",
                self.place.interface,
                self.place.address
            );
            self.open = None;
            self.retry_at = Mono::ZERO;
        }
    }

    /// Whether a datagram may have arrived. Registers the task.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> bool {
        let news = self.open.as_ref().map(|open| &open.news);
        news.is_some_and(|udp| udp.poll_read_ready(context).is_ready())
    }

    /// Reads what has arrived.
    pub(crate) fn drain(&mut self, what: What, mut take: impl FnMut(Arrived<'_>, Mono)) {
        let Some(open) = &mut self.open else { return };
        let clocks = Clocks::read();
        for echo in &mut open.echo {
            let all = what == What::All;
            echo.drain(all, self.place.session, &clocks, |reply| {
                let Reply { from, number, at } = reply;
                take(Arrived::Reply { from, number }, at);
            });
        }
        if what == What::Replies {
            return;
        }
        // Those with news are few: they are kept until the regular ones that came before them
        // have been taken, because only counters that grow are accepted.
        let mut news: VecDeque<(Mono, Vec<u8>)> = VecDeque::new();
        let read = |bytes: &mut _| {
            if what == What::All {
                return read_one(open.news.get_ref(), bytes, &clocks);
            }
            // Without a system call where the reactor knows that nothing is there.
            open.news
                .try_io(Interest::READABLE, |udp| read_one(udp, bytes, &clocks))
        };
        read_all(read, |bytes, _, at| {
            news.push_back((at, bytes.to_vec()));
            true
        });
        if let Some(regular) = &open.regular {
            read_all(
                |bytes| read_one(regular, bytes, &clocks),
                |bytes, _, at| {
                    while news.front().is_some_and(|(before, _)| *before < at)
                        && let Some((before, bytes)) = news.pop_front()
                    {
                        take(Arrived::Datagram(&bytes), before);
                    }
                    take(Arrived::Datagram(bytes), at);
                    true
                },
            );
        }
        for (at, bytes) in news {
            take(Arrived::Datagram(&bytes), at);
        }
    }
}

impl Place {
    fn open(&self) -> Result<Open, String> {
        let index = index_of(&self.interface).ok_or("there is no such interface")?;
        let text = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let mut echo = Vec::new();
        for v6 in [false, true] {
            if self.asks[usize::from(v6)] {
                echo.push(self.open_echo(v6, index).map_err(text("ICMP"))?);
            }
        }
        // Alone first: two probers on one port would take each other's datagrams away.
        let alone = self.open_udp(index, false).map_err(text("UDP"))?;
        drop(alone);
        let (regular, news) = match self.open_sorted(index) {
            Ok((regular, news)) => (Some(regular), news),
            // An older kernel: every datagram wakes us, as ever.
            Err(_) => (None, self.open_udp(index, false).map_err(text("UDP"))?),
        };
        let news = timer::register(news).map_err(text("UDP"))?;
        Ok(Open {
            index,
            echo,
            regular,
            news,
        })
    }

    /// One socket for regular datagrams and one for news.
    fn open_sorted(&self, index: u32) -> io::Result<(Socket, Socket)> {
        let regular = self.open_udp(index, true)?;
        let news = self.open_udp(index, true)?;
        news::sort(&news)?;
        Ok((regular, news))
    }

    fn open_echo(&self, v6: bool, index: u32) -> io::Result<Echo> {
        let (domain, protocol) = if v6 {
            (Domain::IPV6, Protocol::ICMPV6)
        } else {
            (Domain::IPV4, Protocol::ICMPV4)
        };
        let (kind, socket) = match Socket::new(domain, Type::RAW, Some(protocol)) {
            Ok(socket) if v6 => (Kind::V6, socket),
            Ok(socket) => (Kind::RawV4, socket),
            // A ping socket needs no privilege where ping_group_range allows it (icmp(7)).
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let kind = if v6 { Kind::V6 } else { Kind::PingV4 };
                let socket = Socket::new(domain, Type::DGRAM, Some(protocol));
                (kind, socket.map_err(|_| error)?)
            }
            Err(error) => return Err(error),
        };
        // Before it is bound, so that nothing slips in unfiltered.
        socket.attach_filter(&icmp::filter(kind, self.session))?;
        self.prepare(&socket, v6)?;
        if self.address.is_ipv6() == v6 {
            socket.bind(&target(self.address, 0, index))?;
        }
        Ok(Echo::new(kind, socket))
    }

    fn open_udp(&self, index: u32, shared: bool) -> io::Result<Socket> {
        let v6 = self.address.is_ipv6();
        let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if v6 {
            socket.set_only_v6(true)?;
        }
        self.prepare(&socket, v6)?;
        socket.set_reuse_port(shared)?;
        socket.bind(&target(self.address, self.port, index))?;
        Ok(socket)
    }

    fn prepare(&self, socket: &Socket, v6: bool) -> io::Result<()> {
        socket.bind_device(Some(self.interface.as_bytes()))?;
        socket.set_nonblocking(true)?;
        setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
        // Both only help; a kernel or container that refuses them is no reason to stop.
        let _ = if v6 {
            socket.set_tclass_v6(TRAFFIC_CLASS)
        } else {
            socket.set_tos_v4(TRAFFIC_CLASS)
        };
        let _ = socket.set_priority(PRIORITY);
        Ok(())
    }
}

fn index_of(interface: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(interface).ok()
}

/// An address as the kernel wants it: link-local ones of IPv6 need their interface.
fn target(address: IpAddr, port: u16, index: u32) -> SockAddr {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            SocketAddrV6::new(v6, port, 0, index).into()
        }
        _ => SocketAddr::new(address, port).into(),
    }
}
