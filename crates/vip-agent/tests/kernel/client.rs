//! A client at the other end of the cable: asks a VIP for an echo every millisecond and keeps
//! which of its requests were answered. Also what a test takes from an agent: system calls.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use haarb_daemon::clock;
use haarb_model::{Mono, Span};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Between two requests.
const INTERVAL: Duration = Duration::from_millis(1);

/// The requests of one client: when each left, and whether an answer came.
pub(crate) type Requests = Vec<(Mono, bool)>;

/// The client, asking.
pub(crate) struct Client {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Requests>>,
}

impl Client {
    /// Begins to ask. To be called in the client's network namespace.
    pub(crate) fn start(vip: IpAddr) -> Self {
        let socket = socket(vip).expect("a raw socket");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || ask(&socket, vip, &stopped));
        Self { stop, thread }
    }

    /// Ends it and returns every request, the oldest first.
    pub(crate) fn finish(self) -> Requests {
        self.stop.store(true, Ordering::Relaxed);
        let requests = self.thread.join().expect("no panic");
        requests.expect("the client can ask")
    }
}

fn socket(vip: IpAddr) -> io::Result<Socket> {
    let socket = match vip {
        IpAddr::V4(_) => Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)),
        IpAddr::V6(_) => Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)),
    }?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn ask(socket: &Socket, vip: IpAddr, stop: &AtomicBool) -> io::Result<Requests> {
    let mut requests = BTreeMap::<u16, (Mono, bool)>::new();
    let to = SockAddr::from(SocketAddr::new(vip, 0));
    let mut sequence = 0_u16;
    while !stop.load(Ordering::Relaxed) {
        sequence += 1;
        requests.insert(sequence, (clock::now(), false));
        // Unreachable is an answer too, and no failure of the client.
        let _ = socket.send_to(&request(vip, sequence), &to);
        std::thread::sleep(INTERVAL);
        answers(socket, vip, &mut requests);
    }
    // The last answers may still be on their way.
    std::thread::sleep(Duration::from_millis(20));
    answers(socket, vip, &mut requests);
    Ok(requests.into_values().collect())
}

/// An ICMP echo request; the kernel sums up ICMPv6 itself.
fn request(vip: IpAddr, sequence: u16) -> [u8; 8] {
    let [high, low] = sequence.to_be_bytes();
    match vip {
        IpAddr::V6(_) => [128, 0, 0, 0, 0x68, 0x61, high, low],
        IpAddr::V4(_) => {
            let mut sum = 0x0800 + 0x6861 + u32::from(sequence);
            sum = (sum & 0xffff) + (sum >> 16);
            let [a, b] = (!(sum as u16)).to_be_bytes();
            [8, 0, a, b, 0x68, 0x61, high, low]
        }
    }
}

fn answers(socket: &Socket, vip: IpAddr, requests: &mut BTreeMap<u16, (Mono, bool)>) {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 256];
    while let Ok(length) = socket.recv(&mut buffer) {
        // SAFETY: the kernel has written that many bytes, and a byte has no invalid value.
        #[expect(unsafe_code, reason = "socket2 gives bytes that may be uninitialised")]
        let packet = buffer[..length].iter().map(|b| unsafe { b.assume_init() });
        let packet: Vec<u8> = packet.collect();
        let (message, reply) = match vip {
            IpAddr::V4(_) => (packet.get(20..).unwrap_or_default(), 0),
            IpAddr::V6(_) => (&packet[..], 129),
        };
        if let &[kind, _, _, _, 0x68, 0x61, high, low] = message
            && kind == reply
            && let Some(request) = requests.get_mut(&u16::from_be_bytes([high, low]))
        {
            request.1 = true;
        }
    }
}

/// The last request that was answered left then.
pub(crate) fn last_answered(requests: &Requests) -> Option<Mono> {
    let answered = requests.iter().filter(|(_, answered)| *answered);
    answered.map(|&(at, _)| at).max()
}

/// How many requests that left between two moments were answered, and how many not.
pub(crate) fn between(requests: &Requests, from: Mono, to: Mono) -> (usize, usize) {
    let within = requests.iter().filter(|(at, _)| (from..to).contains(at));
    within.fold((0, 0), |(answered, lost), (_, answer)| match answer {
        true => (answered + 1, lost),
        false => (answered, lost + 1),
    })
}

/// How much later, with its sign, in milliseconds.
pub(crate) fn late_ms(at: Mono, than: Mono) -> f64 {
    let ms = |span: Span| span.as_micros() as f64 / 1000.0;
    if at >= than {
        ms(at.since(than))
    } else {
        -ms(than.since(at))
    }
}

/// What a test takes from the agent, as an old kernel or a sandbox would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Without {
    Nothing,
    Ebpf,
    EbpfAndNftables,
}

impl Without {
    /// Lets the kernel refuse these system calls to a command that is about to run.
    pub(crate) fn apply(self, command: &mut Command) {
        let filter = self.filter();
        if filter.is_empty() {
            return;
        }
        // SAFETY: only two system calls follow the fork; they read memory that was made before.
        #[expect(unsafe_code, reason = "a seccomp filter between fork and exec")]
        unsafe {
            command.pre_exec(move || {
                let program = libc::sock_fprog {
                    len: filter.len() as u16,
                    filter: filter.as_ptr().cast_mut(),
                };
                let no_new = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                let mode = libc::SECCOMP_MODE_FILTER;
                let refused = libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program);
                match (no_new, refused) {
                    (0, 0) => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
    }

    /// Classic BPF over `struct seccomp_data`: the number at 0, arguments from 16 on.
    fn filter(self) -> Vec<libc::sock_filter> {
        const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
        let step = |code: u32, jt, jf, k| libc::sock_filter {
            code: code as u16,
            jt,
            jf,
            k,
        };
        let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
        let protocol = match self {
            Self::Nothing => return Vec::new(),
            // No protocol has this number.
            Self::Ebpf => u32::MAX,
            Self::EbpfAndNftables => libc::NETLINK_NETFILTER.cast_unsigned(),
        };
        vec![
            step(LOAD, 0, 0, 0),
            step(EQUAL, 5, 0, libc::SYS_bpf as u32),
            step(EQUAL, 0, 5, libc::SYS_socket as u32),
            step(LOAD, 0, 0, 16),
            step(EQUAL, 0, 3, libc::AF_NETLINK.cast_unsigned()),
            step(LOAD, 0, 0, 32),
            step(EQUAL, 0, 1, protocol),
            step(RETURN, 0, 0, refuse),
            step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        ]
    }
}
