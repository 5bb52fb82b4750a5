//! Whether a switch's own address answers through our interface. Pure, like
//! [`crate::detector`].

use haarb_model::{Mono, Span, SwitchAnswer};

use crate::echoes::Echoes;
use crate::loss::misses_for_silence;

/// Replies that must be missing before a switch is silent: with 5 ms between requests it is
/// known after 15.5 ms, which leaves a server that is cut off the time to let go before its
/// neighbour takes over (decision table, section 9).
const MISSING_MIN: u32 = 3;

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

    /// When it will be silent if no reply arrives. `patience` is the longest time for which
    /// loss may put that off.
    fn silent_at(&self, patience: Span) -> Option<Mono> {
        let most = patience.as_micros() / self.interval.as_micros().max(1);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let misses = misses_for_silence(self.echoes.loss(), MISSING_MIN, most);
        self.echoes.missing_at(misses)
    }

    /// Whether it answers. Before its first reply it does not.
    #[must_use]
    pub fn answer(&self, now: Mono, patience: Span) -> SwitchAnswer {
        let silent = !self.can_send
            || self.echoes.last_reply().is_none()
            || self.silent_at(patience).is_some_and(|at| now >= at);
        if silent {
            SwitchAnswer::Silent
        } else {
            SwitchAnswer::Answers
        }
    }

    /// The next moment after `now` at which the answer changes if nothing arrives.
    #[must_use]
    pub fn deadline(&self, now: Mono, patience: Span) -> Mono {
        self.silent_at(patience)
            .filter(|&at| at > now)
            .unwrap_or(Mono::FAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Span = Span::from_millis(5);
    const PATIENCE: Span = Span::from_millis(20);

    fn ms(ms: u64) -> Mono {
        Mono::from_micros(1_000_000 + ms * 1000)
    }

    #[test]
    fn it_answers_from_its_first_reply_until_three_are_missing() {
        let mut switch = SwitchWatch::new(INTERVAL);
        let answer = |switch: &SwitchWatch, at| switch.answer(at, PATIENCE);
        assert_eq!(answer(&switch, ms(0)), SwitchAnswer::Silent);
        switch.echo_sent(1, ms(0));
        assert_eq!(answer(&switch, ms(0)), SwitchAnswer::Silent);
        assert!(switch.echo_reply(1, ms(0) + Span::from_micros(80)));
        assert_eq!(answer(&switch, ms(4)), SwitchAnswer::Answers);
        for n in 1..=3 {
            switch.echo_sent(n + 1, ms(n * 5));
        }
        let due = switch.deadline(ms(15), PATIENCE);
        assert!(due > ms(15) && due < ms(16), "{due}");
        assert_eq!(answer(&switch, ms(15)), SwitchAnswer::Answers);
        assert_eq!(answer(&switch, due), SwitchAnswer::Silent);
        assert!(switch.echo_reply(4, due));
        assert_eq!(answer(&switch, due), SwitchAnswer::Answers);
        switch.cannot_send();
        assert_eq!(answer(&switch, due), SwitchAnswer::Silent);
    }
}
