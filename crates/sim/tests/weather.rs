//! Bad weather moves nothing: a bounded number of worlds; `haarb-sim --weather` has more.

use haarb_model::Span;
use haarb_sim::weather::{Weather, endure};

fn nothing_moves(weather: Weather, seeds: u64, span: Span) {
    for seed in 1..=seeds {
        let toll = endure(weather, seed, span);
        assert_eq!(toll.failure, None, "seed {seed}");
        assert!(
            toll.moves.is_empty(),
            "seed {seed}: {toll}\n{}",
            toll.trace.join("\n")
        );
    }
}

#[test]
fn sudden_random_loss_moves_nothing() {
    nothing_moves(Weather::Loss, 40, Span::from_secs(2));
}

#[test]
fn a_flapping_cable_of_the_standby_moves_nothing() {
    nothing_moves(Weather::FlappingStandby, 5, Span::from_secs(20));
}

#[test]
fn processes_that_stand_still_for_a_third_of_a_lease_move_nothing() {
    nothing_moves(Weather::Stalls, 5, Span::from_secs(20));
}

#[test]
fn a_flapping_cable_of_the_active_moves_the_reserve_once_to_the_better_server() {
    for seed in 1..=5 {
        let toll = endure(Weather::FlappingActive, seed, Span::from_secs(20));
        assert_eq!(toll.failure, None, "seed {seed}");
        assert_eq!(toll.moves.get("A5"), Some(&1), "seed {seed}: {toll}");
        assert_eq!(toll.moves.get("T1"), Some(&1), "seed {seed}: {toll}");
    }
}
