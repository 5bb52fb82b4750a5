//! What the agents tell the arbiter: facts and outcomes, never wishes. A report carries
//! everything its agent knows, so that it can be repeated or follow a restart.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{Advert, Epoch, Mono, NetworkName, NodeName, ReserveName, Span};

/// The processes that attach to the arbiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Agent {
    /// Watches carriers.
    LinkWatcher,
    /// Watches switches and neighbours; carries the datagrams.
    Prober,
    /// Holds the virtual IPs.
    VipAgent,
    /// Replicates directories.
    Syncer,
    /// Runs services.
    Supervisor,
}

impl Agent {
    /// All of them, in the order in which they start.
    pub const ALL: [Self; 5] = [
        Self::LinkWatcher,
        Self::Prober,
        Self::VipAgent,
        Self::Syncer,
        Self::Supervisor,
    ];

    /// The name of its process without the `haarb-` in front.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LinkWatcher => "link-watcher",
            Self::Prober => "prober",
            Self::VipAgent => "vip-agent",
            Self::Syncer => "syncer",
            Self::Supervisor => "supervisor",
        }
    }
}

/// One report of one agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// The agent lives and its loop turns; sent when nothing else was for a while.
    Alive,
    /// The agent found that it was frozen for longer than it may be (rule X1).
    Stalled(Span),
    /// All watched links.
    Links(Vec<LinkReport>),
    /// All paths, neighbours and switches.
    Probe(ProbeReport),
    /// A neighbour's state arrived, checked and not older than the last.
    Advert {
        /// Who sent it.
        from: NodeName,
        /// When it arrived here.
        at: Mono,
        /// Its state.
        advert: Advert,
    },
    /// All virtual IPs.
    Vip(VipReport),
    /// All replicas.
    Sync(SyncReport),
    /// All services.
    Services(ServiceReport),
}

/// One interface that haarb uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkReport {
    /// Interface name.
    pub interface: String,
    /// The interface exists, is up (admin) and has carrier (`IFF_LOWER_UP`).
    pub up: bool,
    /// Why not, where the kernel or the driver tells; empty otherwise.
    pub reason: String,
}

/// What the prober knows, all of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeReport {
    /// When it was put together.
    pub at: Mono,
    /// One per network.
    pub switches: Vec<SwitchReport>,
    /// One per other server.
    pub neighbours: Vec<NeighbourReport>,
    /// Datagrams dropped since start, by reason (rule X4): `wrong key`, `late`, ...
    pub dropped: BTreeMap<String, u64>,
}

/// Whether a switch's own address answers through our interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchAnswer {
    /// It has no address in the configuration.
    NotAsked,
    /// It answers.
    Answers,
    /// It does not.
    Silent,
}

/// One switch as seen by the prober.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchReport {
    /// The network of the switch.
    pub network: NetworkName,
    /// Whether it answers.
    pub answer: SwitchAnswer,
    /// When it last answered; `None`: never in this run, or not asked.
    pub last_answer: Option<Mono>,
    /// Requests without an answer since then that have had their time.
    pub missing: u32,
}

/// One other server as seen by the prober.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighbourReport {
    /// Its name.
    pub node: NodeName,
    /// One per network.
    pub paths: Vec<PathReport>,
    /// What we send reaches it: its freshest datagram says that it hears us on some network, or
    /// an ECHO reply came back within one and a half probe intervals (rule A4: false means that
    /// it may take us for dead; a prober that only stood still for a moment must not say so).
    pub hears_me: bool,
    /// Its freshest datagram was built by a prober whose arbiter is silent.
    pub arbiter_silent: bool,
    /// Last sign of life of any kind on any network; `None`: never in this run.
    pub last_sign: Option<Mono>,
    /// Last datagram with a live arbiter behind it.
    pub last_heard: Option<Mono>,
    /// About to be called silent: the confirming burst runs (dead-after minus a part).
    pub suspect: bool,
    /// No sign of life for `dead-after`, on any network, at least ten ECHO replies missing on
    /// every network that is up, most of them of the confirming burst. Also true where nothing was ever heard for as long.
    pub silent: bool,
    /// The `dead-after` in force: it stretches with measured loss.
    pub dead_after: Span,
}

