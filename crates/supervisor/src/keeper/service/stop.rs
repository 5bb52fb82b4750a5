//! How a keeper stops its service: asks, waits, kills.
//!
//! The one thing to know: a stop ends only when nothing is left below the keeper, or when its
//! stop command failed; until then it goes on by itself, with or without a supervisor.

use haarb_model::{Mono, Span};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{KILL_AGAIN_AFTER, Phase, Service, first, signal_group};
use crate::keeper::tree;
use crate::order::{FromKeeper, Recipe, Run};

/// After a first SIGKILL, until the supervisor hears that something does not die.
const COMPLAIN_AFTER: Span = Span::from_secs(2);
/// Every so many rounds of SIGKILL the whole control group is killed, first in the second round:
/// stepping out of the group and in again is too slow for every one.
const GROUP_KILL_EVERY: u32 = 25;
/// Between two runs of a stop command that failed, while there is no supervisor.
const STOP_AGAIN_AFTER: Span = Span::from_secs(1);

#[derive(Debug)]
pub(super) struct Stopping {
    /// The program, while it runs.
    pub(super) main: Option<Pid>,
    /// The stop command, while it runs.
    pub(super) command: Option<Pid>,
    /// How the stop command ended.
    pub(super) failure: Option<String>,
    /// Everything has been asked to end, the forked-away ones too.
    pub(super) all_asked: bool,
    pub(super) kill_at: Mono,
    pub(super) command_kill_at: Mono,
    pub(super) complain_at: Mono,
    pub(super) lapsed: bool,
}

impl Service {
    /// Stops what runs, as SIGTERM asks.
    pub(in super::super) fn stop_and_end(&mut self, now: Mono) {
        if let Some(recipe) = self.recipe.clone()
            && !self.is_idle()
        {
            self.stop(now, recipe, false);
        }
    }

    pub(super) fn stop(&mut self, now: Mono, recipe: Recipe, lapsed: bool) {
        let mut kill_at = now + Span::from_micros(recipe.stop_timeout_us);
        let command_kill_at = kill_at;
        let main = match &self.phase {
            Phase::Stopping(_) => return,
            Phase::Idle => None,
            Phase::Clearing { .. } => {
                kill_at = now;
                None
            }
            Phase::Starting { command, .. } => {
                // Half a start is undone by the stop command; the start itself must not go on.
                signal_group(*command, Signal::SIGKILL);
                None
            }
            Phase::Running { main, .. } => *main,
        };
        if lapsed {
            kill_at = kill_at.min(self.lease.kill_at());
        }
        let mut stopping = Stopping {
            main,
            command: None,
            failure: None,
            all_asked: false,
            kill_at,
            command_kill_at,
            complain_at: kill_at.max(now) + COMPLAIN_AFTER,
            lapsed,
        };
        match &recipe.run {
            Run::Program(_) => match main {
                Some(main) => {
                    signal_group(main, Signal::SIGTERM);
                    signal_group(main, Signal::SIGCONT);
                }
                None => {
                    tree::signal_all(Signal::SIGTERM, None);
                    stopping.all_asked = true;
                }
            },
            Run::Commands { stop, .. } => match self.spawn(stop, &recipe) {
                Ok(pid) => stopping.command = Some(pid),
                Err(error) => {
                    let why = format!("cannot run {}: {error}", first(stop));
                    stopping.failure = Some(why);
                }
            },
        }
        self.recipe = Some(recipe);
        self.kill_rounds = 0;
        self.phase = Phase::Stopping(stopping);
        self.reap(now);
    }

    pub(super) fn stopped(&mut self, now: Mono, lapsed: bool, failure: Option<String>) {
        self.phase = Phase::Idle;
        let Some(why) = failure else {
            self.news.push(FromKeeper::Stopped { lapsed });
            return;
        };
        let why = self.with_last_line(why);
        if lapsed {
            // There may be no supervisor to order another attempt.
            self.stop_again_at = now + STOP_AGAIN_AFTER;
            self.phase = Phase::Running {
                main: None,
                since: now,
                populated: false,
            };
        }
        self.news.push(FromKeeper::StopFailed { why });
    }

    /// One round of SIGKILL, if it is due.
    pub(super) fn kill_due(&mut self, now: Mono) {
        let (mut spared, mut complain) = (None, false);
        match &mut self.phase {
            Phase::Clearing { kill_at, .. } => *kill_at = now + KILL_AGAIN_AFTER,
            Phase::Stopping(stopping) => {
                stopping.kill_at = now + KILL_AGAIN_AFTER;
                if now < stopping.command_kill_at {
                    spared = stopping.command;
                } else if stopping.command.is_some() {
                    let why = "its stop command did not end in time and was killed";
                    stopping.failure.get_or_insert_with(|| why.to_owned());
                }
                complain = stopping.complain_at <= now;
                if complain {
                    stopping.complain_at = Mono::FAR;
                }
            }
            Phase::Idle | Phase::Starting { .. } | Phase::Running { .. } => return,
        }
        tree::signal_all(Signal::SIGKILL, spared);
        self.kill_rounds = self.kill_rounds.saturating_add(1);
        // What a first round did not end forks faster than it is found, or cannot end now. The
        // group would take the stop command with it.
        if let Some(group) = self.group.as_ref().filter(|_| spared.is_none())
            && self.kill_rounds % GROUP_KILL_EVERY == 2
        {
            group.kill_others();
        }
        if complain {
            let left = tree::descendants().into_iter();
            let names: Vec<String> = (left.filter(|p| Some(p.pid) != spared))
                .map(|p| p.name)
                .collect();
            if !names.is_empty() {
                let why = format!("does not die of SIGKILL: process {}", names.join(", "));
                self.news.push(FromKeeper::StopFailed { why });
            }
        }
    }
}
