//! What must be true at every moment of every run, and at its end.
//!
//! The residual cases of the design (section 8) are the only excuse for two servers that
//! offer a virtual IP: a partition in which both sides still see their switches, a machine
//! that was paused as a whole. They must end soon after their cause.

use std::collections::{BTreeMap, VecDeque};

use haarb_model::{Epoch, Event, Mode, Mono, Role, Span};

use crate::NodeIx;
use crate::server::{Process, Server};
use crate::world::World;

/// Rules that take over without anybody's consent: they need `eligible` for `lead`.
const ALONE: [&str; 5] = ["B6", "B7", "W3", "S1", "S2"];

/// How long the consequences of a residual case may last.
const AFTERMATH: Span = Span::from_secs(3);

/// How many changes of role of one reserve within [`AFTERMATH`] are a quarrel.
const CHANGES_MAX: usize = 14;

/// The state of all checks.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    failure: Option<String>,
    excused_until: Mono,
    /// Since when the software of a server that has power does not run.
    stands_since: BTreeMap<NodeIx, Mono>,
    /// Two servers offered a reserve, from when, how long in all.
    pub dual: BTreeMap<usize, (Mono, Span)>,
    dual_now: BTreeMap<usize, Mono>,
    /// Since when two servers that both offer a reserve hear each other.
    in_contact: BTreeMap<usize, Mono>,
    /// Since when a server has offered a reserve.
    offers_since: BTreeMap<(NodeIx, usize), Mono>,
    /// When two servers last could not hear each other.
    unheard_at: Option<Mono>,
    /// Who could hear of an activation when it happened.
    activated: BTreeMap<(usize, Epoch), Vec<bool>>,
    shown: BTreeMap<(NodeIx, usize), Epoch>,
    eligible: BTreeMap<(NodeIx, usize), Mono>,
    wrong_since: BTreeMap<(NodeIx, usize), Mono>,
    changes: BTreeMap<(NodeIx, usize), VecDeque<Mono>>,
    last_writer: BTreeMap<usize, NodeIx>,
    held_since: BTreeMap<usize, (NodeIx, Mono)>,
    /// When a reserve was held by somebody last, and the longest time without.
    pub gaps: BTreeMap<usize, (Mono, Span)>,
    /// Which rules led to a change, and how often.
    pub fired: BTreeMap<&'static str, u64>,
    /// Some server could not be told something for a while: an epoch may come twice.
    untold: bool,
    /// Epochs may begin anew: a server lost its record while nobody could tell it.
    pub forgetful: bool,
}

impl Checks {
    /// No check has failed yet.
    #[must_use]
    pub fn new(_nodes: usize, _reserves: usize) -> Self {
        Self::default()
    }

    /// Something is wrong; the first one counts.
    pub fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    /// Whether a check has failed.
    #[must_use]
    pub const fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// What is wrong.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// A service wrote on a server.
    pub fn wrote(&mut self, n: NodeIx, r: usize) {
        self.last_writer.insert(r, n);
    }

    /// A sink has what its source has.
    pub fn received(&mut self, n: NodeIx, from: NodeIx, r: usize) {
        if self.last_writer.get(&r) == Some(&n) {
            self.last_writer.insert(r, from);
        }
    }

    fn note_who_stands(&mut self, world: &World) {
        for (n, server) in world.servers.iter().enumerate() {
            if !server.power || listens(server) {
                self.stands_since.remove(&n);
            } else {
                self.stands_since.entry(n).or_insert(world.now);
            }
        }
    }

