//! The client: asks every virtual IP, and every server directly, once per tick, and records who answers.
//!
//! One thread does it all: it sleeps on a timer with absolute times, sends the questions of the tick,
//! and reads every answer that has arrived; the kernel stamps arrivals, so reading them up to a tick
//! later falsifies nothing. A tick that the machine slept through is not made up for: a burst would be
//! no client's behaviour. The thread runs at real-time priority where it may.
//!
//! Ordinary requests go through the client's own neighbour table, as any client's do. Direct questions
//! are frames addressed to the server's MAC, so they reach it whatever the neighbour table says.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, setsockopt,
            socket,
            sockopt::{RcvBuf, RcvBufForce, ReceiveTimestampns, SndBuf},
        },
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};

use crate::{
    clock::{Stamp, WallOffset},
    netlink::Mac,
    netns::NetNs,
    packet::{ANSWER_LEN, Answer, Question},
    plan::{Plan, ServerId, VipId},
    trace::{Seen, Trace},
};

/// Time between two ticks.
pub const PERIOD: Duration = Duration::from_millis(1);

/// Source ports: of the direct questions, and of the ordinary requests from this one upwards.
const PROBE_PORT: u16 = 7100;
const CLIENT_PORT: u16 = 7101;

/// Who answers at this moment, without holding up the client.
#[derive(Clone)]
pub struct Glance {
    shared: Arc<Shared>,
}

impl Glance {
    /// Who answered the last request for `vip`, and when.
    #[must_use]
    pub fn last_answer(&self, vip: VipId) -> Option<(ServerId, Stamp)> {
        let last = self.shared.last.get(vip)?;
        let server = last.server.load(Ordering::Acquire);
        let received = Stamp(last.received.load(Ordering::Acquire));
        Some((usize::try_from(server).ok()?.checked_sub(1)?, received))
    }
}

/// A running client. Dropping it stops its thread.
pub struct Client {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    trace: Mutex<Trace>,
    stop: AtomicBool,
    /// Asks nothing while this is set; whoever clears it, or stops the client, notifies `wake`.
    paused: Mutex<bool>,
    wake: Condvar,
    /// Per virtual IP: who answered last and when, for those who wait for it without taking the lock.
    last: Vec<LastAnswer>,
    realtime: AtomicBool,
}

#[derive(Default)]
struct LastAnswer {
    /// Server number plus one; 0 is nobody.
    server: AtomicU64,
    received: AtomicU64,
}

/// The direct way to one server for one virtual IP.
struct Probe {
    server: ServerId,
    vip: VipId,
    interface: u32,
    server_mac: Mac,
    client_mac: Mac,
    client_address: IpAddr,
}

/// Everything the thread owns.
struct Worker {
    shared: Arc<Shared>,
    plan: Plan,
    /// Of the service, per virtual IP.
    ports: Vec<u16>,
    /// First one per virtual IP, then those of the direct questions.
    sockets: Vec<UdpSocket>,
    packet: OwnedFd,
    probes: Vec<Probe>,
}

