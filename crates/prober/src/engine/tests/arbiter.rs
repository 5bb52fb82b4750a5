//! Between the arbiter and the neighbours.

use super::*;

#[test]
fn what_the_arbiter_says_is_told_at_once_and_reported_once() {
    let mut pair = running();
    pair.run(Span::from_micros(3_300));
    let since = pair.now;
    pair.servers[0].payload = payload(77);
    pair.turn(0);
    pair.run(Span::from_millis(100));
    let told: Vec<_> = pair
        .adverts(1)
        .into_iter()
        .filter(|a| a.0 >= since)
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].1, 77);
    assert!(told[0].0.since(since) <= Span::from_micros(100));
}

#[test]
fn a_silent_arbiter_is_told_at_once_and_the_prober_goes_on() {
    let mut pair = running();
    let since = pair.now;
    pair.servers[1].arbiter_lives = false;
    pair.run(Span::from_secs(2));
    let told = pair.first(0, since, |n| n.arbiter_silent).expect("told");
    assert!(
        told >= Span::from_millis(498) && told <= Span::from_millis(502),
        "{told}"
    );
    let beta = pair.neighbour(0);
    assert!(!beta.silent && beta.paths.iter().all(|p| !p.heard && p.kernel));
    assert!(beta.hears_me, "the network is whole");
    pair.servers[1].arbiter_lives = true;
    pair.run(Span::from_millis(15));
    assert!(pair.neighbour(0).paths.iter().all(|p| p.heard));
}

#[test]
fn a_new_arbiter_is_told_everything() {
    let mut pair = running();
    pair.servers[0].reports.clear();
    pair.servers[0].engine.attached(pair.now);
    pair.run(Span::from_micros(100));
    assert_eq!(pair.adverts(0).len(), 1);
    assert!(pair.neighbour(0).hears_me);
    // What is not heard any more is not told as if it were.
    pair.servers[1].powered = false;
    pair.run(Span::from_millis(100));
    pair.servers[0].reports.clear();
    pair.servers[0].engine.attached(pair.now);
    pair.run(Span::from_micros(100));
    assert_eq!(pair.adverts(0), []);
    assert!(pair.neighbour(0).silent);
}

#[test]
fn a_state_that_makes_no_sense_or_does_not_fit_is_not_a_live_arbiter() {
    let mut pair = running();
    pair.servers[1].payload = vec![0xff; 20];
    pair.run(Span::from_millis(50));
    assert_eq!(pair.adverts(0).len(), 1, "only the first one");
    pair.servers[1].payload = vec![0; 5000];
    pair.run(Span::from_millis(300));
    assert!(pair.neighbour(0).arbiter_silent);
    assert_eq!(
        pair.probe(0).1.dropped.get(BAD_PAYLOAD),
        Some(&1),
        "counted once, not with every datagram"
    );
    pair.servers[1].payload = payload(9);
    pair.run(Span::from_millis(50));
    assert!(!pair.neighbour(0).arbiter_silent);
    assert_eq!(pair.adverts(0).last().map(|a| a.1), Some(9));
}

#[test]
fn a_switch_that_the_arbiter_wants_to_hear_is_asked_and_reported_at_once() {
    let mut pair = Pair::new();
    pair.run(Span::from_secs(2));
    // Right after a regular round of requests: the next one is 10 ms away.
    let rounds = |pair: &Pair| pair.servers[0].engine.next_switch;
    let before = rounds(&pair);
    while rounds(&pair) == before {
        pair.run(Span::from_micros(100));
    }
    pair.run(Span::from_micros(500));
    let since = pair.now;
    let wanted = BTreeSet::from([pair.servers[0].engine.networks[1].clone()]);
    pair.servers[0].engine.await_switches(&wanted, since);
    pair.run(Span::from_millis(1));
    let (at, probe) = pair.probe(0);
    assert!(at > since, "reported at once");
    assert!(
        probe.switches[1]
            .last_answer
            .is_some_and(|answer| answer > since)
    );
    // The same wish again is no news, a new one is.
    pair.servers[0].engine.await_switches(&wanted, pair.now);
    pair.run(Span::from_millis(8));
    assert_eq!(pair.probe(0).0, at);
    pair.servers[0]
        .engine
        .await_switches(&BTreeSet::new(), pair.now);
    pair.servers[0].engine.await_switches(&wanted, pair.now);
    pair.run(Span::from_millis(1));
    assert!(pair.probe(0).0 > at);
}

/// Renewals of the arbiter's word are many, and most of them say nothing new.
#[test]
fn a_renewal_alone_is_no_reason_to_turn() {
    let mut pair = running();
    let now = pair.now;
    let later = now + Span::from_secs(1);
    let engine = &mut pair.servers[0].engine;
    assert!(!engine.directive(payload(1), later, now));
    assert!(engine.directive(payload(2), later, now));
    let late = later + Span::from_millis(1);
    assert!(
        engine.directive(payload(2), late + Span::from_secs(1), late),
        "it lives again"
    );
}
