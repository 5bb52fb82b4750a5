//! The simulated cluster: a queue of events in virtual time, and what each event does.
//!
//! One seed decides every latency and every loss, so a run can be repeated exactly. User
//! space that is frozen keeps its events until it thaws; a server without power loses them.

use std::collections::BTreeMap;

use haarb_decision::{Command, Core, Input};
use haarb_model::{
    Advert, Agent, Data, Duties, LinkReport, Mono, ProbeAnswer, Report, Role, Segment, Span,
    SyncDuty,
};

use crate::agents::{self, ServicePart, Supervisor, SyncPart, Syncer, VipAgent, VipPart};
use crate::check::Checks;
use crate::net::{Fabric, Kind};
use crate::prober::{Datagram, Prober};
use crate::rng::Rng;
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
    const fn node(&self) -> NodeIx {
        match self {
            Self::Probe(n, _)
            | Self::Switches(n, _)
            | Self::ProberWake(n, _)
            | Self::Reply { at: n, .. }
            | Self::Datagram { at: n, .. }
            | Self::ToArbiter(n, ..)
            | Self::ToAgent(n, ..)
            | Self::CoreWake(n, _)
            | Self::AgentWake(n, ..)
            | Self::VipApply(n, ..)
            | Self::Links(n, _)
            | Self::Start(n, ..)
            | Self::Connect(n, ..)
            | Self::Command(n, _) => *n,
        }
    }
}

