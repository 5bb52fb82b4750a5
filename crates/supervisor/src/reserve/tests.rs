use haarb_model::{ServiceState, Span, SyncDuty, VipDuty};

use super::*;

const LEASE: Span = Span::from_millis(500);

fn at(millis: u64) -> Mono {
    Mono::ZERO + Span::from_millis(millis)
}

fn name() -> ReserveName {
    ReserveName::new("sip").expect("a name")
}

/// Two services, `a` and `b`, of which nothing is known at 0.
fn unknown() -> Reserve {
    let limits = Limits {
        restarts: 0,
        window: Span::from_secs(60),
    };
    Reserve::new(
        name(),
        at(0) + LEASE,
        vec![("a".into(), limits), ("b".into(), limits)],
    )
}

/// Both are known not to run.
fn idle() -> Reserve {
    let mut reserve = unknown();
    reserve.note(at(0), 0, Input::Idle);
    reserve.note(at(0), 1, Input::Idle);
    reserve
}

/// Both run under epoch 5 until 500 ms.
fn running() -> Reserve {
    let mut reserve = idle();
    reserve.direct(at(0), &told(5, run(500))).expect("followed");
    reserve.settle(at(0));
    reserve.note(at(1), 0, Input::Alive);
    reserve.settle(at(1));
    reserve.note(at(2), 1, Input::Alive);
    assert!(reserve.report().running);
    reserve
}

fn run(until: u64) -> ServiceDuty {
    ServiceDuty {
        run: true,
        until: at(until),
        ..ServiceDuty::default()
    }
}

fn told(epoch: u64, services: ServiceDuty) -> ReserveDuties {
    ReserveDuties {
        reserve: name(),
        role: Role::Active,
        epoch: Epoch(epoch),
        vip: VipDuty::default(),
        services,
        sync: SyncDuty::Off,
    }
}

fn action(service: usize, what: What) -> Action {
    Action { service, what }
}

#[test]
fn nothing_is_started_or_stopped_before_anybody_has_spoken() {
    let mut reserve = unknown();
    reserve.adopt(0, State::Running { since: at(0) }, Epoch(7), at(300));
    reserve.note(at(0), 1, Input::Idle);
    assert_eq!(reserve.settle(at(499)), []);
    assert_eq!(reserve.deadline(at(1)), Some(at(500)));
    // Nobody spoke within a lease: what runs has no right to.
    assert_eq!(reserve.settle(at(500)), [action(0, What::Stop)]);
}

#[test]
fn what_was_found_running_may_go_on_for_as_long_as_its_own_lease() {
    let mut reserve = unknown();
    reserve.adopt(0, State::Running { since: at(0) }, Epoch(7), at(2000));
    assert_eq!(reserve.settle(at(1999)), []);
    assert_eq!(reserve.settle(at(2000)), [action(0, What::Stop)]);
    assert_eq!(reserve.report().epoch, Epoch(7));
}

#[test]
fn a_directive_found_running_changes_nothing_but_the_lease() {
    let mut reserve = running();
    let renewed = reserve
        .direct(at(100), &told(5, run(600)))
        .expect("followed");
    assert_eq!(renewed, [action(0, What::Renew), action(1, What::Renew)]);
    assert_eq!(reserve.settle(at(100)), []);
    assert_eq!(reserve.until(), at(600));
}

#[test]
fn a_higher_epoch_does_not_restart_what_runs() {
    let mut reserve = running();
    reserve
        .direct(at(100), &told(6, run(600)))
        .expect("followed");
    assert_eq!(reserve.settle(at(100)), []);
    assert_eq!(reserve.epoch(), Epoch(6));
}

#[test]
fn a_lower_epoch_starts_nothing_and_renews_nothing() {
    let mut reserve = running();
    let refused = reserve.direct(at(100), &told(4, run(900)));
    let expected = LowerEpoch {
        asked: Epoch(4),
        seen: Epoch(5),
    };
    assert_eq!(refused, Err(expected));
    assert_eq!(reserve.until(), at(500));

    let mut restarted = idle();
    restarted.remember(Epoch(5));
    assert!(restarted.direct(at(0), &told(4, run(900))).is_err());
    assert_eq!(restarted.settle(at(0)), []);
    // To stop is always obeyed.
    assert!(
        reserve
            .direct(at(100), &told(4, ServiceDuty::default()))
            .is_ok()
    );
    assert_eq!(reserve.settle(at(100)), [action(1, What::Stop)]);
}

