//! The measured service: answers every question at once, from the address that was asked.
//!
//! It binds the unspecified addresses, as most services do, so it may start before the virtual IP is
//! there; each reply leaves from the address that the question was sent to (`IP_PKTINFO`). A reply
//! therefore proves that this server still held that address when it answered: the kernel refuses a
//! source address that is not its own.
//!
//! Like the client it runs at real-time priority where that is allowed: it is a part of the measure, and
//! an answer that is late because the processors are busy says nothing of who held the address.
//!
//! With a directory to write to it also keeps a numbered, checksummed file history there
//! ([`crate::history`]).

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigSet, Signal},
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
        SockaddrIn, SockaddrIn6, SockaddrStorage, bind, recvmsg, sendmsg, setsockopt, socket,
        sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, Ipv6V6Only, SndBuf, SndBufForce},
    },
};

use crate::{
    clock::Stamp,
    history,
    packet::{ANSWER_LEN, Question, encode_answer},
};

/// Options of the service.
#[derive(Debug, Clone, clap::Parser)]
pub struct Options {
    /// Name of this server, put into every answer [default: the host name]
    #[arg(long)]
    pub node: Option<String>,
    /// UDP port.
    #[arg(long, default_value_t = 7000)]
    pub port: u16,
    /// Directory in which to write a numbered file version every 10 ms.
    #[arg(long)]
    pub write_dir: Option<PathBuf>,
    /// File that says what is wrong with this service when it starts: `crash` ends it at once,
    /// `stubborn` makes it deaf to SIGTERM. No file: all is well.
    #[arg(long)]
    pub mood: Option<PathBuf>,
}

/// Serves until the process is ended.
///
/// # Errors
/// When the port is taken or a socket fails. A failing `--write-dir` is reported on standard error and
/// ends the writing, not the service.
pub fn run(options: &Options) -> io::Result<()> {
    let started = Stamp::now();
    if let Some(file) = &options.mood {
        take_mood(file)?;
    }
    let node = match &options.node {
        Some(node) => node.clone(),
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    let name = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot bind UDP port {}: {error}", options.port),
        )
    };
    let v4 = open_v4(options.port).map_err(name)?;
    // A machine with IPv6 switched off serves IPv4 alone.
    let v6 = open_v6(options.port).ok();
    if let Some(dir) = options.write_dir.clone() {
        let node = node.clone();
        std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || {
                if let Err(error) =
                    history::keep_writing(&dir, &node, started, Duration::from_millis(10))
                {
                    let _ = writeln!(io::stderr(), "cannot write in {}: {error}", dir.display());
                }
            })?;
    }
    // After the writer was started, which is no part of the measure.
    crate::realtime::go_realtime();
    let sockets: Vec<OwnedFd> = std::iter::once(v4).chain(v6).collect();
    loop {
        let mut fds: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        for (socket, _) in sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
            while answer_one(socket, &node, started)? {}
        }
    }
}

/// Reads the mood and follows it. Called before any thread is started, so that all of them are deaf.
fn take_mood(file: &Path) -> io::Result<()> {
    match fs::read_to_string(file).unwrap_or_default().trim() {
        "crash" => Err(io::Error::other("crashes, as it was told to")),
        "stubborn" => {
            let mut deaf_to = SigSet::empty();
            deaf_to.add(Signal::SIGTERM);
            Ok(deaf_to.thread_block()?)
        }
        _ => Ok(()),
    }
}

/// Answers one waiting question; `false` when none waits.
fn answer_one(socket: &OwnedFd, node: &str, started: Stamp) -> io::Result<bool> {
    let mut bytes = [0; 256];
    let mut space = nix::cmsg_space!(libc::in6_pktinfo);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let received = match recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut iov,
        Some(&mut space),
        MsgFlags::MSG_DONTWAIT,
    ) {
        Ok(received) => received,
        Err(Errno::EAGAIN) => return Ok(false),
        // Errors of earlier replies (port unreachable, network down) surface here; they end nothing.
        Err(
            Errno::EINTR
            | Errno::ECONNREFUSED
            | Errno::ENETDOWN
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH,
        ) => {
            return Ok(true);
        }
        Err(errno) => return Err(errno.into()),
    };
    let (from, length) = (received.address, received.bytes);
    let asked = received
        .cmsgs()
        .map_err(io::Error::from)?
        .find_map(|message| match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(ControlSource::V4(libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: info.ipi_addr,
                    ..info
                }))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(ControlSource::V6(info)),
            _ => None,
        });
    let (Some(from), Some(asked), Some(question)) =
        (from, asked, Question::decode(&bytes[..length]))
    else {
        return Ok(true);
    };
    let mut answer = [0; ANSWER_LEN];
    encode_answer(&mut answer, &question, node, started.0, Stamp::now().0);
    let control = match &asked {
        ControlSource::V4(info) => ControlMessage::Ipv4PacketInfo(info),
        ControlSource::V6(info) => ControlMessage::Ipv6PacketInfo(info),
    };
    // A reply that cannot be sent (the address has just gone) is a lost request, which is what the
    // client is there to notice.
    let _ = sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(&answer)],
        &[control],
        MsgFlags::MSG_DONTWAIT,
        Some(&from),
    );
    Ok(true)
}

/// The address a question was sent to, in the form that makes it the source of the reply.
enum ControlSource {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

fn open_v4(port: u16) -> io::Result<OwnedFd> {
    let fd = open(AddressFamily::Inet)?;
    setsockopt(&fd, Ipv4PacketInfo, &true)?;
    bind(
        fd.as_raw_fd(),
        &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)),
    )?;
    Ok(fd)
}

fn open_v6(port: u16) -> io::Result<OwnedFd> {
    let fd = open(AddressFamily::Inet6)?;
    setsockopt(&fd, Ipv6V6Only, &true)?;
    setsockopt(&fd, Ipv6RecvPacketInfo, &true)?;
    bind(
        fd.as_raw_fd(),
        &SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0)),
    )?;
    Ok(fd)
}

fn open(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Datagram, flags, None)?;
    // A service that is not scheduled for a while is late, but loses nothing.
    crate::client::make_room(&fd);
    // Answers to one network may wait in the kernel until it has found the client's hardware address
    // (up to a second, and up to 208 KiB of them); they must not keep the answers to the other back.
    // Without the right to force it, the kernel grants twice its limit, which is enough.
    const BYTES: usize = 4 << 20;
    if setsockopt(&fd, SndBufForce, &BYTES).is_err() {
        setsockopt(&fd, SndBuf, &BYTES)?;
    }
    Ok(fd)
}
