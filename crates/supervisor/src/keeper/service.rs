//! The one service of a keeper: started, stopped, reaped, held under its lease.
//!
//! Time is an argument and news is a queue; processes are real. The one thing to know:
//! "nothing is left" is never guessed, it is waitpid(2) saying that there are no children,
//! which for a subreaper means no descendants.

mod stop;

use haarb_model::{Mono, Span};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::output::{self, Outputs};
use super::spawn::spawn;
use super::tree;
use crate::cgroup::Group;
use crate::order::{Doing, FromKeeper, Lease, Recipe, Run, ToKeeper};
use stop::Stopping;

/// Between two rounds of SIGKILL: a process that forks faster than it is killed loses in the
/// end, because a round that finds nothing is followed by waitpid.
const KILL_AGAIN_AFTER: Span = Span::from_millis(20);

/// Added to the reason when a program ended and processes of it went on.
const LEFT_BEHIND: &str =
    "; processes that it left behind were killed: an exec service must stay in the foreground";

pub(super) struct Service {
    label: String,
    recipe: Option<Recipe>,
    lease: Lease,
    phase: Phase,
    /// A stop command failed and nobody else will try: not before this moment.
    stop_again_at: Mono,
    /// The control group of this keeper and all below it, where there is one.
    group: Option<Group>,
    /// Rounds of SIGKILL in the present phase.
    kill_rounds: u32,
    news: Vec<FromKeeper>,
    pub(super) outputs: Outputs,
}

#[derive(Debug)]
enum Phase {
    /// Nothing runs below the keeper.
    Idle,
    /// The start command runs.
    Starting {
        command: Pid,
        begun: Mono,
        kill_at: Mono,
        timed_out: bool,
    },
    /// It runs; `main` is the program, or nothing where commands started it.
    Running {
        main: Option<Pid>,
        since: Mono,
        /// The start command left processes behind, so that their end can be seen.
        populated: bool,
    },
    /// The program ended; what it left behind is being killed.
    Clearing { why: String, kill_at: Mono },
    /// It is being stopped.
    Stopping(Stopping),
}

impl Service {
    pub(super) fn new(label: &str, group: Option<Group>) -> Self {
        Self {
            label: label.to_owned(),
            recipe: None,
            lease: Lease::default(),
            phase: Phase::Idle,
            stop_again_at: Mono::ZERO,
            group,
            kill_rounds: 0,
            news: Vec::new(),
            outputs: Outputs::new(label),
        }
    }

