//! The whole mind of the vip-agent: desired + actual + now -> work and the next deadline.
//!
//! Pure: no kernel, no clock, no log. One turn of the loop is [`Plan::wake`], any number of
//! [`Plan::feed`], [`Plan::work`] with its results until nothing is left, [`Plan::reports`];
//! then sleep until [`Plan::deadline`]. The one thing to know: work follows from the
//! difference between what is wanted and what the kernel has, never from the event that was
//! just fed, so a lost event or a failed step heals by asking again.

mod address;
mod announce;
mod event;
mod probe;
mod reserve;

use std::collections::BTreeMap;

use haarb_gate::Doors;
use haarb_model::{Guard, Mono, Report, Span, VipReport, VipSpec, sign_at_latest, sign_due};

use address::{Step, Wanted};
pub use event::{Event, Found, Lease, Link, Note, Outcome, ReserveSetup, Setup, VipId, Work};
use reserve::Reserve;

/// Every interface of this server, by name.
pub type Links = BTreeMap<String, Link>;

/// Everything the agent knows.
#[derive(Clone, Debug)]
pub struct Plan {
    lease: Span,
    window: Span,
    reserves: Vec<Reserve>,
    links: Links,
    /// Where the gate stands even if no VIP is there.
    interfaces: Vec<String>,
    /// What stands behind us, by interface.
    guards: BTreeMap<String, (u32, Guard)>,
    /// Leftovers of ours where the configuration has no VIP.
    strays: Vec<Found>,
    /// Addresses to be announced once, out of turn: conflicts.
    defend: Vec<VipId>,
    notes: Vec<Note>,
    /// The last turn, to notice a freeze.
    turned: Option<Mono>,
    /// A freeze that was not reported yet.
    stalled: Option<Span>,
    /// Leases that end before this moment were granted before a freeze, as long as it is
    /// itself to come.
    trusted_from: Mono,
    stopping: bool,
    reported: Option<VipReport>,
    reported_at: Mono,
}

impl Plan {
    /// A plan that holds nothing but the leases that were recorded before a restart.
    #[must_use]
    pub fn new(setup: &Setup, recorded: &[Lease], now: Mono) -> Self {
        let mut reserves: Vec<_> = setup.reserves.iter().map(Reserve::new).collect();
        for reserve in &mut reserves {
            if let Some(lease) = recorded.iter().find(|l| l.reserve == reserve.name) {
                reserve.restore(lease, now);
            }
        }
        Self {
            lease: setup.lease,
            window: setup.vip_probe,
            reserves,
            links: Links::new(),
            interfaces: setup.interfaces.clone(),
            guards: BTreeMap::new(),
            strays: Vec::new(),
            defend: Vec::new(),
            notes: Vec::new(),
            turned: None,
            stalled: None,
            trusted_from: Mono::ZERO,
            stopping: false,
            reported: None,
            reported_at: Mono::ZERO,
        }
    }

    /// Begins a turn. A gap longer than the lease since the last one means that we were
    /// frozen, and that others may hold what we held: what has run out is let go before
    /// anything else is weighed, and what still waits to be read renews nothing (rule X1).
    /// Only a lease made for longer (maintenance) outlives such a gap. Returns whether there is
    /// something to let go.
    pub fn wake(&mut self, now: Mono) -> bool {
        let gap = self.turned.map_or(Span::ZERO, |last| now.since(last));
        self.turned = Some(now);
        if gap > self.lease {
            self.stalled = Some(gap);
            self.trusted_from = now + self.lease;
            self.notes.push(Note::Stalled(gap));
        }
        if gap > self.lease.part(2) {
            // What is still ours after it: who asked for it meanwhile may have given it up.
            for address in self.reserves.iter_mut().flat_map(|r| &mut r.addresses) {
                if address.ours.is_some() {
                    address.announcer.start(now);
                }
            }
        }
        let mut ended = false;
        for reserve in &mut self.reserves {
            let note = reserve.expire(now);
            ended |= note.is_some();
            self.notes.extend(note);
        }
        ended
    }

