//! The plan against a kernel of a few lines: what it asks for is done at once, or refused.

use std::collections::BTreeMap;

use haarb_model::{Epoch, ProbeAnswer, ReserveDuties, ReserveName, Role, VipDuty};

use super::*;
use crate::claim::{Claim, Mac};

mod any;
mod claims;
mod kernel;
mod lease;

const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);
const LEASE_MS: u64 = 500;

fn at(ms: u64) -> Mono {
    Mono::ZERO + Span::from_millis(1_000_000 + ms)
}

fn sip() -> ReserveName {
    ReserveName::new("sip").unwrap()
}

fn vip(host: u8) -> VipSpec {
    VipSpec {
        address: [10, 77, host, 100].into(),
        prefix: 24,
        interface: format!("eth{}", host - 1),
    }
}

fn link(vip: &VipSpec, up: bool) -> Link {
    Link {
        index: 2,
        name: vip.interface.clone(),
        up,
        confirmed: up,
        mac: Some(OURS),
        asks: true,
    }
}

fn found(vip: &VipSpec, ours: bool) -> Found {
    Found {
        interface: vip.interface.clone(),
        address: vip.address,
        prefix: vip.prefix,
        ours,
        valid: ours.then_some(Span::from_secs(1)),
    }
}

fn duty(epoch: u64, vip: VipDuty) -> Event {
    Event::Duties(vec![ReserveDuties {
        reserve: sip(),
        role: Role::Active,
        epoch: Epoch(epoch),
        vip,
        services: haarb_model::ServiceDuty::default(),
        sync: haarb_model::SyncDuty::default(),
    }])
}

fn hold(epoch: u64, until_ms: u64) -> Event {
    let until = at(until_ms);
    duty(
        epoch,
        VipDuty {
            hold: true,
            until,
            ..VipDuty::default()
        },
    )
}

fn nothing(epoch: u64) -> Event {
    duty(epoch, VipDuty::default())
}

/// A server: the plan, the kernel's addresses with the end of their lifetime, and what was
/// asked for in the last turn.
struct Server {
    plan: Plan,
    kernel: BTreeMap<VipId, Mono>,
    /// It adds and refreshes nothing.
    refuses: bool,
    asked: Vec<Work>,
    reports: Vec<Report>,
}

impl Server {
    fn start(recorded: &[Lease], present: bool) -> Self {
        let vips = vec![vip(1), vip(2)];
        let setup = Setup {
            lease: Span::from_millis(LEASE_MS),
            vip_probe: Span::from_millis(8),
            interfaces: vec!["eth5".into()],
            reserves: vec![ReserveSetup {
                name: sip(),
                vips: vips.clone(),
            }],
        };
        let mut server = Self {
            plan: Plan::new(&setup, recorded, at(0)),
            kernel: BTreeMap::new(),
            refuses: false,
            asked: Vec::new(),
            reports: Vec::new(),
        };
        let mut addresses = Vec::new();
        if present {
            addresses = vips.iter().map(|v| found(v, true)).collect();
            server.kernel = [VipId(0, 0), VipId(0, 1)].map(|id| (id, at(1_000))).into();
        }
        let links = vips.iter().map(|v| link(v, true)).collect();
        server.turn(0, vec![Event::Snapshot { links, addresses }]);
        server
    }

    /// One turn of the loop.
    fn turn(&mut self, ms: u64, events: Vec<Event>) {
        let now = at(ms);
        self.asked.clear();
        self.plan.wake(now);
        for event in events {
            self.plan.feed(now, event);
        }
        for round in 0.. {
            assert!(round < 8, "does not settle: {:?}", self.asked);
            let work = self.plan.work(now);
            if work.is_empty() {
                break;
            }
            for step in work {
                self.step(now, &step);
                self.asked.push(step);
            }
        }
        self.reports = self.plan.reports(now);
    }

    fn step(&mut self, now: Mono, step: &Work) {
        match *step {
            Work::Add { id, .. } | Work::Refresh { id, .. } if self.refuses => {
                let outcome = Outcome::Failed("no".into());
                self.plan.done(now, id, outcome);
            }
            Work::Add { id, seconds } | Work::Refresh { id, seconds } => {
                let ends = now + Span::from_secs(seconds.into());
                let fresh = self.kernel.insert(id, ends).is_none();
                let outcome = if fresh {
                    Outcome::Added { ends }
                } else {
                    Outcome::Refreshed { ends }
                };
                self.plan.done(now, id, outcome);
            }
            Work::Remove(id) => {
                self.kernel.remove(&id);
                self.plan.done(now, id, Outcome::Gone);
            }
            Work::Probe(id) => self.plan.asked(now, id, true),
            Work::Announce(_) | Work::RemoveStray(_) => {}
        }
    }

    fn held(&self) -> usize {
        self.kernel.len()
    }

    fn report(&self) -> haarb_model::VipReserve {
        self.plan
            .report(self.plan.turned.unwrap())
            .reserves
            .remove(0)
    }
}
