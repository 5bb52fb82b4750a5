//! The plan against a kernel of a few lines: what it asks for is done at once, or refused.

use std::collections::BTreeMap;

use haarb_model::{Epoch, ProbeAnswer, ReserveDuties, ReserveName, Role, VipDuty};
use proptest::prelude::*;

use super::*;
use crate::claim::{Claim, Mac};

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

#[test]
fn what_is_held_follows_from_the_last_directive_and_the_clock() {
    for (name, directives, ms, expected) in [
        ("told to hold", vec![hold(1, 500)], 1, 2),
        ("until just before the end", vec![hold(1, 500)], 499, 2),
        ("never at the end", vec![hold(1, 500)], 500, 0),
        ("a lease that is over", vec![hold(1, 0)], 1, 0),
        ("told not to", vec![hold(1, 500), nothing(1)], 1, 0),
        ("a lower epoch", vec![nothing(5), hold(4, 500)], 1, 0),
        ("the same epoch", vec![nothing(5), hold(5, 500)], 1, 2),
        (
            "a lower epoch does not end a higher one",
            vec![hold(5, 500), hold(4, 900)],
            1,
            2,
        ),
        ("nor lengthen it", vec![hold(5, 300), hold(4, 900)], 301, 0),
        (
            "told not to, by any epoch",
            vec![hold(5, 500), nothing(1)],
            1,
            0,
        ),
        ("a shorter lease", vec![hold(1, 500), hold(1, 200)], 201, 0),
        ("renewed", vec![hold(1, 200), hold(1, 500)], 201, 2),
    ] {
        let mut server = Server::start(&[], false);
        for directive in directives {
            server.turn(0, vec![directive]);
        }
        server.turn(ms, vec![]);
        assert_eq!(server.held(), expected, "{name}");
    }
}

#[test]
fn addresses_come_first_and_announcements_at_once() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, 500)]);
    let (a, b) = (VipId(0, 0), VipId(0, 1));
    let seconds = 1;
    assert_eq!(
        server.asked,
        [
            Work::Add { id: a, seconds },
            Work::Add { id: b, seconds },
            Work::Announce(a),
            Work::Announce(b),
        ]
    );
    server.turn(0, vec![nothing(1)]);
    assert_eq!(server.asked, [Work::Remove(a), Work::Remove(b)]);
}

#[test]
fn a_renewed_lease_never_lets_the_kernel_end_first() {
    let mut server = Server::start(&[], false);
    let mut refreshed = 0;
    for ms in (0..60_000).step_by(50) {
        server.turn(ms, vec![hold(1, ms + LEASE_MS)]);
        refreshed += server
            .asked
            .iter()
            .filter(|w| matches!(w, Work::Refresh { .. }))
            .count();
        for ends in server.kernel.values() {
            assert!(
                *ends > at(ms + LEASE_MS),
                "the kernel would end it within the lease"
            );
            assert!(
                *ends <= at(ms + LEASE_MS + 1_100),
                "much later than the lease"
            );
        }
    }
    assert!(
        refreshed < 300,
        "a refresh for every directive is too many: {refreshed}"
    );
}

#[test]
fn a_freeze_lets_go_before_anything_else_and_voids_older_grants() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, 500)]);
    // Frozen for 600 ms; the arbiter went on renewing, and that waits in the queue.
    server.turn(600, vec![hold(1, 1_050)]);
    assert_eq!(server.held(), 0);
    assert!(
        matches!(server.reports[..], [Report::Stalled(gap), Report::Vip(_)] if gap == Span::from_millis(600)),
        "{:?}",
        server.reports
    );
    server.turn(610, vec![hold(1, 1_099)]);
    assert_eq!(server.held(), 0, "granted before the thaw");
    server.turn(620, vec![hold(1, 1_110)]);
    assert_eq!(server.held(), 2, "granted after it");
}

#[test]
fn a_lease_for_maintenance_outlives_a_freeze() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, 3_600_000)]);
    server.turn(5_000, vec![]);
    assert_eq!(server.held(), 2, "nothing is stopped");
    assert!(matches!(server.reports[0], Report::Stalled(_)));
    let hour = server.kernel[&VipId(0, 0)];
    server.turn(5_010, vec![hold(1, 5_510)]);
    assert_eq!(
        server.held(),
        2,
        "the longer lease is cut short by a later word"
    );
    assert!(server.kernel[&VipId(0, 0)] < hour);
}