    /// Residual case R1c: the software of one of two servers stopped, and one direction died at
    /// nearly the same moment, before the other server could know of the first. Once both serve,
    /// nobody can be told until the lease ends.
    fn fell_just_now(&self, world: &World) -> bool {
        let dual = !self.dual_now.is_empty();
        let others = |n: NodeIx| (0..world.servers.len()).filter(move |other| *other != n);
        self.stands_since.iter().any(|(&n, at)| {
            let timing = world.timing(n);
            // How long the last word of the arbiter or the vip-agent counts, and the silence that is
            // judged.
            let word = if tells(&world.servers[n]) { 2 } else { 5 };
            let known_after = timing.lease.part(word) + timing.dead_after.times(2);
            let fresh = dual || world.now.since(*at) <= known_after;
            let apart = |other: NodeIx| {
                world.servers[other].power
                    && world.fabric.degree(n) > 0
                    && world.fabric.degree(other) > 0
                    && (dual || !world.fabric.connected(n, other))
            };
            fresh && others(n).any(apart)
        })
    }

    /// Residual case OP2: who is given a reserve by force cannot know whether a server serves
    /// that it does not hear, or that it began to hear within the last two datagrams.
    fn could_not_hear(&self, world: &World) -> bool {
        let slack = world.segment.timing.probe_interval.times(2) + Span::from_millis(2);
        self.unheard_at
            .is_some_and(|at| world.now.since(at) <= slack)
    }

    /// After every event: who offers what.
    pub fn after_event(&mut self, world: &World) {
        let now = world.now;
        self.note_who_stands(world);
        if excused(world, !self.dual_now.is_empty()) || self.fell_just_now(world) {
            self.excused_until = now + AFTERMATH;
        }
        self.untold |= cannot_tell(world);
        if unheard(world) {
            self.unheard_at = Some(now);
        }
        for r in 0..world.segment.reserves.len() {
            self.count_holders(world, r);
            for n in 0..world.servers.len() {
                self.services_where_allowed(world, n, r);
            }
        }
    }

    fn count_holders(&mut self, world: &World, r: usize) {
        let now = world.now;
        let offers = |n: NodeIx| {
            let server = &world.servers[n];
            server.alive() && server.holds(r, now) && world.fabric.degree(n) > 0
        };
        for n in 0..world.servers.len() {
            if offers(n) {
                self.offers_since.entry((n, r)).or_insert(now);
            } else {
                self.offers_since.remove(&(n, r));
            }
        }
        let mut holders = (0..world.servers.len()).filter(|n| offers(*n));
        let first = holders.next();
        let second = holders.next();
        if let Some(n) = first {
            let (last, longest) = self.gaps.get(&r).copied().unwrap_or((now, Span::ZERO));
            self.gaps.insert(r, (now, longest.max(now.since(last))));
            self.held_since.insert(r, (n, now));
        }
        let (Some(a), Some(b)) = (first, second) else {
            self.in_contact.remove(&r);
            if let Some(since) = self.dual_now.remove(&r) {
                let entry = self.dual.entry(r).or_insert((since, Span::ZERO));
                entry.1 = entry.1 + now.since(since);
            }
            return;
        };
        let begins = !self.dual_now.contains_key(&r);
        self.dual_now.entry(r).or_insert(now);
        if begins && self.took_at_once(world, [a, b], r) {
            self.excused_until = now + AFTERMATH;
        }
        self.ends_on_contact(world, r, a, b);
        if now >= self.excused_until {
            let (a, b) = (&world.servers[a].name, &world.servers[b].name);
            let reserve = &world.segment.reserves[r].name;
            self.fail(format!("{a} and {b} both offer {reserve}"));
        }
    }

    /// Two servers that offer the same and hear each other stop that within two datagrams.
    fn ends_on_contact(&mut self, world: &World, r: usize, a: NodeIx, b: NodeIx) {
        if !(hears(world, a, b) && hears(world, b, a)) {
            self.in_contact.remove(&r);
            return;
        }
        let since = *self.in_contact.entry(r).or_insert(world.now);
        let late = Span::from_micros(world.rough.late_us * 10);
        // What processes and the kernel need to act on a datagram.
        let handling = late.times(3) + Span::from_millis(3);
        let limit = world.segment.timing.probe_interval.times(2) + handling;
        if world.now.since(since) > limit {
            let (a, b) = (&world.servers[a].name, &world.servers[b].name);
            let reserve = &world.segment.reserves[r].name;
            self.fail(format!(
                "{a} and {b} have heard each other for {limit} and still both offer {reserve}"
            ));
        }
    }

