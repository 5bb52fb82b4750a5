//! A keeper: the small process between the supervisor and one service.
//!
//! It starts and stops the service, knows every process below it (it is their subreaper,
//! prctl(2)), and holds the lease: when that ends, it stops the service by itself, whether a
//! supervisor still lives or not. It decides nothing else; restarts, order and checks are
//! the supervisor's. Single-threaded, one poll(2) loop, no async: what it starts dies with
//! it (PR_SET_PDEATHSIG is per parent *thread*, and this one has no other).
//!
//! The one thing to know: it is the supervisor's own program, started as
//! `haarb-supervisor keep LABEL` with its listening socket as standard input.

mod connection;
mod output;
mod service;
mod spawn;
pub(crate) mod tree;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use haarb_daemon::clock;
use haarb_model::Mono;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::cgroup::Group;
use crate::order::{FromKeeper, ToKeeper};
use connection::Connection;
use service::Service;

/// The first argument that makes the supervisor's program a keeper.
pub const ARGUMENT: &str = "keep";

/// Runs a keeper until its service is stopped and nobody is connected.
///
/// Exit status: 0 done, 1 the kernel refused something it needs, 2 not started by a supervisor.
#[must_use]
pub fn main(label: &str) -> ExitCode {
    let listener = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(fd) if is_socket(&fd) => UnixListener::from(fd),
        _ => {
            eprintln!("haarb-supervisor: `keep` is for the supervisor's own use");
            return ExitCode::from(2);
        }
    };
    // The standard hook waits for the reader of standard error.
    let own = label.to_owned();
    std::panic::set_hook(Box::new(move |info| {
        output::print(&own, &format!("keeper: {info}; this is a bug"));
    }));
    match Keeper::new(label, listener).and_then(|mut keeper| keeper.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print(label, &format!("keeper ends: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn is_socket(fd: &OwnedFd) -> bool {
    nix::sys::stat::fstat(fd).is_ok_and(|stat| {
        let kind = nix::sys::stat::SFlag::from_bits_truncate(stat.st_mode);
        kind & nix::sys::stat::SFlag::S_IFMT == nix::sys::stat::SFlag::S_IFSOCK
    })
}

struct Keeper {
    listener: UnixListener,
    supervisor: Option<Connection>,
    service: Service,
    signals: SignalFd,
    timer: TimerFd,
    /// Told to end (SIGTERM): does so once nothing runs.
    ending: bool,
}

/// What poll found ready.
#[derive(Default)]
struct Ready {
    signals: bool,
    listener: bool,
    supervisor: bool,
    outputs: bool,
}

impl Keeper {
    fn new(label: &str, listener: UnixListener) -> io::Result<Self> {
        // Out of the terminal's and the supervisor's reach: Ctrl-C is not for services.
        // Fails only for a process that leads a group already, which is as good.
        let _ = nix::unistd::setsid();
        nix::sys::prctl::set_child_subreaper(true)?;
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
        ] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let timer = TimerFd::new(
            ClockId::CLOCK_BOOTTIME,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        listener.set_nonblocking(true)?;
        // What it starts is at normal priority again (SCHED_RESET_ON_FORK). Memory is not
        // locked: every locked page makes the fork of a start slower (0.2 ms, measured).
        haarb_daemon::schedule_real_time();
        // Entered now, before anything is started: what is forked later is in it at no cost.
        let socket = listener.local_addr()?;
        let group = socket.as_pathname().and_then(Group::enter_own);
        Ok(Self {
            listener,
            supervisor: None,
            service: Service::new(label, group),
            signals,
            timer,
            ending: false,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        // The supervisor connected before it started this process: wait for it.
        let mut expecting = true;
        while expecting || self.supervisor.is_some() || !self.service.is_idle() {
            if self.ending && self.service.is_idle() {
                break;
            }
            let ready = self.wait()?;
            if ready.outputs {
                self.service.outputs.forward();
            }
            if ready.signals {
                self.take_signals();
            }
            if ready.listener && self.accept() {
                expecting = false;
            }
            if ready.supervisor {
                self.obey();
            }
            let connected = self.supervisor.is_some();
            self.service.tick(clock::now(), connected);
            self.tell();
        }
        self.service.remove_group();
        Ok(())
    }

    /// Sleeps until something is ready or the service's next deadline.
    fn wait(&mut self) -> io::Result<Ready> {
        let at = (self.service.deadline(self.supervisor.is_some())).unwrap_or(Mono::FAR);
        let micros = at.as_micros().clamp(1, i64::MAX.unsigned_abs() / 1000);
        self.timer.set(
            Expiration::OneShot(TimeSpec::from_duration(std::time::Duration::from_micros(
                micros,
            ))),
            TimerSetTimeFlags::TFD_TIMER_ABSTIME,
        )?;
        let mut watched: Vec<BorrowedFd<'_>> = vec![
            self.signals.as_fd(),
            self.timer.as_fd(),
            self.listener.as_fd(),
        ];
        let connected = self.supervisor.is_some();
        watched.extend(self.supervisor.iter().map(|connection| connection.as_fd()));
        watched.extend(self.service.outputs.readers());
        let mut fds: Vec<PollFd<'_>> = watched
            .into_iter()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let fixed = 3 + usize::from(connected);
        Ok(Ready {
            signals: is_ready(&fds[0]),
            listener: is_ready(&fds[2]),
            supervisor: connected && is_ready(&fds[3]),
            outputs: fds[fixed..].iter().any(is_ready),
        })
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            if number != Signal::SIGCHLD as i32 {
                self.ending = true;
                self.service.stop_and_end(clock::now());
            }
        }
        self.service.reap(clock::now());
    }

    /// Takes the newest supervisor; the one before it is told so.
    fn accept(&mut self) -> bool {
        let mut accepted = false;
        while let Ok((stream, _)) = self.listener.accept() {
            let Some(mut connection) = Connection::new(stream) else {
                continue;
            };
            accepted = true;
            connection.send(&self.service.hello());
            if let Some(mut old) = self.supervisor.replace(connection) {
                old.send(&FromKeeper::Replaced);
            }
        }
        accepted
    }

    fn obey(&mut self) {
        let Some(connection) = &mut self.supervisor else {
            return;
        };
        let orders = connection.receive();
        let open = connection.is_open();
        for order in orders {
            self.ending |= order == ToKeeper::Retire;
            self.service.obey(clock::now(), order);
        }
        if !open {
            self.supervisor = None;
        }
    }

    fn tell(&mut self) {
        for news in self.service.take_news() {
            if let Some(connection) = &mut self.supervisor {
                connection.send(&news);
            }
        }
    }
}
