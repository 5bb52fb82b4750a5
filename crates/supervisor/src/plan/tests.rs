use haarb_model::Span;

use super::*;

fn at(millis: u64) -> Mono {
    Mono::ZERO + Span::from_millis(millis)
}

const NOW: u64 = 1000;

/// One letter per service: `?` unknown, `.` stopped, `s` starting, `R` running, `b` broken,
/// `c` cleaning, `w` waiting and due, `W` waiting longer, `t` stopping, `k` stuck and due,
/// `K` stuck longer.
fn states(letters: &str) -> Vec<State> {
    letters
        .chars()
        .map(|letter| match letter {
            '?' => State::Unknown,
            '.' => State::Stopped,
            's' => State::Starting,
            'R' => State::Running { since: at(0) },
            'b' => State::Broken { until: at(0) },
            'c' => State::Cleaning { until: at(0) },
            'w' => State::Waiting { until: at(NOW) },
            'W' => State::Waiting { until: at(NOW + 1) },
            't' => State::Stopping,
            'k' => State::Stuck { until: at(NOW) },
            'K' => State::Stuck { until: at(NOW + 1) },
            other => panic!("no state {other}"),
        })
        .collect()
}

fn check(want: Want, letters: &str, expected: Option<Order>) {
    assert_eq!(
        next(want, &states(letters), at(NOW)),
        expected,
        "{want:?} {letters}"
    );
}

#[test]
fn the_next_one_starts_when_the_one_before_it_runs() {
    use Order::{Start, Stop};
    for (letters, expected) in [
        ("", None),
        ("...", Some(Start(0))),
        ("s..", None),
        ("R..", Some(Start(1))),
        ("RR.", Some(Start(2))),
        ("RRR", None),
        ("?..", None),
        ("R?.", None),
        ("Rt.", None),
        ("Rc.", None),
        ("Rw.", Some(Start(1))),
        ("RW.", None),
        // An earlier one that fails comes back without the later ones being touched.
        ("wRR", Some(Start(0))),
        ("WRR", None),
        ("bRR", Some(Stop(0))),
        ("sRb", Some(Stop(2))),
        ("RkR", Some(Stop(1))),
        ("RKR", None),
    ] {
        check(Want::Run, letters, expected);
    }
}

#[test]
fn the_one_before_it_stops_when_the_later_one_is_gone() {
    use Order::Stop;
    for (letters, expected) in [
        ("", None),
        ("...", None),
        ("RRR", Some(Stop(2))),
        ("RRt", None),
        ("RR.", Some(Stop(1))),
        ("Rt.", None),
        ("R..", Some(Stop(0))),
        ("s..", Some(Stop(0))),
        ("Rs.", Some(Stop(1))),
        ("Rb.", Some(Stop(1))),
        ("Rc.", None),
        ("RW.", Some(Stop(1))),
        ("Rw.", Some(Stop(1))),
        // One that cannot be stopped, or of which nothing is known, does not keep the others.
        ("RRK", Some(Stop(1))),
        ("RRk", Some(Stop(2))),
        ("RR?", Some(Stop(1))),
        ("?.K", None),
    ] {
        check(Want::Stop, letters, expected);
    }
}

#[test]
fn in_maintenance_nothing_is_ordered() {
    for letters in ["...", "RRR", "bwk", "?sW", "tcK"] {
        check(Want::Hold, letters, None);
    }
}