#[test]
fn after_every_stall_what_is_still_ours_is_announced() {
    let announced = |server: &Server| {
        let announcements = server.asked.iter();
        announcements
            .filter(|work| matches!(work, Work::Announce(_)))
            .count()
    };
    for (stall, lease, again) in [
        (200, 499, false),
        (300, 499, true),
        (900, 3_600_000, true),
        // Over: there is nothing to announce.
        (600, 499, false),
    ] {
        let mut server = Server::start(&[], false);
        server.turn(0, vec![hold(1, lease)]);
        for ms in [2, 8, 100] {
            server.turn(ms, vec![]);
        }
        server.turn(100 + stall, vec![]);
        let expected = if again { 2 } else { 0 };
        assert_eq!(announced(&server), expected, "stalled for {stall} ms");
    }
}

#[test]
fn the_gate_is_open_for_the_lease_and_shut_until_the_address_is_gone() {
    use haarb_gate::Door;
    let doors = |server: &Server, ms| server.plan.doors(at(ms)).into_values().collect::<Vec<_>>();
    let mut server = Server::start(&[], false);
    assert_eq!(doors(&server, 0), []);
    server.plan.feed(at(0), hold(1, 500));
    let open = [Door::Until(at(500)); 2];
    assert_eq!(doors(&server, 0), open, "before the address comes");
    server.turn(0, vec![]);
    assert_eq!(doors(&server, 499), open);
    assert_eq!(doors(&server, 500), [Door::Shut; 2], "still here");
    server.turn(500, vec![]);
    assert_eq!(doors(&server, 500), [], "let go");

    // What an earlier run left without a lease is shut out until it is removed.
    let mut server = Server::start(&[], true);
    server
        .plan
        .feed(at(1), Event::Address(found(&vip(1), true)));
    assert_eq!(doors(&server, 1), [Door::Shut]);
    server.turn(2, vec![]);
    assert_eq!(doors(&server, 2), []);

    // The server's own address is never put behind a gate.
    server.turn(3, vec![Event::Address(found(&vip(1), false)), hold(1, 500)]);
    assert_eq!(doors(&server, 3), [Door::Until(at(500))]);
    assert!(!server.plan.doors(at(3)).contains_key(&vip(1).address));
}

#[test]
fn a_restarted_agent_keeps_what_its_lease_still_covers() {
    let lease = |until_ms| Lease {
        reserve: sip(),
        epoch_seen: Epoch(5),
        epoch_held: Epoch(5),
        until: at(until_ms),
    };
    let mut server = Server::start(&[lease(300)], true);
    assert_eq!(server.asked, [], "no flap");
    assert_eq!((server.held(), server.report().epoch), (2, Epoch(5)));
    server.turn(100, vec![hold(5, 600)]);
    assert!(
        !server
            .asked
            .iter()
            .any(|w| matches!(w, Work::Remove(_) | Work::Add { .. }))
    );
    assert!(server.asked.contains(&Work::Announce(VipId(0, 0))));

    let mut server = Server::start(&[lease(300)], true);
    server.turn(300, vec![]);
    assert_eq!(server.held(), 0, "nobody confirmed it");

    let mut server = Server::start(&[lease(300)], false);
    server.turn(100, vec![]);
    assert_eq!(server.held(), 0, "an old lease takes nothing");
    server.turn(110, vec![hold(4, 600)]);
    assert_eq!(server.held(), 0, "the epoch is remembered");

    for (name, recorded) in [
        ("no record", vec![]),
        ("a lease that is over", vec![lease(0)]),
    ] {
        let server = Server::start(&recorded, true);
        assert_eq!(server.held(), 0, "{name}: leftovers go at once");
    }
}

#[test]
fn an_address_that_somebody_removed_comes_back() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, 500)]);
    server.kernel.remove(&VipId(0, 0));
    server.turn(20, vec![Event::AddressGone(found(&vip(1), true))]);
    assert_eq!(server.held(), 2);
    assert_eq!(server.asked.last(), Some(&Work::Announce(VipId(0, 0))));
    let notes = server.plan.take_notes();
    assert!(notes.contains(&Note::PutBack(vip(1), 1)), "{notes:?}");
    // A quarrel is slowed down, not given up.
    server.kernel.remove(&VipId(0, 0));
    server.turn(21, vec![Event::AddressGone(found(&vip(1), true))]);
    assert_eq!(server.held(), 1);
    assert!(server.plan.deadline(at(21)) <= at(30));
    server.turn(30, vec![]);
    assert_eq!(server.held(), 2);
}

#[test]
fn the_servers_own_address_is_an_error_and_stays() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![Event::Address(found(&vip(1), false)), hold(1, 500)]);
    assert_eq!(server.held(), 1);
    assert!(server.report().error.contains("not from haarb"));
    server.turn(1, vec![nothing(1)]);
    assert_eq!(
        server.asked,
        [Work::Remove(VipId(0, 1))],
        "only what is ours"
    );
}

