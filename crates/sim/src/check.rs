//! What must be true at every moment of every run, and at its end.
//!
//! The residual cases of the design (section 8) are the only excuse for two servers that
//! offer a virtual IP: a partition in which both sides still see their switches, a machine
//! that was paused as a whole. They must end soon after their cause.

mod end;
mod reach;
mod residual;

use std::collections::{BTreeMap, VecDeque};

use haarb_model::{Epoch, Event, Mode, Mono, Role, Span};

use self::reach::{cannot_tell, hears, runs, unheard};
use self::residual::excused;
use crate::NodeIx;
use crate::server::Process;
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
}