    /// Residual case R1d: servers that could not hear each other took at the same moment, before
    /// either could see the other in an answer for the virtual IPs.
    fn took_at_once(&self, world: &World, servers: [NodeIx; 2], r: usize) -> bool {
        let probe = world.segment.timing.vip_probe + Span::from_millis(2);
        let just_now = |n| {
            let since = self.offers_since.get(&(n, r));
            since.is_some_and(|since| world.now.since(*since) <= probe)
        };
        self.could_not_hear(world) && servers.into_iter().all(just_now)
    }

    /// Services run only where the virtual IP may be, but for the time to stop them.
    fn services_where_allowed(&mut self, world: &World, n: NodeIx, r: usize) {
        let server = &world.servers[n];
        let role = world.role(n, r);
        let able = server.alive()
            && server.frozen.is_none()
            && runs(server, Process::Supervisor)
            && server
                .core
                .as_ref()
                .is_none_or(|core| core.mode().mode != Mode::Maintenance);
        // What was frozen by maintenance stays so without an arbiter.
        let able = able
            && !server
                .supervisor
                .as_ref()
                .is_some_and(|supervisor| supervisor.parts[r].duty.frozen);
        let wrong = able && server.running[r] && !role.is_some_and(Role::serves);
        if !wrong {
            self.wrong_since.remove(&(n, r));
            return;
        }
        let since = *self.wrong_since.entry((n, r)).or_insert(world.now);
        if world.now.since(since) > world.segment.timing.lease.times(2) + Span::from_millis(200) {
            let text = format!("{} runs services in role {role:?}", server.name);
            self.fail(text);
        }
    }

