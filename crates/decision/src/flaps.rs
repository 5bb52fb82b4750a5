//! How often a network came and went lately, and for how long it is not trusted after that.
//!
//! A network that comes and goes would move a reserve each time. So a network that came back
//! counts only after a hold, which doubles with every flap after the first few, up to a bound;
//! what has counted for two holds is forgiven.

use haarb_model::{Mono, Span};

/// Flaps that cost nothing more than `link-hold`: a cable is seldom plugged in at one go.
const FREE: u32 = 3;
/// The hold grows to at most `link-hold` times two to this: 32 s where it is 2 s.
const DOUBLINGS_MAX: u32 = 4;

/// The memory of one network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flaps {
    count: u32,
    last: Option<Mono>,
}

impl Flaps {
    /// The network stopped working. What happens within one `link-hold` is one flap.
    pub fn down(&mut self, now: Mono, link_hold: Span) {
        if self.last.is_none_or(|at| now.since(at) >= link_hold) {
            self.count = self.count.saturating_add(1);
            self.last = Some(now);
        }
    }

    /// It has counted for long enough.
    pub fn forgive(&mut self) {
        *self = Self::default();
    }

    /// How often it came and went lately.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The hold is longer than `link-hold`.
    #[must_use]
    pub const fn is_damped(&self) -> bool {
        self.count > FREE
    }

    /// How long it must work without interruption before it counts again.
    #[must_use]
    pub fn hold(&self, link_hold: Span) -> Span {
        let doublings = self.count.saturating_sub(FREE).min(DOUBLINGS_MAX);
        link_hold.times(1 << doublings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hold_doubles_after_a_few_and_has_a_bound() {
        let hold = Span::from_secs(2);
        let mut flaps = Flaps::default();
        let mut seen = Vec::new();
        for i in 0..9 {
            let at = Mono::from_micros(1_000_000 + i * 3_000_000);
            flaps.down(at, hold);
            // A bouncing contact is one flap.
            flaps.down(at + Span::from_millis(300), hold);
            seen.push(flaps.hold(hold).as_millis() / 1000);
        }
        assert_eq!(seen, [2, 2, 2, 4, 8, 16, 32, 32, 32]);
        assert!(flaps.is_damped());
        flaps.forgive();
        assert_eq!(flaps.hold(hold), hold);
        assert!(!flaps.is_damped());
    }
}
