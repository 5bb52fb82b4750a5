//! The daemons of this server: started, reaped, started again.
//!
//! No child is waited for by name: every SIGCHLD reaps whatever has ended. This process
//! inherits the orphans below it (PR_SET_CHILD_SUBREAPER, prctl(2)), as pid 1 of a container
//! does anyway: services outlive a supervisor, and the end of `haarb run` waits for them.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use haarb_daemon::{Options, Voice};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::ears::Ears;
use super::preflight::Ready;
use super::{DAEMONS, Daemon, child};

const LAST_WORDS_WITHIN: Duration = Duration::from_millis(200);

/// All daemons.
pub(super) struct Crew {
    members: Vec<Member>,
    ended: unix::Signal,
    options: Options,
    bin_dir: PathBuf,
    me: String,
    voice: Voice,
    ears: Ears,
}

struct Member {
    daemon: &'static Daemon,
    state: State,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Runs {
        pid: Pid,
        since: Instant,
    },
    /// To be started at this moment.
    Due(Instant),
    /// Stopped on purpose.
    Stopped,
}

impl Crew {
    /// Nobody runs yet.
    pub(super) fn new(options: &Options, ready: &Ready, voice: Voice) -> io::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true)?;
        let now = Instant::now();
        let members = DAEMONS.iter().map(|daemon| Member {
            daemon,
            state: State::Due(now),
            backoff: Backoff::default(),
        });
        Ok(Self {
            members: members.collect(),
            ended: signal(SignalKind::child())?,
            options: options.clone(),
            bin_dir: ready.bin_dir.clone(),
            me: ready.me.as_str().to_owned(),
            ears: Ears::start(voice.clone())?,
            voice,
        })
    }

    /// Starts everybody whose time has come.
    pub(super) fn start_all(&mut self) {
        let now = Instant::now();
        for i in 0..self.members.len() {
            if let State::Due(at) = self.members[i].state
                && at <= now
            {
                self.start(i);
            }
        }
    }

    fn start(&mut self, i: usize) {
        let member = &mut self.members[i];
        let since = Instant::now();
        let started = child::start(
            member.daemon,
            &self.bin_dir,
            &self.options,
            &self.me,
            &mut self.ears,
        );
        match started {
            Ok(pid) => member.state = State::Runs { pid, since },
            Err(e) => self.again(i, Duration::ZERO, &format!("cannot be started ({e})")),
        }
    }

    /// Plans the next start and says so.
    fn again(&mut self, i: usize, life: Duration, what: &str) {
        let member = &mut self.members[i];
        let pause = member.backoff.died_after(life);
        member.state = State::Due(Instant::now() + pause);
        let then = if pause.is_zero() {
            "started again at once".to_owned()
        } else {
            format!("started again in {}ms", pause.as_millis())
        };
        self.voice
            .say(format!("haarb: {} {what}; {then}", member.daemon.name));
    }

    /// Keeps the daemons going; never returns. Cancel-safe: all state is in `self`.
    pub(super) async fn tend(&mut self) {
        loop {
            self.start_all();
            let due = self.members.iter().filter_map(|m| match m.state {
                State::Due(at) => Some(at),
                _ => None,
            });
            match due.min() {
                Some(at) => tokio::select! {
                    _ = self.ended.recv() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => {
                    self.ended.recv().await;
                }
            }
            self.reap(true);
        }
    }

    /// Reaps everything that has ended, whosever child it was. False once no child is left.
    fn reap(&mut self, restart: bool) -> bool {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return true,
                Err(Errno::ECHILD) => return false,
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(e) => {
                    self.voice.say(format!("haarb: waitpid: {e}"));
                    return false;
                }
            };
            let how = match status {
                WaitStatus::Exited(_, code) => format!("ended with status {code}"),
                WaitStatus::Signaled(_, signal, _) => format!("was killed by {}", signal.as_str()),
                _ => continue,
            };
            let ended = status.pid();
            let found = self
                .members
                .iter()
                .enumerate()
                .find_map(|(i, m)| match m.state {
                    State::Runs { pid, since } if Some(pid) == ended => Some((i, since)),
                    _ => None,
                });
            // Nobody's: an orphan that this process inherited as pid 1.
            let Some((i, since)) = found else { continue };
            if restart {
                let life = since.elapsed();
                let what = format!("{how} after {:.1}s", life.as_secs_f64());
                self.again(i, life, &what);
            } else {
                self.members[i].state = State::Stopped;
            }
        }
    }

    /// From now on nobody is started again.
    pub(super) fn dismiss(&mut self) {
        self.reap(false);
        for member in &mut self.members {
            if let State::Due(_) = member.state {
                member.state = State::Stopped;
            }
        }
    }

    /// Sends a signal to a daemon; false where it does not run any more.
    pub(super) fn signal(&self, name: &str, signal: Signal) -> bool {
        match self.pid(name) {
            Some(pid) => kill(pid, signal).is_ok(),
            None => false,
        }
    }

    /// Returns once a dismissed daemon has ended. Cancel-safe.
    pub(super) async fn gone(&mut self, name: &str) {
        loop {
            self.reap(false);
            if self.pid(name).is_none() {
                return;
            }
            self.ended.recv().await;
        }
    }

    /// Returns once no process below this one is left. Cancel-safe.
    pub(super) async fn orphans(&mut self) {
        while self.reap(false) {
            self.ended.recv().await;
        }
    }

    /// Waits a moment for the last words of the daemons.
    pub(super) async fn last_words(&mut self) {
        self.ears.last_words(LAST_WORDS_WITHIN).await;
    }

    fn pid(&self, name: &str) -> Option<Pid> {
        self.members.iter().find_map(|m| match m.state {
            State::Runs { pid, .. } if m.daemon.name == name => Some(pid),
            _ => None,
        })
    }
}