    /// Gives the control group back; whoever starts this keeper's service next makes its own.
    pub(super) fn remove_group(&self) {
        if let Some(group) = &self.group {
            group.leave_and_remove();
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    pub(super) fn take_news(&mut self) -> Vec<FromKeeper> {
        std::mem::take(&mut self.news)
    }

    pub(super) fn hello(&self) -> FromKeeper {
        let (doing, main, since) = match &self.phase {
            Phase::Idle => (Doing::Idle, None, Mono::ZERO),
            Phase::Starting { begun, .. } => (Doing::Starting, None, *begun),
            Phase::Running { main, since, .. } => (Doing::Running, *main, *since),
            Phase::Clearing { .. } | Phase::Stopping(_) => (Doing::Stopping, None, Mono::ZERO),
        };
        FromKeeper::Hello {
            pid: nix::unistd::getpid().as_raw(),
            doing,
            main: main.map_or(0, Pid::as_raw),
            since_us: since.as_micros(),
            lease: self.lease,
        }
    }

    pub(super) fn obey(&mut self, now: Mono, order: ToKeeper) {
        match order {
            ToKeeper::Start(recipe, lease) => {
                self.lease = lease;
                self.start(now, recipe);
            }
            ToKeeper::Hold(recipe, lease) => {
                self.lease = lease;
                if self.is_idle() {
                    self.recipe = Some(recipe);
                    self.phase = Phase::Running {
                        main: None,
                        since: now,
                        populated: false,
                    };
                }
            }
            ToKeeper::Stop(recipe) => {
                // A service that runs is stopped by what it was started with.
                let recipe = match self.phase {
                    Phase::Idle => recipe,
                    _ => self.recipe.clone().unwrap_or(recipe),
                };
                self.stop(now, recipe, false);
            }
            ToKeeper::Renew(lease) if lease.epoch >= self.lease.epoch => self.lease = lease,
            ToKeeper::Renew(_) => {}
            ToKeeper::Retire => self.stop_and_end(now),
        }
    }

    fn start(&mut self, now: Mono, recipe: Recipe) {
        let refuse = |why: &str| FromKeeper::StartFailed {
            why: why.to_owned(),
            clean: false,
        };
        match &self.phase {
            Phase::Idle => {}
            Phase::Starting { .. } => return,
            Phase::Running { main, .. } => {
                let main = main.map_or(0, Pid::as_raw);
                self.news.push(FromKeeper::Started { main });
                return;
            }
            Phase::Clearing { .. } | Phase::Stopping(_) => {
                self.news.push(refuse("it is still being stopped"));
                return;
            }
        }
        if self.lease.until() <= now {
            self.news
                .push(refuse("the right to run ended before it was started"));
            return;
        }
        self.outputs.forget();
        let argv = match &recipe.run {
            Run::Program(argv) => argv,
            Run::Commands { start, .. } => start,
        };
        match self.spawn(argv, &recipe) {
            Ok(pid) => self.phase = self.started(now, pid, &recipe),
            Err(error) => self.news.push(FromKeeper::StartFailed {
                why: format!("cannot run {}: {error}", first(argv)),
                clean: true,
            }),
        }
        self.recipe = Some(recipe);
    }

    fn started(&mut self, now: Mono, pid: Pid, recipe: &Recipe) -> Phase {
        match recipe.run {
            Run::Program(_) => {
                self.news.push(FromKeeper::Started { main: pid.as_raw() });
                Phase::Running {
                    main: Some(pid),
                    since: now,
                    populated: true,
                }
            }
            Run::Commands { .. } => Phase::Starting {
                command: pid,
                begun: now,
                kill_at: now + Span::from_micros(recipe.start_timeout_us),
                timed_out: false,
            },
        }
    }

    fn spawn(&mut self, argv: &[String], recipe: &Recipe) -> std::io::Result<Pid> {
        let output = self.outputs.open()?;
        spawn(argv, &recipe.environment, output)
    }

    /// Takes note of every process that ended, and of there being none left.
    pub(super) fn reap(&mut self, now: Mono) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    self.reaped(now, pid, &describe_exit(code), code == 0);
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    let why = format!("was killed by {}", signal.as_str());
                    self.reaped(now, pid, &why, false);
                }
                Ok(WaitStatus::StillAlive) => {
                    self.left_behind(now);
                    return;
                }
                Err(Errno::ECHILD) => {
                    self.empty(now);
                    return;
                }
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn reaped(&mut self, now: Mono, pid: Pid, how: &str, well: bool) {
        match &mut self.phase {
            Phase::Starting {
                command,
                begun,
                timed_out,
                ..
            } if *command == pid => {
                let (since, timed_out) = (*begun, *timed_out);
                self.phase = Phase::Running {
                    main: None,
                    since: now,
                    populated: false,
                };
                let why = match timed_out {
                    true => format!("its start command was killed after {}", now.since(since)),
                    false => format!("its start command {how}"),
                };
                let news = match well && !timed_out {
                    true => FromKeeper::Started { main: 0 },
                    false => FromKeeper::StartFailed {
                        why: self.with_last_line(why),
                        clean: false,
                    },
                };
                self.news.push(news);
            }
            Phase::Running { main, since, .. } if *main == Some(pid) => {
                let lived = now.since(*since);
                let why = self.with_last_line(format!("{how} after {lived}"));
                self.kill_rounds = 0;
                self.phase = Phase::Clearing { why, kill_at: now };
            }
            Phase::Stopping(stopping) if stopping.command == Some(pid) => {
                stopping.command = None;
                if !well {
                    let why = || format!("its stop command {how}");
                    stopping.failure.get_or_insert_with(why);
                }
            }
            Phase::Stopping(stopping) if stopping.main == Some(pid) => stopping.main = None,
            Phase::Idle
            | Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Clearing { .. }
            | Phase::Stopping(_) => {}
        }
    }

    fn with_last_line(&mut self, why: String) -> String {
        self.outputs.forward();
        match self.outputs.last_line() {
            "" => why,
            said => format!("{why}; its last line: {said}"),
        }
    }

    /// Processes are left below the keeper.
    fn left_behind(&mut self, now: Mono) {
        match &mut self.phase {
            Phase::Running { populated, .. } => *populated = true,
            Phase::Clearing { why, kill_at } => {
                if !why.ends_with(LEFT_BEHIND) {
                    why.push_str(LEFT_BEHIND);
                }
                let due = *kill_at <= now;
                if due {
                    self.kill_due(now);
                }
            }
            // The program, or the stop command, is done; the rest may not know.
            Phase::Stopping(stopping)
                if stopping.main.is_none() && stopping.command.is_none() && !stopping.all_asked =>
            {
                stopping.all_asked = true;
                tree::signal_all(Signal::SIGTERM, None);
            }
            Phase::Idle | Phase::Starting { .. } | Phase::Stopping(_) => {}
        }
    }

    /// Nothing is left below the keeper.
    fn empty(&mut self, now: Mono) {
        match &mut self.phase {
            Phase::Idle | Phase::Starting { .. } => {}
            Phase::Running {
                main: None,
                populated,
                ..
            } => {
                if std::mem::take(populated) {
                    self.news.push(FromKeeper::Emptied);
                }
            }
            Phase::Running { main: Some(_), .. } => {}
            Phase::Clearing { why, .. } => {
                let why = std::mem::take(why);
                self.phase = Phase::Idle;
                self.news.push(FromKeeper::Ended { why });
            }
            Phase::Stopping(stopping) => {
                let lapsed = stopping.lapsed;
                let failure = stopping.failure.take();
                self.stopped(now, lapsed, failure);
            }
        }
    }

    /// When [`Service::tick`] has something to do.
    pub(super) fn deadline(&self, connected: bool) -> Option<Mono> {
        match &self.phase {
            Phase::Idle => None,
            Phase::Starting { kill_at, .. } => Some((*kill_at).min(self.lapses_at(connected))),
            Phase::Running { .. } => Some(self.lapses_at(connected)),
            Phase::Clearing { kill_at, .. } => Some(*kill_at),
            Phase::Stopping(stopping) => Some(stopping.kill_at),
        }
    }

    /// When the keeper itself begins to stop the service. A supervisor gets half of the grace
    /// to do it in order.
    fn lapses_at(&self, connected: bool) -> Mono {
        let until = self.lease.until();
        let at = match connected {
            true => until + self.lease.grace().part(2),
            false => until,
        };
        at.max(self.stop_again_at)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Mono, connected: bool) {
        if self.deadline(connected).is_none_or(|at| now < at) {
            return;
        }
        let lapsed = self.lapses_at(connected) <= now;
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Starting { .. } | Phase::Running { .. } if lapsed => {
                output::print(
                    &self.label,
                    "its right to run has ended; the keeper stops it",
                );
                if let Some(recipe) = self.recipe.clone() {
                    self.stop(now, recipe, true);
                }
            }
            Phase::Starting {
                command,
                kill_at,
                timed_out,
                ..
            } => {
                *timed_out = true;
                *kill_at = now + KILL_AGAIN_AFTER;
                signal_group(*command, Signal::SIGKILL);
            }
            Phase::Running { .. } => {}
            Phase::Clearing { .. } | Phase::Stopping(_) => self.kill_due(now),
        }
    }
}

fn signal_group(leader: Pid, signal: Signal) {
    // Gone already: that is what is wanted.
    let _ = kill(Pid::from_raw(-leader.as_raw()), signal);
}

fn first(argv: &[String]) -> &str {
    argv.first().map_or("nothing", String::as_str)
}

fn describe_exit(code: i32) -> String {
    format!("exited with status {code}")
}