impl Client {
    /// Starts a client in `netns`, whose interfaces are already cabled and addressed by `plan`.
    ///
    /// # Errors
    /// When a socket, the timer or the thread is refused.
    pub fn start(netns: &NetNs, plan: &Plan) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            trace: Mutex::new(Trace::new(plan.vips.len(), plan.servers.len())),
            stop: AtomicBool::new(false),
            paused: Mutex::default(),
            wake: Condvar::new(),
            last: plan.vips.iter().map(|_| LastAnswer::default()).collect(),
            realtime: AtomicBool::new(false),
        });
        let mut netlink = netns.netlink()?;
        let mut probes = Vec::new();
        for (vip, place) in plan.vips.iter().enumerate() {
            let interface = netlink
                .index_of(&plan.interface(place.network))
                .map_err(io::Error::other)?;
            let addresses = plan
                .client_addresses(place.network)
                .map(|(address, _)| address);
            let client_address = addresses
                .into_iter()
                .find(|address| address.is_ipv4() == place.address.is_ipv4());
            let client_address = client_address
                .ok_or_else(|| io::Error::other("no client address of that family"))?;
            for server in 0..plan.servers.len() {
                probes.push(Probe {
                    server,
                    vip,
                    interface,
                    server_mac: plan.server_mac(server, place.network),
                    client_mac: plan.client_mac(place.network),
                    client_address,
                });
            }
        }
        let (sockets, packet) = netns.run(|| {
            // A socket per virtual IP: requests to an address that nobody has wait in the kernel for its
            // neighbour table and fill their socket, which must not keep the others back.
            let ports = (0..plan.vips.len()).map(|vip| CLIENT_PORT + small(vip));
            let requests = plan.vips.iter().zip(ports).map(|(vip, port)| {
                open(
                    if vip.address.is_ipv4() {
                        "0.0.0.0"
                    } else {
                        "::"
                    },
                    port,
                )
            });
            let probes = ["0.0.0.0", "::"].map(|any| open(any, PROBE_PORT));
            let sockets = requests.chain(probes).collect::<io::Result<Vec<_>>>()?;
            let packet = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                None,
            )?;
            Ok((sockets, packet))
        })?;
        let worker = Worker {
            shared: Arc::clone(&shared),
            plan: plan.clone(),
            ports: (0..plan.vips.len()).map(|vip| plan.port_of(vip)).collect(),
            sockets,
            packet,
            probes,
        };
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC)?;
        let thread = std::thread::Builder::new()
            .name("client".into())
            .spawn(move || worker.run(&timer))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// A copy of what was seen in `from..=to`.
    #[must_use]
    pub fn cut(&self, from: Stamp, to: Stamp) -> Trace {
        self.shared
            .trace
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .cut(from, to)
    }

    /// Who answered the last request for `vip`, and when.
    #[must_use]
    pub fn last_answer(&self, vip: VipId) -> Option<(ServerId, Stamp)> {
        self.glance().last_answer(vip)
    }

    /// A handle for others who want to know who answers.
    #[must_use]
    pub fn glance(&self) -> Glance {
        Glance {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Stops asking, or asks again: a segment that is not being measured need not cost anything.
    pub fn pause(&self, paused: bool) {
        *self.shared.paused() = paused;
        self.shared.wake.notify_all();
    }

    /// Whether the client runs at real-time priority.
    #[must_use]
    pub fn is_realtime(&self) -> bool {
        self.shared.realtime.load(Ordering::Relaxed)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.pause(false);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn paused(&self) -> MutexGuard<'_, bool> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the client is paused; `true` if it was.
    fn rest(&self) -> bool {
        let paused = self.paused();
        let was_paused = *paused;
        drop(
            self.wake
                .wait_while(paused, |paused| *paused)
                .unwrap_or_else(PoisonError::into_inner),
        );
        was_paused
    }
}

impl Worker {
    fn run(&self, timer: &TimerFd) {
        self.shared
            .realtime
            .store(crate::realtime::go_realtime(), Ordering::Relaxed);
        let mut due = Stamp::now().plus(PERIOD);
        while !self.shared.stop.load(Ordering::Relaxed) {
            if self.shared.rest() {
                due = Stamp::now().plus(PERIOD);
            }
            let at = TimeSpec::from_duration(Duration::from_nanos(due.0));
            if timer
                .set(
                    Expiration::OneShot(at),
                    TimerSetTimeFlags::TFD_TIMER_ABSTIME,
                )
                .is_err()
                || timer.wait().is_err()
            {
                continue;
            }
            let now = Stamp::now();
            let late = now.since(due);
            self.ask(now, late);
            self.read_answers();
            due = due.plus(PERIOD);
            if due < now {
                due = now.plus(PERIOD); // slept through: go on from here, in step with the clock again
            }
        }
    }

    fn trace(&self) -> MutexGuard<'_, Trace> {
        self.shared
            .trace
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends all questions of one tick. What cannot be sent (network down) is a lost request.
    fn ask(&self, now: Stamp, late: Duration) {
        let number = self
            .trace()
            .begin(now, u64::try_from(late.as_nanos()).unwrap_or(u64::MAX));
        for (vip, place) in self.plan.vips.iter().enumerate() {
            let question = Question {
                number,
                vip: small(vip),
                probe: None,
            }
            .encode();
            let socket = &self.sockets[vip];
            let _ = socket.send_to(&question, SocketAddr::new(place.address, self.ports[vip]));
        }
        for probe in &self.probes {
            let question = Question {
                number,
                vip: small(probe.vip),
                probe: Some(small(probe.server)),
            };
            if let Some(frame) = frame(
                probe,
                self.plan.vips[probe.vip].address,
                self.ports[probe.vip],
                &question,
            ) {
                let _ = send_frame(&self.packet, probe.interface, probe.server_mac, &frame);
            }
        }
    }

    fn read_answers(&self) {
        let offset = WallOffset::read();
        for socket in &self.sockets {
            while let Some((answer, received)) = receive(socket, offset) {
                self.note(&answer, received);
            }
        }
    }

    fn note(&self, answer: &Answer, received: Stamp) {
        let Some(server) = self.plan.server(&answer.node) else {
            return;
        };
        let vip = usize::from(answer.question.vip);
        let seen = Seen {
            server,
            answered: Stamp(answer.answered),
            received,
        };
        self.trace().note(
            answer.question.number,
            vip,
            answer.question.probe.map(usize::from),
            seen,
        );
        if answer.question.probe.is_none()
            && let Some(last) = self.shared.last.get(vip)
        {
            last.received.store(received.0, Ordering::Release);
            last.server.store(server as u64 + 1, Ordering::Release);
        }
    }
}

fn small(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX - 1)
}

fn open(any: &str, port: u16) -> io::Result<UdpSocket> {
    let address: IpAddr = any.parse().map_err(io::Error::other)?;
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(SocketAddr::new(address, port)),
        socket2::Type::DGRAM,
        None,
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(address, port).into())?;
    setsockopt(&socket, ReceiveTimestampns, &true)?;
    // Few requests wait in the kernel while it looks for the address's owner: hundreds, sent at once when
    // a link comes back, would overrun the service, and no client asks like that.
    let _ = setsockopt(&socket, SndBuf, &4096);
    make_room(&socket);
    Ok(socket.into())
}