/// The simulated cluster.
#[derive(Debug)]
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
        while let Some((&(when, order), _)) = self.queue.first_key_value() {
            if when > end || self.checks.failed() {
                break;
            }
            let Some(event) = self.queue.remove(&(when, order)) else {
                break;
            };
            self.now = when;
            self.dispatch(event);
            self.check();
        }
        if !self.checks.failed() {
            self.now = self.now.max(end);
        }
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
        if server.paused.is_some() || server.frozen.is_some() {
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

    // ---- processes -------------------------------------------------------------------

    /// Has a process start after a while.
    pub fn start_in(&mut self, n: NodeIx, process: Process, span: Span) {
        let run = self.servers[n].runs[process.ix()];
        self.after(span, Event::Start(n, process, run));
    }

    fn start(&mut self, n: NodeIx, process: Process, run: u32) {
        let server = &mut self.servers[n];
        if server.runs[process.ix()] != run || run % 2 == 1 || server.down[process.ix()] {
            return;
        }
        server.runs[process.ix()] += 1;
        let run = run + 1;
        match process {
            Process::Arbiter => self.start_arbiter(n, run),
            Process::LinkWatcher => {}
            Process::Prober => self.start_prober(n, run),
            Process::VipAgent => self.start_vip_agent(n),
            Process::Syncer => {
                // A replica that was just opened cannot know whether it is the newest.
                let part = SyncPart {
                    data: Data::Stale,
                    ..SyncPart::default()
                };
                let parts = vec![part; self.segment.reserves.len()];
                self.servers[n].syncer = Some(Syncer {
                    parts,
                    ..Syncer::default()
                });
            }
            Process::Supervisor => {
                let part = ServicePart {
                    waits_until: self.now + self.segment.timing.lease,
                    ..ServicePart::default()
                };
                let parts = vec![part; self.segment.reserves.len()];
                self.servers[n].supervisor = Some(Supervisor {
                    parts,
                    ..Supervisor::default()
                });
            }
        }
        if let Some(agent) = process.agent() {
            self.try_connect(n, agent);
            self.agent_turn(n, process);
        }
    }

    fn start_arbiter(&mut self, n: NodeIx, run: u32) {
        let server = &mut self.servers[n];
        let record = if server.disk {
            server.record.clone()
        } else {
            haarb_decision::Record::default()
        };
        server.told = Default::default();
        let core = Core::new(self.segment.clone(), server.name.clone(), record, self.now);
        match core {
            Ok(core) => server.core = Some(core),
            Err(unknown) => self.checks.fail(format!("cannot start: {unknown}")),
        }
        self.servers[n].core_wake = self.now;
        self.at(self.now, Event::CoreWake(n, run));
        for agent in Agent::ALL {
            self.try_connect(n, agent);
        }
    }

    fn start_prober(&mut self, n: NodeIx, run: u32) {
        let others = self.segment.nodes.iter().enumerate();
        let others = others
            .filter(|(ix, _)| *ix != n)
            .map(|(ix, node)| (ix, node.name.clone()))
            .collect();
        let names = self.segment.networks.iter().map(|net| net.name.clone());
        let asked = self.segment.networks.iter().any(|net| net.switch_answers);
        let session = self.rng.next_u64();
        let prober = Prober::new(
            self.segment.timing,
            names.collect(),
            asked,
            others,
            session,
            self.now,
        );
        self.servers[n].prober = Some(prober);
        self.servers[n].prober_turned = self.now;
        let phase = self
            .rng
            .span(0, self.segment.timing.probe_interval.as_micros());
        self.after(phase, Event::Probe(n, run));
        self.at(self.now, Event::Switches(n, run));
    }

    fn start_vip_agent(&mut self, n: NodeIx) {
        let now = self.now;
        let server = &mut self.servers[n];
        let parts = server
            .leases
            .iter()
            .map(|(epoch, until)| VipPart {
                epoch: *epoch,
                restored: if now < *until { *until } else { Mono::ZERO },
                ..VipPart::default()
            })
            .collect();
        server.vip = Some(VipAgent {
            parts,
            turned: now,
            ..VipAgent::default()
        });
    }

    fn try_connect(&mut self, n: NodeIx, agent: Agent) {
        let process = Process::of(agent);
        if self.servers[n].runs(process) && self.servers[n].runs(Process::Arbiter) {
            let runs = self.servers[n].runs;
            let span = self.rng.span(500, 20_000);
            self.after(
                span,
                Event::Connect(n, agent, runs[process.ix()], runs[Process::Arbiter.ix()]),
            );
        }
    }

    fn connect(&mut self, n: NodeIx, agent: Agent) {
        let server = &mut self.servers[n];
        server.told[Process::of(agent).ix()] = None;
        server.connected[Process::of(agent).ix()] = true;
        match agent {
            Agent::LinkWatcher => {}
            Agent::Prober => server.prober.iter_mut().for_each(Prober::attached),
            Agent::VipAgent => server.vip.iter_mut().for_each(|a| a.reported = None),
            Agent::Syncer => server.syncer.iter_mut().for_each(|a| a.reported = None),
            Agent::Supervisor => server.supervisor.iter_mut().for_each(|a| a.reported = None),
        }
        self.tell(n, agent, Up::Attached);
        match agent {
            Agent::LinkWatcher => self.links(n),
            Agent::Prober => self.prober_turn(n),
            _ => self.agent_turn(n, Process::of(agent)),
        }
    }

    fn tell(&mut self, n: NodeIx, agent: Agent, up: Up) {
        let process = Process::of(agent);
        if !self.servers[n].connected[process.ix()] {
            return;
        }
        let runs = self.servers[n].runs;
        let (run, arbiter) = (runs[process.ix()], runs[Process::Arbiter.ix()]);
        self.deliver(
            n,
            process,
            true,
            Event::ToArbiter(n, agent, run, arbiter, up),
        );
    }

    /// Kills a process; it loses what it had in memory.
    pub fn kill(&mut self, n: NodeIx, process: Process) {
        let server = &mut self.servers[n];
        if !server.runs(process) {
            return;
        }
        server.runs[process.ix()] += 1;
        match process {
            Process::Arbiter => server.core = None,
            Process::LinkWatcher => {}
            Process::Prober => server.prober = None,
            Process::VipAgent => server.vip = None,
            Process::Syncer => server.syncer = None,
            Process::Supervisor => server.supervisor = None,
        }
        if let Some(agent) = process.agent() {
            self.tell(n, agent, Up::Lost);
            self.servers[n].connected[process.ix()] = false;
        } else {
            self.servers[n].connected = [false; 6];
        }
    }

    // ---- the arbiter -----------------------------------------------------------------

    fn arrive_at_arbiter(&mut self, n: NodeIx, agent: Agent, run: u32, up: Up) {
        let current = self.servers[n].runs[Process::of(agent).ix()];
        let input = match up {
            Up::Attached => Input::Attached(agent),
            Up::Lost if current == run || current.is_multiple_of(2) => Input::Lost(agent),
            Up::Lost => return,
            Up::Report(report) => Input::Report(agent, report),
        };
        self.step(n, input);
    }

    fn command(&mut self, n: NodeIx, command: Command) {
        if self.servers[n].core.is_some() {
            self.step(n, Input::Command(command));
        }
    }

    fn step(&mut self, n: NodeIx, input: Input) {
        let now = self.now;
        let Some(core) = &mut self.servers[n].core else {
            return;
        };
        let step = core.step(now, input);
        let deadline = core.deadline();
        if step.record_changed {
            let record = core.record().clone();
            self.servers[n].record = record;
        }
        if let Some(answer) = &step.answer {
            let text = match answer {
                Ok(text) => format!("{} ok: {text}", self.servers[n].name),
                Err(text) => format!("{} refused: {text}", self.servers[n].name),
            };
            self.say(&text);
        }
        let mut checks = std::mem::take(&mut self.checks);
        for event in &step.events {
            self.say_event(n, event);
            checks.on_event(self, n, event);
        }
        checks.after_step(self, n);
        self.checks = checks;
        if deadline <= now {
            self.checks.fail(format!(
                "{}: a deadline that has passed",
                self.servers[n].name
            ));
        }
        let run = self.servers[n].runs[Process::Arbiter.ix()];
        self.servers[n].core_wake = deadline;
        self.at(deadline, Event::CoreWake(n, run));
        self.follow_up(n);
    }

    fn say_event(&mut self, n: NodeIx, event: &haarb_model::Event) {
        let name = self.servers[n].name.clone();
        let about = event
            .reserve
            .as_ref()
            .filter(|_| self.segment.reserves.len() > 1)
            .map_or(String::new(), |reserve| format!(" {reserve}"));
        let short = haarb_decision::Rule::by_id(event.rule).map_or("", |rule| rule.name);
        let line = match (event.from, event.to) {
            (Some(from), Some(to)) if from != to => format!(
                "{name}{about} {from} -> {to}  {} {short}, epoch {}",
                event.rule, event.epoch
            ),
            _ if event.rule == "OP" => return,
            _ if event.why.starts_with("Over after") => {
                format!("{name}{about} over: {} {short}", event.rule)
            }
            (Some(_), Some(_)) => format!(
                "{name}{about} {}: {} {short}",
                event.severity.as_str(),
                event.rule
            ),
            _ => {
                let why = event.why.split_once(". ").map_or(&*event.why, |(a, _)| a);
                format!("{name} {} {}", event.rule, why.trim_end_matches('.'))
            }
        };
        self.say(&line);
        if self.verbose {
            for (what, value) in &event.evidence {
                self.trace.push(format!("           {what}: {value}"));
            }
        }
    }

    fn follow_up(&mut self, n: NodeIx) {
        let now = self.now;
        let Some(core) = &self.servers[n].core else {
            return;
        };
        let told = (core.duties(now), core.advert());
        for agent in [
            Agent::VipAgent,
            Agent::Prober,
            Agent::Supervisor,
            Agent::Syncer,
        ] {
            let process = Process::of(agent);
            let last = &self.servers[n].told[process.ix()];
            let connected = self.servers[n].connected[process.ix()];
            if last.as_ref() == Some(&told) || !connected {
                continue;
            }
            self.servers[n].told[process.ix()] = Some(told.clone());
            let runs = self.servers[n].runs;
            let event = Event::ToAgent(
                n,
                agent,
                runs[process.ix()],
                runs[Process::Arbiter.ix()],
                Box::new(told.clone()),
            );
            self.deliver(n, process, false, event);
        }
    }

    fn arrive_at_agent(&mut self, n: NodeIx, agent: Agent, told: &(Duties, Advert)) {
        let now = self.now;
        let (duties, advert) = told;
        let server = &mut self.servers[n];
        match agent {
            Agent::LinkWatcher => {}
            Agent::Prober => {
                if let Some(prober) = &mut server.prober {
                    prober.directive(advert.clone(), duties.links.payload_until);
                }
                self.prober_turn(n);
            }
            Agent::VipAgent => {
                self.vip_wake(n);
                if let Some(vip) = &mut self.servers[n].vip {
                    vip.follow(&duties.reserves, now);
                }
                self.agent_turn(n, Process::VipAgent);
            }
            Agent::Syncer => {
                if let Some(syncer) = &mut server.syncer {
                    syncer.follow(&duties.reserves);
                }
                self.agent_turn(n, Process::Syncer);
            }
            Agent::Supervisor => {
                if let Some(supervisor) = &mut server.supervisor {
                    supervisor.follow(&duties.reserves);
                }
                self.agent_turn(n, Process::Supervisor);
            }
        }
    }

    // ---- the prober ------------------------------------------------------------------

    fn lost(&mut self) -> bool {
        let loss = self.fabric.loss;
        loss > 0.0 && self.rng.chance(loss)
    }

    fn way(&mut self) -> Span {
        let (low, high) = self.fabric.delay_us;
        self.rng.span(low, high)
    }

    fn probe(&mut self, n: NodeIx, run: u32) {
        let interval = self.segment.timing.probe_interval;
        self.after(interval, Event::Probe(n, run));
        let count = self.servers[n]
            .prober
            .as_ref()
            .map_or(0, |p| p.neighbours.len());
        for neighbour in 0..count {
            self.ask(n, neighbour);
        }
        self.send_datagrams(n);
        self.prober_turn(n);
    }

    fn ask(&mut self, n: NodeIx, neighbour: usize) {
        let now = self.now;
        let run = self.servers[n].runs[Process::Prober.ix()];
        for net in 0..self.fabric.nets.len() {
            let can = self.fabric.carrier(net, n);
            let Some(prober) = &mut self.servers[n].prober else {
                return;
            };
            let to = prober.neighbours[neighbour].ix;
            let number = prober.ask(neighbour, net, can, now);
            let there = self.fabric.passes(net, n, to, Kind::Icmp) && !self.lost();
            let back = self.fabric.passes(net, to, n, Kind::Icmp) && !self.lost();
            if there && back && self.servers[to].alive() {
                let span = self.way() + self.way();
                let reply = Event::Reply {
                    at: n,
                    from: to,
                    net,
                    number,
                    run,
                };
                self.after(span, reply);
            }
        }
    }

    fn send_datagrams(&mut self, n: NodeIx) {
        let now = self.now;
        let count = self.servers[n]
            .prober
            .as_ref()
            .map_or(0, |p| p.neighbours.len());
        for neighbour in 0..count {
            for net in 0..self.fabric.nets.len() {
                let Some(prober) = &mut self.servers[n].prober else {
                    return;
                };
                let to = prober.neighbours[neighbour].ix;
                let datagram = prober.say(neighbour, now);
                if self.fabric.passes(net, n, to, Kind::Udp) && !self.lost() {
                    let span = self.way();
                    let event = Event::Datagram {
                        at: to,
                        from: n,
                        net,
                        datagram: Box::new(datagram),
                    };
                    self.after(span, event);
                }
            }
        }
    }

    fn switches(&mut self, n: NodeIx, run: u32) {
        let interval = self.segment.timing.switch_interval;
        self.after(interval, Event::Switches(n, run));
        for net in 0..self.fabric.nets.len() {
            let carrier = self.fabric.carrier(net, n);
            let answered = self.fabric.switch_answers(net, n) && !self.lost() && !self.lost();
            if let Some(prober) = &mut self.servers[n].prober {
                // What cannot leave is known at once.
                for _ in 0..if carrier { 1 } else { 64 } {
                    prober.switch(net, answered);
                }
            }
        }
        self.prober_turn(n);
    }

    /// Burst, news, reports: what every input of the prober may lead to.
    fn prober_turn(&mut self, n: NodeIx) {
        let now = self.now;
        let lease = self.segment.timing.lease;
        let interval = self.segment.timing.probe_interval;
        let gap = now.since(self.servers[n].prober_turned);
        self.servers[n].prober_turned = now;
        if gap > interval.times(2)
            && let Some(prober) = &mut self.servers[n].prober
        {
            prober.stood_still(gap);
            if gap > lease {
                self.tell(n, Agent::Prober, Up::Report(Report::Stalled(gap)));
            }
        }
        let Some(prober) = &mut self.servers[n].prober else {
            return;
        };
        let reports = prober.reports(now);
        let bursts = prober.bursts(now);
        let news = prober.has_news(now);
        for report in reports {
            self.tell(n, Agent::Prober, Up::Report(report));
        }
        for neighbour in bursts {
            if let Some(prober) = &mut self.servers[n].prober {
                prober.burst_sent(neighbour, now);
            }
            self.ask(n, neighbour);
        }
        if news {
            self.send_datagrams(n);
        }
        let Some(prober) = &self.servers[n].prober else {
            return;
        };
        let wake = prober.wake(now);
        if wake != self.servers[n].prober_wake {
            self.servers[n].prober_wake = wake;
            let run = self.servers[n].runs[Process::Prober.ix()];
            self.at(wake, Event::ProberWake(n, run));
        }
    }

    // ---- links -----------------------------------------------------------------------

    /// The kernels notice what changed in the networks.
    pub fn notice_links(&mut self) {
        for n in 0..self.servers.len() {
            let run = self.servers[n].runs[Process::LinkWatcher.ix()];
            let span = self.rng.span(200, 1500);
            self.after(span, Event::Links(n, run));
        }
    }

    fn links(&mut self, n: NodeIx) {
        let interfaces = self.segment.nodes[n].interfaces.clone();
        let links = interfaces.into_iter().enumerate().map(|(net, interface)| {
            let up = self.fabric.carrier(net, n);
            LinkReport {
                interface,
                up,
                reason: String::new(),
            }
        });
        let links = links.collect();
        self.tell(n, Agent::LinkWatcher, Up::Report(Report::Links(links)));
        self.wake_agent(n, Process::LinkWatcher, self.segment.timing.lease.part(10));
    }

    // ---- agents ----------------------------------------------------------------------

    fn wake_agent(&mut self, n: NodeIx, process: Process, span: Span) {
        let at = self.now + span;
        self.servers[n].wakes[process.ix()] = at;
        let run = self.servers[n].runs[process.ix()];
        self.at(at, Event::AgentWake(n, process, run));
    }

    fn agent_turn(&mut self, n: NodeIx, process: Process) {
        match process {
            Process::VipAgent => self.vip_turn(n),
            Process::Supervisor => self.supervisor_turn(n),
            Process::Syncer => self.syncer_turn(n),
            Process::LinkWatcher => {
                self.tell(n, Agent::LinkWatcher, Up::Report(Report::Alive));
                self.wake_agent(n, process, self.segment.timing.lease.part(10));
            }
            Process::Arbiter | Process::Prober => {}
        }
    }

    /// The vip-agent finds out whether it was frozen, before anything else.
    fn vip_wake(&mut self, n: NodeIx) {
        let now = self.now;
        let lease = self.segment.timing.lease;
        let Some(vip) = &mut self.servers[n].vip else {
            return;
        };
        let gap = now.since(vip.turned);
        vip.turned = now;
        if gap > lease {
            for part in &mut vip.parts {
                part.duty.hold = false;
                part.restored = Mono::ZERO;
            }
            vip.trusted_from = now + lease;
            self.tell(n, Agent::VipAgent, Up::Report(Report::Stalled(gap)));
        }
    }

    fn vip_turn(&mut self, n: NodeIx) {
        self.vip_wake(n);
        let now = self.now;
        let timing = self.segment.timing;
        let run = self.servers[n].runs[Process::VipAgent.ix()];
        let mut next = timing.lease.part(10);
        for r in 0..self.segment.reserves.len() {
            let answers = self.vip_answers(n, r);
            // What cannot be asked on a network without carrier is not known.
            let deaf = (0..self.fabric.nets.len()).any(|net| !self.fabric.carrier(net, n));
            let server = &mut self.servers[n];
            let held = server.holds(r, now);
            let Some(vip) = &mut server.vip else {
                return;
            };
            let wants = vip.wants(r, now);
            let part = &mut vip.parts[r];
            let until = part.duty.until.max(part.restored);
            if part.probe_since.is_some() {
                if answers {
                    part.answer = ProbeAnswer::Neighbour;
                    part.quiet_since = None;
                } else if deaf {
                    part.answer = ProbeAnswer::Unknown;
                    part.quiet_since = None;
                } else if now >= *part.quiet_since.get_or_insert(now) + timing.vip_probe {
                    part.answer = ProbeAnswer::Silent;
                }
                next = next.min(timing.vip_probe.part(4));
            }
            if wants {
                next = next.min(until.since(now) + Span::from_micros(1));
                server.leases[r] = (part.epoch, until);
            } else {
                server.leases[r] = (part.epoch, Mono::ZERO);
            }
            if wants && held {
                self.extend(n, r, until);
            } else if wants != held || (self.servers[n].kernel[r].added && !wants) {
                let span = self.rng.span(150, 600);
                self.after(span, Event::VipApply(n, run, r));
            }
        }
        self.vip_report(n);
        self.wake_agent(n, Process::VipAgent, next);
    }

    /// The kernel's own lifetime of an address: whole seconds, a little late.
    fn extend(&mut self, n: NodeIx, r: usize, until: Mono) {
        let seconds = until.since(self.now).as_micros().div_ceil(1_000_000).max(1);
        let late = self.rng.span(0, 160_000);
        let vip = &mut self.servers[n].kernel[r];
        vip.added = true;
        vip.until = self.now + Span::from_secs(seconds) + late;
    }

    fn vip_apply(&mut self, n: NodeIx, r: usize) {
        let now = self.now;
        let Some(vip) = &self.servers[n].vip else {
            return;
        };
        let until = vip.parts[r].duty.until.max(vip.parts[r].restored);
        if vip.wants(r, now) {
            self.extend(n, r, until);
        } else {
            self.servers[n].kernel[r].added = false;
        }
        self.vip_report(n);
    }

    fn vip_report(&mut self, n: NodeIx) {
        let now = self.now;
        let held: Vec<bool> = (0..self.segment.reserves.len())
            .map(|r| self.servers[n].holds(r, now))
            .collect();
        let mac = [2, 0, 0, 0, 0, u8::try_from(n).unwrap_or(0)];
        let every = self.segment.timing.lease.part(10);
        let Some(vip) = &mut self.servers[n].vip else {
            return;
        };
        let report = vip.report(&self.segment.reserves, &held, mac);
        let due = agents::due(
            &mut vip.reported,
            &mut vip.reported_at,
            report,
            now,
            every,
            Report::Vip,
        );
        if let Some(report) = due {
            self.tell(n, Agent::VipAgent, Up::Report(report));
        }
    }

    /// Whether another server answers an ARP probe for a reserve's virtual IPs.
    fn vip_answers(&mut self, n: NodeIx, r: usize) -> bool {
        let now = self.now;
        for other in 0..self.servers.len() {
            if other == n || !self.servers[other].alive() || !self.servers[other].holds(r, now) {
                continue;
            }
            for net in 0..self.fabric.nets.len() {
                let there = self.fabric.passes(net, n, other, Kind::Other) && !self.lost();
                let back = self.fabric.passes(net, other, n, Kind::Other) && !self.lost();
                if there && back {
                    return true;
                }
            }
        }
        false
    }

    fn supervisor_turn(&mut self, n: NodeIx) {
        let now = self.now;
        let mut next = self.segment.timing.lease.part(10);
        for r in 0..self.segment.reserves.len() {
            if self.segment.reserves[r].services == 0 {
                continue;
            }
            let start = self.rng.span(1_000, 40_000);
            let stop = self.rng.span(500, 10_000);
            let server = &mut self.servers[n];
            let Some(supervisor) = &mut server.supervisor else {
                return;
            };
            let part = &mut supervisor.parts[r];
            if let Some((at, starts)) = part.busy {
                if now < at {
                    next = next.min(at.since(now));
                    continue;
                }
                part.busy = None;
                if starts && server.broken[r] {
                    part.failures += 1;
                    if part.failures >= 3 {
                        part.failed = "exited 3 times".into();
                    }
                } else {
                    server.running[r] = starts;
                }
            }
            let run = part.duty.run && now < part.duty.until;
            if part.duty.run {
                next = next.min(part.duty.until.since(now) + Span::from_micros(1));
            }
            if server.running[r] && server.broken[r] {
                server.running[r] = false;
            }
            let told = now >= part.waits_until;
            let wrong = run != server.running[r] && !part.duty.frozen && told;
            if wrong && (!run || part.failed.is_empty()) {
                let span = if run { start } else { stop };
                part.busy = Some((now + span, run));
                next = next.min(span);
            }
        }
        let every = self.segment.timing.lease.part(10);
        let server = &mut self.servers[n];
        let Some(supervisor) = &mut server.supervisor else {
            return;
        };
        let report = supervisor.report(&self.segment.reserves, &server.running);
        let due = agents::due(
            &mut supervisor.reported,
            &mut supervisor.reported_at,
            report,
            now,
            every,
            Report::Services,
        );
        if let Some(report) = due {
            self.tell(n, Agent::Supervisor, Up::Report(report));
        }
        self.wake_agent(n, Process::Supervisor, next);
    }

    fn syncer_turn(&mut self, n: NodeIx) {
        let now = self.now;
        let mut next = self.segment.timing.lease.part(10);
        for r in 0..self.segment.reserves.len() {
            if self.segment.reserves[r].directories == 0 {
                continue;
            }
            self.sync(n, r);
            next = next.min(Span::from_millis(5));
        }
        let every = self.segment.timing.lease.part(10);
        let Some(syncer) = &mut self.servers[n].syncer else {
            return;
        };
        let report = syncer.report(&self.segment.reserves);
        let due = agents::due(
            &mut syncer.reported,
            &mut syncer.reported_at,
            report,
            now,
            every,
            Report::Sync,
        );
        if let Some(report) = due {
            self.tell(n, Agent::Syncer, Up::Report(report));
        }
        self.wake_agent(n, Process::Syncer, next);
    }

    /// One reserve of one syncer: as source it writes and drains, as sink it receives.
    fn sync(&mut self, n: NodeIx, r: usize) {
        let Some(syncer) = &self.servers[n].syncer else {
            return;
        };
        let part = &syncer.parts[r];
        let epoch = part.epoch;
        match &part.duty {
            SyncDuty::Off => {}
            SyncDuty::Source | SyncDuty::Drain => {
                let drains = part.duty == SyncDuty::Drain;
                if self.servers[n].running[r] {
                    self.servers[n].version[r] += 1;
                    self.checks.wrote(n, r);
                }
                let version = self.servers[n].version[r];
                let behind = (0..self.servers.len()).any(|other| {
                    self.receives(other, n, r) && self.servers[other].version[r] != version
                });
                if let Some(syncer) = &mut self.servers[n].syncer {
                    syncer.parts[r].drained = drains && !behind;
                }
            }
            SyncDuty::Sink(from) => {
                let from = self.servers.iter().position(|s| s.name == *from);
                let Some(from) = from else { return };
                let source = self.servers[from].syncer.as_ref().map(|s| &s.parts[r]);
                let fits = source.is_some_and(|source| {
                    matches!(source.duty, SyncDuty::Source | SyncDuty::Drain)
                        && source.epoch >= epoch
                });
                let works = fits && self.receives(n, from, r);
                let version = self.servers[from].version[r];
                if works {
                    if self.servers[n].version[r] != version {
                        self.servers[n].version[r] = version;
                    }
                    self.checks.received(n, from, r);
                }
                if let Some(syncer) = &mut self.servers[n].syncer {
                    let part = &mut syncer.parts[r];
                    if works {
                        part.data = Data::Current;
                    } else if fits && !part.caught_up && part.data == Data::Current {
                        // Somebody else serves and we have not caught up with it.
                        part.data = Data::Stale;
                    }
                    part.caught_up |= works;
                }
            }
        }
    }

    /// A sink receives from a source: both work and can talk.
    fn receives(&self, sink: NodeIx, source: NodeIx, r: usize) -> bool {
        let up = |n: NodeIx| {
            let server = &self.servers[n];
            server.alive() && server.frozen.is_none() && server.syncer.is_some()
        };
        let name = &self.servers[source].name;
        let follows = self.servers[sink]
            .syncer
            .as_ref()
            .is_some_and(|syncer| syncer.source(r) == Some(name));
        sink != source && follows && up(sink) && up(source) && self.fabric.connected(sink, source)
    }

    // ---- servers ---------------------------------------------------------------------

    /// Power on: the kernel is up at once, daemons follow.
    pub fn power_on(&mut self, n: NodeIx) {
        if self.servers[n].power {
            return;
        }
        let boot = self.rng.span(200_000, 1_500_000);
        self.servers[n].power = true;
        for process in Process::ALL {
            let span = boot + self.rng.span(0, 80_000);
            self.start_in(n, process, span);
        }
    }

    /// Power off: everything but the disk is gone.
    pub fn power_off(&mut self, n: NodeIx) {
        let old = &self.servers[n];
        let mut new = Server::new(old.name.clone(), self.segment.reserves.len(), old.disk);
        new.record = old.record.clone();
        new.version = old.version.clone();
        new.broken = old.broken.clone();
        for (run, old) in new.runs.iter_mut().zip(old.runs) {
            *run = old + old % 2;
        }
        self.servers[n] = new;
    }

    /// User space stands still.
    pub fn freeze(&mut self, n: NodeIx) {
        self.servers[n].frozen = self.servers[n].frozen.or(Some(self.now));
    }

    /// The whole machine stands still.
    pub fn pause(&mut self, n: NodeIx) {
        self.servers[n].paused = self.servers[n].paused.or(Some(self.now));
    }

    /// It goes on; what waited happens now, in order.
    pub fn thaw(&mut self, n: NodeIx) {
        let server = &mut self.servers[n];
        if server.paused.is_some() {
            // What was on the wire has passed by.
            server
                .deferred
                .retain(|event| !matches!(event, Event::Reply { .. } | Event::Datagram { .. }));
        }
        server.frozen = None;
        server.paused = None;
        // Sockets are read before timers are judged.
        let mut waiting = std::mem::take(&mut server.deferred);
        waiting.sort_by_key(|event| !matches!(event, Event::Reply { .. } | Event::Datagram { .. }));
        for event in waiting {
            self.at(self.now, event);
        }
    }

    /// The role of a server for a reserve, if its arbiter runs.
    #[must_use]
    pub fn role(&self, n: NodeIx, r: usize) -> Option<Role> {
        let core = self.servers[n].core.as_ref()?;
        core.reserves().nth(r).map(|reserve| reserve.role)
    }
}