#[test]
fn a_changed_lifetime_or_mark_is_put_right() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, 500)]);
    let mut changed = found(&vip(1), true);
    changed.valid = None;
    server.turn(1, vec![Event::Address(changed)]);
    let again = Work::Refresh {
        id: VipId(0, 0),
        seconds: 1,
    };
    assert_eq!(
        server.asked,
        std::slice::from_ref(&again),
        "somebody made it last for ever"
    );
    server.turn(1, vec![Event::Address(found(&vip(1), false))]);
    assert_eq!(server.asked, [again,], "somebody took our mark away");
}

#[test]
fn an_interface_that_is_missing_is_an_error_until_it_comes() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![Event::LinkGone("eth0".into()), hold(1, 500)]);
    assert_eq!(server.held(), 1);
    assert!(server.report().error.contains("no interface eth0"));
    server.turn(1, vec![Event::Link(link(&vip(1), true))]);
    assert_eq!(server.held(), 2);
    assert_eq!(server.report().error, "");
}

#[test]
fn what_an_interface_may_have_swallowed_is_said_again() {
    let mut server = Server::start(&[], false);
    let unconfirmed = Link {
        confirmed: false,
        ..link(&vip(1), true)
    };
    server.turn(0, vec![Event::Link(unconfirmed), hold(1, 20_000)]);
    for ms in 1..100 {
        server.turn(ms, vec![]);
    }
    server.turn(100, vec![Event::Link(link(&vip(1), true))]);
    assert_eq!(server.asked, [Work::Announce(VipId(0, 0))], "confirmed");
    server.turn(101, vec![Event::Link(link(&vip(1), true))]);
    assert_eq!(server.asked, [], "nothing changed");
}

#[test]
fn whoever_claims_a_held_address_is_reported_and_answered_once() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, 20_000)]);
    for ms in (0..6_000).step_by(100) {
        server.turn(ms, vec![]);
    }
    let claim = |mac| Event::Heard {
        interface: "eth0".into(),
        claim: Claim {
            address: vip(1).address,
            mac,
        },
    };
    server.turn(6_000, vec![claim(OURS)]);
    assert_eq!(server.asked, [], "our own frame, come back");
    server.turn(6_100, vec![claim(THEIRS), claim(THEIRS)]);
    assert_eq!(server.asked, [Work::Announce(VipId(0, 0))]);
    assert_eq!(server.report().probe, ProbeAnswer::Foreign);
    server.turn(6_300, vec![]);
    server.turn(6_500, vec![claim(THEIRS)]);
    assert_eq!(server.asked, []);
    for ms in (6_600..16_500).step_by(100) {
        server.turn(ms, vec![]);
    }
    assert_eq!(server.report().probe, ProbeAnswer::Foreign);
    server.turn(16_500, vec![]);
    assert_eq!(
        server.report().probe,
        ProbeAnswer::Unknown,
        "10 s without a claim"
    );
    server.turn(16_501, vec![claim(THEIRS)]);
    assert_eq!(server.asked, [Work::Announce(VipId(0, 0))]);
}

#[test]
fn nothing_is_asked_of_a_loopback_interface() {
    let mut server = Server::start(&[], false);
    let loopback = |host| {
        Event::Link(Link {
            mac: None,
            asks: false,
            ..link(&vip(host), true)
        })
    };
    let probing = VipDuty {
        probe: true,
        ..VipDuty::default()
    };
    server.turn(0, vec![loopback(1), loopback(2), duty(1, probing)]);
    assert_eq!(server.asked, []);
    assert_eq!(server.report().probe, ProbeAnswer::Silent);
    server.turn(1, vec![hold(1, 500)]);
    assert!(!server.asked.iter().any(|w| matches!(w, Work::Announce(_))));
    assert_eq!(server.held(), 2);
}

#[test]
fn a_report_goes_out_when_something_changed_or_to_show_life() {
    let mut server = Server::start(&[], false);
    assert!(matches!(server.reports[..], [Report::Vip(_)]));
    server.turn(49, vec![]);
    assert_eq!(server.reports, []);
    assert_eq!(server.plan.deadline(at(49)), at(50));
    server.turn(50, vec![]);
    assert_eq!(server.reports, [Report::Alive]);
    server.turn(51, vec![hold(1, 500)]);
    assert!(matches!(server.reports[..], [Report::Vip(_)]));
    server.turn(52, vec![Event::Attached]);
    assert!(
        matches!(server.reports[..], [Report::Vip(_)]),
        "everything anew"
    );
}

