//! The eyes of the search: looks after every single event of a world whether two servers
//! offer a virtual IP, which residual case that is, and how long it lasts once the servers
//! can hear each other.

use haarb_model::{KernelLine, Mono, Span};
use haarb_sim::NodeIx;
use haarb_sim::server::Process;
use haarb_sim::world::World;

use crate::residual::{Case, Moment, classify};

/// Handling a datagram and removing an address takes so long at most in a world without
/// jitter: three messages between processes and the kernel's work.
const HANDLING: Span = Span::from_micros(1_500);

/// Two servers offered, and it is over.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// Which case.
    pub case: Case,
    /// How long in all.
    pub span: Span,
    /// How long after the servers could hear each other; `None`: it ended without contact.
    pub after_contact: Option<Span>,
}

/// Two servers offer now.
#[derive(Clone, Copy, Debug)]
struct Dual {
    since: Mono,
    case: Case,
}

/// What was seen on the way to a state.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    apart: Option<(Mono, Mono)>,
    apart_now: bool,
    never_met: Option<(Mono, Mono)>,
    never_met_now: bool,
    not_read: Option<(Mono, Mono)>,
    not_read_now: bool,
    unseen: Option<(Mono, Mono)>,
    unseen_now: bool,
    unheard: Option<(Mono, Mono)>,
    unheard_now: bool,
    contact: Option<Mono>,
    paused: [bool; 2],
    resumed: [Option<Mono>; 2],
    forced: Option<Mono>,
    /// Since when each server offers.
    offers: [Option<Mono>; 2],
    dual: Option<Dual>,
    /// Dual times that are over, since the last look.
    pub past: Vec<Past>,
    /// The first thing that was wrong.
    pub wrong: Option<String>,
}

impl Watch {
    /// Runs a world for a while under these eyes. Stops where something is wrong.
    pub fn run(&mut self, world: &mut World, span: Span) {
        let end = world.now + span;
        self.look(world);
        while self.wrong.is_none() && world.run_one(end) {
            self.look(world);
        }
        if self.wrong.is_none() && !world.checks.failed() {
            world.run_until(end);
            self.look(world);
        }
        if let Some(failure) = world.checks.failure() {
            self.wrong.get_or_insert_with(|| failure.to_owned());
        }
    }

    /// An operator uses force now.
    pub fn force(&mut self, now: Mono) {
        self.forced = Some(now);
    }

    /// Two servers offer at this moment.
    #[must_use]
    pub fn dual(&self) -> Option<Case> {
        self.dual.map(|dual| dual.case)
    }

    /// Looks at the world as it is now.
    pub fn look(&mut self, world: &World) {
        let now = world.now;
        for n in 0..2 {
            let paused = world.servers[n].power && world.servers[n].paused.is_some();
            if self.paused[n] && !paused {
                self.resumed[n] = Some(now);
            }
            self.paused[n] = paused;
        }
        self.look_between(world);
        let offers = [offers(world, 0), offers(world, 1)];
        for (since, offers) in self.offers.iter_mut().zip(offers) {
            *since = offers.then(|| since.unwrap_or(now));
        }
        if offers == [true, true] {
            match self.dual {
                None => self.begins(world),
                Some(dual) => self.lasts(world, dual),
            }
        } else if let Some(dual) = self.dual.take() {
            let contact = self.contact.map(|contact| contact.max(dual.since));
            self.past.push(Past {
                case: dual.case,
                span: now.since(dual.since),
                after_contact: contact.map(|contact| now.since(contact)),
            });
        }
    }

