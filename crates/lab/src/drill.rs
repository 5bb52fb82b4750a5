//! A drill: a fault on a live cluster, what must follow from it, and the verdict.
//!
//! A drill is data: steps and expectations ([`crate::drills`] lists them). [`run`] carries one out, and
//! [`verdict`] judges what came of it.

use crate::{cluster::Goal, plan::NetworkId};

pub mod run;
pub mod verdict;

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
    /// Cuts a server's power.
    PowerOff(Who),
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
    /// Thaws every frozen server.
    ThawAll,
    /// Kills one program of a server.
    Kill(Who, &'static str),
    /// A layer-2 hole between all servers on this network.
    Hole(NetworkId),
    /// Every cable of every server loses this many percent of its frames, each way. Good cables are
    /// exchanged for bad ones first, which interrupts them; as a drill's layout, `Loss(0)` does that.
    Loss(u8),
    /// A planned switchover to the standby.
    Switchover,
}

/// One step of a drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Does something; the first one's time is the time of the fault.
    Do(Fault),
    /// Waits until another server than the active one of the beginning serves every virtual IP.
    OtherServes,
    /// Waits until every virtual IP is answered by somebody.
    SomebodyServes,
    /// Waits for a state of the cluster.
    Reach(Goal),
    /// Watches for some milliseconds that nothing happens.
    Watch(u64),
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
}

/// A drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is done, in a few words.
    pub what: &'static str,
    /// The drill that leaves the segment as this one needs it; `None`: everything whole and settled.
    pub after: Option<&'static str>,
    /// What is laid out before it, and settles: no part of what is measured.
    pub layout: Option<Fault>,
    /// What happens.
    pub steps: Vec<Step>,
    /// What must follow.
    pub expect: Expect,
}

impl Drill {
    /// Whether it begins with a request to the cluster instead of a fault: then the time that counts for
    /// the clients begins with the last answer of the old server, not with the request.
    #[must_use]
    pub fn is_planned(&self) -> bool {
        self.steps.first() == Some(&Step::Do(Fault::Switchover))
    }
}