    /// Takes in what happened.
    pub fn feed(&mut self, now: Mono, event: Event) {
        match event {
            Event::Attached => self.reported = None,
            Event::Duties(duties) => self.follow(&duties, now),
            Event::Link(link) => self.link(link, now),
            Event::LinkGone(name) => self.link_gone(&name),
            Event::Address(found) => self.seen(&found, now),
            Event::AddressGone(found) => self.gone(&found),
            Event::Snapshot { links, addresses } => self.snapshot(links, &addresses, now),
            Event::Heard { interface, claim } => self.heard(&interface, claim, now),
            Event::Guarded { link, guard } => {
                let note = Note::Guarded(link.name.clone(), guard.clone());
                let before = self.guards.insert(link.name, (link.index, guard.clone()));
                if before.is_none_or(|(_, before)| before != guard) {
                    self.notes.push(note);
                }
            }
            Event::GateLost => self.guards.clear(),
            Event::Stop => {
                self.stopping = true;
                self.reserves.iter_mut().for_each(Reserve::release);
            }
        }
    }

    fn follow(&mut self, duties: &[haarb_model::ReserveDuties], now: Mono) {
        if self.stopping {
            return;
        }
        let trusted_from = if self.trusted_from > now {
            self.trusted_from
        } else {
            Mono::ZERO
        };
        for duties in duties {
            let mut reserves = self.reserves.iter_mut();
            if let Some(reserve) = reserves.find(|r| r.name == duties.reserve) {
                let note = reserve.follow(duties, now, self.window, trusted_from);
                self.notes.extend(note);
            }
        }
    }

    fn link(&mut self, link: Link, now: Mono) {
        let before = self.links.get(&link.name);
        let fresh = before.is_none_or(|b| *b != link || !b.up);
        for address in self.reserves.iter_mut().flat_map(|r| &mut r.addresses) {
            if address.spec.interface != link.name {
                continue;
            }
            address.retry_now();
            if !fresh {
                continue;
            }
            if let Some(probe) = &mut address.probe {
                // Questions may have been lost in the change.
                probe.deaf();
            }
            if link.up && address.ours.is_some() {
                address.announcer.start(now);
            }
        }
        self.links.insert(link.name.clone(), link);
    }

    fn link_gone(&mut self, name: &str) {
        self.links.remove(name);
        self.guards.remove(name);
        for address in self.reserves.iter_mut().flat_map(|r| &mut r.addresses) {
            if address.spec.interface == name {
                address.lose();
            }
        }
    }

    fn seen(&mut self, found: &Found, now: Mono) {
        let mut stray = false;
        let mut kept = false;
        for address in self.reserves.iter_mut().flat_map(|r| &mut r.addresses) {
            if address.spec.address == found.address {
                kept |= address.is_at(found);
                stray |= address.seen(found, now);
            }
        }
        if stray && !kept {
            self.strays.push(found.clone());
        }
    }

    fn gone(&mut self, found: &Found) {
        for address in self.reserves.iter_mut().flat_map(|r| &mut r.addresses) {
            if address.spec.address == found.address {
                address.gone(found);
            }
        }
    }

    fn snapshot(&mut self, links: Vec<Link>, addresses: &[Found], now: Mono) {
        for address in self.reserves.iter_mut().flat_map(|r| &mut r.addresses) {
            address.forget();
        }
        self.links
            .retain(|name, _| links.iter().any(|l| &l.name == name));
        for link in links {
            self.link(link, now);
        }
        for found in addresses {
            self.seen(found, now);
        }
    }

