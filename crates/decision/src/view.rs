//! What one server knows: the last report of every agent, networks with their hold, and
//! neighbours. Raw reports come in, timers are kept here; rules never look at it directly.

mod networks;

use std::collections::{BTreeMap, BTreeSet};

use haarb_model::{
    Advert, Agent, Data, Guard, KernelLine, LinkReport, Mono, NetworkName, NodeName, ProbeReport,
    Report, ReserveName, Segment, ServiceRun, Span, SwitchAnswer, SyncReserve, VipReserve,
};

use crate::clock::Clock;
use crate::facts::{Contact, Links};
use crate::flaps::Flaps;
use crate::neighbour::Neighbour;
use crate::protocol::{PROTOCOLS, Protocols};

use networks::LostElsewhere;
pub use networks::Network;

/// How much later than the lease an address that nobody removes is silent, where a server has said
/// of its kernel whether that ends a lease to the moment.
pub(crate) const fn kernel_margin(lease_exact: bool) -> Span {
    let line = if lease_exact {
        KernelLine::Nftables
    } else {
        KernelLine::Lifetime
    };
    line.late()
}

/// What a lease depends on (rule A13): who adds and removes the virtual IPs, and who tells what
/// the other servers do.
pub(crate) const LEASE_AGENTS: [Agent; 2] = [Agent::VipAgent, Agent::Prober];

/// What is known of one agent.
#[derive(Clone, Copy, Debug)]
pub struct AgentView {
    /// It is connected.
    pub attached: bool,
    /// When it attached last, or when this run began.
    pub since: Mono,
    /// Its last report or sign of life.
    pub last: Mono,
}

/// Everything one server knows.
#[derive(Clone, Debug)]
pub struct View {
    /// The segment.
    pub segment: Segment,
    /// This server.
    pub me: NodeName,
    /// Its place in the configuration.
    pub rank: usize,
    /// Our networks, in the order of the configuration.
    pub networks: Vec<Network>,
    /// The other servers, in the order of the configuration.
    pub neighbours: Vec<Neighbour>,
    /// Virtual IPs, as the vip-agent reported them last.
    pub vips: BTreeMap<ReserveName, VipReserve>,
    /// Since when the virtual IPs of a reserve could not all be added or removed.
    pub vip_failed_since: BTreeMap<ReserveName, Mono>,
    /// Our MAC addresses on interfaces that carry virtual IPs.
    pub macs: BTreeMap<String, [u8; 6]>,
    /// What ends the virtual IPs in the kernel when the vip-agent cannot, by interface.
    pub guards: BTreeMap<String, Guard>,
    /// Replicas, as the syncer reported them last.
    pub replicas: BTreeMap<ReserveName, SyncReserve>,
    /// Services, as the supervisor reported them last.
    pub services: BTreeMap<ReserveName, ServiceRun>,
    /// Links, as the link-watcher reported them last.
    pub links: BTreeMap<String, LinkReport>,
    /// Switches, as the prober reported them last.
    pub switches: BTreeMap<NetworkName, SwitchAnswer>,
    /// When each switch last answered, as far as the prober's last report tells.
    pub switch_answered: BTreeMap<NetworkName, Mono>,
    /// Networks that work here and that a neighbour has lost.
    lost_elsewhere: BTreeMap<NetworkName, LostElsewhere>,
    /// Since when each switch that has an address has been silent.
    pub switch_silent_since: BTreeMap<NetworkName, Mono>,
    /// Datagrams dropped, by reason (rule X4).
    pub dropped: BTreeMap<String, u64>,
    /// The hardware watchdog, in the supervisor's words; decides nothing.
    pub watchdog: String,
    /// The versions of the protocol that we speak.
    pub protocols: Protocols,
    agents: BTreeMap<Agent, AgentView>,
    links_known: bool,
    /// Before this moment what neighbours say about hearing us means nothing: our prober
    /// (or this arbiter) has only begun to speak.
    spoken_from: Mono,
    /// Before this moment a switch that does not answer means nothing.
    asked_from: Mono,
    /// Before this moment no contact is judged: we were frozen or have just begun.
    look_until: Mono,
}