    /// After every step of an arbiter: what it shows and holds fits its role.
    pub fn after_step(&mut self, world: &World, n: NodeIx) {
        let Some(core) = &world.servers[n].core else {
            return;
        };
        let now = world.now;
        let name = &world.servers[n].name;
        let advert = core.advert();
        let duties = core.duties(now);
        let maintenance = core.mode().mode == Mode::Maintenance;
        let lease = world.timing(n).lease;
        let mut wrong = None;
        for (r, (reserve, duty)) in core.reserves().zip(&duties.reserves).enumerate() {
            let part = &advert.reserves[&reserve.spec.name];
            if part.eligible {
                self.eligible.entry((n, r)).or_insert(now);
            } else {
                self.eligible.remove(&(n, r));
            }
            let shown = self.shown.entry((n, r)).or_default();
            if part.epoch < *shown && !self.forgetful {
                wrong = Some(format!(
                    "{name} went back from epoch {shown} to {}",
                    part.epoch
                ));
            }
            *shown = part.epoch;
            let serves = reserve.role.serves();
            if (duty.vip.hold || duty.services.run) && !serves {
                wrong = Some(format!("{name} holds in role {}", reserve.role));
            }
            if duty.vip.hold && duty.vip.until > now + lease && !maintenance {
                wrong = Some(format!("{name} has a lease longer than {lease}"));
            }
            let cut_off = reserve.facts.links == haarb_decision::facts::Links::None;
            if duty.vip.hold && cut_off && !maintenance {
                wrong = Some(format!("{name} holds without any network"));
            }
            if serves && part.eligible {
                wrong = Some(format!("{name} serves and is eligible"));
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// A server's arbiter said that something happened.
    pub fn on_event(&mut self, world: &World, n: NodeIx, event: &Event) {
        let (Some(from), Some(to)) = (event.from, event.to) else {
            return;
        };
        if from == to && event.rule != "A15" {
            return;
        }
        *self.fired.entry(event.rule).or_default() += 1;
        let name = &world.servers[n].name;
        let place = |r: &haarb_model::ReserveSpec| Some(&r.name) == event.reserve.as_ref();
        let Some(r) = world.segment.reserves.iter().position(place) else {
            return;
        };
        let now = world.now;
        let changes = self.changes.entry((n, r)).or_default();
        changes.push_back(now);
        while changes.front().is_some_and(|at| now.since(*at) > AFTERMATH) {
            changes.pop_front();
        }
        if changes.len() > CHANGES_MAX {
            self.fail(format!("{name} changes its role all the time"));
        }
        if event.rule == "OP2" && self.could_not_hear(world) {
            self.excused_until = now + AFTERMATH;
        }
        if to == Role::Taking || event.rule == "A15" {
            self.on_activation(world, n, r, event);
        }
    }

    fn on_activation(&mut self, world: &World, n: NodeIx, r: usize, event: &Event) {
        let now = world.now;
        let name = &world.servers[n].name;
        let listens = (0..world.servers.len()).map(|other| {
            let server = &world.servers[other];
            let up = server.alive() && server.frozen.is_none() && world.fabric.degree(other) > 0;
            up && server.core.is_some() && server.prober.is_some()
        });
        let before = self.activated.insert((r, event.epoch), listens.collect());
        let excused = self.untold || self.forgetful || now < self.excused_until;
        if before.is_some_and(|told| told[n]) && !excused {
            self.fail(format!(
                "epoch {} was activated twice, now by {name}",
                event.epoch
            ));
        }
        let lead = world.timing(n).lead;
        if ALONE.contains(&event.rule) {
            let advertised = self.eligible.get(&(n, r));
            if advertised.is_none_or(|since| now.since(*since) < lead) {
                self.fail(format!(
                    "{name} took over by {} without having advertised it for {lead}",
                    event.rule
                ));
            }
        }
        let synced = world.segment.reserves[r].directories > 0;
        if let Some(writer) = self.last_writer.get(&r)
            && event.rule == "B3"
            && synced
            && *writer != n
            && world.servers[*writer].version[r] != world.servers[n].version[r]
        {
            let text = format!("{name} was given the reserve without all that was written");
            self.fail(text);
        }
        self.eligible.remove(&(n, r));
    }

    /// At the end, with everything mended: whoever can serve serves, exactly once, and the
    /// rest stands by.
    pub fn at_end(&mut self, world: &World) {
        let now = world.now;
        for (r, reserve) in world.segment.reserves.iter().enumerate() {
            let nodes = 0..world.servers.len();
            let active: Vec<NodeIx> = nodes
                .clone()
                .filter(|n| world.role(*n, r) == Some(Role::Active))
                .collect();
            let roles: Vec<String> = nodes
                .clone()
                .map(|n| {
                    let role = world.role(n, r).map_or("no arbiter", Role::as_str);
                    format!("{} {role}", world.servers[n].name)
                })
                .collect();
            let [n] = active[..] else {
                self.fail(format!("{}: {} at the end", reserve.name, roles.join(", ")));
                continue;
            };
            let server = &world.servers[n];
            if !server.holds(r, now) || (reserve.services > 0 && !server.running[r]) {
                self.fail(format!(
                    "{} is active on {} without its VIP or services",
                    reserve.name, server.name
                ));
            }
            for other in nodes.filter(|other| *other != n) {
                if world.role(other, r) != Some(Role::Standby) {
                    self.fail(format!("{}: {} at the end", reserve.name, roles.join(", ")));
                }
                let able = world.servers[other].core.as_ref().is_some_and(|core| {
                    core.reserve(&reserve.name)
                        .is_some_and(|state| state.obstacle.is_none())
                });
                if !able {
                    let server = &world.servers[other].name;
                    self.fail(format!(
                        "{server} is not eligible for {} at the end",
                        reserve.name
                    ));
                }
            }
        }
        for server in &world.servers {
            let Some(core) = &server.core else { continue };
            if core.mode().mode != Mode::Automatic {
                let reason = core.mode().mode.reason();
                self.fail(format!("{} is manual ({reason}) at the end", server.name));
            }
            if let Some(alarm) = core.alarms().find(|alarm| alarm.rule != "X4") {
                self.fail(format!(
                    "{}: alarm {} stands at the end: {}",
                    server.name, alarm.rule, alarm.text
                ));
            }
        }
    }
}

/// A residual case is there: two servers that see their switches, while no datagram passes
/// in any direction and an ARP probe would not be answered (a frozen user space sends none);
/// a machine that stands still as a
/// whole; a server that started while one direction was dead, whose datagrams nobody may
/// believe yet.
fn excused(world: &World, dual: bool) -> bool {
    let servers = &world.servers;
    if servers.iter().any(|s| s.power && s.paused.is_some()) {
        return true;
    }
    for a in 0..servers.len() {
        for b in 0..servers.len() {
            if a == b || !servers[a].power || !servers[b].power {
                continue;
            }
            // Without a switch to ask, nobody can know that it is cut off.
            let asked = world.segment.networks.iter().any(|net| net.switch_answers);
            let seen = !asked || (world.fabric.degree(a) > 0 && world.fabric.degree(b) > 0);
            // Who stands still says nothing.
            let says = |n: NodeIx| servers[n].frozen.is_none();
            let there = says(a) && world.fabric.reaches(a, b);
            let back = says(b) && world.fabric.reaches(b, a);
            // Once both serve, only a datagram can tell them.
            if seen && !there && !back && (dual || !world.fabric.connected(a, b)) {
                return true;
            }
            if seen && there && !back && !believed(world, a, b) {
                return true;
            }
        }
    }
    false
}

/// Its software runs: it says what it does, acts on what others say, and can let go.
fn listens(server: &Server) -> bool {
    tells(server) && runs(server, Process::VipAgent)
}

/// It says what it does.
fn tells(server: &Server) -> bool {
    server.frozen.is_none() && runs(server, Process::Arbiter) && runs(server, Process::Prober)
}

fn runs(server: &Server, process: Process) -> bool {
    server.runs(process) && !server.stopped[process.ix()]
}

/// What one server says surely reaches another that can act on it.
fn hears(world: &World, from: NodeIx, to: NodeIx) -> bool {
    let works = |n: NodeIx| {
        let server = &world.servers[n];
        let attached = |process: Process| server.connected[process.ix()];
        let maintenance = |core: &haarb_decision::Core| core.mode().mode == Mode::Maintenance;
        server.alive()
            && listens(server)
            && attached(Process::Prober)
            && attached(Process::VipAgent)
            && server.core.as_ref().is_some_and(|core| !maintenance(core))
    };
    let rough = &world.rough;
    let calm = world.fabric.loss == 0.0 && rough.gusts.is_none() && rough.detour == 0.0;
    let reaches = world.fabric.reaches(from, to) && believed(world, from, to);
    calm && works(from) && works(to) && reaches
}

/// A server is attached and what it says reaches another attached one nowhere.
fn cannot_tell(world: &World) -> bool {
    let up = |n: NodeIx| world.servers[n].power && world.fabric.degree(n) > 0;
    let nodes = 0..world.servers.len();
    nodes.clone().any(|a| {
        nodes
            .clone()
            .any(|b| a != b && up(a) && up(b) && !world.fabric.reaches(a, b))
    })
}

/// No datagram passes between two servers that have power, in either direction.
fn unheard(world: &World) -> bool {
    let (servers, fabric) = (&world.servers, &world.fabric);
    let on = |n: NodeIx| servers[n].power;
    let nodes = 0..servers.len();
    nodes.clone().any(|a| {
        let silent = |b: NodeIx| !fabric.reaches(a, b) && !fabric.reaches(b, a);
        nodes.clone().any(|b| a < b && on(a) && on(b) && silent(b))
    })
}

/// Whether `to` has accepted the present session of the prober of `from`.
fn believed(world: &World, from: NodeIx, to: NodeIx) -> bool {
    let (Some(sender), Some(receiver)) = (&world.servers[from].prober, &world.servers[to].prober)
    else {
        return false;
    };
    receiver.believes(from, sender.session)
}
