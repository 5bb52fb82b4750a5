//! What was measured, and the verdicts made from it. Pure.

use haarb_lab::table::Spread;
use serde::Serialize;

use super::{
    case::{self, Bound, Case, bytes},
    system,
};
use crate::{conditions::Conditions, result::Absent};

/// One run of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Every value, in the case's unit. Left out where there are tens of thousands of them.
    #[serde(skip_serializing_if = "is_long")]
    pub values: Vec<f64>,
    /// Their spread.
    pub spread: Spread,
    /// Bytes that both servers sent, by the counters of their interfaces.
    pub sent: u64,
    /// Bytes that had to be sent at least; 0 where that means nothing.
    pub payload: u64,
    /// CPU time of both sides, seconds.
    pub cpu_s: f64,
    /// Memory of both sides at the end (C2: the most that was seen), KiB.
    pub memory_kib: u64,
    /// Files in the tree.
    pub files: usize,
    /// Times that a file was seen half written under its final name.
    pub torn: usize,
    /// What else is to be said, such as what was lost.
    pub note: String,
    /// The one-minute load when it began.
    pub load: f64,
}

fn is_long(values: &[f64]) -> bool {
    values.len() > 2000
}

/// Everything about one system in one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// Name of the case.
    pub case: &'static str,
    /// Name of the system.
    pub system: &'static str,
    /// Its name in the tables.
    pub title: &'static str,
    /// Its runs.
    pub runs: Vec<Run>,
    /// Runs that failed, with why; a wrong replica is a failed run.
    pub failed: Vec<String>,
    /// Why there is none.
    pub absent: Option<Absent>,
}

impl Cell {
    /// All values of all runs.
    #[must_use]
    pub fn spread(&self) -> Option<Spread> {
        let values = self.runs.iter().flat_map(|run| run.values.iter().copied());
        Spread::of(values.collect())
    }

    /// One number of every run.
    #[must_use]
    pub fn of_runs(&self, of: impl Fn(&Run) -> f64) -> Option<Spread> {
        Spread::of(self.runs.iter().map(of).collect())
    }
}

/// One target, and whether it was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Name of the case.
    pub case: &'static str,
    /// The target.
    pub target: String,
    /// What was found.
    pub found: String,
    /// Whether it is met; `None`: it cannot be told from this run.
    pub met: Option<bool>,
}

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    /// Where and under what.
    pub conditions: Conditions,
    /// The file system under the replicated directories.
    pub file_system: String,
    /// What sizes and counts were multiplied by.
    pub scale: f64,
    /// Per case, per system.
    pub cells: Vec<Cell>,
    /// haarb's targets.
    pub verdicts: Vec<Verdict>,
}

/// The verdicts about all cases that haarb was measured in.
#[must_use]
pub fn judge(cells: &[Cell], scale: f64) -> Vec<Verdict> {
    let ours = cells.iter().filter(|cell| cell.system == "haarb");
    ours.filter_map(|cell| Some((case::find(cell.case)?, cell)))
        .flat_map(|(case, cell)| {
            (case.bounds.iter()).map(move |bound| verdict(cells, case, cell, *bound, scale))
        })
        .collect()
}

fn verdict(cells: &[Cell], case: &Case, cell: &Cell, bound: Bound, scale: f64) -> Verdict {
    let (found, met) = match cell.spread() {
        None => ("no run".to_owned(), None),
        Some(spread) => check(cells, case, cell, bound, scale, spread),
    };
    // One wrong replica and nothing is met, however fast the others were.
    let met = if cell.failed.is_empty() {
        met
    } else {
        Some(false)
    };
    Verdict {
        case: case.name,
        target: bound.in_words(case, scale),
        found: match cell.failed.len() {
            0 => found,
            failed => format!("{found}; {failed} failed"),
        },
        met,
    }
}

