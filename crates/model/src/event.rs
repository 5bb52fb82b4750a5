//! One line of the event log: what happened, by which rule, on what evidence.

use crate::{Epoch, ReserveName, Role};

/// How loud an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// For the record.
    Info,
    /// Something is degraded; service goes on.
    Minor,
    /// Protection is lost or a person should look soon.
    Major,
    /// Service or data are at stake: a person must look now.
    Critical,
}

impl Severity {
    /// The word for it in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Minor => "minor",
            Self::Major => "major",
            Self::Critical => "critical",
        }
    }
}

/// What the decision says about something that happened. The arbiter adds wall-clock time,
/// server and number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How loud.
    pub severity: Severity,
    /// The rule, as `decision-table.md` names it (`B7`), or an operator's command (`OP`).
    pub rule: &'static str,
    /// The reserve, if it concerns one.
    pub reserve: Option<ReserveName>,
    /// Role before.
    pub from: Option<Role>,
    /// Role after; the same as `from` where nothing changed.
    pub to: Option<Role>,
    /// The epoch in force after it.
    pub epoch: Epoch,
    /// What happened, what was done, what to look at: one sentence each, for an operator.
    pub why: String,
    /// The facts that were seen, as pairs of name and value.
    pub evidence: Vec<(&'static str, String)>,
}
