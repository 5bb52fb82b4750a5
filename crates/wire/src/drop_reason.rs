//! Why a datagram had no effect (rule X4).

/// Why a datagram was dropped. The text is the name under which it is counted and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Shorter than the smallest datagram.
    TooShort,
    /// Not ours, or of a protocol version that this program does not speak.
    WrongVersion,
    /// Another cluster on the same wire.
    WrongCluster,
    /// Authentication failed: another key, or altered on the way.
    WrongKey,
    /// Authentic, but its fields make no sense.
    Malformed,
    /// Authentic, but its sender is not in our configuration.
    UnknownNode,
    /// Our own, reflected.
    NotForUs,
    /// Sent on another network than the one it arrived on.
    WrongNetwork,
    /// Of the sender's present run, but not after the last one on this network: overtaken on the
    /// way, delivered twice, or sent again by somebody. Cables that are plugged in again bring
    /// such ones, so they are no reason for an alarm; they have no effect whatever they are.
    Late,
    /// From a run of the sender's prober that a later one has replaced.
    OlderSession,
    /// From a run of the sender's prober that has not yet shown that it hears us: usual for
    /// the first two datagrams after a start of either side, otherwise a replay.
    NotProven,
}

impl DropReason {
    /// Every reason, in the order in which they are tried.
    pub const ALL: [Self; 11] = [
        Self::TooShort,
        Self::WrongVersion,
        Self::WrongCluster,
        Self::WrongKey,
        Self::Malformed,
        Self::UnknownNode,
        Self::NotForUs,
        Self::WrongNetwork,
        Self::Late,
        Self::OlderSession,
        Self::NotProven,
    ];

    /// The name under which it is counted.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooShort => "too short",
            Self::WrongVersion => "wrong version",
            Self::WrongCluster => "wrong cluster",
            Self::WrongKey => "wrong key",
            Self::Malformed => "malformed",
            Self::UnknownNode => "unknown node",
            Self::NotForUs => "not for us",
            Self::WrongNetwork => "wrong network",
            Self::Late => "late",
            Self::OlderSession => "older session",
            Self::NotProven => "not proven",
        }
    }
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
