//! What was measured, and the numbers made from it. Pure.

use haarb_lab::{clock::Stamp, table::Spread};
use serde::Serialize;

use crate::{conditions::Conditions, cost::CostRow};

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// From the fault (planned: from the old server's last answer) until the other server answered for
    /// everything that it had to take over. `None`: it never did.
    pub gap_ms: Option<f64>,
    /// How long both servers would have answered, while it was watched.
    pub dual_active_ms: f64,
    /// Requests that nobody answered in time; every virtual IP is asked once a millisecond.
    pub lost: usize,
    /// The longest time without an answer from one virtual IP.
    pub longest_outage_ms: f64,
    /// The latest wake-up of the client's own timer: what the machine may have added.
    pub stall_ms: f64,
    /// When it began.
    pub at: Stamp,
}

/// Why there is no number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "why", content = "text")]
pub enum Absent {
    /// The peer is not on this machine.
    NotInstalled,
    /// It is, but does not work here.
    Fails(String),
    /// This fault is not tried on this system.
    NotTried,
}

/// Everything about one system under one fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// Name of the system.
    pub system: &'static str,
    /// Its name in the tables.
    pub title: &'static str,
    /// Name of the fault.
    pub fault: &'static str,
    /// Its runs.
    pub samples: Vec<Sample>,
    /// Runs that failed in the lab, with why; they are not among the samples.
    pub failed: Vec<String>,
    /// Why there are no samples.
    pub absent: Option<Absent>,
}

impl Cell {
    /// The gaps of the runs in which the other server took over.
    #[must_use]
    pub fn gap(&self) -> Option<Spread> {
        Spread::of(
            self.samples
                .iter()
                .filter_map(|sample| sample.gap_ms)
                .collect(),
        )
    }

    /// One number of every run.
    #[must_use]
    pub fn spread(&self, of: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(of).collect())
    }

    /// Runs in which nobody took over.
    #[must_use]
    pub fn without_takeover(&self) -> usize {
        (self.samples.iter())
            .filter(|sample| sample.gap_ms.is_none())
            .count()
    }
}

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    /// Where and under what.
    pub conditions: Conditions,
    /// Per fault, per system.
    pub cells: Vec<Cell>,
    /// CPU time and memory.
    pub costs: Vec<CostRow>,
}

impl Results {
    /// A cell by its names.
    #[must_use]
    pub fn cell(&self, system: &str, fault: &str) -> Option<&Cell> {
        (self.cells.iter()).find(|cell| cell.system == system && cell.fault == fault)
    }

    /// The median gap of a system divided by that of another under the same fault.
    #[must_use]
    pub fn ratio(&self, cell: &Cell, reference: &str) -> Option<f64> {
        let theirs = self.cell(reference, cell.fault)?.gap()?.median;
        let ours = cell.gap()?.median;
        (theirs > 0.0).then(|| ours / theirs)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn cell(system: &'static str, gaps: &[Option<f64>]) -> Cell {
        let sample = |gap: &Option<f64>| Sample {
            gap_ms: *gap,
            dual_active_ms: 0.0,
            lost: 10,
            longest_outage_ms: 5.0,
            stall_ms: 1.5,
            at: Stamp(0),
        };
        Cell {
            system,
            title: system,
            fault: "power-off",
            samples: gaps.iter().map(sample).collect(),
            failed: Vec::new(),
            absent: None,
        }
    }

    #[test]
    fn ratios_are_of_medians_and_need_both() {
        let results = Results {
            conditions: Conditions::default(),
            cells: vec![
                cell("haarb", &[Some(30.0), Some(20.0), None]),
                cell("keepalived", &[Some(100.0), Some(40.0), Some(80.0)]),
                cell("ucarp", &[]),
            ],
            costs: Vec::new(),
        };
        assert_eq!(results.ratio(&results.cells[0], "keepalived"), Some(0.25));
        assert_eq!(results.ratio(&results.cells[0], "ucarp"), None);
        assert_eq!(results.ratio(&results.cells[2], "keepalived"), None);
        assert_eq!(results.cells[0].without_takeover(), 1);
    }
}