    fn heard(&mut self, interface: &str, claim: crate::claim::Claim, now: Mono) {
        // Our own frames come back from bridges and bonds.
        if self.links.values().any(|l| l.mac == Some(claim.mac)) {
            return;
        }
        for (r, reserve) in self.reserves.iter_mut().enumerate() {
            for (a, address) in reserve.addresses.iter_mut().enumerate() {
                let spec = &address.spec;
                if spec.address != claim.address || spec.interface != interface {
                    continue;
                }
                if let Some(probe) = &mut address.probe {
                    probe.answered(claim.mac);
                } else if address.ours.is_some() && address.claimed(claim.mac, now) {
                    self.defend.push(VipId(r, a));
                    let note = Note::Conflict(address.spec.clone(), claim.mac);
                    self.notes.push(note);
                }
            }
        }
    }

    /// What is to be done now, in this order. Ask again after the results were fed to
    /// [`Plan::done`] and [`Plan::asked`], until nothing is left.
    pub fn work(&mut self, now: Mono) -> Vec<Work> {
        let mut work: Vec<_> = self.strays.drain(..).map(Work::RemoveStray).collect();
        let (mut adds, mut later) = (Vec::new(), Vec::new());
        for (r, reserve) in self.reserves.iter_mut().enumerate() {
            let wanted = reserve.wanted(now);
            for (a, address) in reserve.addresses.iter_mut().enumerate() {
                let id = VipId(r, a);
                let link = self.links.get(&address.spec.interface);
                let error = address.error.clone();
                let step = address.step(now, wanted, link);
                if address.error != error && !address.error.is_empty() {
                    self.notes.push(Note::Failed(address.error.clone()));
                }
                match step {
                    Some(Step::Remove) => work.push(Work::Remove(id)),
                    Some(Step::Add { seconds }) => adds.push(Work::Add { id, seconds }),
                    Some(Step::Refresh { seconds }) => later.push(Work::Refresh { id, seconds }),
                    None => {}
                }
                let asks = link.is_some_and(|l| l.up && l.asks);
                if let Some(probe) = &mut address.probe {
                    if !asks {
                        probe.deaf();
                    }
                    if probe.take_due(now) && asks {
                        later.push(Work::Probe(id));
                    }
                }
                let defend = self.defend.contains(&id);
                let due = address.ours.is_some() && address.announcer.take_due(now);
                if (due || defend) && asks && wanted != Wanted::No {
                    adds.push(Work::Announce(id));
                }
            }
        }
        self.defend.clear();
        work.append(&mut adds);
        work.append(&mut later);
        work
    }

    /// The interfaces on which others may reach a VIP and nothing stands behind us yet; tell of
    /// each by [`Event::Guarded`].
    #[must_use]
    pub fn unguarded(&self) -> Vec<Link> {
        let carries = |link: &&Link| {
            let name = &link.name;
            self.interfaces.contains(name) || self.vips().any(|vip| vip.interface == *name)
        };
        let known = |link: &Link| {
            let guard = self.guards.get(&link.name);
            guard.is_some_and(|(index, _)| *index == link.index)
        };
        let links = self.links.values().filter(carries);
        links.filter(|link| !known(link)).cloned().collect()
    }

    /// How long the kernel should keep a VIP that is taken or refreshed at this moment, in
    /// seconds; `None`: its lease is over. To be asked right before: a lifetime is counted
    /// from when the kernel gets it, however old the directive is.
    #[must_use]
    pub fn lifetime(&self, id: VipId, now: Mono) -> Option<u32> {
        let until = self.reserves.get(id.0)?.until(now)?;
        Some(address::lifetime(now, until))
    }

    /// What the kernel's gate should do with each VIP now: let it pass until the end of the
    /// lease, or shut it out while it is still here. One that is not here, or that the server
    /// has from somebody else, is none of the gate's business.
    #[must_use]
    pub fn doors(&self, now: Mono) -> Doors {
        let doors = self.reserves.iter().flat_map(|reserve| {
            let until = reserve.until(now);
            let addresses = reserve.addresses.iter();
            addresses.filter_map(move |address| Some((address.spec.address, address.door(until)?)))
        });
        doors.collect()
    }

