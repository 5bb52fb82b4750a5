//! In which order things are measured. Pure.
//!
//! One run of every system for one fault, then the next fault; then the next round. Long runs are done
//! in fewer rounds, spread evenly over all of them.

use crate::{fault::Fault, system::System};

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Runs of what takes a second.
    pub runs: u32,
    /// Runs of what takes several.
    pub slow_runs: u32,
}

impl Counts {
    /// `slow` defaults to a fifth of `runs`, at least 3 and at most 10, and never more than `runs`.
    #[must_use]
    pub fn new(runs: u32, slow: Option<u32>) -> Self {
        let slow_runs = slow.unwrap_or_else(|| (runs / 5).clamp(3, 10)).min(runs);
        Self { runs, slow_runs }
    }

    /// How often this is measured.
    #[must_use]
    pub const fn of(&self, system: &System, fault: Fault) -> u32 {
        if system.slow || fault.is_long() {
            self.slow_runs
        } else {
            self.runs
        }
    }

    /// Whether this is measured in `round`, counted from 0.
    #[must_use]
    pub fn is_due(&self, system: &System, fault: Fault, round: u32) -> bool {
        let wanted = u64::from(self.of(system, fault));
        let (round, rounds) = (u64::from(round), u64::from(self.runs.max(1)));
        // Rounds by whose end the wanted share has grown by one.
        (round + 1) * wanted / rounds > round * wanted / rounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fault, system};

    #[test]
    fn every_cell_is_measured_as_often_as_said() {
        for (runs, slow) in [
            (1, None),
            (3, None),
            (10, None),
            (100, Some(7)),
            (5, Some(9)),
        ] {
            let counts = Counts::new(runs, slow);
            for system in &system::ALL {
                for fault in fault::ALL {
                    let due = (0..runs)
                        .filter(|round| counts.is_due(system, fault, *round))
                        .count();
                    assert_eq!(due, counts.of(system, fault) as usize, "{runs} {slow:?}");
                }
            }
        }
    }

    #[test]
    fn slow_ones_take_a_fifth() {
        assert_eq!(Counts::new(10, None).slow_runs, 3);
        assert_eq!(Counts::new(30, None).slow_runs, 6);
        assert_eq!(Counts::new(100, None).slow_runs, 10);
        assert_eq!(Counts::new(2, None).slow_runs, 2);
        assert_eq!(Counts::new(10, Some(1)).slow_runs, 1);
    }
}
