//! Packet sockets on the interfaces that carry VIPs: announcements and probes out, claims in.
//!
//! They are opened when an interface appears, never on the failover path. The kernel filters
//! what comes in, so that a busy interface wakes nobody.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::task::{Context, Poll};

use haarb_model::VipSpec;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use crate::claim::Claim;
use crate::plan::Link;
use crate::{arp, ndp};

/// Longest frame that is looked at: neighbour discovery with its options is far below it.
const FRAME_MAX: usize = 512;
/// Frames that are read from one socket before others get their turn.
const FRAMES_PER_TURN: usize = 64;

/// The sockets of every interface that carries VIPs.
#[derive(Debug, Default)]
pub struct Ports {
    ports: BTreeMap<String, Port>,
}

#[derive(Debug)]
struct Port {
    index: u32,
    arp: Option<AsyncFd<PacketSocket>>,
    ndp: Option<AsyncFd<PacketSocket>>,
}

#[derive(Debug)]
struct PacketSocket(Socket);

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Ports {
    /// Opens what an interface needs for its VIPs, once per interface. Returns whether this
    /// was the first time.
    ///
    /// # Errors
    /// The kernel refuses a socket (CAP_NET_RAW), or the interface has just gone.
    pub fn open<'a>(
        &mut self,
        link: &Link,
        vips: impl Iterator<Item = &'a VipSpec>,
    ) -> io::Result<bool> {
        let known = self
            .ports
            .get(&link.name)
            .is_some_and(|p| p.index == link.index);
        if known || !link.asks {
            return Ok(false);
        }
        let vips: Vec<_> = vips.filter(|v| v.interface == link.name).collect();
        let has = |v6: bool| vips.iter().any(|v| v.address.is_ipv6() == v6);
        let open = |wanted: bool, ethertype, filter: &[SockFilter]| {
            wanted
                .then(|| PacketSocket::open(link.index, ethertype, filter))
                .transpose()
        };
        let port = Port {
            index: link.index,
            arp: open(has(false), arp::ETHERTYPE, &[])?,
            ndp: open(has(true), ndp::ETHERTYPE, &neighbour_discovery())?,
        };
        self.ports.insert(link.name.clone(), port);
        Ok(true)
    }

    /// Closes the sockets of an interface that is gone.
    pub fn close(&mut self, interface: &str) {
        self.ports.remove(interface);
    }

    /// Sends one announcement of a VIP: gratuitous ARP in both forms, or an unsolicited
    /// neighbour advertisement.
    ///
    /// # Errors
    /// The frame could not leave: no carrier, no socket, a full queue.
    pub fn announce(&self, vip: &VipSpec, link: &Link) -> io::Result<()> {
        let from = link.mac.ok_or(io::ErrorKind::AddrNotAvailable)?;
        match vip.address {
            IpAddr::V4(address) => arp::announcements(from, address)
                .iter()
                .try_for_each(|frame| self.send(vip, frame)),
            IpAddr::V6(address) => self.send(vip, &ndp::announcement(from, address)),
        }
    }

    /// Asks whether anybody has a VIP.
    ///
    /// # Errors
    /// As [`Self::announce`].
    pub fn probe(&self, vip: &VipSpec, link: &Link) -> io::Result<()> {
        let from = link.mac.ok_or(io::ErrorKind::AddrNotAvailable)?;
        match vip.address {
            IpAddr::V4(address) => self.send(vip, &arp::probe(from, address)),
            IpAddr::V6(address) => self.send(vip, &ndp::probe(from, address)),
        }
    }

    fn send(&self, vip: &VipSpec, frame: &[u8]) -> io::Result<()> {
        let port = self.ports.get(&vip.interface);
        let socket = port.and_then(|p| match vip.address {
            IpAddr::V4(_) => p.arp.as_ref(),
            IpAddr::V6(_) => p.ndp.as_ref(),
        });
        let socket = socket.ok_or(io::ErrorKind::NotConnected)?;
        socket.get_ref().0.send(frame).map(drop)
    }

    /// Ready when a frame waits on any socket.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        for socket in self.sockets().map(|(_, _, socket)| socket) {
            if let Poll::Ready(Ok(mut guard)) = socket.poll_read_ready(context) {
                // The kernel is asked again by [`Self::drain`], which reads until it is
                // empty; what comes after that makes the socket ready anew.
                guard.clear_ready();
                ready = Poll::Ready(());
            }
        }
        ready
    }

    /// Reads what waits on all sockets. Returns whether more may be left.
    pub fn drain(&self, mut heard: impl FnMut(&str, Claim)) -> bool {
        let mut more = false;
        let mut frame = [0; FRAME_MAX];
        for (interface, parse, socket) in self.sockets() {
            let mut left = FRAMES_PER_TURN;
            while left > 0
                && let Ok(length) = nix::unistd::read(&socket.get_ref().0, &mut frame)
            {
                left -= 1;
                if let Some(claim) = parse(&frame[..length]) {
                    heard(interface, claim);
                }
            }
            more |= left == 0;
        }
        more
    }

    fn sockets(&self) -> impl Iterator<Item = (&str, Parse, &AsyncFd<PacketSocket>)> {
        self.ports.iter().flat_map(|(name, port)| {
            let arp = port.arp.iter().map(|s| (arp::parse as Parse, s));
            let ndp = port.ndp.iter().map(|s| (ndp::parse as Parse, s));
            arp.chain(ndp).map(|(parse, s)| (name.as_str(), parse, s))
        })
    }
}

type Parse = fn(&[u8]) -> Option<Claim>;

impl PacketSocket {
    fn open(index: u32, ethertype: u16, filter: &[SockFilter]) -> io::Result<AsyncFd<Self>> {
        // Protocol 0 receives nothing until it is bound, so no frame of another interface
        // or before the filter slips in (packet(7)).
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        if !filter.is_empty() {
            socket.attach_filter(filter)?;
        }
        socket.bind(&link_address(index, ethertype))?;
        haarb_daemon::timer::register(Self(socket))
    }
}

/// `struct sockaddr_ll` for everything of one EtherType on one interface (packet(7)).
fn link_address(index: u32, ethertype: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    let length = size_of::<libc::sockaddr_ll>();
    // SAFETY: `view_as` asks for one of the platform's sockaddr types; this is one. `new`
    // asks for an initialised address of that length; all its fields are plain numbers.
    #[expect(
        unsafe_code,
        reason = "no safe wrapper makes an address for packet sockets"
    )]
    unsafe {
        let address: &mut libc::sockaddr_ll = storage.view_as();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ethertype.to_be();
        address.sll_ifindex = index.cast_signed();
        SockAddr::new(storage, length as libc::socklen_t)
    }
}

/// Passes neighbour solicitations and advertisements only (bpf(4)): offsets are those of an
/// Ethernet frame with IPv6 and no extension headers, which RFC 6980 demands for them in
/// fragments and which no sender uses.
fn neighbour_discovery() -> [SockFilter; 6] {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 20),
        SockFilter::new(IF_EQUAL, 0, 3, 58),
        SockFilter::new(LOAD_BYTE, 0, 0, 54),
        // 134 and below: router advertisements, echoes; above 136: redirects.
        SockFilter::new(IF_GREATER, 0, 1, 134),
        SockFilter::new(RETURN, 0, 0, FRAME_MAX as u32),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
