//! Simulated clusters: a bounded number of fresh seeds, and seeds that once were wrong.

use haarb_sim::{run_seed, run_seed_gated};

/// Seeds that found a defect, with what it was. They must stay right.
const FOUND: &[(u64, &str)] = &[
    (423, "no UDP, then one-way loss"),
    (
        496,
        "no UDP: two waiting servers took over at the same moment",
    ),
    (
        375,
        "all daemons of the active server restarted, then one-way loss: it did not believe it",
    ),
    (727, "started while one direction was dead"),
    (
        20_697,
        "one-way loss, then a freeze: silence proved nothing",
    ),
    (
        30_167,
        "three servers: a promise was given twice, epochs raced",
    ),
    (
        40_064,
        "three servers, no UDP: two saw the virtual IP fall silent and took it at the same moment",
    ),
];

#[test]
fn the_first_seeds_are_right() {
    for seed in 1..=60 {
        let outcome = run_seed(seed, false);
        assert!(
            outcome.failure.is_none(),
            "seed {seed}, {}: {:?}\n{}",
            outcome.options,
            outcome.failure,
            outcome.trace.join("\n")
        );
    }
}

#[test]
fn what_was_found_once_stays_right() {
    let both = |&(seed, what)| [(seed, what, false), (seed, what, true)];
    for (seed, what, gate) in FOUND.iter().flat_map(both) {
        let outcome = run_seed_gated(seed, gate);
        assert!(
            outcome.failure.is_none(),
            "seed {seed} ({what}), gate {gate}: {:?}\n{}",
            outcome.failure,
            outcome.trace.join("\n")
        );
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let (a, b) = (run_seed(7, true), run_seed(7, true));
    assert_eq!(a.trace, b.trace);
    assert_eq!(a.options, b.options);
}
