//! Time as an argument: a moment, and the next moment at which something would change.
//!
//! Whoever asks "has this been long enough?" asks here; the answer "not yet" is remembered,
//! so the next deadline falls out of the same questions and no timer can be forgotten.

use haarb_model::{Mono, Span, renewal_interval};

/// The moment of one step.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    now: Mono,
    next: Mono,
}

impl Clock {
    /// A clock that stands at `now`.
    #[must_use]
    pub const fn at(now: Mono) -> Self {
        Self {
            now,
            next: Mono::FAR,
        }
    }

    /// The moment of this step.
    #[must_use]
    pub const fn now(&self) -> Mono {
        self.now
    }

    /// Whether `at` has come; if not, somebody wants to be asked again then.
    pub fn reached(&mut self, at: Mono) -> bool {
        if at <= self.now {
            return true;
        }
        self.next = self.next.min(at);
        false
    }

    /// Whether `span` has passed since `since`.
    pub fn passed(&mut self, since: Mono, span: Span) -> bool {
        self.reached(since + span)
    }

    /// Whether what was renewed at `renewed` is to be renewed now, and with it all else that the
    /// server renews; `renewed` is this moment then.
    pub fn renews(&mut self, renewed: &mut Mono, lease: Span) -> bool {
        let slot = renewal_interval(lease);
        if !self.reached(renewed.next_multiple(slot)) {
            return false;
        }
        *renewed = self.now;
        // And once more after it.
        self.reached(renewed.next_multiple(slot));
        true
    }

    /// The earliest moment for which somebody was told "not yet".
    #[must_use]
    pub const fn next(&self) -> Mono {
        self.next
    }
}
