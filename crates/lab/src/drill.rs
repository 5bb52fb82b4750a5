//! A drill: a fault on a live cluster, what must follow from it, and the verdict.
//!
//! A drill is data: steps and expectations ([`crate::drills`] lists them). [`faults`] does what it says,
//! [`run`] carries one out, and [`verdict`] judges what came of it.

use crate::{
    bad_cable::Stop,
    cluster::Goal,
    plan::{NetworkId, Plan},
};

pub mod faults;
pub mod run;
pub mod verdict;
pub mod whole;

/// A server by its part when the drill begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The active one.
    Active,
    /// The first of the others that have power.
    Standby,
}

/// Something that is done to the segment or asked of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// All of these, one right after the other.
    Together(Vec<Self>),
    /// Cuts a server's power.
    PowerOff(Who),
    /// Gives a server power.
    PowerOn(Who),
    /// Gives power to every server that has none.
    PowerOnAll,
    /// Switches these switches off.
    SwitchesOff(&'static [NetworkId]),
    /// Switches these switches on.
    SwitchesOn(&'static [NetworkId]),
    /// A switch hangs: its carriers stay, nothing passes.
    SwitchHangs(NetworkId),
    /// Pulls a server's cable.
    Pull(Who, NetworkId),
    /// Plugs every pulled cable in.
    PlugAll,
    /// Freezes a server's user space.
    Freeze(Who),
    /// Thaws every frozen server; every stalled program goes on.
    ThawAll,
    /// Pauses a whole server: its user space stands still and nothing passes its cables.
    Pause(Who),
    /// Lets every paused server go on.
    ResumeAll,
    /// Kills one program of a server; `haarb run` starts it again.
    Kill(Who, &'static str),
    /// Stops one program of a server as a debugger does: it is there and does nothing.
    Stall(Who, &'static str),
    /// Kills one program of a server, and it cannot be started again.
    Break(Who, &'static str),
    /// Kills all daemons of a server at once; `haarb run` starts them again.
    KillDaemons(Who),
    /// Kills every process of a server at once, `haarb run` and the services too.
    KillEverything(Who),
    /// Stops one daemon of a server in order, as an upgrade does; `haarb run` starts it again.
    Restart(Who, &'static str),
    /// A layer-2 hole between all servers on this network.
    Hole(NetworkId),
    /// Mends every hole and every wall.
    MendPaths,
    /// Of what the other servers send on this network, this does not reach the server.
    Wall(Who, NetworkId, Stop),
    /// On this network the server does not hear the switch's own address.
    NoSwitch(Who, NetworkId),
    /// On every cable, old datagrams are sent again and changed ones beside the true ones, each with this
    /// many percent of the datagrams.
    Mischief(u8),
    /// Every cable of every server loses this many percent of its frames, each way. Good cables are
    /// exchanged for bad ones first, which interrupts them; as a drill's layout, `Loss(0)` does that.
    Loss(u8),
    /// A planned switchover of the first reserve to the standby.
    Switchover,
    /// An operator gives the first reserve to a server by force.
    Promote(Who),
    /// A planned switchover, asked on both servers at the same moment.
    SwitchoverOnBoth,
    /// A planned switchover that may be refused.
    TrySwitchover,
    /// Gives the last reserve to the standby of the first one.
    SpreadReserves,
    /// The reserves of both servers change places at the same moment.
    SwapReserves,
    /// From its next start on, the service of a server has this mood (see `haarb-lab serve --mood`).
    Mood(Who, &'static str),
    /// Kills the service of a server.
    KillService(Who),
    /// Removes the first virtual IP from the active server, as a careless hand does.
    RemoveVip,
    /// A machine that is no server takes the first virtual IP.
    StrangerTakes,
    /// It leaves the networks.
    StrangerLeaves,
    /// Fills a server's disk.
    FillDisk(Who),
    /// Takes away what filled disks.
    EmptyDisks,
    /// Nobody reads the logs of a server's daemons any more, and every pipe to the reader is full.
    StuckLogs(Who),
    /// Saturates the processors of the machine that carries the lab.
    LoadProcessors,
    /// Takes back every page of a server's daemons that may be taken back, again and again.
    SqueezeMemory(Who),
    /// Ends every load.
    EndLoad,
    /// Changes the configuration of a server and restarts it.
    ChangeConfig(Who),
    /// Changes the cluster key of a server and restarts it.
    ChangeKey(Who),
    /// Writes this many MiB into the replicated directory of the active server.
    WriteData(usize),
}

impl Fault {
    /// Whether it is meant to happen at one moment, as a cut does: what takes its time beside the cluster
    /// (starting, filling, asking) is not.
    #[must_use]
    pub fn is_instant(&self) -> bool {
        match self {
            Self::Together(all) => all.iter().all(Self::is_instant),
            Self::PowerOff(_)
            | Self::SwitchesOff(_)
            | Self::SwitchesOn(_)
            | Self::SwitchHangs(_)
            | Self::Pull(..)
            | Self::PlugAll
            | Self::Freeze(_)
            | Self::ThawAll
            | Self::Pause(_)
            | Self::ResumeAll
            | Self::Hole(_)
            | Self::MendPaths
            | Self::Wall(..)
            | Self::NoSwitch(..) => true,
            _ => false,
        }
    }
}

/// One step of a drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Does something; the first one's time is the time of the fault.
    Do(Fault),
    /// Does something before the fault: the clients' time does not begin with it.
    Before(Fault),
    /// Waits until another server than the active one of the beginning serves every virtual IP.
    OtherServes,
    /// Waits until every virtual IP is answered by somebody.
    SomebodyServes,
    /// Waits for a state of the cluster.
    Reach(Goal),
    /// Watches for some milliseconds that nothing happens.
    Watch(u64),
    /// Watches for as long as the run is asked to ([`run::LONG`] unless told otherwise).
    WatchLong,
    /// Pulls a server's cable and plugs it in again, for so many milliseconds each, as long as the run
    /// is asked to.
    Flap {
        /// Whose.
        who: Who,
        /// Which.
        network: NetworkId,
        /// Milliseconds without carrier.
        down_ms: u64,
        /// Milliseconds with carrier.
        up_ms: u64,
    },
}

/// Who must be active at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Active {
    /// The one of the beginning.
    Stays,
    /// Another one.
    Moves,
    /// One, whichever.
    Someone,
    /// Nobody.
    Nobody,
}

/// What the clients may notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// No request may be lost on all virtual IPs at once.
    Uninterrupted,
    /// Served again at the end.
    Resumes,
    /// Not served at the end.
    Stops,
    /// Not judged: by the nature of the fault some clients reach the service and some do not.
    Whatever,
}

/// Whether two servers may answer for one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dual {
    /// Never.
    Never,
    /// One of the residual cases (decision table, section 8): until the servers hear each other again,
    /// and then for two datagram intervals at most.
    UntilContact(&'static str),
}

/// What must follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// Who is active afterwards.
    pub active: Active,
    /// What the clients notice.
    pub service: Service,
    /// One of these rules must have fired; empty: no rule is asked for.
    pub rules: &'static [&'static str],
    /// Whether two servers may answer for one address.
    pub dual: Dual,
    /// Takeovers at most; `None`: not counted.
    pub takeovers: Option<usize>,
    /// Served again, on every address, within `software-dead-after` and [`SOFTWARE_DEAD_MARGIN_MS`].
    pub as_software_dead: bool,
}

/// From `software-dead-after` until the clients are served again, milliseconds, where a server's
/// software stopped while its kernel lives.
pub const SOFTWARE_DEAD_MARGIN_MS: f64 = 200.0;

/// The segment that a drill needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ground {
    /// Two servers, two switches, one reserve.
    Pair,
    /// The same with an IPv6 virtual IP beside each IPv4 one.
    Ipv6,
    /// The same with two reserves.
    TwoReserves,
}

