//! One reserve's addresses and the lease under which they are held. Pure.

use haarb_model::{Epoch, HeldVip, Mono, ProbeAnswer, ReserveDuties, Span, VipReserve};

use super::address::{Address, DEFEND, Wanted};
use super::probe::{self, Probe};
use super::{Lease, Links, Note, ReserveSetup};

/// One reserve.
#[derive(Clone, Debug)]
pub(crate) struct Reserve {
    pub(crate) name: haarb_model::ReserveName,
    pub(crate) addresses: Vec<Address>,
    /// The highest epoch that any directive named.
    epoch_seen: Epoch,
    /// The epoch of the lease, or of the last one.
    epoch_held: Epoch,
    /// The lease: hold until then.
    until: Option<Mono>,
    /// The lease is from before our restart and no directive has confirmed it yet.
    restored: bool,
    announce_seen: u64,
    pub(crate) neighbours: Vec<[u8; 6]>,
    probing: bool,
    refused: String,
}

impl Reserve {
    pub(crate) fn new(setup: &ReserveSetup) -> Self {
        Self {
            name: setup.name.clone(),
            addresses: setup.vips.iter().cloned().map(Address::new).collect(),
            epoch_seen: Epoch::default(),
            epoch_held: Epoch::default(),
            until: None,
            restored: false,
            announce_seen: 0,
            neighbours: Vec::new(),
            probing: false,
            refused: String::new(),
        }
    }

    /// Goes on with what was recorded before a restart. Of a lease that is over, only the
    /// epoch counts.
    pub(crate) fn restore(&mut self, lease: &Lease, now: Mono) {
        self.epoch_seen = lease.epoch_seen;
        self.epoch_held = lease.epoch_held;
        if lease.until > now {
            self.until = Some(lease.until);
            self.restored = true;
        }
    }

    /// What should be remembered over a restart.
    pub(crate) fn lease(&self) -> Lease {
        Lease {
            reserve: self.name.clone(),
            epoch_seen: self.epoch_seen,
            epoch_held: self.epoch_held,
            until: self.until.unwrap_or(Mono::ZERO),
        }
    }

    pub(crate) fn wanted(&self, now: Mono) -> Wanted {
        match self.until {
            Some(until) if until > now && self.restored => Wanted::Keep,
            Some(until) if until > now => Wanted::Hold(until),
            _ => Wanted::No,
        }
    }

    /// The end of the lease, if it is still to come.
    pub(crate) fn until(&self, now: Mono) -> Option<Mono> {
        self.until.filter(|&until| until > now)
    }

    /// Lets go of everything until told otherwise.
    pub(crate) fn release(&mut self) {
        self.until = None;
        self.restored = false;
    }

    /// Forgets a lease that has run out, and says so once.
    pub(crate) fn expire(&mut self, now: Mono) -> Option<Note> {
        let until = self.until.filter(|&until| until <= now)?;
        self.release();
        Some(Note::LeaseEnded {
            reserve: self.name.clone(),
            epoch: self.epoch_held,
            late: now.since(until),
        })
    }

    /// Follows a directive. A lease that ends before `trusted_from` was granted before a
    /// stall of ours and no longer counts.
    pub(crate) fn follow(
        &mut self,
        duties: &ReserveDuties,
        now: Mono,
        window: Span,
        trusted_from: Mono,
    ) -> Option<Note> {
        let duty = &duties.vip;
        self.neighbours.clone_from(&duty.neighbour_macs);
        let lower = duties.epoch < self.epoch_seen;
        self.epoch_seen = self.epoch_seen.max(duties.epoch);
        if duty.hold && lower {
            let refused = format!(
                "will not hold reserve {} under epoch {}: epoch {} has been seen",
                self.name, duties.epoch, self.epoch_seen
            );
            return (self.refused != refused).then(|| {
                self.refused.clone_from(&refused);
                Note::Failed(refused)
            });
        }
        self.refused.clear();
        self.restored = false;
        let hold = duty.hold && duty.until > now && duty.until >= trusted_from;
        self.until = hold.then_some(duty.until);
        if hold {
            self.epoch_held = duties.epoch;
        }
        if hold && duty.announce > self.announce_seen {
            for address in self.addresses.iter_mut().filter(|a| a.ours.is_some()) {
                address.announcer.start(now);
            }
        }
        // Also downwards: a restarted arbiter counts from the beginning.
        self.announce_seen = duty.announce;
        self.probe(duty.probe && !hold, now, window);
        None
    }

    fn probe(&mut self, probing: bool, now: Mono, window: Span) {
        if self.probing != probing {
            self.probing = probing;
            for address in &mut self.addresses {
                address.probe = probing.then(|| Probe::start(now, window));
            }
        }
    }

    fn answer(&self, now: Mono, links: &Links) -> ProbeAnswer {
        if self.probing {
            return probe::worst(self.addresses.iter().filter_map(|address| {
                let asks = links.get(&address.spec.interface).is_none_or(|l| l.asks);
                match &address.probe {
                    // Nobody else can be on a loopback interface.
                    Some(_) if !asks => Some(ProbeAnswer::Silent),
                    Some(probe) => Some(probe.verdict(now, &self.neighbours)),
                    None => None,
                }
            }));
        }
        let claims = self.addresses.iter().filter_map(|a| a.claim);
        probe::worst(
            claims
                .filter(|&(_, at)| now.since(at) < DEFEND)
                .map(|(mac, _)| probe::who(mac, &self.neighbours)),
        )
    }

    /// When this reserve needs attention next although nothing happens.
    pub(crate) fn deadline(&self, now: Mono) -> Option<Mono> {
        let wanted = self.wanted(now);
        let of_addresses = self.addresses.iter().flat_map(|address| {
            [
                address.deadline(now, wanted),
                address.announcer.deadline(),
                address.probe.as_ref().map(|p| p.deadline(now)),
                address
                    .claim
                    .map(|(_, at)| at + DEFEND)
                    .filter(|&at| at > now),
            ]
        });
        of_addresses.chain([self.until]).flatten().min()
    }

    pub(crate) fn report(&self, now: Mono, links: &Links) -> VipReserve {
        let errors = self.addresses.iter().map(|a| &a.error);
        let error = errors.chain([&self.refused]).find(|e| !e.is_empty());
        VipReserve {
            reserve: self.name.clone(),
            epoch: self.epoch_held,
            seen: self.epoch_seen,
            lease_until: self.until.unwrap_or(Mono::ZERO),
            vips: self
                .addresses
                .iter()
                .map(|address| HeldVip {
                    address: address.spec.address,
                    interface: address.spec.interface.clone(),
                    held: address.ours.is_some(),
                })
                .collect(),
            probe: self.answer(now, links),
            probe_since: self
                .addresses
                .iter()
                .filter_map(|a| a.probe.as_ref().map(Probe::since))
                .min(),
            error: error.cloned().unwrap_or_default(),
        }
    }
}
