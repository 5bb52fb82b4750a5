//! Bad weather moves nothing: a bounded number of worlds; `haarb-sim --weather` has more.

use haarb_model::Span;
use haarb_sim::weather::{Weather, endure};

#[test]
fn sudden_random_loss_moves_nothing() {
    for seed in 1..=40 {
        let toll = endure(Weather::Loss, seed, Span::from_secs(2));
        assert_eq!(toll.failure, None, "seed {seed}");
        assert!(
            toll.moves.is_empty(),
            "seed {seed}: {toll}\n{}",
            toll.trace.join("\n")
        );
    }
}