impl Ground {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pair, Self::Ipv6, Self::TwoReserves];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Ipv6 => "ipv6",
            Self::TwoReserves => "two-reserves",
        }
    }

    /// Its plan.
    #[must_use]
    pub fn plan(self) -> Plan {
        match self {
            Self::Pair => Plan::pair(),
            Self::Ipv6 => Plan::pair_with_ipv6(),
            Self::TwoReserves => Plan::pair_with_two_reserves(),
        }
    }
}

/// A drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is done, in a few words.
    pub what: &'static str,
    /// The segment it needs.
    pub ground: Ground,
    /// The drill that leaves the segment as this one needs it; `None`: everything whole and settled.
    pub after: Option<&'static str>,
    /// What is laid out before it, and settles: no part of what is measured.
    pub layout: Option<Fault>,
    /// What happens.
    pub steps: Vec<Step>,
    /// What must follow.
    pub expect: Expect,
    /// What the operator should do when it happens, in a sentence.
    pub advice: &'static str,
}

impl Drill {
    /// A drill on the pair, whole and settled, that nothing is expected of yet.
    #[must_use]
    pub const fn new(name: &'static str, what: &'static str, steps: Vec<Step>) -> Self {
        Self {
            name,
            what,
            ground: Ground::Pair,
            after: None,
            layout: None,
            steps,
            expect: Expect {
                active: Active::Stays,
                service: Service::Uninterrupted,
                rules: &[],
                dual: Dual::Never,
                takeovers: None,
                as_software_dead: false,
            },
            advice: "",
        }
    }

