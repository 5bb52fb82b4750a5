//! How much is lost on the way, and how long silence must last before it means something.
//!
//! Pure arithmetic, no time of its own.

use haarb_model::Span;

/// ECHO requests that are remembered: 1.3 s at 10 ms. Long enough to tell 1 % from none,
/// short enough to follow a link that gets better.
const WINDOW: u32 = u128::BITS;
/// The latest of them, which count by themselves, so that a link that turns bad is known for it
/// within a few intervals.
const LATEST: u32 = 16;
/// Fewer losses among the latest are chance.
const LATEST_LOST_MIN: u32 = 2;

/// Which of the last ECHO requests were answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LossWindow {
    /// Bit 0 is the latest; 1 means lost.
    lost: u128,
    length: u32,
}

impl LossWindow {
    pub(crate) const EMPTY: Self = Self { lost: 0, length: 0 };

    pub(crate) fn record(&mut self, lost: bool) {
        self.lost = self.lost << 1 | u128::from(lost);
        self.length = (self.length + 1).min(WINDOW);
    }

    /// Share of lost requests, 0 to 1; 0 before the first. Of the whole window or of the latest
    /// ones, whichever is worse.
    pub(crate) fn share(&self) -> f64 {
        let mask = (1 << LATEST) - 1;
        let latest = (self.lost & mask).count_ones();
        let latest = if latest >= LATEST_LOST_MIN {
            f64::from(latest) / f64::from(LATEST)
        } else {
            0.0
        };
        latest.max(self.overall())
    }

    /// Share of lost requests in the whole window.
    pub(crate) fn overall(&self) -> f64 {
        if self.length == 0 {
            return 0.0;
        }
        f64::from(self.lost.count_ones()) / f64::from(self.length)
    }
}

/// The chance, per interval, that random loss alone may look like silence. At 10 ms between
/// probes a year has 3 x 10^9 intervals.
const CHANCE: f64 = 1e-12;
/// Silence of this many intervals means something on any link.
const INTERVALS_MAX: u64 = 64;

/// The `dead-after` to use where `losses` were measured, one per network on which the
/// neighbour is heard at all.
///
/// In every interval a living neighbour gives two signs on each network, an ECHO reply and a
/// datagram. Each is lost with at most the measured share of lost ECHO requests, which counts
/// both directions. So an interval passes without any sign with the chance
///
/// ```text
/// q = product over the networks of loss x loss
/// ```
///
/// and n intervals in a row with q^n. `dead-after` lasts for so many intervals that q^n is below
/// [`CHANCE`], but never less than configured and never more than [`INTERVALS_MAX`] intervals.
/// The confirming burst makes a mistake less likely still, and is not counted on.
pub(crate) fn patience(
    configured: Span,
    interval: Span,
    losses: impl IntoIterator<Item = f64>,
) -> Span {
    let longest = interval.times(INTERVALS_MAX).max(configured);
    let quiet: f64 = losses.into_iter().map(|loss| loss * loss).product();
    if quiet >= 1.0 {
        return longest;
    }
    if quiet <= 0.0 {
        return configured;
    }
    let intervals = (CHANCE.ln() / quiet.ln()).ceil();
    // Between 0 and infinity here; the cast saturates.
    interval.times(intervals as u64).clamp(configured, longest)
}

/// How many ECHO replies of a switch must be missing in a row before it counts as silent, by
/// the same reasoning with one sign per interval, and at a larger chance: a switch's silence
/// alone moves nothing while a neighbour is heard through it.
pub(crate) fn misses_for_silence(loss: f64, least: u32, most: u32) -> u32 {
    const CHANCE: f64 = 1e-9;
    if loss <= 0.0 {
        return least;
    }
    if loss >= 1.0 {
        return most.max(least);
    }
    let misses = (CHANCE.ln() / loss.ln()).ceil() as u32;
    misses.clamp(least, most.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_MS: Span = Span::from_millis(10);

    fn after(losses: &[f64]) -> u64 {
        patience(Span::from_millis(30), TEN_MS, losses.iter().copied()).as_millis()
    }

    #[test]
    fn patience_grows_with_loss_on_every_network_and_only_then() {
        for (losses, ms) in [
            (&[0.0, 0.0][..], 30),
            (&[0.01, 0.01], 30),
            (&[0.51, 0.0], 30), // the other network has never lost anything
            (&[0.51, 0.51], 110),
            (&[0.51], 210),
            (&[0.9, 0.9], 640),
            (&[1.0], 640),
            (&[], 640), // nothing is known: as careful as possible
        ] {
            assert_eq!(after(losses), ms, "{losses:?}");
        }
    }

    #[test]
    fn the_window_forgets() {
        let mut window = LossWindow::EMPTY;
        assert!(window.share() == 0.0);
        window.record(true);
        window.record(false);
        assert!((window.share() - 0.5).abs() < 1e-9);
        for _ in 0..WINDOW {
            window.record(false);
        }
        assert!(window.share() == 0.0);
        // It learns faster than it forgets.
        window.record(true);
        assert!(window.share() < 0.01, "one is chance");
        window.record(true);
        assert!(window.share() > 0.1);
    }

    #[test]
    fn a_switch_on_a_bad_link_is_given_more_time() {
        assert_eq!(misses_for_silence(0.0, 3, 20), 3);
        assert_eq!(misses_for_silence(0.1, 3, 20), 9);
        assert_eq!(misses_for_silence(0.51, 3, 20), 20);
        assert_eq!(misses_for_silence(1.0, 3, 2), 3);
    }
}