#[test]
fn an_end_of_the_lease_stops_in_reverse() {
    let mut reserve = running();
    assert_eq!(reserve.deadline(at(400)), Some(at(500)));
    assert_eq!(reserve.settle(at(499)), []);
    assert!(!reserve.lapsed(at(499)) && reserve.lapsed(at(500)));
    assert_eq!(reserve.settle(at(500)), [action(1, What::Stop)]);
    reserve.note(at(501), 1, Input::Idle);
    assert_eq!(reserve.settle(at(501)), [action(0, What::Stop)]);
    reserve.note(at(502), 0, Input::Idle);
    assert_eq!(reserve.settle(at(502)), []);
    assert!(reserve.report().stopped);
}

#[test]
fn a_lease_that_is_over_when_it_arrives_starts_nothing() {
    let mut reserve = idle();
    reserve
        .direct(at(600), &told(5, run(500)))
        .expect("followed");
    assert_eq!(reserve.settle(at(600)), []);
}

#[test]
fn maintenance_keeps_everything_as_it_is_also_beyond_the_lease() {
    let frozen = ServiceDuty {
        frozen: true,
        ..run(500)
    };
    let mut reserve = running();
    reserve
        .direct(at(100), &told(5, frozen.clone()))
        .expect("followed");
    assert_eq!(reserve.until(), Mono::FAR);
    reserve.note(at(200), 0, Input::Gone("exited with status 1"));
    assert_eq!(reserve.settle(at(10_000)), []);
    assert!(!reserve.lapsed(at(10_000)));
    let report = reserve.report();
    assert_eq!(report.services[0].1, ServiceState::Failed);
    assert_eq!(report.services[1].1, ServiceState::Running);

    let mut stopped = idle();
    stopped.direct(at(0), &told(5, frozen)).expect("followed");
    assert_eq!(stopped.settle(at(0)), []);
}

#[test]
fn a_stalled_supervisor_lets_go_until_it_is_told_anew() {
    let mut reserve = running();
    reserve
        .direct(at(100), &told(5, run(9000)))
        .expect("followed");
    reserve.stalled(at(2000));
    assert_eq!(reserve.settle(at(2000)), [action(1, What::Stop)]);
    reserve.note(at(2001), 1, Input::Idle);
    reserve
        .direct(at(2002), &told(5, run(9000)))
        .expect("followed");
    assert_eq!(reserve.settle(at(2002)), [action(1, What::Start)]);
}

#[test]
fn clear_forgets_failures_once_per_number() {
    let mut reserve = running();
    reserve.note(at(10), 0, Input::Gone("exited with status 1"));
    assert_eq!(reserve.report().failed, "a: exited with status 1");
    reserve.settle(at(10));
    reserve.note(at(11), 0, Input::Gone("exited with status 1"));
    assert_eq!(reserve.settle(at(11)), [], "the second restart is delayed");
    let clear = ServiceDuty {
        clear: 1,
        ..run(500)
    };
    reserve
        .direct(at(12), &told(5, clear.clone()))
        .expect("followed");
    assert_eq!(reserve.report().failed, "");
    assert_eq!(reserve.settle(at(12)), [action(0, What::Start)]);
    reserve.note(at(13), 0, Input::Gone("again"));
    reserve.direct(at(14), &told(5, clear)).expect("followed");
    assert_eq!(reserve.report().failed, "a: again");
}

#[test]
fn a_failure_outlives_the_stop_but_not_a_new_activation() {
    let mut reserve = running();
    reserve.note(at(10), 0, Input::Gone("exited with status 1"));
    reserve
        .direct(at(20), &told(5, ServiceDuty::default()))
        .expect("followed");
    reserve.settle(at(20));
    assert_eq!(reserve.report().failed, "a: exited with status 1");
    reserve
        .direct(at(30), &told(6, run(900)))
        .expect("followed");
    assert_eq!(reserve.report().failed, "");
}