impl View {
    /// A view that knows nothing yet.
    #[must_use]
    pub fn new(segment: Segment, me: NodeName, rank: usize, left: &[NodeName], now: Mono) -> Self {
        let neighbours = segment
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.name != me)
            .map(|(rank, node)| {
                Neighbour::new(node.name.clone(), rank, left.contains(&node.name), now)
            })
            .collect();
        let mine = segment.nodes.get(rank);
        let networks = segment
            .networks
            .iter()
            .enumerate()
            .map(|(i, network)| Network {
                name: network.name.clone(),
                interface: mine
                    .and_then(|node| node.interfaces.get(i))
                    .cloned()
                    .unwrap_or_default(),
                works: None,
                works_since: now,
                usable: false,
                since: now,
                reason: "not yet known".into(),
                flaps: Flaps::default(),
                counts_at: None,
            })
            .collect();
        let agents = Agent::ALL
            .into_iter()
            .map(|agent| {
                let view = AgentView {
                    attached: false,
                    since: now,
                    last: now,
                };
                (agent, view)
            })
            .collect();
        let speaks_after = speaks_after(&segment);
        Self {
            segment,
            me,
            rank,
            networks,
            neighbours,
            vips: BTreeMap::new(),
            vip_failed_since: BTreeMap::new(),
            macs: BTreeMap::new(),
            guards: BTreeMap::new(),
            replicas: BTreeMap::new(),
            services: BTreeMap::new(),
            links: BTreeMap::new(),
            switches: BTreeMap::new(),
            switch_answered: BTreeMap::new(),
            lost_elsewhere: BTreeMap::new(),
            switch_silent_since: BTreeMap::new(),
            dropped: BTreeMap::new(),
            watchdog: String::new(),
            protocols: PROTOCOLS,
            agents,
            links_known: false,
            spoken_from: now + speaks_after,
            asked_from: now,
            look_until: now,
        }
    }

    /// An agent has attached, perhaps anew.
    pub fn attached(&mut self, now: Mono, agent: Agent) {
        if let Some(view) = self.agents.get_mut(&agent) {
            *view = AgentView {
                attached: true,
                since: now,
                last: now,
            };
        }
        if agent == Agent::Prober {
            self.was_mute(now);
            self.asked_from = now + self.segment.timing.dead_after;
        }
    }

    /// An agent's connection is gone.
    pub fn lost(&mut self, agent: Agent) {
        if let Some(view) = self.agents.get_mut(&agent) {
            view.attached = false;
        }
    }

    /// Takes over a report. Reserves, networks and servers that are not in the segment are
    /// left out.
    pub fn report(&mut self, now: Mono, agent: Agent, report: Report) {
        if let Some(view) = self.agents.get_mut(&agent) {
            view.last = now;
        }
        match report {
            Report::Alive | Report::Stalled(_) => {}
            Report::Links(links) => {
                self.links_known = true;
                self.links = links
                    .into_iter()
                    .map(|link| (link.interface.clone(), link))
                    .collect();
            }
            Report::Probe(probe) => self.note_probe(now, probe),
            Report::Advert { from, at, advert } => {
                if let Some(neighbour) = self.neighbours.iter_mut().find(|n| n.name == from) {
                    neighbour.note_advert(at, advert);
                }
            }
            Report::Vip(vip) => {
                self.macs = vip.macs;
                self.guards = vip.guards;
                for part in &vip.reserves {
                    if part.error.is_empty() {
                        self.vip_failed_since.remove(&part.reserve);
                    } else {
                        let since = self.vip_failed_since.entry(part.reserve.clone());
                        since.or_insert(now);
                    }
                }
                self.vips = by_name(vip.reserves, |part| &part.reserve);
            }
            Report::Sync(sync) => self.replicas = by_name(sync.reserves, |part| &part.reserve),
            Report::Services(services) => {
                self.watchdog = services.watchdog;
                self.services = by_name(services.reserves, |part| &part.reserve);
            }
        }
    }

    fn note_probe(&mut self, now: Mono, probe: ProbeReport) {
        for switch in &probe.switches {
            if let Some(at) = switch.last_answer {
                self.switch_answered.insert(switch.network.clone(), at);
            }
        }
        self.switches = probe
            .switches
            .into_iter()
            .map(|switch| (switch.network, switch.answer))
            .collect();
        for (network, answer) in &self.switches {
            if *answer == SwitchAnswer::Silent {
                let since = self.switch_silent_since.entry(network.clone());
                since.or_insert(now);
            } else {
                self.switch_silent_since.remove(network);
            }
        }
        self.dropped = probe.dropped;
        let reply = speaks_after(&self.segment);
        for report in probe.neighbours {
            if let Some(neighbour) = self.neighbours.iter_mut().find(|n| n.name == report.node) {
                neighbour.note_report(now, report, reply);
            }
        }
    }

    /// We have said nothing for a while: that neighbours do not hear us is our own doing.
    pub fn was_mute(&mut self, now: Mono) {
        let from = now + speaks_after(&self.segment);
        self.spoken_from = self.spoken_from.max(from);
        for neighbour in &mut self.neighbours {
            neighbour.answered_since = None;
        }
    }

    /// We were frozen: what was known of others is not evidence any more.
    pub fn doubt(&mut self, now: Mono) {
        let timing = self.segment.timing;
        self.look_until = now + timing.dead_after + timing.not_heard_after;
        self.spoken_from = self.look_until;
        self.asked_from = self.look_until;
        for neighbour in &mut self.neighbours {
            neighbour.unheard_since = now;
            neighbour.answered_since = None;
            neighbour.contact_since = now;
        }
        for agent in self.agents.values_mut().filter(|agent| agent.attached) {
            agent.last = now;
        }
    }

    /// How much later than the first server of the configuration this one takes over what
    /// nobody offers: long enough for the probe of the virtual IPs to see an earlier one.
    #[must_use]
    pub fn slot(&self) -> Span {
        self.segment.timing.vip_probe.times(2 * self.rank as u64)
    }

    /// Over which networks each neighbour is heard now. One that either side does not count as
    /// usable is none of them: that is known, and said, sooner than silence.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<NodeName, BTreeSet<NetworkName>> {
        let on = |neighbour: &Neighbour| {
            let usable = self.networks.iter().filter(|network| network.usable);
            let networks = usable.map(|network| &network.name);
            let there = |name: &&NetworkName| match &neighbour.advert {
                Some((_, advert)) => advert.usable.contains(*name),
                None => true,
            };
            networks
                .filter(|name| neighbour.heard_on(name) && there(name))
                .cloned()
                .collect()
        };
        self.neighbours
            .iter()
            .map(|n| (n.name.clone(), on(n)))
            .collect()
    }

    /// The versions of the protocol that everybody speaks of whom we know.
    ///
    /// # Errors
    /// The server with which there is none in common.
    pub fn common_protocols(&self) -> Result<Protocols, (&NodeName, Protocols)> {
        let mut common = self.protocols;
        for neighbour in &self.neighbours {
            let Some((_, advert)) = &neighbour.advert else {
                continue;
            };
            let theirs = Protocols::of(advert);
            common = common.common(theirs).ok_or((&neighbour.name, theirs))?;
        }
        Ok(common)
    }

    /// The fact `contact`: the best contact with any neighbour.
    pub fn contact(&self, clock: &mut Clock) -> Contact {
        if !clock.reached(self.look_until) {
            return Contact::Unknown;
        }
        let has = |contact| self.neighbours.iter().any(|n| n.contact == contact);
        if has(Contact::Heard) {
            Contact::Heard
        } else if has(Contact::Unknown) {
            Contact::Unknown
        } else if has(Contact::Quiet) || !self.silence_counts(clock) {
            Contact::Quiet
        } else {
            Contact::Silent
        }
    }

    /// Silence after which a neighbour's software is dead and what it held has ended by
    /// itself. Longer for one that said it does not hear us, or that hung before its kernel fell
    /// silent: neither its ECHO replies nor an answer for the virtual IPs can be expected, so only
    /// the end of its lease in the kernel is certain; how exact that is, it has told.
    #[must_use]
    pub fn software_dead_after(&self, neighbour: &Neighbour) -> Span {
        let limit = self.segment.timing.software_dead_after;
        if neighbour.unasked || neighbour.hung {
            limit + kernel_margin(neighbour.lease_exact())
        } else {
            limit
        }
    }

    /// Whether this kernel ends every virtual IP at the end of its lease, to the moment, though
    /// the vip-agent be dead.
    #[must_use]
    pub fn lease_exact(&self) -> bool {
        let vips = self.segment.reserves.iter().flat_map(|r| &r.vips);
        let exact = |interface: &String| {
            let guard = self.guards.get(interface);
            guard.is_some_and(|guard| guard.line > KernelLine::Lifetime)
        };
        !self.guards.is_empty() && vips.map(|vip| &vip.interface).all(exact)
    }

    fn silence_counts(&self, clock: &mut Clock) -> bool {
        self.neighbours.iter().all(|n| {
            let limit = self.software_dead_after(n);
            !(n.unasked || n.hung) || clock.passed(n.unheard_since, limit)
        })
    }

    /// Since when all neighbours have been silent together; `None` while one is not.
    #[must_use]
    pub fn silent_since(&self) -> Option<Mono> {
        let silent = self.neighbours.iter().all(|n| n.contact == Contact::Silent);
        let last = self.neighbours.iter().map(|n| n.contact_since).max();
        silent.then(|| last.unwrap_or(Mono::ZERO))
    }

    /// How long a neighbour that hears us needs to say so.
    #[must_use]
    pub fn reply_time(&self) -> Span {
        speaks_after(&self.segment)
    }

    /// Whether a neighbour can be believed that it does not hear us: it has had the time to hear
    /// what we say since we began to speak. One that has said that it hears us has had it,
    /// unless that word was itself from before: a probe later it would have followed.
    pub fn speaks_to(&self, neighbour: &Neighbour, clock: &mut Clock) -> bool {
        let follows = self.segment.timing.probe_interval;
        let answered = neighbour.answered_since;
        clock.reached(self.spoken_from)
            || clock.reached(self.look_until)
                && answered.is_some_and(|since| clock.passed(since, follows))
    }

    /// What is known of an agent.
    #[must_use]
    pub fn agent(&self, agent: Agent) -> Option<&AgentView> {
        self.agents.get(&agent)
    }

    /// The agent is connected and gave a sign of life within half a lease: what depends on
    /// it may be renewed (rule A13).
    pub fn fresh(&self, agent: Agent, clock: &mut Clock) -> bool {
        let half = self.segment.timing.lease.part(2);
        self.agents
            .get(&agent)
            .is_some_and(|view| view.attached && !clock.passed(view.last, half))
    }

    /// Whether the agents are fresh that a lease depends on: without them nothing can be held.
    pub fn can_hold(&self, clock: &mut Clock) -> bool {
        LEASE_AGENTS.iter().all(|agent| self.fresh(*agent, clock))
    }

    /// The agent has given no sign of life for a whole lease: a restart would be over.
    pub fn gone(&self, agent: Agent, clock: &mut Clock) -> bool {
        let lease = self.segment.timing.lease;
        self.agents
            .get(&agent)
            .is_none_or(|view| clock.passed(view.last, lease))
    }

    /// How good our replica is. Without directories there is nothing to be old.
    #[must_use]
    pub fn data(&self, reserve: &ReserveName) -> Data {
        let directories = self.segment.reserve(reserve).map_or(0, |r| r.directories);
        if directories == 0 {
            return Data::Current;
        }
        self.replicas
            .get(reserve)
            .map_or(Data::Stale, |replica| replica.data)
    }
}

/// How long after our first word a neighbour that hears us has said so.
fn speaks_after(segment: &Segment) -> Span {
    segment.timing.not_heard_after + segment.timing.probe_interval.times(2)
}

fn by_name<T>(parts: Vec<T>, name: impl Fn(&T) -> &ReserveName) -> BTreeMap<ReserveName, T> {
    parts
        .into_iter()
        .map(|part| (name(&part).clone(), part))
        .collect()
}
