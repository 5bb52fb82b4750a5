//! The simulated cluster: a queue of events in virtual time, and what each event does.
//!
//! One seed decides every latency and every loss, so a run can be repeated exactly. User
//! space that is frozen, or a process that stands still, keeps its events until it goes on; a server
//! without power loses them.

mod arbiter;
mod holding;
mod machine;
mod probing;
mod process;

use std::collections::BTreeMap;

use haarb_decision::{Command, Core, Input};
use haarb_model::{
    Advert, Agent, Data, Duties, LinkReport, Mono, ProbeAnswer, Report, Role, Segment, Span,
    SyncDuty, Timing, sign_at_latest, sign_due, sign_interval,
};

use crate::agents::{self, ServicePart, Supervisor, SyncPart, Syncer, VipAgent, VipPart};
use crate::check::Checks;
use crate::net::{Fabric, Kind};
use crate::prober::{Datagram, Prober};
use crate::rng::Rng;
use crate::rough::Rough;
use crate::server::{Process, Server};
use crate::{NetIx, NodeIx};

/// Something that happens to a server at a moment.
#[derive(Clone, Debug)]
pub enum Event {
    /// The prober's regular turn.
    Probe(NodeIx, u32),
    /// The prober asks the switches.
    Switches(NodeIx, u32),
    /// The prober's own deadline.
    ProberWake(NodeIx, u32),
    /// An ECHO reply arrives.
    Reply {
        /// At whom.
        at: NodeIx,
        /// From whom.
        from: NodeIx,
        /// On which network.
        net: NetIx,
        /// Which request it answers.
        number: u64,
        /// The asking run of the prober.
        run: u32,
    },
    /// A switch's ECHO reply arrives.
    SwitchReply {
        /// At whom.
        at: NodeIx,
        /// On which network.
        net: NetIx,
        /// Which request it answers.
        number: u64,
        /// The asking run of the prober.
        run: u32,
    },
    /// A datagram arrives.
    Datagram {
        /// At whom.
        at: NodeIx,
        /// From whom.
        from: NodeIx,
        /// On which network.
        net: NetIx,
        /// What it says.
        datagram: Box<Datagram>,
    },
    /// A message of an agent reaches the arbiter.
    ToArbiter(NodeIx, Agent, u32, u32, Up),
    /// A directive reaches an agent.
    ToAgent(NodeIx, Agent, u32, u32, Box<(Duties, Advert)>),
    /// The arbiter's deadline.
    CoreWake(NodeIx, u32),
    /// An agent's own deadline.
    AgentWake(NodeIx, Process, u32),
    /// The kernel has done what the vip-agent asked for.
    VipApply(NodeIx, u32, usize),
    /// The kernel says that a carrier may have changed.
    Links(NodeIx, u32),
    /// A process starts.
    Start(NodeIx, Process, u32),
    /// An agent connects to the arbiter.
    Connect(NodeIx, Agent, u32, u32),
    /// Services without a supervisor end with the lease that it was last given.
    Orphan(NodeIx, usize),
    /// An operator's command.
    Command(NodeIx, Command),
}

/// A message of an agent.
#[derive(Clone, Debug)]
pub enum Up {
    /// Connected.
    Attached,
    /// Gone.
    Lost,
    /// A report.
    Report(Report),
}

impl Event {
    /// It comes from outside: it waits in a socket while nobody reads.
    const fn arrives(&self) -> bool {
        matches!(
            self,
            Self::Reply { .. } | Self::SwitchReply { .. } | Self::Datagram { .. }
        )
    }

    /// Whether one of these processes would have to act on it.
    fn needs(&self, stopped: &[bool; 6]) -> bool {
        let is = |process: Process| stopped[process.ix()];
        match self {
            Self::Probe(..)
            | Self::Switches(..)
            | Self::ProberWake(..)
            | Self::Reply { .. }
            | Self::SwitchReply { .. }
            | Self::Datagram { .. } => is(Process::Prober),
            Self::ToArbiter(..) | Self::CoreWake(..) | Self::Command(..) => is(Process::Arbiter),
            Self::ToAgent(_, agent, ..) => is(Process::of(*agent)),
            Self::AgentWake(_, process, _) => is(*process),
            Self::VipApply(..) => is(Process::VipAgent),
            Self::Links(..) => is(Process::LinkWatcher),
            Self::Connect(_, agent, ..) => is(Process::of(*agent)) || is(Process::Arbiter),
            Self::Start(..) | Self::Orphan(..) => false,
        }
    }

