//! One server's decision: inputs come in one by one, each gives a step.
//!
//! It never blocks, never panics and does no I/O; time comes with every input. What must be
//! held now is not the result of a step but a question that can be asked at any time:
//! [`Core::duties`].

mod change;

use std::fmt;

use haarb_model::{
    Advert, AdvertReserve, Agent, Data, Duties, Epoch, Event, KernelLine, LinkDuties, Mono,
    NodeName, Report, ReserveName, Role, Segment, Severity, Span, advert_life,
};

use crate::alarm::{Alarm, Alarms};
use crate::assess::{self, Around};
use crate::clock::Clock;
use crate::command::{self, Command};
use crate::duties;
use crate::eligible;
use crate::explain;
use crate::facts::{Hands, Released, Wish};
use crate::mode::ModeState;
use crate::protocol::Protocols;
use crate::record::{Record, RecordReserve};
use crate::reserve::{Asked, Fit, ReserveState};
use crate::rule::{Outcome, Rule, decide};
use crate::view::View;

/// How long the virtual IPs are held in maintenance without being renewed: nothing is
/// stopped then, not even when the daemons are.
const MAINTENANCE_LEASE: Span = Span::from_secs(3600);

/// More changes than this in one step would be two rules that undo each other.
const CHANGES_MAX: usize = 8;

/// The server is not in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownNode(pub NodeName);

impl fmt::Display for UnknownNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not among the nodes of the configuration: give --node, or add it there",
            self.0
        )
    }
}

impl std::error::Error for UnknownNode {}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Nothing, but the deadline has come.
    Tick,
    /// An agent has attached.
    Attached(Agent),
    /// An agent's connection is gone.
    Lost(Agent),
    /// An agent reported.
    Report(Agent, Report),
    /// An operator's command.
    Command(Command),
    /// Our own loop was frozen for so long.
    Stalled(Span),
}

/// What a step has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// For the event log, in order.
    pub events: Vec<Event>,
    /// The answer to a command: one line, what was done, or why not and what to do.
    pub answer: Option<Result<String, String>>,
    /// [`Core::record`] has changed.
    pub record_changed: bool,
}

/// One server's decision over all its reserves.
#[derive(Clone, Debug)]
pub struct Core {
    pub(crate) view: View,
    pub(crate) mode: ModeState,
    pub(crate) reserves: Vec<ReserveState>,
    pub(crate) leaving: Option<Mono>,
    alarms: Alarms,
    record: Record,
    now: Mono,
    begun: bool,
    payload_until: Mono,
    payload_renewed: Mono,
    next: Mono,
}

impl Core {
    /// The decision of server `me` at the start of its arbiter.
    ///
    /// # Errors
    /// [`UnknownNode`] if the segment has no such server.
    pub fn new(
        segment: Segment,
        me: NodeName,
        record: Record,
        now: Mono,
    ) -> Result<Self, UnknownNode> {
        let Some(rank) = segment.rank(&me) else {
            return Err(UnknownNode(me));
        };
        let empty = RecordReserve::default();
        let reserves = segment
            .reserves
            .iter()
            .map(|spec| {
                let record = record.reserves.get(&spec.name).unwrap_or(&empty);
                ReserveState::new(spec.clone(), record, now)
            })
            .collect();
        let left: Vec<NodeName> = record.left.iter().cloned().collect();
        let payload_until = now + advert_life(segment.timing.lease);
        let mut core = Self {
            mode: ModeState::new(record.maintenance, now),
            view: View::new(segment, me, rank, &left, now),
            reserves,
            leaving: None,
            alarms: Alarms::default(),
            record,
            now,
            begun: false,
            payload_until,
            payload_renewed: now,
            next: now,
        };
        core.record = core.write_record();
        Ok(core)
    }

    /// The same, but it speaks other versions of the protocol: another release, for tests of
    /// rolling upgrades.
    #[must_use]
    pub const fn speaking(mut self, protocols: Protocols) -> Self {
        self.view.protocols = protocols;
        self
    }

