//! Starts, restarts, and what arrives meanwhile.

use super::*;

#[test]
fn two_servers_that_start_know_all_of_each_other_within_milliseconds() {
    let mut pair = Pair::new();
    pair.run(Span::from_millis(12));
    for index in 0..2 {
        let beta = pair.neighbour(index);
        assert!(beta.hears_me && !beta.arbiter_silent && !beta.silent);
        for path in &beta.paths {
            assert!(path.heard && path.kernel && path.hears_me, "{path:?}");
            assert_eq!(path.rtt_us, 100);
        }
        let other = 2 - index as u64;
        assert_eq!(pair.adverts(index).last().map(|a| a.1), Some(other));
        let switches = &pair.probe(index).1.switches;
        assert!(switches.iter().all(|s| s.answer == SwitchAnswer::Answers));
    }
}

#[test]
fn a_restarted_prober_is_heard_again_and_its_state_reported_anew() {
    let mut pair = running();
    let since = pair.now;
    pair.servers[1].engine = engine(1, 77, pair.now);
    pair.run(Span::from_millis(15));
    let again: Vec<_> = pair
        .adverts(0)
        .into_iter()
        .filter(|a| a.0 >= since)
        .collect();
    assert_eq!(again.len(), 1);
    assert_eq!(pair.first(0, since, |n| n.silent || n.suspect), None);
    assert!(pair.neighbour(1).hears_me);
}

/// Rule A4 gives way to a neighbour that does not hear us. A restart must not look like that.
#[test]
fn a_restart_of_either_prober_never_looks_like_a_network_that_works_one_way() {
    for (restarted, phase) in (0..2).flat_map(|r| (0..20).map(move |p| (r, p * 500))) {
        let mut pair = running();
        pair.run(Span::from_micros(phase));
        let since = pair.now;
        pair.servers[restarted].engine = engine(restarted, 77, pair.now);
        pair.run(Span::from_millis(200));
        for index in 0..2 {
            let one_way = pair.first(index, since, |n| {
                n.paths.iter().any(|p| p.heard) && !n.hears_me
            });
            assert_eq!(one_way, None, "server {index}, phase {phase}");
        }
    }
}

#[test]
fn rubbish_is_counted_and_harmless() {
    let mut pair = running();
    let now = pair.now;
    let engine = &mut pair.servers[0].engine;
    engine.datagram(RED, b"", now);
    engine.datagram(RED, &[0; 500], now);
    engine.datagram(9, &[0; 500], now);
    engine.echo_reply(9, address(RED, 2), 1, now);
    engine.echo_reply(RED, address(RED, 77), 1, now);
    pair.run(Span::from_millis(300));
    let dropped = &pair.probe(0).1.dropped;
    assert_eq!(dropped.get("too short"), Some(&1));
    assert_eq!(dropped.get("wrong version"), Some(&2));
}

#[test]
fn a_steady_pair_is_quiet() {
    let mut pair = running();
    let before = (pair.servers[0].reports.len(), pair.servers[0].datagrams);
    pair.run(Span::from_secs(1));
    let reports = pair.servers[0].reports.len() - before.0;
    assert!((4..=6).contains(&reports), "{reports} reports in a second");
    let datagrams = pair.servers[0].datagrams - before.1;
    assert!((199..=201).contains(&datagrams), "{datagrams} datagrams");
}
