//! What falls silent, and what only seems to.

use super::*;

#[test]
fn a_power_off_is_reported_at_dead_after() {
    let mut pair = running();
    pair.run(Span::from_micros(4_700));
    let since = pair.now;
    pair.servers[1].powered = false;
    pair.run(Span::from_millis(100));
    let silent = pair.first(0, since, |n| n.silent).expect("a verdict");
    assert!(
        silent >= Span::from_millis(20) && silent <= Span::from_millis(31),
        "{silent}"
    );
    let suspect = pair.first(0, since, |n| n.suspect).expect("a suspicion");
    assert!(suspect < silent);
    assert!(pair.neighbour(0).paths.iter().all(|p| p.missing >= 3));
}

#[test]
fn a_dead_network_is_seen_by_both_and_told() {
    let mut pair = running();
    let since = pair.now;
    pair.switch_on[BLUE] = false;
    pair.run(Span::from_millis(100));
    for index in 0..2 {
        let other = pair.neighbour(index);
        assert!(!other.silent && !other.suspect);
        assert!(other.paths[RED].heard && other.paths[RED].hears_me);
        let blue = &other.paths[BLUE];
        assert!(!blue.heard && !blue.kernel && !blue.hears_me, "{blue:?}");
        let switches = &pair.probe(index).1.switches;
        assert_eq!(switches[RED].answer, SwitchAnswer::Answers);
        assert_eq!(switches[BLUE].answer, SwitchAnswer::Silent);
    }
    let told = pair.first(0, since, |n| !n.paths[BLUE].hears_me);
    assert!(told.expect("told") < Span::from_millis(30));
}

#[test]
fn a_server_that_is_cut_off_knows_it_before_it_counts_as_dead() {
    for phase in 0..20 {
        let mut pair = running();
        pair.run(Span::from_micros(phase * 500));
        let since = pair.now;
        pair.switch_on = [false; 2];
        pair.run(Span::from_millis(100));
        let mut all = pair.servers[0].reports.iter();
        let cut_off = all
            .find_map(|(at, r)| match r {
                Report::Probe(p)
                    if p.switches.iter().all(|s| s.answer == SwitchAnswer::Silent)
                        && p.neighbours[0].paths.iter().all(|p| !p.heard) =>
                {
                    Some(at.since(since))
                }
                _ => None,
            })
            .expect("cut off");
        let dead = pair.first(1, since, |n| n.silent).expect("a verdict");
        assert!(cut_off < dead, "cut off after {cut_off}, dead after {dead}");
    }
}

#[test]
fn a_switch_that_hangs_while_nobody_is_heard_is_known_before_the_neighbour_is_judged() {
    let mut pair = Pair::new();
    pair.run(Span::from_secs(2));
    let since = pair.now;
    pair.servers[1].powered = false;
    pair.switch_on[0] = false;
    pair.run(Span::from_millis(100));
    let reports = pair.servers[0].reports.iter();
    let mut probes = reports.filter_map(|(at, report)| match report {
        Report::Probe(probe) if *at > since => Some(probe),
        _ => None,
    });
    let lost = |probe: &ProbeReport| probe.switches[0].answer == SwitchAnswer::Silent;
    let silent = probes.find(|probe| probe.neighbours[0].silent);
    let silent = silent.expect("a verdict on the neighbour");
    assert!(lost(silent), "the switch is judged first");
    assert_eq!(silent.switches[1].answer, SwitchAnswer::Answers);
}

#[test]
fn sudden_loss_makes_no_neighbour_silent_and_no_switch() {
    for seed in 1..=100 {
        let mut pair = running();
        pair.random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed);
        pair.run(Span::from_micros(seed * 61 % 10_000));
        pair.loss = 30;
        let since = pair.now;
        pair.run(Span::from_millis(400));
        for index in 0..2 {
            assert_eq!(pair.first(index, since, |n| n.silent), None, "seed {seed}");
            let silent = pair.servers[index].reports.iter().any(|(at, r)| match r {
                Report::Probe(p) if *at >= since => {
                    p.switches.iter().any(|s| s.answer == SwitchAnswer::Silent)
                }
                _ => false,
            });
            assert!(!silent, "seed {seed}: a switch was called silent");
        }
    }
}

#[test]
fn each_direction_of_a_bad_link_is_known_by_both() {
    let mut pair = running();
    pair.loss = 30;
    pair.run(Span::from_secs(3));
    for index in 0..2 {
        for path in &pair.neighbour(index).paths {
            let near = |share: Option<f32>, to: f32| share.is_some_and(|s| (s - to).abs() < 0.2);
            assert!(near(Some(path.loss), 0.51), "{path:?}");
            assert!(
                near(path.loss_in, 0.3) && near(path.loss_out, 0.3),
                "{path:?}"
            );
        }
    }
}

#[test]
fn a_long_stall_of_ours_is_reported_and_is_no_silence_of_others() {
    let mut pair = running();
    let from = pair.now;
    pair.now = from + Span::from_secs(1);
    pair.wire.clear();
    let woke = pair.now;
    pair.servers[0].engine.stood_still(from, woke);
    pair.servers[1].engine.stood_still(from, woke);
    pair.run(Span::from_millis(100));
    assert_eq!(pair.first(0, woke, |n| n.silent), None);
    let stalls = pair.servers[0].reports.iter();
    let stalls = stalls.filter(|(_, r)| matches!(r, Report::Stalled(_)));
    assert_eq!(stalls.count(), 1);
}