#[test]
fn what_cannot_start_here_is_reported_with_its_name() {
    let mut reserve = idle();
    assert_eq!(reserve.report().not_startable, "");
    reserve.note_startable(1, "/usr/bin/b: No such file".into());
    assert_eq!(
        reserve.report().not_startable,
        "b: /usr/bin/b: No such file"
    );
    reserve.note_startable(1, String::new());
    assert_eq!(reserve.report().not_startable, "");
}

#[test]
fn a_reserve_without_services_is_both_running_and_stopped() {
    let mut reserve = Reserve::new(name(), at(0), Vec::new());
    reserve.direct(at(0), &told(1, run(500))).expect("followed");
    assert_eq!(reserve.settle(at(0)), []);
    let report = reserve.report();
    assert!(report.running && report.stopped);
}

#[test]
fn a_deadline_is_never_in_the_past() {
    let mut reserve = running();
    // `b` waits behind `a`, which waits longer: `b` is due and cannot start.
    reserve.note(at(10), 0, Input::Gone("x"));
    reserve.note(at(10), 1, Input::Gone("x"));
    reserve.settle(at(10));
    reserve.note(at(11), 0, Input::Gone("x"));
    reserve.settle(at(11));
    assert_eq!(reserve.deadline(at(11)), Some(at(61)));
}

const GRACE: Span = Span::from_millis(150);

#[test]
fn only_what_is_late_beyond_twice_the_grace_overstays() {
    let mut reserve = running();
    assert_eq!(reserve.overstays(at(499), GRACE), None);
    reserve.settle(at(500));
    assert_eq!(reserve.right_ended(at(500)), Some(at(500)));
    assert!(reserve.must_stop(at(500), 0) && reserve.must_stop(at(500), 1));
    assert_eq!(reserve.overstays(at(799), GRACE), None);
    let why = reserve.overstays(at(800), GRACE).expect("late");
    assert!(why.starts_with("sip/a has not stopped"), "{why}");
    reserve.note(at(801), 0, Input::Idle);
    let why = reserve.overstays(at(801), GRACE).expect("late");
    assert!(why.starts_with("sip/b"), "{why}");
    reserve.note(at(802), 1, Input::Idle);
    assert_eq!(reserve.overstays(at(802), GRACE), None);
    assert!(!reserve.must_stop(at(802), 1));
}

#[test]
fn an_ordered_stop_overstays_only_once_it_has_failed_and_until_it_has_worked() {
    let mut reserve = running();
    reserve
        .direct(at(10), &told(5, ServiceDuty::default()))
        .expect("followed");
    reserve.settle(at(10));
    assert_eq!(
        reserve.overstays(at(60_000), GRACE),
        None,
        "it has its time"
    );
    reserve.note(at(60_000), 1, Input::StopFailed("no"));
    let failed = Some("sip/b cannot be stopped: no".to_owned());
    assert_eq!(reserve.overstays(at(60_000), GRACE), failed);
    // Its status says that it runs, and it is stopped again: that changes nothing.
    reserve.note(at(60_010), 1, Input::Alive);
    reserve.settle(at(60_020));
    assert_eq!(reserve.overstays(at(60_020), GRACE), failed);
    reserve.note(at(60_030), 1, Input::Idle);
    assert_eq!(reserve.overstays(at(60_030), GRACE), None);
}

#[test]
fn a_stop_that_failed_is_forgotten_when_the_service_may_run_again() {
    let mut reserve = running();
    let stop = told(5, ServiceDuty::default());
    reserve.direct(at(10), &stop).expect("followed");
    reserve.settle(at(10));
    reserve.note(at(20), 1, Input::StopFailed("no"));
    assert!(reserve.overstays(at(20), GRACE).is_some());
    reserve
        .direct(at(30), &told(6, run(900)))
        .expect("followed");
    reserve.settle(at(30));
    assert_eq!(reserve.overstays(at(30), GRACE), None);
}

#[test]
fn what_is_not_known_to_run_and_what_may_run_never_overstays() {
    let unknown = unknown();
    assert_eq!(unknown.overstays(at(60_000), GRACE), None);
    let mut reserve = running();
    let frozen = ServiceDuty {
        frozen: true,
        ..run(500)
    };
    reserve.direct(at(10), &told(5, frozen)).expect("followed");
    assert_eq!(reserve.overstays(at(60_000), GRACE), None);
    assert_eq!(reserve.right_ended(at(60_000)), None);
}
