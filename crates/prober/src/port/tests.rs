use super::*;

#[test]
fn a_time_stamp_counts_unless_the_wall_clock_was_set() {
    let now = clock::now();
    let clocks = Clocks {
        now,
        wall_ns: 5_000_000_000,
    };
    assert_eq!(
        clocks.arrival(Some(4_990_000_000)),
        now - Span::from_millis(10)
    );
    // From before the clock was set back, from before it was set ahead, and not at all.
    for stamp in [Some(9_000_000_000), Some(1_000_000_000), None] {
        assert!(clocks.arrival(stamp) >= now);
    }
}
