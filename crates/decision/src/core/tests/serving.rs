//! What who serves does: announcements, leases, restarts, stalls.

use super::*;

#[test]
fn who_serves_announces_when_a_neighbour_is_heard_again_or_lets_go() {
    let mut bench = Bench::active();
    let announced = |bench: &Bench| bench.core.duties(bench.now).reserves[0].vip.announce;
    let before = announced(&bench);
    bench.neighbour(Role::Standby, 4);
    bench.run(100);
    assert_eq!(announced(&bench), before, "nothing happened");
    bench.heard = false;
    bench.run(100);
    assert_eq!(announced(&bench), before, "nobody to be heard");
    bench.neighbour(Role::Standby, 4);
    let met = announced(&bench);
    assert!(met > before, "it is heard again");
    bench.neighbour(Role::Active, 3);
    let rival = announced(&bench);
    assert!(rival > met, "A2");
    bench.neighbour(Role::Standby, 4);
    assert!(announced(&bench) > rival, "it let go");
}

#[test]
fn a_rival_that_goes_on_not_hearing_us_is_left_to_serve() {
    let mut bench = Bench::active();
    bench.heard = false;
    bench.run(500);
    // Its first words: it serves, below us, and has not heard us yet.
    bench.hears_me = false;
    bench.neighbour(Role::Active, 3);
    let reply = bench.core.view().reply_time();
    bench.now += reply - Span::from_millis(1);
    bench.report();
    assert_eq!(bench.role(), Role::Active, "A2: it has not had the time");
    bench.now += Span::from_millis(1);
    bench.report();
    assert_eq!(bench.role(), Role::Standby, "A4: it will never know");
}

#[test]
fn a_lease_is_renewed_only_while_prober_and_vip_agent_are_fresh() {
    let mut bench = Bench::active();
    let until = |bench: &Bench| bench.core.duties(bench.now).reserves[0].vip.until;
    let before = until(&bench);
    bench.run(200);
    assert!(until(&bench) > before, "renewed");
    assert!(until(&bench) <= bench.now + Span::from_millis(500));
    bench.feed(Input::Lost(Agent::Prober));
    let last = until(&bench);
    let end = last + Span::from_millis(1);
    while bench.now < end {
        bench.now = bench.core.deadline().min(end);
        let step = bench.feed(Input::Tick);
        if bench.now < last {
            assert_eq!(until(&bench), last, "nothing renews it");
            assert!(step.events.iter().all(|event| event.rule != "A14"));
        }
    }
    assert_eq!(bench.role(), Role::Starting, "A14");
    assert!(!bench.core.duties(bench.now).reserves[0].vip.hold);
}

#[test]
fn what_the_vip_agent_said_before_it_heard_of_the_taking_releases_nothing() {
    let mut bench = Bench::active();
    bench.lags = Some(Epoch(3));
    bench.command(switchover(None, None)).expect("done");
    bench.run(50);
    assert_eq!(bench.role(), Role::Releasing, "it may just be adding them");
    bench.lags = None;
    bench.run(50);
    assert_eq!(bench.role(), Role::Standby);
}

#[test]
fn a_restarted_arbiter_waits_for_the_vip_agent_and_goes_on_in_the_same_epoch() {
    let mut record = Record::default();
    let part = RecordReserve {
        epoch: Epoch(9),
        own: Epoch(9),
        ..RecordReserve::default()
    };
    record.reserves.insert(sip(), part);
    let now = Mono::from_micros(START);
    for (held, epoch, left_ms, expected) in [
        (true, 9, 300, Role::Active),
        (true, 8, 300, Role::Starting),
        (true, 9, 0, Role::Starting),
        (false, 9, 300, Role::Starting),
    ] {
        let mut core = Core::new(segment(), node("a"), record.clone(), now).expect("known");
        core.step(now, Input::Tick);
        core.step(now, Input::Attached(Agent::VipAgent));
        let reserve = |core: &Core| core.reserve(&sip()).expect("the reserve").clone();
        assert_eq!(
            core.duties(now).reserves,
            [],
            "who attaches before the vip-agent is not told to let go"
        );
        let report = VipReport {
            reserves: vec![VipReserve {
                reserve: sip(),
                epoch: Epoch(epoch),
                seen: Epoch(epoch),
                lease_until: now + Span::from_millis(left_ms),
                vips: vec![HeldVip {
                    address: vip().address,
                    interface: vip().interface,
                    held,
                }],
                probe: ProbeAnswer::Unknown,
                probe_since: None,
                error: String::new(),
            }],
            macs: BTreeMap::new(),
            guards: BTreeMap::new(),
        };
        core.step(now, Input::Report(Agent::VipAgent, Report::Vip(report)));
        assert_eq!(reserve(&core).role, expected, "{held} {epoch} {left_ms}");
        let duty = core.duties(now).reserves.remove(0).vip;
        assert_eq!(duty.hold, expected == Role::Active);
        if expected == Role::Active {
            assert_eq!(reserve(&core).epoch(), Epoch(9));
            assert!(
                duty.until <= now + Span::from_millis(left_ms),
                "no longer than it was"
            );
        }
    }
}