    const fn node(&self) -> NodeIx {
        match self {
            Self::Probe(n, _)
            | Self::Switches(n, _)
            | Self::ProberWake(n, _)
            | Self::Reply { at: n, .. }
            | Self::SwitchReply { at: n, .. }
            | Self::Datagram { at: n, .. }
            | Self::ToArbiter(n, ..)
            | Self::ToAgent(n, ..)
            | Self::CoreWake(n, _)
            | Self::AgentWake(n, ..)
            | Self::VipApply(n, ..)
            | Self::Links(n, _)
            | Self::Start(n, ..)
            | Self::Connect(n, ..)
            | Self::Orphan(n, _)
            | Self::Command(n, _) => *n,
        }
    }
}

/// The simulated cluster.
#[derive(Clone, Debug)]
pub struct World {
    /// The configuration, the same on every server.
    pub segment: Segment,
    /// Virtual time.
    pub now: Mono,
    /// The servers.
    pub servers: Vec<Server>,
    /// The networks.
    pub fabric: Fabric,
    /// Chance.
    pub rng: Rng,
    /// What real machines and networks add.
    pub rough: Rough,
    /// Networks that lose in bursts and are bad now.
    gusty: Vec<bool>,
    /// What must always be true.
    pub checks: Checks,
    /// Lines for a reader.
    pub trace: Vec<String>,
    /// Also write what happens inside.
    pub verbose: bool,
    queue: BTreeMap<(Mono, u64), Event>,
    order: u64,
}

impl World {
    /// A world in which no server has power yet.
    #[must_use]
    pub fn new(segment: Segment, disks: &[bool], rng: Rng) -> Self {
        let reserves = segment.reserves.len();
        let servers: Vec<Server> = segment
            .nodes
            .iter()
            .zip(disks)
            .map(|(node, disk)| Server::new(node.name.clone(), reserves, *disk))
            .collect();
        Self {
            fabric: Fabric::new(segment.networks.len(), servers.len()),
            rough: Rough::default(),
            gusty: vec![false; segment.networks.len()],
            checks: Checks::new(servers.len(), reserves),
            servers,
            segment,
            // Far from zero, so that "before the start" is a moment too.
            now: Mono::from_micros(1_000_000_000),
            rng,
            trace: Vec::new(),
            verbose: false,
            queue: BTreeMap::new(),
            order: 0,
        }
    }

    /// The same world with kernels that end what is held at the end of the lease, or not.
    #[must_use]
    pub fn with_gate(mut self, gate: bool) -> Self {
        self.servers
            .iter_mut()
            .for_each(|server| server.gate = gate);
        self
    }

    /// Virtual time since the beginning, for people.
    #[must_use]
    pub fn clock(&self) -> String {
        let us = self.now.as_micros() - 1_000_000_000;
        format!("{:>4}.{:03}", us / 1_000_000, us / 1000 % 1000)
    }

    /// Writes a line.
    pub fn say(&mut self, line: &str) {
        let line = format!("{} {line}", self.clock());
        self.trace.push(line);
    }

    /// Puts an event into the queue.
    pub fn at(&mut self, when: Mono, event: Event) {
        self.order += 1;
        self.queue.insert((when.max(self.now), self.order), event);
    }

    fn after(&mut self, span: Span, event: Event) {
        self.at(self.now + span, event);
    }

    /// A timer of a daemon fires, a little late.
    fn timer(&mut self, when: Mono, event: Event) {
        let most = self.rough.late_us;
        if most == 0 {
            self.at(when, event);
            return;
        }
        let most = if self.rng.chance(0.01) {
            most * 10
        } else {
            most
        };
        let late = self.rng.span(0, most);
        self.at(when.max(self.now) + late, event);
    }

    /// A packet is on its way for so long; it may arrive twice.
    fn travel(&mut self, span: Span, event: Event) {
        if self.rough.twice > 0.0 && self.rng.chance(self.rough.twice) {
            let again = span + self.way();
            self.after(again, event.clone());
        }
        self.after(span, event);
    }

    /// The times as this server's clock counts them.
    #[must_use]
    pub fn timing(&self, n: NodeIx) -> Timing {
        self.rough.timing(n, self.segment.timing)
    }

    /// A message between two processes of one server: it takes a while and none overtakes.
    fn deliver(&mut self, n: NodeIx, process: Process, up: bool, event: Event) {
        let span = self.rng.span(30, 150);
        let last = &mut self.servers[n].delivered[process.ix()][usize::from(up)];
        let when = (self.now + span).max(*last + Span::from_micros(1));
        *last = when;
        self.at(when, event);
    }

