//! Whether a switch's own address answers through our interface. Pure, like
//! [`crate::detector`].
//!
//! A switch is asked with every probe. As soon as one answer is overdue it is asked again and
//! again, [`BURST_PARTS`] times per `switch-interval`, until it answers or counts as silent: so
//! its silence is known sooner than by waiting for the next regular requests, rests on many more
//! of them, and costs nothing while all is well.

use haarb_model::{Mono, Span, SwitchAnswer, Timing};

use crate::echoes::Echoes;
use crate::loss::misses_for_silence;

/// Requests of a burst in one `switch-interval`: one each millisecond at 5 ms.
const BURST_PARTS: u64 = 5;
/// Replies that must be missing before a switch is silent where the switches of all other
/// networks are missing too, and no neighbour has given a sign meanwhile. At 10 ms between probes
/// that is known at most 21 ms after the last answer, which leaves a server that is cut off the
/// time to let go before its neighbour takes over (decision table, section 9). With 30 % loss each
/// way from one moment to the next, two switches look like that with the chance
/// 0.51^20 = 1.4e-6.
const MISSING_CUT_OFF: u32 = 10;
/// The same where another switch answers: nothing is in a hurry. 0.51^25 = 5e-8.
const MISSING_ALONE: u32 = 25;
/// The most that loss may make of it.
const MISSING_MAX: u32 = 60;

/// Watches one switch through one interface.
#[derive(Clone, Debug)]
pub struct SwitchWatch {
    /// Between two requests of a burst.
    spacing: Span,
    echoes: Echoes,
    asked: Mono,
    can_send: bool,
}

impl SwitchWatch {
    /// Watches a switch that is asked every [`SwitchWatch::interval`].
    #[must_use]
    pub const fn new(timing: &Timing) -> Self {
        Self {
            spacing: timing.switch_interval.part(BURST_PARTS),
            echoes: Echoes::new(timing.switch_interval),
            asked: Mono::ZERO,
            can_send: false,
        }
    }

    /// Between two regular requests: with every probe, unless a longer time is configured.
    #[must_use]
    pub fn interval(timing: &Timing) -> Span {
        timing.probe_interval.max(timing.switch_interval)
    }

    /// A request left.
    pub fn echo_sent(&mut self, number: u64, at: Mono) {
        self.can_send = true;
        self.asked = at;
        self.echoes.sent(number, at);
    }

    /// A request could not leave.
    pub const fn cannot_send(&mut self) {
        self.can_send = false;
    }

    /// A reply arrived. False where it answers nothing that was open.
    pub fn echo_reply(&mut self, number: u64, at: Mono) -> bool {
        self.echoes.reply(number, at)
    }

    /// When to ask out of turn: an answer is overdue, and it is not silent for good. A switch
    /// that has never answered is not worth a burst.
    #[must_use]
    pub fn burst_at(&self, now: Mono) -> Option<Mono> {
        if self.never_answered() || passed(self.silent_at(), now) {
            return None;
        }
        Some(self.echoes.missing_at(1)?.max(self.asked + self.spacing))
    }

    /// Whether it would be silent if the others were too: enough answers are missing, and for
    /// as long no network has carried a sign of life from any neighbour (`last_sign`).
    /// `patience` is the longest time for which loss may put that off.
    #[must_use]
    pub fn is_missing(&self, now: Mono, patience: Span, last_sign: Option<Mono>) -> bool {
        let quiet = self.spacing.times(MISSING_CUT_OFF.into());
        let heard = last_sign.is_some_and(|sign| now < sign + quiet);
        self.never_answered() || passed(self.missing_at(patience), now) && !heard
    }

    /// Whether it answers. Before its first reply it does not.
    #[must_use]
    pub fn answer(&self, now: Mono, all_missing: bool) -> SwitchAnswer {
        if all_missing || self.never_answered() || passed(self.silent_at(), now) {
            SwitchAnswer::Silent
        } else {
            SwitchAnswer::Answers
        }
    }

    /// The next moment after `now` at which something changes if nothing arrives.
    #[must_use]
    pub fn deadline(&self, now: Mono, patience: Span) -> Mono {
        let moments = [self.missing_at(patience), self.silent_at()];
        let next = moments.into_iter().flatten().filter(|&at| at > now).min();
        next.unwrap_or(Mono::FAR)
    }

    /// When it last answered.
    #[must_use]
    pub const fn last_answer(&self) -> Option<Mono> {
        self.echoes.last_reply()
    }

    /// Requests without an answer in a row, of those that have had their time.
    #[must_use]
    pub fn missing(&self, now: Mono) -> u32 {
        self.echoes.missing(now)
    }

    fn never_answered(&self) -> bool {
        !self.can_send || self.echoes.last_reply().is_none()
    }

    fn missing_at(&self, patience: Span) -> Option<Mono> {
        let most = patience.as_micros() / self.spacing.as_micros().max(1);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        self.echoes.missing_at(misses_for_silence(
            self.echoes.loss(),
            MISSING_CUT_OFF,
            most,
        ))
    }

    fn silent_at(&self) -> Option<Mono> {
        let misses = misses_for_silence(self.echoes.loss(), MISSING_ALONE, MISSING_MAX);
        self.echoes.missing_at(misses)
    }
}

fn passed(at: Option<Mono>, now: Mono) -> bool {
    at.is_some_and(|at| now >= at)
}

#[cfg(test)]
mod tests;
