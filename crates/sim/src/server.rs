//! One simulated server: what its kernel, its disk and its six processes have.

use haarb_decision::{Core, PROTOCOLS, Protocols, Record};
use haarb_model::{Advert, Agent, Duties, Epoch, Mono, NodeName};

use crate::agents::{Supervisor, Syncer, VipAgent};
use crate::prober::Prober;
use crate::world::Event;

/// A process of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// Decides.
    Arbiter,
    /// Watches carriers.
    LinkWatcher,
    /// Watches neighbours and switches.
    Prober,
    /// Holds virtual IPs.
    VipAgent,
    /// Replicates.
    Syncer,
    /// Runs services.
    Supervisor,
}

impl Process {
    /// All of them, in the order in which they start.
    pub const ALL: [Self; 6] = [
        Self::Arbiter,
        Self::LinkWatcher,
        Self::Prober,
        Self::VipAgent,
        Self::Syncer,
        Self::Supervisor,
    ];

    /// Its agent; `None` for the arbiter.
    #[must_use]
    pub const fn agent(self) -> Option<Agent> {
        match self {
            Self::Arbiter => None,
            Self::LinkWatcher => Some(Agent::LinkWatcher),
            Self::Prober => Some(Agent::Prober),
            Self::VipAgent => Some(Agent::VipAgent),
            Self::Syncer => Some(Agent::Syncer),
            Self::Supervisor => Some(Agent::Supervisor),
        }
    }

    /// The process of an agent.
    #[must_use]
    pub const fn of(agent: Agent) -> Self {
        match agent {
            Agent::LinkWatcher => Self::LinkWatcher,
            Agent::Prober => Self::Prober,
            Agent::VipAgent => Self::VipAgent,
            Agent::Syncer => Self::Syncer,
            Agent::Supervisor => Self::Supervisor,
        }
    }

    /// Its place in [`Process::ALL`].
    #[must_use]
    pub const fn ix(self) -> usize {
        self as usize
    }

    /// Its name in scenarios.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self.agent() {
            None => "arbiter",
            Some(agent) => agent.as_str(),
        }
    }
}

/// A virtual IP in a kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelVip {
    /// It was added and not removed.
    pub added: bool,
    /// Its lifetime ends by itself.
    pub until: Mono,
}

/// One server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name.
    pub name: NodeName,
    /// It has power.
    pub power: bool,
    /// Its user space stands still since.
    pub frozen: Option<Mono>,
    /// Processes that stand still (SIGSTOP, a debugger, a processor that never comes).
    pub stopped: [bool; 6],
    /// The whole machine stands still since.
    pub paused: Option<Mono>,
    /// What happened to it meanwhile.
    pub deferred: Vec<Event>,
    /// The run of each process; odd numbers run.
    pub runs: [u32; 6],
    /// Processes that are not started again by themselves.
    pub down: [bool; 6],
    /// Agents that are connected to the arbiter.
    pub connected: [bool; 6],
    /// The arbiter.
    pub core: Option<Core>,
    /// When the arbiter wakes.
    pub core_wake: Mono,
    /// What each agent was told last.
    pub told: [Option<(Duties, Advert)>; 6],
    /// The prober.
    pub prober: Option<Prober>,
    /// When the prober wakes.
    pub prober_wake: Mono,
    /// The prober's last turn, to notice a freeze.
    pub prober_turned: Mono,
    /// The vip-agent.
    pub vip: Option<VipAgent>,
    /// The supervisor.
    pub supervisor: Option<Supervisor>,
    /// The syncer.
    pub syncer: Option<Syncer>,
    /// When each agent wakes.
    pub wakes: [Mono; 6],
    /// The arbiter's record on disk.
    pub record: Record,
    /// The versions of the protocol that its release speaks.
    pub protocols: Protocols,
    /// The digest of its configuration.
    pub digest: u64,
    /// The record cannot be written: after a restart the last one that could comes back.
    pub disk_full: bool,
    /// It has a disk; without one the record is lost at every restart.
    pub disk: bool,
    /// The vip-agent's leases in a file that a power cut loses.
    pub leases: Vec<(Epoch, Mono)>,
    /// Its kernel ends what it holds at the end of the lease, to the moment.
    pub gate: bool,
    /// Virtual IPs in the kernel, per reserve.
    pub kernel: Vec<KernelVip>,
    /// Services that run, per reserve.
    pub running: Vec<bool>,
    /// Services that cannot run here at all, per reserve.
    pub broken: Vec<bool>,
    /// The version of the replica on disk, per reserve.
    pub version: Vec<u64>,
    /// When a message was delivered last, per process and direction, so that none overtakes.
    pub delivered: [[Mono; 2]; 6],
}

impl Server {
    /// A server without power.
    #[must_use]
    pub fn new(name: NodeName, reserves: usize, disk: bool) -> Self {
        Self {
            name,
            power: false,
            frozen: None,
            stopped: [false; 6],
            paused: None,
            deferred: Vec::new(),
            runs: [0; 6],
            down: [false; 6],
            connected: [false; 6],
            core: None,
            core_wake: Mono::FAR,
            told: Default::default(),
            prober: None,
            prober_wake: Mono::FAR,
            prober_turned: Mono::ZERO,
            vip: None,
            supervisor: None,
            syncer: None,
            wakes: [Mono::FAR; 6],
            record: Record::default(),
            protocols: PROTOCOLS,
            digest: 1,
            disk_full: false,
            disk,
            leases: vec![(Epoch(0), Mono::ZERO); reserves],
            gate: false,
            kernel: vec![KernelVip::default(); reserves],
            running: vec![false; reserves],
            broken: vec![false; reserves],
            version: vec![0; reserves],
            delivered: [[Mono::ZERO; 2]; 6],
        }
    }

    /// The process runs.
    #[must_use]
    pub const fn runs(&self, process: Process) -> bool {
        self.runs[process.ix()] % 2 == 1
    }

    /// Its kernel works: it answers.
    #[must_use]
    pub const fn alive(&self) -> bool {
        self.power && self.paused.is_none()
    }

    /// Its kernel has the virtual IPs of a reserve at this moment.
    #[must_use]
    pub fn holds(&self, reserve: usize, now: Mono) -> bool {
        let vip = self.kernel[reserve];
        self.power && vip.added && now < vip.until
    }
}
