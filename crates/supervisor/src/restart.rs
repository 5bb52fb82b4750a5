//! How often a service may fail before it counts as failed, and when it is started again.
//!
//! Pure: time is an argument. It never says "never again": while a service should run it is
//! tried again (rule A11). The one thing to know: the delay grows with the failures inside
//! the window, so it shrinks by itself when they become rare.

use std::collections::VecDeque;

use haarb_model::{Mono, Span};

/// Delay before the second restart in a window; the first one is immediate.
const DELAY_FIRST: Span = Span::from_millis(50);
/// The longest delay between two starts.
const DELAY_MAX: Span = Span::from_secs(10);
/// A shorter window counts as this for the delay: a crash loop must not become a busy loop.
const WINDOW_MIN: Span = Span::from_secs(1);
/// Failures that are remembered: more than fit into any window at [`DELAY_MAX`] add nothing.
const REMEMBERED_MAX: usize = 64;

/// The limits of one service, from its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Restarts within `window` before the service counts as failed. 0: its first failure counts.
    pub restarts: u32,
    /// The window; also how long it must run without a failure to count as healthy again.
    pub window: Span,
}

/// The failures of one service.
#[derive(Clone, Debug)]
pub struct Restarts {
    limits: Limits,
    failures: VecDeque<Mono>,
    failed: Option<String>,
}

impl Restarts {
    /// No failure yet.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            failures: VecDeque::new(),
            failed: None,
        }
    }

    /// Notes a failure and says when to start again: at once after the first in the window,
    /// then after 50 ms, doubled with each further one up to 10 s.
    pub fn note(&mut self, now: Mono, reason: &str) -> Mono {
        let window = self.limits.window.max(WINDOW_MIN);
        self.failures.retain(|at| now.since(*at) < window);
        self.failures.push_back(now);
        if self.failures.len() > REMEMBERED_MAX {
            self.failures.pop_front();
        }
        let count = self.failures.len();
        if count > self.limits.restarts as usize || self.failed.is_some() {
            self.failed = Some(match count {
                1 => reason.to_owned(),
                _ => format!("{reason} ({count} failures within {window})"),
            });
        }
        now + delay(count)
    }

    /// Why it counts as failed; `None` while it is within its restarts.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// When a service that runs since `since` counts as healthy again; `None` if it does.
    #[must_use]
    pub fn heals_at(&self, since: Mono) -> Option<Mono> {
        self.failed.is_some().then(|| since + self.limits.window)
    }

    /// Forgets the failure of a service that has run since `since` for a whole window.
    pub fn heal(&mut self, since: Mono, now: Mono) {
        if self.heals_at(since).is_some_and(|at| at <= now) {
            self.forget();
        }
    }

    /// Forgets everything: an operator asked (`haarb clear`), or a new activation begins.
    pub fn forget(&mut self) {
        self.failures.clear();
        self.failed = None;
    }

    /// Takes over limits that were changed in the configuration.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }
}

fn delay(failures: usize) -> Span {
    match failures.checked_sub(2) {
        None => Span::ZERO,
        Some(doublings) => DELAY_FIRST.times(1 << doublings.min(16)).min(DELAY_MAX),
    }
}

#[cfg(test)]
mod tests;
