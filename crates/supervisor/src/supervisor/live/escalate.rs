//! A keeper that does not stop its service because it stands still itself: killed with all of it.
//!
//! A keeper that works needs no help; it ends with SIGKILL what does not end otherwise. One that
//! was stopped (a debugger, SIGSTOP) or hangs in the kernel does nothing, and its service goes on.
//! Looked at only when a service is late.

use haarb_model::{Mono, Span};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::LiveReserve;
use crate::cgroup::Group;
use crate::keeper::tree;

/// Beyond a service's stop time, until its keeper is looked at.
const LATE_AFTER: Span = Span::from_secs(1);

impl LiveReserve {
    /// Kills keepers that stand still beyond the moment by which their services had to be stopped.
    pub(in super::super) fn escalate(&mut self, now: Mono) {
        for service in 0..self.services.len() {
            if !self.reserve.must_stop(now, service) {
                self.services[service].stop_told = None;
                continue;
            }
            let live = &mut self.services[service];
            let told = *live.stop_told.get_or_insert(now);
            let late_at = match self.reserve.right_ended(now) {
                // The keeper itself kills when the grace is over.
                Some(ended) => ended + self.context.grace + self.context.grace.part(2),
                None => told + live.config.stop_timeout + LATE_AFTER,
            };
            if let Some(pid) = live.keeper_pid
                && now >= late_at
                && tree::stands_still(pid)
            {
                tracing::error!(
                    "service {}: its keeper (process {pid}) stands still and does not stop it; killing both",
                    live.label
                );
                // What is left when the connection has closed is swept by the next keeper's start.
                live.keeper_pid = None;
                let socket = self.context.home.socket(&live.label);
                kill_all(pid, Group::of(pid, &socket));
            }
        }
    }
}

/// Kills a keeper and all below it: as one group, or found by descent.
fn kill_all(keeper: Pid, group: Option<Group>) {
    if let Some(group) = group {
        group.kill();
        return;
    }
    let below = tree::below(keeper).into_iter().map(|process| process.pid);
    for pid in below.chain([keeper]) {
        // Gone in between: that is what is wanted.
        let _ = kill(pid, Signal::SIGKILL);
    }
}
