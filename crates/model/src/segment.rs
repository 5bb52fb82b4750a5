//! The segment as the decision sees it: who is there, in which order, with which times.
//! Addresses and commands of agents are not here; they live in `haarb-config`.

use std::net::IpAddr;

use crate::{NetworkName, NodeName, Prefer, ReserveName, Span};

/// One cluster: servers, networks, reserves and times; the same on every server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Name of the cluster; datagrams of another one are dropped (rule X4).
    pub cluster: String,
    /// Digest of the effective configuration; servers compare it (rule X5).
    pub digest: u64,
    /// Servers; earlier is preferred.
    pub nodes: Vec<NodeSpec>,
    /// Networks, one per switch; K of the decision table is their number.
    pub networks: Vec<NetworkSpec>,
    /// Reserves.
    pub reserves: Vec<ReserveSpec>,
    /// Times.
    pub timing: Timing,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name.
    pub name: NodeName,
    /// Its interface in each network, in the order of [`Segment::networks`].
    pub interfaces: Vec<String>,
}

/// One network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: NetworkName,
    /// Whether the switch has an address that can be asked.
    pub switch_answers: bool,
}

/// One reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveSpec {
    /// Its name.
    pub name: ReserveName,
    /// What to do with old data.
    pub prefer: Prefer,
    /// Alone on one network the active server gives way (rule A7s) instead of serving on.
    pub strict: bool,
    /// After both were cut off, servers that hear each other on one network agree who serves,
    /// instead of waiting for the rest (rule W7).
    pub resume_on_one: bool,
    /// Virtual IPs.
    pub vips: Vec<VipSpec>,
    /// How many directories are replicated; with none, data are always current.
    pub directories: usize,
    /// How many services run.
    pub services: usize,
}

/// One virtual IP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VipSpec {
    /// The address.
    pub address: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// The interface that carries it, the same on every server.
    pub interface: String,
}

/// Times of the segment (decision table, section 9). Defaults: [`Timing::telecom`],
/// [`Timing::lan`], [`Timing::wan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two ECHO requests, and between two datagrams, on each network.
    pub probe_interval: Span,
    /// Between two ECHO requests to a switch, at the shortest: while all is well it is asked with
    /// every probe, and once an answer is overdue, five times in this time until it answers or
    /// counts as silent.
    pub switch_interval: Span,
    /// Silence on every network before a neighbour counts as dead.
    pub dead_after: Span,
    /// A neighbour whose datagrams are older than this is not heard.
    pub not_heard_after: Span,
    /// How long an agent may hold what the arbiter last allowed.
    pub lease: Span,
    /// Silence of the neighbour's software, its kernel alive, before it counts as dead (B6).
    pub software_dead_after: Span,
    /// A network comes back only after this time without interruption.
    pub link_hold: Span,
    /// How long eligibility must have been advertised before it is used.
    pub lead: Span,
    /// Silence before a claim without contact (W3, S1, section 7).
    pub claim_after: Span,
    /// Silence before an unproven start alone (S2).
    pub cold_start: Span,
    /// Time alone before manual(one network) ends by itself.
    pub rearm_alone: Span,
    /// The longest drain of the replica in a hand-over.
    pub drain_max: Span,
    /// How long an address must stay unanswered before it is taken.
    pub vip_probe: Span,
    /// How many role changes to active within `switch_window` lead to manual(flapping).
    pub max_switches: u32,
    /// The window of `max_switches`.
    pub switch_window: Span,
}

impl Timing {
    /// 10 ms probes: dead after 30 ms.
    #[must_use]
    pub const fn telecom() -> Self {
        Self {
            probe_interval: Span::from_millis(10),
            switch_interval: Span::from_millis(5),
            dead_after: Span::from_millis(30),
            not_heard_after: Span::from_millis(25),
            lease: Span::from_millis(500),
            software_dead_after: Span::from_millis(800),
            link_hold: Span::from_secs(2),
            lead: Span::from_millis(600),
            claim_after: Span::from_secs(1),
            cold_start: Span::from_secs(60),
            rearm_alone: Span::from_secs(30),
            drain_max: Span::from_secs(5),
            vip_probe: Span::from_millis(8),
            max_switches: 10,
            switch_window: Span::from_secs(60),
        }
    }

    /// 100 ms probes: dead after 400 ms. The default.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            probe_interval: Span::from_millis(100),
            switch_interval: Span::from_millis(50),
            dead_after: Span::from_millis(400),
            not_heard_after: Span::from_millis(250),
            lease: Span::from_secs(1),
            software_dead_after: Span::from_secs(2),
            link_hold: Span::from_secs(2),
            lead: Span::from_millis(1200),
            claim_after: Span::from_secs(2),
            cold_start: Span::from_secs(60),
            rearm_alone: Span::from_secs(30),
            drain_max: Span::from_secs(10),
            vip_probe: Span::from_millis(80),
            max_switches: 6,
            switch_window: Span::from_secs(60),
        }
    }

    /// 500 ms probes: dead after 2.5 s.
    #[must_use]
    pub const fn wan() -> Self {
        Self {
            probe_interval: Span::from_millis(500),
            switch_interval: Span::from_millis(250),
            dead_after: Span::from_millis(2500),
            not_heard_after: Span::from_millis(1250),
            lease: Span::from_secs(3),
            software_dead_after: Span::from_secs(6),
            link_hold: Span::from_secs(5),
            lead: Span::from_millis(3500),
            claim_after: Span::from_secs(6),
            cold_start: Span::from_secs(60),
            rearm_alone: Span::from_secs(60),
            drain_max: Span::from_secs(30),
            vip_probe: Span::from_millis(400),
            max_switches: 6,
            switch_window: Span::from_secs(300),
        }
    }
}

impl Segment {
    /// The rank of a server: its place in the configuration, 0 first.
    #[must_use]
    pub fn rank(&self, node: &NodeName) -> Option<usize> {
        self.nodes.iter().position(|n| &n.name == node)
    }

    /// The place of a network in the configuration.
    #[must_use]
    pub fn network(&self, name: &NetworkName) -> Option<usize> {
        self.networks.iter().position(|n| &n.name == name)
    }

    /// A reserve by name.
    #[must_use]
    pub fn reserve(&self, name: &ReserveName) -> Option<&ReserveSpec> {
        self.reserves.iter().find(|r| &r.name == name)
    }
}
