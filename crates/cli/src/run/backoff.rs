//! How long to wait before a dead daemon is started again. Pure.
//!
//! The first restart is immediate, because every millisecond without the daemon counts
//! against its lease. One that goes on dying gets pauses that double up to a second, for
//! ever: a server whose fault was mended must not need a person to notice.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Whoever ran this long starts with a clean slate.
const RAN_WELL: Duration = Duration::from_secs(10);

/// The history of one daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    /// Deaths in a row, each after less than [`RAN_WELL`].
    deaths: u32,
}

impl Backoff {
    /// Notes a death after so long a life; returns the pause before the next start.
    pub(super) fn died_after(&mut self, life: Duration) -> Duration {
        if life >= RAN_WELL {
            self.deaths = 0;
        }
        let pause = match self.deaths {
            0 => Duration::ZERO,
            // Beyond five doublings it is the longest pause anyway.
            n => FIRST_PAUSE
                .saturating_mul(1 << (n - 1).min(10))
                .min(LONGEST_PAUSE),
        };
        self.deaths = self.deaths.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_a_good_life_resets_them() {
        let mut backoff = Backoff::default();
        for (life_ms, pause_ms) in [
            (3_600_000, 0), // years of service, then a crash
            (20, 50),
            (20, 100),
            (20, 200),
            (20, 400),
            (20, 800),
            (20, 1000),
            (9_999, 1000),
            (10_000, 0), // it ran well again
            (0, 50),
        ] {
            let life = Duration::from_millis(life_ms);
            let pause = Duration::from_millis(pause_ms);
            assert_eq!(backoff.died_after(life), pause, "{life_ms} ms");
        }
    }

    #[test]
    fn it_never_gives_up_and_never_overflows() {
        let mut backoff = Backoff {
            deaths: u32::MAX - 1,
        };
        for _ in 0..3 {
            assert_eq!(backoff.died_after(Duration::ZERO), LONGEST_PAUSE);
        }
    }
}
