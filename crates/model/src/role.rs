//! What a server is for a reserve, and under which mode it decides.

use std::fmt;

/// Counts the activations of a reserve. Every activation takes the next one; who sees a
/// higher one lets go at once. Zero: never activated, as far as this server knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of the next activation.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The role of one server for one reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Just started or just stalled: holds nothing, looks around first.
    Starting,
    /// Ready to follow; receives the replica.
    Standby,
    /// Has decided to take the reserve: VIP up, services starting.
    Taking,
    /// Serves.
    Active,
    /// Hands the reserve over: services stop, replica drains, then the VIP goes.
    Releasing,
    /// Cut off, or nobody may serve yet: holds nothing until the networks are back.
    Waiting,
    /// Something here must be mended by a person (`haarb clear`).
    Failed,
}

impl Role {
    /// Every role, in the order of the enum.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Standby,
        Self::Taking,
        Self::Active,
        Self::Releasing,
        Self::Waiting,
        Self::Failed,
    ];

    /// Whether a server in this role may hold the VIP, so that others must not.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Taking | Self::Active | Self::Releasing)
    }

    /// The word for it in status, events and scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Taking => "taking",
            Self::Active => "active",
            Self::Releasing => "releasing",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether a server switches over by itself, and if not, why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Rules act by themselves.
    #[default]
    Automatic,
    /// One of the server's own networks is not usable (mission E1).
    OneNetwork,
    /// An operator asked for it (`haarb demote`, `haarb promote --force`).
    Operator,
    /// More switchovers than `max-switches` in the window.
    Flapping,
    /// Two servers run different configurations (rule X5).
    ConfigDiffers,
    /// Two servers have no version of the protocol in common (rule X6).
    VersionDiffers,
    /// Nothing is switched and nothing is stopped.
    Maintenance,
}

impl Mode {
    /// Every mode, in the order of the enum.
    pub const ALL: [Self; 7] = [
        Self::Automatic,
        Self::OneNetwork,
        Self::Operator,
        Self::Flapping,
        Self::ConfigDiffers,
        Self::VersionDiffers,
        Self::Maintenance,
    ];

    /// `automatic` or `manual`, as the status says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            _ => "manual",
        }
    }

    /// The reason behind `manual`; empty for `automatic`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Automatic => "",
            Self::OneNetwork => "one network",
            Self::Operator => "operator",
            Self::Flapping => "flapping",
            Self::ConfigDiffers => "config differs",
            Self::VersionDiffers => "version differs",
            Self::Maintenance => "maintenance",
        }
    }
}

/// How good this server's replica of a reserve is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Data {
    /// Acknowledged up to the loss of contact.
    Current,
    /// Consistent but older.
    #[default]
    Stale,
    /// First or interrupted full sync: never goes live by itself.
    Inconsistent,
}

impl Data {
    /// The word for it in status and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Stale => "stale",
            Self::Inconsistent => "inconsistent",
        }
    }
}

/// What a reserve prefers when only old data are at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefer {
    /// A stale server may take over, marked and alarmed.
    #[default]
    Availability,
    /// A stale server holds and asks the operator.
    Consistency,
}