    /// The result of a step that the kernel was asked for.
    pub fn done(&mut self, now: Mono, id: VipId, outcome: Outcome) {
        let Some(address) = self.address(id) else {
            return;
        };
        let note = match outcome {
            Outcome::Added { ends } => address.added(ends, now),
            Outcome::Refreshed { ends } => {
                address.refreshed(ends);
                None
            }
            Outcome::Gone => {
                let held = address.ours.is_some();
                address.removed();
                held.then(|| Note::Released(address.spec.clone()))
            }
            Outcome::Taken { interface, prefix } => {
                address.alien(interface, prefix);
                None
            }
            Outcome::Failed(error) => address.failed(now, error),
            Outcome::Stuck(error) => address.stuck(now, error),
        };
        self.notes.extend(note);
    }

    /// A probe left, or could not.
    pub fn asked(&mut self, now: Mono, id: VipId, left: bool) {
        let probe = self.address(id).and_then(|a| a.probe.as_mut());
        match probe {
            Some(probe) if left => probe.asked(now),
            Some(probe) => probe.deaf(),
            None => {}
        }
    }

    fn address(&mut self, id: VipId) -> Option<&mut address::Address> {
        self.reserves.get_mut(id.0)?.addresses.get_mut(id.1)
    }

    /// What the arbiter must hear, in this order: a freeze first, everything if anything
    /// changed, or that we live. A renewed lease is told when a sign of life is due.
    pub fn reports(&mut self, now: Mono) -> Vec<Report> {
        let mut reports = Vec::new();
        reports.extend(self.stalled.take().map(Report::Stalled));
        let whole = self.report(now);
        let due = now >= sign_due(self.reported_at, self.lease);
        let known = self.reported.as_ref();
        if known == Some(&whole) {
            reports.extend(due.then_some(Report::Alive));
        } else if due || !known.is_some_and(|known| known.covers(&whole)) {
            self.reported = Some(whole.clone());
            reports.push(Report::Vip(whole));
        }
        if !reports.is_empty() {
            self.reported_at = now;
        }
        reports
    }

    fn report(&self, now: Mono) -> VipReport {
        let macs = self.vips().filter_map(|vip| {
            let mac = self.links.get(&vip.interface)?.mac?;
            Some((vip.interface.clone(), mac.0))
        });
        VipReport {
            reserves: self
                .reserves
                .iter()
                .map(|r| r.report(now, &self.links))
                .collect(),
            macs: macs.collect(),
            guards: self
                .guards
                .iter()
                .map(|(interface, (_, guard))| (interface.clone(), guard.clone()))
                .collect(),
        }
    }

    /// When the next turn is due at the latest. Never further than the next sign of life.
    #[must_use]
    pub fn deadline(&self, now: Mono) -> Mono {
        let reserves = self.reserves.iter().filter_map(|r| r.deadline(now));
        reserves.fold(sign_at_latest(self.reported_at, self.lease), Mono::min)
    }

    /// What a restarted agent must know.
    pub fn leases(&self) -> impl Iterator<Item = Lease> {
        self.reserves.iter().map(Reserve::lease)
    }

    /// What the log should say; each once.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// All virtual IPs, in the order of the configuration.
    pub fn vips(&self) -> impl Iterator<Item = &VipSpec> {
        self.reserves
            .iter()
            .flat_map(|r| r.addresses.iter().map(|a| &a.spec))
    }

    /// One virtual IP.
    #[must_use]
    pub fn vip(&self, id: VipId) -> Option<&VipSpec> {
        let address = self.reserves.get(id.0)?.addresses.get(id.1)?;
        Some(&address.spec)
    }

    /// Every interface.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// One interface.
    #[must_use]
    pub fn link_of(&self, interface: &str) -> Option<&Link> {
        self.links.get(interface)
    }
}

#[cfg(test)]
mod tests;