    /// Feeds one input seen at `now`. Time never goes back: an earlier `now` counts as the
    /// last one.
    pub fn step(&mut self, now: Mono, input: Input) -> Step {
        let now = now.max(self.now);
        let mut step = Step::default();
        let lease = self.view.segment.timing.lease;
        let gap = now.since(self.now);
        if self.begun && gap > lease {
            self.stall(now);
        } else if self.begun && now.since(self.next) > self.view.segment.timing.not_heard_after {
            // Our prober stood still as well, perhaps.
            self.view.was_mute(now);
        }
        self.begun = true;
        self.now = now;
        let mut clock = Clock::at(now);
        self.take_input(now, input, &mut step);
        let networks = self.view.refresh(&mut clock);
        self.refresh_mode(&mut step, &mut clock);
        for i in 0..self.reserves.len() {
            let met = self.meets(i);
            if (met || !networks.is_empty()) && self.reserves[i].role.serves() {
                self.reserves[i].announce += 1;
            }
            self.tidy(i, &mut step, &mut clock);
            self.settle(i, &mut step, &mut clock);
            self.renew(i, &mut clock);
        }
        self.renew_payload(&mut clock);
        let (events, announce) =
            self.alarms
                .refresh(&self.view, &self.mode, &self.reserves, &mut clock);
        for i in announce {
            self.reserves[i].announce += 1;
        }
        step.events.extend(events);
        let record = self.write_record();
        step.record_changed = record != self.record;
        self.record = record;
        self.next = clock.next();
        step
    }

    /// When to call [`Core::step`] with [`Input::Tick`] if nothing else comes first.
    #[must_use]
    pub const fn deadline(&self) -> Mono {
        self.next
    }

    /// What this server must hold now. Leases are absolute and move only in steps, so two
    /// answers between two steps are equal. A reserve of which it is not known yet what is held here is
    /// left out: agents go on under the lease that they have.
    #[must_use]
    pub fn duties(&self, _now: Mono) -> Duties {
        let macs: Vec<[u8; 6]> = self
            .view
            .neighbours
            .iter()
            .filter_map(|n| n.advert.as_ref())
            .flat_map(|(_, advert)| advert.macs.iter().copied())
            .collect();
        Duties {
            links: LinkDuties {
                payload_until: self.payload_until,
                ask_switches: self.view.ask_switches(),
            },
            reserves: self
                .reserves
                .iter()
                .filter(|reserve| reserve.is_judged())
                .map(|reserve| duties::duties(reserve, macs.clone()))
                .collect(),
        }
    }

    /// What the datagrams say.
    #[must_use]
    pub fn advert(&self) -> Advert {
        let usable = self.view.networks.iter().filter(|n| n.usable);
        Advert {
            protocol: self.view.protocols.newest,
            protocol_oldest: self.view.protocols.oldest,
            config_digest: self.view.segment.digest,
            usable: usable.map(|n| n.name.clone()).collect(),
            confirms: self.view.confirms(),
            mode: self.mode.mode,
            leaving: self.leaving.is_some(),
            macs: self.view.macs.values().copied().collect(),
            lease_exact: self.view.lease_exact(),
            reserves: self
                .reserves
                .iter()
                .map(|r| (r.spec.name.clone(), self.advert_part(r)))
                .collect(),
        }
    }

    fn advert_part(&self, reserve: &ReserveState) -> AdvertReserve {
        let forces = matches!(reserve.asked, Some((Asked::Force, _)));
        AdvertReserve {
            role: reserve.role,
            epoch: reserve.epoch(),
            eligible: reserve.obstacle.is_none(),
            unable: reserve.unable,
            data: self.view.data(&reserve.spec.name),
            was_active: reserve.was_active(),
            released_to: reserve.released.as_ref().map(|(to, _)| to.clone()),
            claims: reserve.claims.is_some() || forces,
            yields_to: reserve.yields_to.clone(),
            asks_for: if forces {
                Some(self.view.me.clone())
            } else {
                reserve.asks.as_ref().map(|(to, _, _)| to.clone())
            },
        }
    }

    /// What is known, for the status.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// One reserve, for the status.
    #[must_use]
    pub fn reserve(&self, name: &ReserveName) -> Option<&ReserveState> {
        self.reserves.iter().find(|r| &r.spec.name == name)
    }

    /// All reserves, in the order of the configuration.
    pub fn reserves(&self) -> impl Iterator<Item = &ReserveState> {
        self.reserves.iter()
    }

    /// The mode, since when, and what ends it.
    #[must_use]
    pub const fn mode(&self) -> &ModeState {
        &self.mode
    }

