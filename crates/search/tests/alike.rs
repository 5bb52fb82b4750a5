//! Which states are alike, and which are not.

use haarb_model::Span;
use haarb_search::alike::fingerprint;
use haarb_search::{Start, shortened};
use haarb_sim::options::Options;
use haarb_sim::{act, world::World};

/// The settled world after some lines, each `act`, or a number of milliseconds.
fn after(lines: &[&str]) -> World {
    let mut world = Start::Settled.world(&shortened(Options::pair()));
    for line in lines {
        if let Ok(ms) = line.parse() {
            world.run_for(Span::from_millis(ms));
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let act = act::parse(&world, &words).expect("a line of this file");
        world.act(&act);
    }
    world
}

#[test]
fn what_was_mended_and_has_settled_is_as_before() {
    let before = fingerprint(&after(&["8000"]), "");
    for lines in [
        ["freeze a", "250", "thaw a", "8000"],
        ["power b off", "3000", "power b on", "12000"],
        ["hole red on", "100", "hole red off", "8000"],
        ["cable b red out", "3000", "cable b red in", "8000"],
        [
            "kill a prober for 60ms",
            "100",
            "kill b arbiter for 60ms",
            "8000",
        ],
    ] {
        assert_eq!(fingerprint(&after(&lines), ""), before, "{lines:?}");
    }
}

#[test]
fn what_differs_for_what_comes_next_is_not_alike() {
    let states: Vec<(u128, &[&str])> = [
        &["8000"][..],
        &["power a off", "8000"],
        &["power b off", "8000"],
        &["hole red on", "8000"],
        &["hole red on"],
        &["hole red on", "hole blue on"],
        &["hole red on", "hole blue on", "15"],
        &["one-way a b red on", "8000"],
        &["cable a red out", "8000"],
        &["cable a red out", "8000", "cable a red in", "1000"],
        &["freeze a"],
        &["freeze a", "600"],
        &["maintenance a on", "8000"],
        &["demote sip on a", "8000"],
        &["kill b syncer", "8000"],
    ]
    .into_iter()
    .map(|lines| (fingerprint(&after(lines), ""), lines))
    .collect();
    for (i, (print, lines)) in states.iter().enumerate() {
        for (other, others) in &states[i + 1..] {
            assert_ne!(print, other, "{lines:?} {others:?}");
        }
    }
}
