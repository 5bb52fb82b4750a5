//! What one server remembers of one reserve between two steps. Plain data; the rules say
//! what becomes of it.

use std::fmt;

use haarb_model::{Agent, Epoch, Mode, Mono, NodeName, ReserveSpec, Role};

use crate::facts::Facts;
use crate::record::RecordReserve;

/// Whom a hand-over may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// Only to an eligible server: rules act by themselves.
    Eligible,
    /// Also to one that lacks a network: manual switchover, an operator asked for it.
    Asked,
    /// To whoever can talk to us, with whatever data: an operator forces it.
    Forced,
}

/// A hand-over under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handing {
    /// Who gets it.
    pub to: NodeName,
    /// Our role afterwards.
    pub then: Role,
    /// When it began.
    pub since: Mono,
    /// Nothing is left to write: the virtual IPs go, and do not come back in this hand-over.
    pub sealed: bool,
    /// How far the receiver must be fit for it.
    pub fit: Fit,
}

/// What an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Hand over, to this server or to whoever is first in line.
    HandOver(Option<NodeName>),
    /// Give it up: hand over if somebody can take it within drain-max, else let go.
    GiveUp,
    /// Take it if nobody else has it.
    Take,
    /// Take it whatever the others say: a server that serves and hears us lets go first.
    Force,
}

/// Why this server is not eligible, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is stopping.
    Leaving,
    /// Its role does not allow it.
    Role(Role),
    /// It has not looked around for long enough.
    TooEarly,
    /// Networks usable, of how many.
    Links(usize, usize),
    /// A manual mode.
    Mode(Mode),
    /// Manual by an operator's command.
    Operator(String),
    /// A neighbour is in maintenance: nothing is switched.
    NeighbourMaintenance(NodeName),
    /// An agent is gone.
    Agent(Agent),
    /// The services could not start here.
    Services(String),
    /// The virtual IPs could not be added here.
    Vip(String),
    /// The first full sync has not ended.
    Inconsistent,
    /// Stale data, and `prefer: consistency`.
    OldData,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaving => f.write_str("this server is stopping"),
            Self::Role(Role::Failed) => {
                f.write_str("it failed here before: mend what failed, then `haarb clear`")
            }
            Self::Role(role) => write!(f, "its role is {role}"),
            Self::TooEarly => f.write_str("it has not looked around for long enough"),
            Self::Links(n, k) => write!(f, "{n} of {k} networks are usable"),
            Self::Mode(mode) => write!(f, "mode manual: {}", mode.reason()),
            Self::Operator(by) => write!(f, "manual by `{by}`: `haarb clear` ends it"),
            Self::NeighbourMaintenance(node) => write!(f, "{node} is in maintenance"),
            Self::Agent(agent) => write!(f, "haarb-{} does not run", agent.as_str()),
            Self::Services(why) => write!(f, "services could not start: {why}"),
            Self::Vip(why) => write!(f, "virtual IPs: {why}"),
            Self::Inconsistent => f.write_str("its replica is not complete"),
            Self::OldData => f.write_str("its data may be old, and `prefer: consistency`"),
        }
    }
}