    /// The alarms that stand.
    pub fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.iter()
    }

    /// What should survive a restart.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// The server that serves a reserve, as far as this one knows.
    #[must_use]
    pub fn active_on(&self, name: &ReserveName) -> Option<&NodeName> {
        let reserve = self.reserve(name)?;
        if reserve.role.serves() {
            return Some(&self.view.me);
        }
        assess::active_neighbour(&self.view, reserve).map(|n| &n.name)
    }

    /// Something is held here: a role that serves, a virtual IP, a service. After
    /// [`Command::Shutdown`] the daemons may go once nothing is.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.reserves.iter().any(|reserve| {
            let runs = reserve.spec.services > 0
                && self
                    .view
                    .services
                    .get(&reserve.spec.name)
                    .is_some_and(|run| !run.stopped);
            let held = self
                .view
                .vips
                .get(&reserve.spec.name)
                .is_some_and(|vip| vip.vips.iter().any(|address| address.held));
            reserve.role.serves() || held || runs
        })
    }

    fn take_input(&mut self, now: Mono, input: Input, step: &mut Step) {
        let lease = self.view.segment.timing.lease;
        match input {
            Input::Tick => {}
            Input::Attached(agent) => self.view.attached(now, agent),
            Input::Lost(agent) => self.view.lost(agent),
            Input::Stalled(span) => {
                if span > lease {
                    self.stall(now);
                }
            }
            Input::Report(agent, report) => {
                if let Report::Stalled(span) = report
                    && span > lease
                    && matches!(agent, Agent::VipAgent | Agent::Prober)
                {
                    self.stall(now);
                }
                self.view.report(now, agent, report);
            }
            Input::Command(command) => {
                let answer = command::run(self, command, now);
                step.events.push(command::event(self, &answer));
                step.answer = Some(answer.result);
            }
        }
    }

    /// Rule X1: what was known is not evidence any more, and eligibility begins anew.
    fn stall(&mut self, now: Mono) {
        self.view.doubt(now);
        for reserve in &mut self.reserves {
            reserve.stalled = true;
            // An operator asked for it in another situation.
            reserve.asked = None;
            reserve.eligible_since = None;
            reserve.election_since = None;
            reserve.claims = None;
        }
    }

    fn refresh_mode(&mut self, step: &mut Step, clock: &mut Clock) {
        let operator = self.reserves.iter().any(|r| r.operator.is_some());
        let before = self.mode.mode;
        if !self.mode.refresh(&self.view, operator, clock) {
            return;
        }
        let now = self.mode.mode;
        let words = |mode: haarb_model::Mode| match mode.reason() {
            "" => mode.as_str().to_owned(),
            reason => format!("{} ({reason})", mode.as_str()),
        };
        let mut why = format!("The mode is {} now; it was {}.", words(now), words(before));
        if !self.mode.ends.is_empty() {
            why.push_str(&format!(" It ends with {}.", self.mode.ends));
        }
        step.events.push(Event {
            severity: if now == haarb_model::Mode::Automatic {
                Severity::Info
            } else {
                Severity::Minor
            },
            rule: "M2",
            reserve: None,
            from: None,
            to: None,
            epoch: Epoch(0),
            why,
            evidence: Vec::new(),
        });
    }

    /// A neighbour is heard again, or has just let go of this reserve: it may have announced the
    /// virtual IPs where nobody heard us, so whoever serves announces them once more.
    fn meets(&mut self, i: usize) -> bool {
        let reserve = &mut self.reserves[i];
        let neighbours = self.view.neighbours.iter();
        let roles: Vec<Option<Role>> = neighbours
            .map(|n| n.part(&reserve.spec.name).map(|part| part.role))
            .collect();
        let before = reserve.heard_roles.iter().copied();
        let before = before.chain(std::iter::repeat(None));
        let met = roles.iter().zip(before).any(|(now, before)| match now {
            None => false,
            Some(role) => before.is_none_or(|before| before.serves() && !role.serves()),
        });
        reserve.heard_roles = roles;
        met
    }

    fn renew_payload(&mut self, clock: &mut Clock) {
        let lease = self.view.segment.timing.lease;
        if clock.renews(&mut self.payload_renewed, lease) {
            self.payload_until = clock.now() + advert_life(lease);
        }
    }

    fn write_record(&self) -> Record {
        Record {
            reserves: self
                .reserves
                .iter()
                .map(|r| (r.spec.name.clone(), r.record()))
                .collect(),
            left: self
                .view
                .neighbours
                .iter()
                .filter(|n| n.left)
                .map(|n| n.name.clone())
                .collect(),
            maintenance: self.mode.maintenance,
        }
    }
}

#[cfg(test)]
mod tests;