/// One way to a neighbour: one network.
#[derive(Clone, Debug, PartialEq)]
pub struct PathReport {
    /// The network.
    pub network: NetworkName,
    /// A datagram with a live arbiter behind it arrived within `not-heard-after`.
    pub heard: bool,
    /// A sign of life of its kernel (ECHO reply, datagram) arrived within `dead-after`.
    pub kernel: bool,
    /// The neighbour says that it hears us here.
    pub hears_me: bool,
    /// Age of the last ECHO reply.
    pub last_echo: Option<Mono>,
    /// Age of the last datagram.
    pub last_datagram: Option<Mono>,
    /// ECHO replies missing in a row.
    pub missing: u32,
    /// Smoothed round-trip time in microseconds; 0: not measured.
    pub rtt_us: u32,
    /// Share of ECHO requests without reply over the last window, 0 to 1: there and back.
    pub loss: f32,
    /// Share of the neighbour's datagrams that did not arrive here over the last window, 0 to 1;
    /// `None`: not known, because it does not number them per network or too few were sent.
    pub loss_in: Option<f32>,
    /// Share of our datagrams that did not arrive there, as the neighbour counts; `None`: it
    /// does not say.
    pub loss_out: Option<f32>,
}

/// What the vip-agent holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipReport {
    /// One per reserve.
    pub reserves: Vec<VipReserve>,
    /// Our MAC address per interface that carries a VIP; neighbours learn them from our advert.
    pub macs: BTreeMap<String, [u8; 6]>,
    /// What stands behind a dead agent, per interface that carries a VIP.
    pub guards: BTreeMap<String, Guard>,
}

/// What ends the virtual IPs of an interface in the kernel when the vip-agent cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// The first line.
    pub line: KernelLine,
    /// Why it is not a better one, and what to do about it; empty for the best.
    pub reason: String,
}

/// How the kernel ends a virtual IP by itself, the weakest first. The address lifetime is always
/// underneath, so that the address really goes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelLine {
    /// The lifetime of the address alone: whole seconds after the lease.
    #[default]
    Lifetime,
    /// An nftables set with timeouts: at the lease, to the kernel's tick.
    Nftables,
    /// An eBPF program with the absolute deadline: at the lease, exactly.
    Ebpf,
}

impl KernelLine {
    /// Every line.
    pub const ALL: [Self; 3] = [Self::Lifetime, Self::Nftables, Self::Ebpf];

    /// The word for it in status and scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lifetime => "address-lifetime",
            Self::Nftables => "nftables",
            Self::Ebpf => "ebpf",
        }
    }

    /// How much later than its lease an address that nobody removes is silent, at most.
    ///
    /// A gate: eBPF is exact; nftables counts in ticks of the kernel, and its transaction may take
    /// a few of them. The lifetime: the kernel counts it in whole seconds (1 s), may round the
    /// moment up by 0.25 s, and lets at least 1 s pass after it looked at lifetimes because some
    /// address of the server changed (`ADDRCONF_TIMER_FUZZ`, `ADDRCONF_TIMER_FUZZ_MAX`, Linux
    /// `net/ipv4/devinet.c`, `net/ipv6/addrconf.c`); the rest is for a kernel that is busy.
    #[must_use]
    pub const fn late(self) -> Span {
        match self {
            Self::Lifetime => Span::from_millis(2500),
            Self::Nftables | Self::Ebpf => Span::from_millis(50),
        }
    }
}

impl VipReport {
    /// Whether `later` tells nothing new to the arbiter, which knows this report. That a lease goes
    /// on longer is nothing new: the arbiter gave it.
    #[must_use]
    pub fn covers(&self, later: &Self) -> bool {
        let held = |reserve: &VipReserve| reserve.lease_until != Mono::ZERO;
        let alike = |(known, later): (&VipReserve, &VipReserve)| {
            let as_long = VipReserve {
                lease_until: known.lease_until,
                ..later.clone()
            };
            held(known) == held(later) && *known == as_long
        };
        self.macs == later.macs
            && self.guards == later.guards
            && self.reserves.len() == later.reserves.len()
            && self.reserves.iter().zip(&later.reserves).all(alike)
    }
}

