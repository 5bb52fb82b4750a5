//! What a server must hold now. It follows from the roles alone, never from the path by
//! which they came about; a directive carries all of it, so that it can be repeated.

use std::collections::BTreeSet;

use crate::{Epoch, Mono, NetworkName, NodeName, ReserveName, Role};

/// Everything the agents of one server must hold now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duties {
    /// What the links need.
    pub links: LinkDuties,
    /// One per reserve, in the order of the configuration.
    pub reserves: Vec<ReserveDuties>,
}

/// What the link-watcher and the prober are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkDuties {
    /// Until when the payload of the datagrams may be sent as that of a live arbiter.
    pub payload_until: Mono,
    /// Ask the switches of these networks at once, and report their next answer at once.
    pub ask_switches: BTreeSet<NetworkName>,
}

/// What must be held for one reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveDuties {
    /// The reserve.
    pub reserve: ReserveName,
    /// The role from which all of this follows.
    pub role: Role,
    /// The epoch under which it is held. Agents refuse a lower one than they have seen.
    pub epoch: Epoch,
    /// The virtual IPs.
    pub vip: VipDuty,
    /// The services.
    pub services: ServiceDuty,
    /// The replicas.
    pub sync: SyncDuty,
}

/// What the vip-agent does for one reserve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipDuty {
    /// Hold the addresses.
    pub hold: bool,
    /// Let go by yourself at this moment if not told otherwise before.
    pub until: Mono,
    /// Announce in a burst whenever this number is higher than the last one seen.
    pub announce: u64,
    /// Ask whether anybody answers for the addresses, and go on asking.
    pub probe: bool,
    /// MAC addresses of the other servers, to tell a neighbour from a stranger.
    pub neighbour_macs: Vec<[u8; 6]>,
}

/// What the supervisor does for one reserve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceDuty {
    /// Run the services.
    pub run: bool,
    /// Stop them by yourself at this moment if not told otherwise before.
    pub until: Mono,
    /// Forget failures and try again when this number is higher than the last one seen
    /// (`haarb clear`).
    pub clear: u64,
    /// Nothing is started or stopped: maintenance.
    pub frozen: bool,
}

/// What the syncer does for one reserve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SyncDuty {
    /// Neither send nor accept.
    #[default]
    Off,
    /// Send to every sink that connects.
    Source,
    /// As source, send what is left, then report `drained`: the services are stopped.
    Drain,
    /// Accept from this server, if its epoch is not lower than ours.
    Sink(NodeName),
}
