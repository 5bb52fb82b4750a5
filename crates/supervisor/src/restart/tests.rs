use super::*;

const LIMITS: Limits = Limits {
    restarts: 3,
    window: Span::from_secs(60),
};

fn at(millis: u64) -> Mono {
    Mono::ZERO + Span::from_millis(millis)
}

#[test]
fn the_first_restart_is_immediate_and_delays_double_up_to_ten_seconds() {
    let mut restarts = Restarts::new(LIMITS);
    let delays: Vec<u64> = (0..12)
        .map(|_| restarts.note(at(1000), "x").since(at(1000)).as_millis())
        .collect();
    let expected = [
        0, 50, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000,
    ];
    assert_eq!(delays, expected);
}

#[test]
fn it_counts_as_failed_only_beyond_its_restarts() {
    let mut restarts = Restarts::new(LIMITS);
    for second in 0..3 {
        restarts.note(at(second * 1000), "exited with status 1");
        assert_eq!(restarts.failed(), None, "after failure {}", second + 1);
    }
    restarts.note(at(3000), "exited with status 1");
    assert_eq!(
        restarts.failed(),
        Some("exited with status 1 (4 failures within 60s)")
    );
}

#[test]
fn without_restarts_the_first_failure_counts() {
    let mut restarts = Restarts::new(Limits {
        restarts: 0,
        ..LIMITS
    });
    restarts.note(at(0), "gone");
    assert_eq!(restarts.failed(), Some("gone"));
}

#[test]
fn failures_outside_the_window_do_not_count() {
    let mut restarts = Restarts::new(LIMITS);
    for failure in 0..10 {
        let now = at(failure * 30_000);
        assert!(restarts.note(now, "x").since(now) <= DELAY_FIRST);
    }
    assert_eq!(restarts.failed(), None);
}

#[test]
fn once_failed_it_stays_so_until_it_ran_for_a_window_or_was_cleared() {
    let mut restarts = Restarts::new(Limits {
        restarts: 0,
        ..LIMITS
    });
    restarts.note(at(0), "x");
    restarts.heal(at(10), at(60_009));
    assert!(restarts.failed().is_some());
    // A later failure, alone in its window, does not make it healthy either.
    restarts.note(at(200_000), "y");
    assert_eq!(restarts.failed(), Some("y"));
    assert_eq!(restarts.heals_at(at(200_010)), Some(at(260_010)));
    restarts.heal(at(200_010), at(260_010));
    assert_eq!(restarts.failed(), None);

    restarts.note(at(300_000), "z");
    restarts.forget();
    assert_eq!(restarts.failed(), None);
    assert_eq!(restarts.note(at(300_001), "z"), at(300_001));
}

#[test]
fn any_number_of_failures_is_remembered_in_bounded_memory() {
    let mut restarts = Restarts::new(LIMITS);
    for _ in 0..10_000 {
        restarts.note(at(5), "x");
    }
    assert_eq!(restarts.failures.len(), REMEMBERED_MAX);
}

#[test]
fn a_tiny_window_does_not_make_a_busy_loop() {
    let mut restarts = Restarts::new(Limits {
        restarts: 3,
        window: Span::from_micros(100),
    });
    let mut now = at(0);
    let mut starts = 0;
    while now < at(1000) {
        now = restarts.note(now, "x") + Span::from_millis(1);
        starts += 1;
    }
    assert!(starts < 10, "{starts} starts within a second");
}