/// Room for what arrives while the machine stalls, beyond the system's limit where that is allowed.
pub(crate) fn make_room(socket: &impl AsFd) {
    const BYTES: usize = 4 << 20;
    if setsockopt(socket, RcvBufForce, &BYTES).is_err() {
        let _ = setsockopt(socket, RcvBuf, &BYTES);
    }
}

/// One waiting answer with the time of its arrival; `None` when none waits. What is no answer of the
/// service is skipped.
fn receive(socket: &UdpSocket, offset: WallOffset) -> Option<(Answer, Stamp)> {
    loop {
        let mut bytes = [0; ANSWER_LEN];
        let mut space = nix::cmsg_space!(libc::timespec);
        let mut iov = [IoSliceMut::new(&mut bytes)];
        let (length, stamp) = match recvmsg::<()>(
            socket.as_raw_fd(),
            &mut iov,
            Some(&mut space),
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(message) => {
                let stamp = message.cmsgs().ok().and_then(|mut all| {
                    all.find_map(|one| match one {
                        ControlMessageOwned::ScmTimestampns(time) => Some(wall_ns(time)),
                        _ => None,
                    })
                });
                (message.bytes, stamp)
            }
            Err(Errno::EAGAIN) => return None,
            Err(_) => continue, // an ICMP error of an earlier request, read and forgotten
        };
        let received = stamp.map_or_else(Stamp::now, |wall| offset.to_stamp(wall));
        if let Some(answer) = Answer::decode(&bytes[..length]) {
            return Some((answer, received));
        }
    }
}

fn wall_ns(time: TimeSpec) -> u64 {
    u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// The frame that carries a direct question: to the server's MAC, for the virtual IP.
fn frame(probe: &Probe, vip: IpAddr, port: u16, question: &Question) -> Option<Vec<u8>> {
    let ethernet = etherparse::PacketBuilder::ethernet2(probe.client_mac, probe.server_mac);
    let ip = match (probe.client_address, vip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
        _ => return None,
    };
    let udp = ip.udp(PROBE_PORT, port);
    let payload = question.encode();
    let mut frame = Vec::with_capacity(udp.size(payload.len()));
    udp.write(&mut frame, &payload).ok()?;
    Some(frame)
}

/// Sends one Ethernet frame out of the interface with the given index.
///
/// # Errors
/// As the kernel refuses: the interface is down, its queue is full.
#[expect(
    unsafe_code,
    reason = "neither nix nor socket2 can build a sockaddr_ll to send to"
)]
pub fn send_frame(socket: &OwnedFd, interface: u32, to: Mac, frame: &[u8]) -> io::Result<()> {
    let mut hardware = [0; 8];
    hardware[..6].copy_from_slice(&to);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(interface).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: hardware,
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: both pointers are to live values, with their exact lengths; the kernel copies them.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            length,
        )
    };
    Errno::result(sent).map(drop).map_err(io::Error::from)
}