/// The virtual IPs of one reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipReserve {
    /// The reserve.
    pub reserve: ReserveName,
    /// The epoch under which they are held, or were last held in this run.
    pub epoch: Epoch,
    /// The highest epoch that any directive named: what this report says counts for no later one.
    pub seen: Epoch,
    /// Until when they may be held if nobody renews, as of when this was told; `Mono::ZERO`: they
    /// may not.
    pub lease_until: Mono,
    /// Each address.
    pub vips: Vec<HeldVip>,
    /// What the probe before a takeover found.
    pub probe: ProbeAnswer,
    /// When the running probe began; `None`: no probe runs.
    pub probe_since: Option<Mono>,
    /// Why an address could not be added or removed; empty if all is well.
    pub error: String,
}

/// One virtual IP here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldVip {
    /// The address.
    pub address: IpAddr,
    /// Its interface.
    pub interface: String,
    /// Whether the kernel has it now.
    pub held: bool,
}

/// Who answers for a reserve's virtual IPs (ARP or neighbour discovery; RFC 5227, RFC 4861).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeAnswer {
    /// No probe ran, or it has not run long enough to tell.
    #[default]
    Unknown,
    /// Nobody, for at least `vip-probe`.
    Silent,
    /// A known server's MAC.
    Neighbour,
    /// A MAC that is no server's (rule X3).
    Foreign,
}

/// What the syncer knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncReport {
    /// One per reserve.
    pub reserves: Vec<SyncReserve>,
}

/// The replicas of one reserve.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncReserve {
    /// The reserve.
    pub reserve: ReserveName,
    /// The epoch under which it works.
    pub epoch: Epoch,
    /// How good our replica is.
    pub data: crate::Data,
    /// As source, sealed: everything up to the seal is acknowledged by every connected sink.
    pub drained: bool,
    /// Each directory.
    pub directories: Vec<DirectoryReport>,
    /// Versions in the place for conflicts.
    pub conflicts: u64,
}

/// One replicated directory.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectoryReport {
    /// Its path.
    pub path: String,
    /// What happens to it.
    pub state: DirectoryState,
    /// Age of the oldest change that the other side has not acknowledged, in ms (the RPO).
    pub lag_ms: u64,
    /// Files not yet acknowledged.
    pub pending_files: u64,
    /// Deletions on this source that wait for an operator, because they are suspiciously many; 0:
    /// none do.
    pub held_deletions: u64,
    /// Paths that could not be sent or stored more than once, and are tried again.
    pub failing: u64,
    /// What is wrong; empty if nothing is.
    pub error: String,
}

/// What happens to a replicated directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DirectoryState {
    /// Neither source nor sink.
    Idle,
    /// Source, nobody connected.
    WaitingForPeer,
    /// Source, the other side lacks something.
    Syncing,
    /// Source, everything acknowledged.
    InSync,
    /// Sink, connected.
    Receiving,
    /// Sink, not connected.
    WaitingForSource,
    /// Stopped by an error.
    Error,
}

impl DirectoryState {
    /// The word for it in status and scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::WaitingForPeer => "waiting-for-peer",
            Self::Syncing => "syncing",
            Self::InSync => "in-sync",
            Self::Receiving => "receiving",
            Self::WaitingForSource => "waiting-for-source",
            Self::Error => "error",
        }
    }
}

/// What the supervisor knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceReport {
    /// One per reserve.
    pub reserves: Vec<ServiceRun>,
    /// The state of the hardware watchdog, for people; empty: none is configured.
    pub watchdog: String,
}

/// The services of one reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRun {
    /// The reserve.
    pub reserve: ReserveName,
    /// The epoch of the directive it follows.
    pub epoch: Epoch,
    /// All of them run and passed their last check.
    pub running: bool,
    /// None of them runs.
    pub stopped: bool,
    /// One failed beyond its restarts; says which and why. Empty otherwise.
    pub failed: String,
    /// Why they could not start here if asked (missing binary, unit, ...); empty if they could.
    pub not_startable: String,
    /// Each service with its state.
    pub services: Vec<(String, ServiceState)>,
}

/// The state of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceState {
    /// Does not run, and should not.
    Stopped,
    /// Being started.
    Starting,
    /// Runs, and passed its last check.
    Running,
    /// Being stopped.
    Stopping,
    /// Failed; waits for its next start or is given up.
    Failed,
}

impl ServiceState {
    /// The word for it in status and scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}