    /// Who is active afterwards, what the clients notice, and one of which rules must fire.
    #[must_use]
    pub const fn expect(
        mut self,
        (active, service): (Active, Service),
        rules: &'static [&'static str],
    ) -> Self {
        self.expect.active = active;
        self.expect.service = service;
        self.expect.rules = rules;
        self
    }

    /// What the operator should do.
    #[must_use]
    pub const fn advice(mut self, advice: &'static str) -> Self {
        self.advice = advice;
        self
    }

    /// The drill that leaves the segment as this one needs it.
    #[must_use]
    pub const fn after(mut self, name: &'static str) -> Self {
        self.after = Some(name);
        self
    }

    /// What is laid out before it.
    #[must_use]
    pub fn layout(mut self, layout: Fault) -> Self {
        self.layout = Some(layout);
        self
    }

    /// The segment it needs.
    #[must_use]
    pub const fn on(mut self, ground: Ground) -> Self {
        self.ground = ground;
        self
    }

    /// It is the residual case called `case`.
    #[must_use]
    pub const fn residual(mut self, case: &'static str) -> Self {
        self.expect.dual = Dual::UntilContact(case);
        self
    }

    /// At most so many takeovers.
    #[must_use]
    pub const fn takeovers(mut self, most: usize) -> Self {
        self.expect.takeovers = Some(most);
        self
    }

    /// The service is back in the time that is promised where a server's software stops.
    #[must_use]
    pub const fn as_software_dead(mut self) -> Self {
        self.expect.as_software_dead = true;
        self
    }

    /// Whether only root may do what it does: take memory back from others, or give daemons the
    /// real-time priority without which a load may keep them from anything.
    #[must_use]
    pub fn needs_root(&self) -> bool {
        let is_roots = |step: &Step| {
            matches!(
                step,
                Step::Before(Fault::SqueezeMemory(_) | Fault::LoadProcessors)
            )
        };
        self.steps.iter().any(is_roots)
    }

    /// Whether it begins with a request to the cluster instead of a fault: then the time that counts for
    /// the clients begins with the last answer of the old server, not with the request.
    #[must_use]
    pub fn is_planned(&self) -> bool {
        let first = self.steps.iter().find(|step| matches!(step, Step::Do(_)));
        matches!(
            first,
            Some(Step::Do(
                Fault::Switchover
                    | Fault::SwitchoverOnBoth
                    | Fault::TrySwitchover
                    | Fault::SwapReserves
            ))
        )
    }
}