/// Something that happens, and the time that passes before it.
#[derive(Clone, Debug)]
enum Happens {
    Hold { epoch: u64, for_ms: u64 },
    Nothing { epoch: u64 },
    Probe,
    RemovedByHand(u8),
    StaticAdded(u8),
    StaticRemoved(u8),
    Carrier(u8, bool),
    Claimed(u8),
    KernelRefuses(bool),
    Quiet,
}

fn happens() -> impl Strategy<Value = (u64, Happens)> {
    let host = 1..=2_u8;
    let what = prop_oneof![
        4 => (0..4_u64, 0..=LEASE_MS).prop_map(|(epoch, for_ms)| Happens::Hold { epoch, for_ms }),
        2 => (0..4_u64).prop_map(|epoch| Happens::Nothing { epoch }),
        1 => Just(Happens::Probe),
        2 => host.clone().prop_map(Happens::RemovedByHand),
        1 => host.clone().prop_map(Happens::StaticAdded),
        1 => host.clone().prop_map(Happens::StaticRemoved),
        1 => (host.clone(), any::<bool>()).prop_map(|(h, up)| Happens::Carrier(h, up)),
        1 => host.prop_map(Happens::Claimed),
        1 => any::<bool>().prop_map(Happens::KernelRefuses),
        2 => Just(Happens::Quiet),
    ];
    (prop_oneof![8 => 0..60_u64, 1 => 400..900_u64], what)
}

proptest! {
    /// Whatever happens in whatever order: nothing is held without a lease, under a lower
    /// epoch than was seen, or by touching the server's own addresses; and the loop never
    /// spins.
    #[test]
    fn nothing_is_ever_held_without_a_right(story in proptest::collection::vec(happens(), 1..80)) {
        let mut server = Server::start(&[], false);
        let (mut ms, mut seen) = (0, 0);
        // The latest moment until which any accepted grant allows holding.
        let mut allowed_until = 0;
        let mut statics = [false; 2];
        for (passed, what) in story {
            // The loop turns by itself in between unless it is frozen.
            if passed <= LEASE_MS {
                server.turn(ms + passed / 2, vec![]);
            } else {
                allowed_until = 0;
            }
            ms += passed;
            let event = match what {
                Happens::Hold { epoch, for_ms } => {
                    if epoch >= seen {
                        allowed_until = ms + for_ms;
                    }
                    seen = seen.max(epoch);
                    Some(hold(epoch, ms + for_ms))
                }
                Happens::Nothing { epoch } => {
                    allowed_until = 0;
                    seen = seen.max(epoch);
                    Some(nothing(epoch))
                }
                Happens::Probe => {
                    allowed_until = 0;
                    let vip = VipDuty { probe: true, ..VipDuty::default() };
                    Some(duty(seen, vip))
                }
                Happens::RemovedByHand(h) => {
                    let id = VipId(0, usize::from(h - 1));
                    let had = server.kernel.remove(&id).is_some();
                    had.then(|| Event::AddressGone(found(&vip(h), true)))
                }
                Happens::StaticAdded(h) => {
                    let free = !server.kernel.contains_key(&VipId(0, usize::from(h - 1)));
                    statics[usize::from(h - 1)] |= free;
                    free.then(|| Event::Address(found(&vip(h), false)))
                }
                Happens::StaticRemoved(h) => {
                    let had = std::mem::take(&mut statics[usize::from(h - 1)]);
                    had.then(|| Event::AddressGone(found(&vip(h), false)))
                }
                Happens::Carrier(h, up) => Some(Event::Link(link(&vip(h), up))),
                Happens::Claimed(h) => Some(Event::Heard {
                    interface: vip(h).interface,
                    claim: Claim { address: vip(h).address, mac: THEIRS },
                }),
                Happens::KernelRefuses(refuses) => {
                    server.refuses = refuses;
                    None
                }
                Happens::Quiet => None,
            };
            server.turn(ms, event.into_iter().collect());
            for (id, ends) in &server.kernel {
                prop_assert!(ms < allowed_until, "{id:?} held at {ms}, allowed until {allowed_until}");
                prop_assert!(*ends <= at(allowed_until + 3_100), "the kernel would hold it long after");
                prop_assert!(!statics[id.1], "took over an address of the server");
            }
            prop_assert!(server.plan.deadline(at(ms)) > at(ms), "the loop would spin");
            prop_assert_eq!(server.held(), server.report().vips.iter().filter(|v| v.held).count());
        }
    }
}