    fn look_between(&mut self, world: &World) {
        let now = world.now;
        let attached = (0..2).all(|n| world.servers[n].power && world.fabric.degree(n) > 0);
        let passes = |from, to| world.fabric.reaches(from, to);
        let believed = |from, to| passes(from, to) && believes(world, from, to);
        let two_way = world.fabric.connected(0, 1);
        let apart = attached && !two_way && !passes(0, 1) && !passes(1, 0);
        extend(&mut self.apart, &mut self.apart_now, apart, now);
        let never_met = attached && !two_way && !believed(0, 1) && !believed(1, 0);
        extend(&mut self.never_met, &mut self.never_met_now, never_met, now);
        let path = [Process::Arbiter, Process::Prober, Process::VipAgent];
        let still = |process: &Process, n: NodeIx| world.servers[n].stopped[process.ix()];
        let frozen = (0..2).any(|n| {
            world.servers[n].frozen.is_some() || path.iter().any(|process| still(process, n))
        });
        let both = passes(0, 1) && passes(1, 0);
        let not_read = attached && !two_way && !both && frozen;
        extend(&mut self.not_read, &mut self.not_read_now, not_read, now);
        let on = (0..2).all(|n| world.servers[n].power);
        let asked = world.segment.networks.iter().any(|net| net.switch_answers);
        let unseen = on && !asked && !two_way && !passes(0, 1) && !passes(1, 0);
        extend(&mut self.unseen, &mut self.unseen_now, unseen, now);
        let unheard = attached && !passes(0, 1) && !passes(1, 0);
        extend(&mut self.unheard, &mut self.unheard_now, unheard, now);
        if hears(world, 0, 1) && hears(world, 1, 0) {
            self.contact.get_or_insert(now);
        } else {
            self.contact = None;
        }
    }

    fn begins(&mut self, world: &World) {
        let timing = &world.segment.timing;
        let degree = |n| world.fabric.degree(n);
        let moment = Moment {
            now: world.now,
            apart: self.apart,
            never_met: self.never_met,
            not_read: self.not_read,
            unseen: self.unseen,
            dead_after: timing.dead_after,
            slack: timing.probe_interval.times(2) + HANDLING,
            same_moment: self
                .offers
                .iter()
                .flatten()
                .all(|since| world.now.since(*since) <= timing.vip_probe + HANDLING),
            degrees: (degree(0), degree(1), world.fabric.nets.len()),
            resumed: self.resumed[0].max(self.resumed[1]),
            forced: self.forced,
            unheard: self.unheard,
            patience: timing.lease + KernelLine::Lifetime.late(),
        };
        match classify(&moment) {
            Some(case) => {
                self.dual = Some(Dual {
                    since: world.now,
                    case,
                });
            }
            None => {
                self.wrong.get_or_insert_with(|| {
                    "both servers offer the VIP, and no residual case is there".into()
                });
            }
        }
    }

    fn lasts(&mut self, world: &World, dual: Dual) {
        let Some(contact) = self.contact else {
            return;
        };
        let limit = world.segment.timing.probe_interval.times(2) + HANDLING;
        if world.now.since(contact.max(dual.since)) > limit {
            self.wrong.get_or_insert_with(|| {
                format!(
                    "both servers still offer the VIP more than {limit} after contact ({})",
                    dual.case.id()
                )
            });
        }
    }
}

/// The kernel of a server has the VIP, works, and a switch forwards what it sends.
fn offers(world: &World, n: NodeIx) -> bool {
    let server = &world.servers[n];
    server.alive() && server.holds(0, world.now) && world.fabric.degree(n) > 0
}

/// What one server says reaches the other: datagrams pass, and everybody on the way to the
/// removal of an address runs. Where somebody does not, the lease ends it.
fn hears(world: &World, from: NodeIx, to: NodeIx) -> bool {
    let works = |n: NodeIx| {
        let server = &world.servers[n];
        let attached =
            |process: Process| server.connected[process.ix()] && !server.stopped[process.ix()];
        server.alive()
            && server.frozen.is_none()
            && server.core.is_some()
            && !server.stopped[Process::Arbiter.ix()]
            && attached(Process::Prober)
            && attached(Process::VipAgent)
    };
    works(from) && works(to) && world.fabric.reaches(from, to)
}

/// The prober of `to` has accepted the present session of the prober of `from`.
fn believes(world: &World, from: NodeIx, to: NodeIx) -> bool {
    let probers = (&world.servers[from].prober, &world.servers[to].prober);
    let (Some(sender), Some(receiver)) = probers else {
        return false;
    };
    receiver.believes(from, sender.session)
}

/// Keeps the last span of time in which something was so.
fn extend(span: &mut Option<(Mono, Mono)>, before: &mut bool, is: bool, now: Mono) {
    match span {
        Some((_, until)) if *before => *until = now,
        span if is => *span = Some((now, now)),
        _ => {}
    }
    *before = is;
}
