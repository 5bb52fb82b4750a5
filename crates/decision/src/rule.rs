//! What a rule is, and how one is found: the first that matches, in the order of the table.

use haarb_model::{Role, Severity};

use crate::facts::{Cond, Facts};
use crate::rules::RULES;

/// What a rule leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Go on as before.
    Stay,
    /// Go on as before, with an alarm that stands as long as the rule matches.
    Alarm,
    /// As [`Outcome::Alarm`], and the virtual IPs are announced again when it begins.
    Announce,
    /// Change the role; what is held or let go follows from the new one.
    Go(Role),
    /// Go on with what was found held, in the same epoch.
    Resume,
    /// Begin a hand-over to the heir; the role afterwards is this one.
    HandOver(Role),
    /// The hand-over has nothing left to write: the virtual IPs go.
    Seal,
    /// The virtual IPs are gone: the heir may take the next epoch.
    Release,
    /// The hand-over is off: serve again.
    Abandon,
    /// Claim the next epoch in an election.
    Claim,
    /// Take the next epoch, marked as old if our data are.
    Take,
    /// Take the next epoch, marked as old: nobody can say that ours are the newest data.
    TakeMarked,
    /// Serve on under an epoch above all known ones.
    Renumber,
}

impl Outcome {
    /// Whether the role or the epoch changes, so that the table must be asked again.
    #[must_use]
    pub const fn changes(self) -> bool {
        !matches!(
            self,
            Self::Stay | Self::Alarm | Self::Announce | Self::Seal | Self::Claim
        )
    }

    /// Whether it only says something: alarms never end the search for what to do.
    #[must_use]
    pub const fn is_alarm(self) -> bool {
        matches!(self, Self::Alarm | Self::Announce)
    }

    /// The result in words.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::Stay => "stay".into(),
            Self::Alarm => "stay; alarm".into(),
            Self::Announce => "stay; announce again; alarm".into(),
            Self::Go(role) => format!("-> {role}"),
            Self::Resume => "-> active, same epoch".into(),
            Self::HandOver(then) => format!("-> releasing, then {then}"),
            Self::Seal => "virtual IPs go".into(),
            Self::Release => "released; -> standby or failed".into(),
            Self::Abandon => "-> active, same epoch".into(),
            Self::Claim => "stay; claim the next epoch".into(),
            Self::Take => "-> taking, epoch + 1".into(),
            Self::TakeMarked => "-> taking, epoch + 1, marked `stale since`".into(),
            Self::Renumber => "stay; epoch above all known".into(),
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Rule {
    /// Its stable name; never reused for another rule.
    pub id: &'static str,
    /// A few words for lists.
    pub name: &'static str,
    /// The roles in which it is tried.
    pub roles: &'static [Role],
    /// All of these must hold.
    pub when: &'static [Cond],
    /// What follows.
    pub then: Outcome,
    /// How loud its event or alarm is.
    pub severity: Severity,
    /// What happened and what haarb did, for who reads it at night.
    pub why: &'static str,
    /// What that person should look at; empty where there is nothing to do.
    pub look: &'static str,
}

impl Rule {
    /// Whether the rule applies to this role and these facts.
    #[must_use]
    pub fn matches(&self, role: Role, facts: &Facts) -> bool {
        self.roles.contains(&role) && self.when.iter().all(|cond| cond.holds(facts))
    }

    /// The rule of this name.
    #[must_use]
    pub fn by_id(id: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.id == id)
    }
}

/// The first row that matches and is more than an alarm. Every role ends with a row that
/// always does, so `None` cannot happen (a test walks all combinations); it would mean: stay.
#[must_use]
pub fn decide(role: Role, facts: &Facts) -> Option<&'static Rule> {
    RULES
        .iter()
        .find(|rule| !rule.then.is_alarm() && rule.matches(role, facts))
}

/// All alarms that stand: every alarm row that matches.
pub fn standing(role: Role, facts: &Facts) -> impl Iterator<Item = &'static Rule> {
    RULES
        .iter()
        .filter(move |rule| rule.then.is_alarm() && rule.matches(role, facts))
}
