//! Commands, alarms, the record.

use super::*;

#[test]
fn commands_are_refused_with_a_reason_and_what_to_do() {
    let unknown = Command::Demote {
        reserve: ReserveName::new("web").expect("a name"),
    };
    let promote = Command::Promote {
        reserve: sip(),
        force: false,
        accept_stale: false,
    };
    let mut bench = Bench::standby();
    for (command, words) in [
        (unknown, "the configuration has: sip"),
        (switchover(Some("x"), None), "no server x"),
        (switchover(None, Some(2)), "epoch 3 by now, not 2"),
        (promote, "`haarb switchover sip --to b`"),
    ] {
        let refused = bench.command(command).expect_err("refused");
        assert!(refused.contains(words), "{refused}");
        assert!(!refused.contains('\n'), "one line: {refused}");
    }
    let mut bench = Bench::active();
    bench.advert(|advert, sip| {
        advert.reserves.get_mut(sip).expect("the reserve").epoch = Epoch(4);
    });
    bench.run(10);
    let refused = bench.command(switchover(None, None)).expect_err("refused");
    assert!(refused.contains("a is not eligible"), "{refused}");
    assert_eq!(bench.role(), Role::Active);
}

#[test]
fn an_alarm_gives_one_event_when_it_begins_and_one_when_it_ends() {
    let mut bench = Bench::active();
    bench.heard = false;
    bench.silent = true;
    let mut events = Vec::new();
    let mut count = |bench: &mut Bench, ms: u64| {
        for _ in 0..ms / 5 {
            bench.now += Span::from_millis(5);
            let probe = bench.probe();
            let step = bench.feed(Input::Report(Agent::Prober, Report::Probe(probe)));
            events.extend(step.events);
            bench.report();
        }
    };
    count(&mut bench, 500);
    bench.heard = true;
    bench.silent = false;
    count(&mut bench, 500);
    let of_a9: Vec<&str> = events
        .iter()
        .filter(|event| event.rule == "A9")
        .map(|event| event.severity.as_str())
        .collect();
    assert_eq!(of_a9, ["major", "info"]);
}

#[test]
fn the_record_says_who_left_cleanly() {
    let mut bench = Bench::active();
    bench.advert(|advert, _| advert.leaving = true);
    assert!(bench.core.record().left.contains(&node("a")));
    assert_eq!(bench.core.record().reserves[&sip()].own, Epoch(4));
    bench.neighbour(Role::Standby, 4);
    assert!(bench.core.record().left.is_empty(), "it is back");
}

#[test]
fn what_came_late_is_no_alarm_and_what_is_forged_is_one() {
    let mut bench = Bench::standby();
    let dropped = |bench: &mut Bench, reason: &str| {
        let mut probe = bench.probe();
        probe.dropped = BTreeMap::from([(reason.into(), 7)]);
        bench.feed(Input::Report(Agent::Prober, Report::Probe(probe)));
        bench.core.alarms().any(|alarm| alarm.rule == "X4")
    };
    assert!(!dropped(&mut bench, "late"));
    assert!(!dropped(&mut bench, "not proven"));
    assert!(dropped(&mut bench, "wrong key"));
}