#[test]
fn what_the_kernel_can_end_is_told_and_its_lack_is_an_alarm() {
    use haarb_model::{Guard, KernelLine};
    let now = Mono::from_micros(1_000_000_000);
    let mut core = Core::new(segment(), node("a"), Record::default(), now).expect("known");
    core.step(now, Input::Tick);
    core.step(now, Input::Attached(Agent::VipAgent));
    assert!(!core.advert().lease_exact, "nobody has said so yet");
    for line in KernelLine::ALL {
        let guard = Guard {
            line,
            reason: "it is old".into(),
        };
        let interface = vip().interface;
        let report = VipReport {
            reserves: Vec::new(),
            macs: [(interface.clone(), [2; 6])].into(),
            guards: [(interface, guard)].into(),
        };
        core.step(now, Input::Report(Agent::VipAgent, Report::Vip(report)));
        let exact = line > KernelLine::Lifetime;
        assert_eq!(core.advert().lease_exact, exact, "{line:?}");
        let alarm = core.alarms().find(|alarm| alarm.rule == "M6");
        assert_eq!(alarm.is_none(), exact, "{line:?}");
        if let Some(alarm) = alarm {
            assert_eq!(alarm.severity, Severity::Minor);
            assert!(alarm.text.contains("it is old"), "{}", alarm.text);
        }
    }
}

#[test]
fn a_replica_in_trouble_is_an_alarm_until_it_is_over() {
    let mut bench = Bench::active();
    let good = DirectoryReport {
        path: "/srv/sip".into(),
        state: DirectoryState::Syncing,
        lag_ms: 9,
        pending_files: 3,
        held_deletions: 0,
        failing: 0,
        error: String::new(),
    };
    let stopped = DirectoryReport {
        state: DirectoryState::Error,
        error: "it is not there".into(),
        ..good.clone()
    };
    let full = DirectoryReport {
        failing: 3,
        error: "/srv/sip/a: No space left".into(),
        ..good.clone()
    };
    let held = DirectoryReport {
        held_deletions: 5000,
        error: "haarb sync confirm /srv/sip".into(),
        ..good.clone()
    };
    let mut report = |directory: &DirectoryReport| {
        let report = SyncReport {
            reserves: vec![SyncReserve {
                reserve: sip(),
                epoch: Epoch(1),
                data: Data::Current,
                drained: false,
                directories: vec![directory.clone()],
                conflicts: 0,
            }],
        };
        bench.feed(Input::Report(Agent::Syncer, Report::Sync(report)));
        let alarms = bench.core.alarms().filter(|a| a.reserve == Some(sip()));
        let alarms = alarms.filter(|alarm| alarm.text.contains("/srv/sip"));
        alarms
            .map(|alarm| (alarm.rule, alarm.text.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(report(&good), []);
    for (bad, rule, says) in [
        (&stopped, "M8", "it is not there"),
        (&full, "M8", "3 paths"),
        (&held, "M9", "5000 files"),
    ] {
        let alarms = report(bad);
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        assert!(
            alarms[0].0 == rule && alarms[0].1.contains(says),
            "{alarms:?}"
        );
        assert!(alarms[0].1.contains(&bad.error), "{alarms:?}");
        assert_eq!(report(&good), []);
    }
}

#[test]
fn a_stall_lets_go_before_anything_else() {
    let mut bench = Bench::active();
    bench.now += Span::from_millis(600);
    let step = bench.feed(Input::Tick);
    assert_eq!(step.events.first().map(|event| event.rule), Some("X1"));
    assert!(!bench.core.duties(bench.now).reserves[0].vip.hold);
    assert!(!bench.advertised().eligible);
    let mut bench = Bench::active();
    bench.feed(Input::Report(
        Agent::VipAgent,
        Report::Stalled(Span::from_millis(600)),
    ));
    assert_eq!(bench.role(), Role::Starting, "the vip-agent was frozen");
    let mut bench = Bench::active();
    bench.feed(Input::Report(
        Agent::Syncer,
        Report::Stalled(Span::from_millis(600)),
    ));
    assert_eq!(
        bench.role(),
        Role::Active,
        "a syncer that was busy is no reason"
    );
}