    /// Lets time pass until a moment.
    pub fn run_until(&mut self, end: Mono) {
        while self.run_one(end) {}
        if !self.checks.failed() {
            self.now = self.now.max(end);
        }
    }

    /// The next event, if there is one until `end` and no check has failed; answers whether
    /// there was.
    pub fn run_one(&mut self, end: Mono) -> bool {
        let Some((&(when, order), _)) = self.queue.first_key_value() else {
            return false;
        };
        if when > end || self.checks.failed() {
            return false;
        }
        let Some(event) = self.queue.remove(&(when, order)) else {
            return false;
        };
        self.now = when;
        self.dispatch(event);
        self.check();
        true
    }

    /// What is still to happen, in order.
    pub fn pending(&self) -> impl Iterator<Item = (Mono, &Event)> {
        self.queue.iter().map(|((when, _), event)| (*when, event))
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span: Span) {
        self.run_until(self.now + span);
    }

    fn dispatch(&mut self, event: Event) {
        let n = event.node();
        let server = &mut self.servers[n];
        if !server.power {
            return;
        }
        let still = server.paused.is_some() || server.frozen.is_some();
        if still || event.needs(&server.stopped) {
            server.deferred.push(event);
            return;
        }
        match event {
            Event::Probe(n, run) if self.is(n, Process::Prober, run) => self.probe(n, run),
            Event::Switches(n, run) if self.is(n, Process::Prober, run) => self.switches(n, run),
            Event::ProberWake(n, run)
                if self.is(n, Process::Prober, run) && self.now >= self.servers[n].prober_wake =>
            {
                self.prober_turn(n);
            }
            Event::Reply {
                at,
                from,
                net,
                number,
                run,
            } if self.is(at, Process::Prober, run) => {
                let now = self.now;
                if let Some(prober) = &mut self.servers[at].prober {
                    prober.reply(from, net, number, now);
                }
                self.prober_turn(at);
            }
            Event::SwitchReply {
                at,
                net,
                number,
                run,
            } if self.is(at, Process::Prober, run) => {
                let now = self.now;
                if let Some(prober) = &mut self.servers[at].prober {
                    prober.switch_reply(net, number, now);
                }
                self.prober_turn(at);
            }
            Event::Datagram {
                at,
                from,
                net,
                datagram,
            } => {
                let now = self.now;
                if let Some(prober) = &mut self.servers[at].prober {
                    prober.datagram(from, net, &datagram, now);
                    self.prober_turn(at);
                }
            }
            Event::ToArbiter(n, agent, run, arbiter, up)
                if self.is(n, Process::Arbiter, arbiter) =>
            {
                self.arrive_at_arbiter(n, agent, run, up);
            }
            Event::ToAgent(n, agent, run, arbiter, told)
                if self.is(n, Process::of(agent), run)
                    && self.servers[n].runs[Process::Arbiter.ix()] == arbiter =>
            {
                self.arrive_at_agent(n, agent, &told);
            }
            Event::CoreWake(n, run)
                if self.is(n, Process::Arbiter, run) && self.now >= self.servers[n].core_wake =>
            {
                self.step(n, Input::Tick);
            }
            Event::AgentWake(n, process, run)
                if self.is(n, process, run) && self.now >= self.servers[n].wakes[process.ix()] =>
            {
                self.agent_turn(n, process);
            }
            Event::VipApply(n, run, r) if self.is(n, Process::VipAgent, run) => {
                self.vip_apply(n, r);
            }
            Event::Links(n, run) if self.is(n, Process::LinkWatcher, run) => self.links(n),
            Event::Start(n, process, run) => self.start(n, process, run),
            Event::Connect(n, agent, run, arbiter)
                if self.is(n, Process::of(agent), run) && self.is(n, Process::Arbiter, arbiter) =>
            {
                self.connect(n, agent);
            }
            Event::Orphan(n, r) if !self.servers[n].runs(Process::Supervisor) => {
                self.servers[n].running[r] = false;
            }
            Event::Command(n, command) => self.command(n, command),
            _ => {}
        }
    }

    fn is(&self, n: NodeIx, process: Process, run: u32) -> bool {
        self.servers[n].runs[process.ix()] == run && run % 2 == 1
    }

    fn check(&mut self) {
        let mut checks = std::mem::take(&mut self.checks);
        checks.after_event(self);
        self.checks = checks;
    }
}
