//! Whether a switch's own address answers through our interface. Pure, like
//! [`crate::detector`].

use haarb_model::{Mono, Span, SwitchAnswer};

use crate::echoes::Echoes;
use crate::loss::misses_for_silence;

/// Replies that must be missing before a switch is silent where the switches of all other
/// networks are missing too. With 5 ms between requests that is known after 15.5 ms, which
/// leaves a server that is cut off the time to let go before its neighbour takes over
/// (decision table, section 9).
const MISSING_CUT_OFF: u32 = 3;
/// The same where another switch answers: nothing is in a hurry, and on a link that turns bad
/// a few losses in a row must not look like a dead switch.
const MISSING_ALONE: u32 = 8;
/// The most that loss may make of it.
const MISSING_MAX: u32 = 60;

/// Watches one switch through one interface.
#[derive(Clone, Debug)]
pub struct SwitchWatch {
    interval: Span,
    echoes: Echoes,
    can_send: bool,
}

impl SwitchWatch {
    /// Watches a switch that is asked every `interval`.
    #[must_use]
    pub const fn new(interval: Span) -> Self {
        Self {
            interval,
            echoes: Echoes::new(interval),
            can_send: false,
        }
    }

    /// A request left.
    pub fn echo_sent(&mut self, number: u64, at: Mono) {
        self.can_send = true;
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

    /// Whether it would be silent if the others were too. `patience` is the longest time for
    /// which loss may put that off.
    #[must_use]
    pub fn is_missing(&self, now: Mono, patience: Span) -> bool {
        self.never_answered() || passed(self.missing_at(patience), now)
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
        let most = patience.as_micros() / self.interval.as_micros().max(1);
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
mod tests {
    use super::*;

    const INTERVAL: Span = Span::from_millis(5);
    const PATIENCE: Span = Span::from_millis(20);

    fn ms(ms: u64) -> Mono {
        Mono::from_micros(1_000_000 + ms * 1000)
    }

    /// What it is at a moment: missing if the others are too, and by itself.
    fn at(switch: &SwitchWatch, now: Mono) -> (bool, SwitchAnswer) {
        (switch.is_missing(now, PATIENCE), switch.answer(now, false))
    }

    #[test]
    fn it_answers_from_its_first_reply_until_enough_are_missing() {
        use SwitchAnswer::{Answers, Silent};
        let mut switch = SwitchWatch::new(INTERVAL);
        assert_eq!(at(&switch, ms(0)), (true, Silent));
        switch.echo_sent(1, ms(0));
        assert_eq!(at(&switch, ms(0)), (true, Silent));
        assert!(switch.echo_reply(1, ms(0) + Span::from_micros(80)));
        assert_eq!(at(&switch, ms(4)), (false, Answers));
        for n in 1..=8 {
            switch.echo_sent(n + 1, ms(n * 5));
        }
        let soon = switch.deadline(ms(15), PATIENCE);
        assert!(soon > ms(15) && soon < ms(16), "{soon}");
        assert_eq!(at(&switch, ms(15)), (false, Answers));
        assert_eq!(at(&switch, soon), (true, Answers));
        assert_eq!(switch.answer(soon, true), Silent);
        let late = switch.deadline(soon, PATIENCE);
        assert!(late > ms(40) && late < ms(41), "{late}");
        assert_eq!(at(&switch, late), (true, Silent));
        assert!(switch.echo_reply(9, late));
        assert_eq!(at(&switch, late), (false, Answers));
        switch.cannot_send();
        assert_eq!(at(&switch, late), (true, Silent));
    }
}