fn check(
    cells: &[Cell],
    case: &Case,
    cell: &Cell,
    bound: Bound,
    scale: f64,
    spread: Spread,
) -> (String, Option<bool>) {
    let at_most = |value: f64, most: f64| (short(value), Some(value <= most));
    let against = |theirs: Option<f64>, factor: f64| {
        let Some(theirs) = theirs.filter(|theirs| *theirs > 0.0) else {
            return ("no peer measured".to_owned(), None);
        };
        let ratio = spread.median / theirs;
        let met = if case.more_is_better {
            ratio >= factor
        } else {
            ratio <= factor
        };
        (
            format!("{} ({ratio:.2} of {})", short(spread.median), short(theirs)),
            Some(met),
        )
    };
    let peers = |wanted: &dyn Fn(&system::System) -> bool| {
        let medians = cells.iter().filter(|other| other.case == case.name);
        medians
            .filter(|other| system::find(other.system).is_some_and(wanted))
            .filter_map(|other| Some(other.spread()?.median))
            .reduce(if case.more_is_better {
                f64::max
            } else {
                f64::min
            })
    };
    match bound {
        Bound::Median(most) => at_most(spread.median, most),
        Bound::P99(most) => at_most(spread.p99, most),
        Bound::Each(most) => at_most(spread.max, most),
        Bound::Sent(most) => {
            let worst = cell
                .of_runs(|run| run.sent as f64)
                .map_or(0.0, |all| all.max);
            (bytes(worst), Some(worst <= most * scale))
        }
        Bound::SentPerByte(most) => {
            let of = |run: &Run| run.sent as f64 / (run.payload.max(1)) as f64;
            let worst = cell.of_runs(of).map_or(0.0, |all| all.max);
            (format!("{worst:.2}"), Some(worst <= most))
        }
        Bound::Against(name, factor) => against(peers(&|system| system.name == name), factor),
        Bound::AgainstEncrypted(factor) => against(
            peers(&|system| !system.is_haarb() && system.is_encrypted()),
            factor,
        ),
        Bound::MemoryPerFile(most) => {
            let of = |run: &Run| run.memory_kib as f64 * 1024.0 / 2.0 / run.files.max(1) as f64;
            let worst = cell.of_runs(of).map_or(0.0, |all| all.max);
            (format!("{worst:.0}"), Some(worst <= most))
        }
    }
}

/// A number with three digits.
#[must_use]
pub fn short(value: f64) -> String {
    if value == 0.0 || value >= 99.95 {
        format!("{value:.0}")
    } else if value >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sync) fn cell(case: &'static str, system: &'static str, values: &[f64]) -> Cell {
        let run = |value: &f64| Run {
            values: vec![*value],
            spread: Spread::of(vec![*value]).expect("a value"),
            sent: 20_000_000,
            payload: 10_000_000,
            cpu_s: 1.0,
            memory_kib: 2048,
            files: 1000,
            torn: 0,
            note: String::new(),
            load: 0.0,
        };
        Cell {
            case,
            system,
            title: system,
            runs: values.iter().map(run).collect(),
            failed: Vec::new(),
            absent: None,
        }
    }

    fn met(cells: &[Cell]) -> Vec<Option<bool>> {
        judge(cells, 1.0)
            .iter()
            .map(|verdict| verdict.met)
            .collect()
    }

    #[test]
    fn medians_percentiles_and_bytes_are_judged_each() {
        assert_eq!(
            met(&[cell("C1", "haarb", &[2.0, 3.0, 40.0])]),
            [Some(true), Some(false)]
        );
        assert_eq!(
            met(&[cell("C5", "haarb", &[1.0])]),
            [Some(true), Some(false)]
        );
        assert_eq!(
            met(&[cell("C6", "haarb", &[1.0])]),
            [Some(true), Some(true), Some(false)],
            "two bytes sent per byte"
        );
        let at_double = judge(&[cell("C5", "haarb", &[1.0])], 2.0);
        assert_eq!(at_double[1].met, Some(true), "32 MB are allowed");
        // 2 MiB over 1000 files and two sides.
        assert_eq!(met(&[cell("C2-million", "haarb", &[1.0])]), [Some(false)]);
    }

    #[test]
    fn ratios_go_the_right_way_and_need_a_peer() {
        let c2 = |ours| {
            [
                cell("C2", "haarb", &[ours]),
                cell("C2", "rsync-daemon", &[6.0]),
            ]
        };
        assert_eq!(met(&c2(2.9)), [Some(true)]);
        assert_eq!(met(&c2(3.1)), [Some(false)]);
        let c4 = |ours| {
            [
                cell("C4", "haarb", &[ours]),
                cell("C4", "rsync-daemon", &[900.0]),
                cell("C4", "rsync-ssh", &[100.0]),
                cell("C4", "lsyncd", &[110.0]),
            ]
        };
        assert_eq!(met(&c4(331.0)), [Some(true)], "the daemon does not encrypt");
        assert_eq!(met(&c4(329.0)), [Some(false)]);
        assert_eq!(met(&[cell("C4", "haarb", &[1000.0])]), [None]);
    }

    #[test]
    fn a_wrong_replica_meets_nothing() {
        let mut wrong = cell("C8", "haarb", &[0.1]);
        wrong.failed.push("the replica differs".into());
        assert_eq!(met(&[wrong]), [Some(false)]);
    }
}
