//! What a search gives: levels, residual cases, findings.

use std::collections::BTreeMap;
use std::time::Duration;

use haarb_model::Span;

use crate::residual::Case;

/// Something wrong, and the shortest way to it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What is wrong.
    pub what: String,
    /// How many events lead there.
    pub events: usize,
    /// The lines of a scenario that lead there.
    pub lines: Vec<String>,
    /// How many ways were found.
    pub count: u64,
}

/// What was seen of a residual case.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How often two servers offered.
    pub count: u64,
    /// The shortest way to it: number of events, lines.
    pub shortest: Option<(usize, Vec<String>)>,
    /// How often the servers came into contact while both offered.
    pub met: u64,
    /// How long both still offered after contact, at most.
    pub after_contact: Span,
}

/// What one level gave.
#[derive(Clone, Debug, Default)]
pub struct Level {
    /// Sequences tried: a state and an event.
    pub tried: u64,
    /// States that had not been seen before.
    pub states: u64,
    /// States from which all was mended.
    pub mended: u64,
    /// How long it took.
    pub took: Duration,
}

/// What a search gave.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Per number of events.
    pub levels: Vec<Level>,
    /// Residual cases.
    pub cases: BTreeMap<Case, Seen>,
    /// What is wrong, by what it is.
    pub findings: BTreeMap<String, Finding>,
    /// How many events there are.
    pub events: usize,
    /// The depth that was searched whole.
    pub depth: usize,
    /// Which rules led to a change, and how often.
    pub fired: BTreeMap<&'static str, u64>,
}

impl Found {
    /// How many different states.
    #[must_use]
    pub fn states(&self) -> u64 {
        self.levels.iter().map(|level| level.states).sum()
    }

    /// How many sequences: a state and an event.
    #[must_use]
    pub fn sequences(&self) -> u64 {
        self.levels.iter().map(|level| level.tried).sum()
    }
}