/// One reserve on one server.
#[derive(Clone, Debug)]
pub struct ReserveState {
    /// Its part of the configuration.
    pub spec: ReserveSpec,
    /// Our role.
    pub role: Role,
    /// Since when.
    pub since: Mono,
    /// The rule that led to the role.
    pub rule: &'static str,
    /// The rule that holds now.
    pub holds: &'static str,
    /// The facts that the table saw last.
    pub facts: Facts,
    /// The highest epoch we know.
    pub known: Epoch,
    /// The epoch under which we serve or served last; zero: never.
    pub own: Epoch,
    /// Serving with data that may not be the newest, since when.
    pub stale_since: Option<Mono>,
    /// Manual by an operator's command, and which.
    pub operator: Option<String>,
    /// Why we are not eligible; `None`: we are (not counting `lead`).
    pub obstacle: Option<Obstacle>,
    /// What serving takes is not here: this server claims nothing, or cannot let go.
    pub unable: bool,
    /// Since when there is no obstacle.
    pub eligible_since: Option<Mono>,
    /// The hand-over under way.
    pub handing: Option<Handing>,
    /// To whom we released it, and when.
    pub released: Option<(NodeName, Mono)>,
    /// Since when we claim the next epoch.
    pub claims: Option<Mono>,
    /// Whom we let go first.
    pub yields_to: Option<NodeName>,
    /// Since when an election is open to us.
    pub election_since: Option<Mono>,
    /// What an operator asked for here, and when.
    pub asked: Option<(Asked, Mono)>,
    /// The server for which an operator here asked the active one, for which epoch, and when.
    pub asks: Option<(NodeName, Epoch, Mono)>,
    /// Until when we may hold, and when that was last renewed.
    pub lease_until: Mono,
    /// When the lease was renewed last.
    pub renewed: Mono,
    /// Since when the vip-agent is asked to probe.
    pub probing_since: Option<Mono>,
    /// While we asked: since when a neighbour that answered for the virtual IPs is silent, or
    /// now if it still answers.
    pub answered: Option<Mono>,
    /// The last word of the vip-agent was that a neighbour answers for them.
    pub answers: bool,
    /// The role of each neighbour, in their order, while it is heard.
    pub heard_roles: Vec<Option<Role>>,
    /// Counts the announcements asked for.
    pub announce: u64,
    /// Counts the times that failures were cleared.
    pub clear: u64,
    /// From whom we receive the replica.
    pub source: Option<NodeName>,
    /// No new hand-over by itself before this: one was abandoned.
    pub retry_after: Mono,
    /// What was held at our start has been judged.
    pub looked: bool,
    /// We were frozen and have not reacted to it yet.
    pub stalled: bool,
}

impl ReserveState {
    /// A reserve at the start of the arbiter.
    #[must_use]
    pub fn new(spec: ReserveSpec, record: &RecordReserve, now: Mono) -> Self {
        Self {
            spec,
            role: if record.failed {
                Role::Failed
            } else {
                Role::Starting
            },
            since: now,
            rule: "S4",
            holds: "S4",
            facts: Facts::default(),
            known: record.epoch.max(record.own),
            own: record.own,
            stale_since: None,
            operator: record.operator.clone(),
            obstacle: Some(Obstacle::TooEarly),
            unable: true,
            eligible_since: None,
            handing: None,
            released: None,
            claims: None,
            yields_to: None,
            election_since: None,
            asked: None,
            asks: None,
            lease_until: Mono::ZERO,
            renewed: Mono::ZERO,
            probing_since: None,
            answered: None,
            answers: false,
            heard_roles: Vec::new(),
            announce: 0,
            clear: 0,
            source: None,
            retry_after: Mono::ZERO,
            looked: false,
            stalled: false,
        }
    }

    /// Whether there is anything to tell about it. A fresh arbiter does not know yet what is held here:
    /// told to hold nothing, agents would let go of what it is about to go on with (rule X2). Until
    /// then their leases bind them.
    pub(crate) fn is_judged(&self) -> bool {
        self.looked || self.role != Role::Starting
    }

    /// The epoch that we show: the one we serve under, or the highest known.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        if self.role.serves() {
            self.own
        } else {
            self.known
        }
    }

    /// We were the active one of the epoch that we show.
    #[must_use]
    pub fn was_active(&self) -> bool {
        self.own == self.epoch() && self.own > Epoch(0)
    }

    /// What should survive a restart.
    #[must_use]
    pub fn record(&self) -> RecordReserve {
        RecordReserve {
            epoch: self.known,
            own: self.own,
            operator: self.operator.clone(),
            failed: self.role == Role::Failed,
        }
    }
}
