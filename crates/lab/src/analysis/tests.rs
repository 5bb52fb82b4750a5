//! Traces written by hand: one tick per millisecond, times in milliseconds from 0.

use super::*;

const A: ServerId = 0;
const B: ServerId = 1;

fn ms(ms: f64) -> Stamp {
    Stamp((ms * 1e6) as u64)
}

/// A trace of one or two virtual IPs where `serves(tick, vip)` lists the servers that would answer; the
/// client's own request is answered by the first of them.
fn trace(vips: usize, ticks: u64, serves: impl Fn(u64, VipId) -> Vec<ServerId>) -> Trace {
    let mut trace = Trace::new(vips, 2);
    for tick in 0..ticks {
        let number = trace.begin(ms(tick as f64), 0);
        for vip in 0..vips {
            let seen = |server| Seen {
                server,
                answered: ms(tick as f64 + 0.05),
                received: ms(tick as f64 + 0.1),
            };
            let servers = serves(tick, vip);
            if let Some(first) = servers.first() {
                trace.note(number, vip, None, seen(*first));
            }
            for server in servers {
                trace.note(number, vip, Some(server), seen(server));
            }
        }
    }
    trace
}

fn judge(trace: &Trace, fault: f64) -> Report {
    report(trace, ms(0.0), ms(fault), ms(100_000.0))
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 0.01
}

#[test]
fn a_takeover_gives_gap_lost_and_outage() {
    // The fault is at 100; A answered last at 99, B answers from 140 on, on the second address from 145.
    let trace = trace(2, 400, |tick, vip| match tick {
        0..100 => vec![A],
        100..140 => vec![],
        140..145 if vip == 1 => vec![],
        _ => vec![B],
    });
    let report = judge(&trace, 99.5);
    assert!(near(report.gap_ms.unwrap_or(0.0), 40.6), "{report:?}");
    assert!(near(report.gap_all_ms.unwrap_or(0.0), 45.6), "{report:?}");
    assert!(near(report.handover_ms.unwrap_or(0.0), 46.0), "{report:?}");
    assert_eq!(report.lost_on_all, 40);
    assert_eq!((report.vips[0].lost, report.vips[1].lost), (40, 45));
    assert!(
        near(report.longest_outage_ms, 40.0) && near(report.vips[1].longest_outage_ms, 45.0),
        "{report:?}"
    );
    assert_eq!(report.dual_active_ms, 0.0);
    assert_eq!(report.served_by, [Some(B), Some(B)]);
}

#[test]
fn without_a_new_server_there_is_no_gap_but_an_outage() {
    let trace = trace(2, 300, |tick, vip| {
        if vip == 0 && tick >= 100 {
            vec![]
        } else {
            vec![A]
        }
    });
    let report = judge(&trace, 99.5);
    assert_eq!((report.gap_ms, report.gap_all_ms), (None, None));
    assert_eq!(report.lost_on_all, 0);
    assert_eq!(report.vips[0].lost, 200);
    assert!(
        near(report.longest_outage_ms, 0.0) && near(report.vips[0].longest_outage_ms, 199.0),
        "{report:?}"
    );
}

#[test]
fn one_address_that_never_comes_back_leaves_no_gap_for_all() {
    let trace = trace(2, 300, |tick, vip| match tick {
        0..100 => vec![A],
        _ if vip == 0 => vec![B],
        _ => vec![],
    });
    let report = judge(&trace, 99.5);
    assert!(
        report.gap_ms.is_some() && report.gap_all_ms.is_none(),
        "{report:?}"
    );
}

#[test]
fn after_nobody_served_any_server_is_a_new_one() {
    let trace = trace(1, 300, |tick, _| if tick < 150 { vec![] } else { vec![A] });
    assert!(near(judge(&trace, 100.0).gap_ms.unwrap_or(0.0), 50.1));
}

#[test]
fn an_address_that_comes_back_on_the_same_server_is_no_takeover() {
    let trace = trace(2, 300, |tick, vip| {
        if vip == 0 && tick < 150 {
            vec![]
        } else {
            vec![A]
        }
    });
    assert_eq!(judge(&trace, 100.0).gap_ms, None);
}

#[test]
fn both_answering_is_dual_active_and_one_after_the_other_is_not() {
    let both = trace(1, 300, |tick, _| match tick {
        0..100 => vec![A],
        100..=120 => vec![A, B],
        _ => vec![B],
    });
    assert!(
        near(judge(&both, 100.0).dual_active_ms, 20.0),
        "{:?}",
        judge(&both, 100.0)
    );
    let handed_over = trace(1, 300, |tick, _| if tick < 100 { vec![A] } else { vec![B] });
    assert_eq!(judge(&handed_over, 99.5).dual_active_ms, 0.0);
}

#[test]
fn a_single_answer_in_the_others_time_is_seen() {
    let once = trace(
        1,
        300,
        |tick, _| if tick == 100 { vec![A, B] } else { vec![A] },
    );
    assert!(judge(&once, 100.0).dual_active_ms > 0.0);
}

#[test]
fn different_servers_on_different_addresses_are_not_dual_active() {
    let split = trace(2, 300, |_, vip| vec![vip]);
    assert_eq!(judge(&split, 100.0).dual_active_ms, 0.0);
}

#[test]
fn a_late_answer_is_a_lost_request_but_proves_activity() {
    // A is frozen from 100 on and answers what waited when it wakes up at 400, while B serves since 150.
    let mut trace = trace(1, 600, |tick, _| match tick {
        0..100 => vec![A],
        100..150 => vec![],
        _ => vec![B],
    });
    for number in 100..150 {
        trace.note(
            number,
            0,
            None,
            Seen {
                server: A,
                answered: ms(400.0),
                received: ms(400.1),
            },
        );
        trace.note(
            number,
            0,
            Some(A),
            Seen {
                server: A,
                answered: ms(400.0),
                received: ms(400.1),
            },
        );
    }
    let report = judge(&trace, 99.5);
    assert_eq!(report.lost_on_all, 50);
    assert_eq!((report.vips[0].lost, report.vips[0].late), (50, 50));
    assert!(near(report.gap_ms.unwrap_or(0.0), 50.6), "{report:?}");
    assert!(
        report.dual_active_ms > 0.0 && report.dual_active_ms < 1.0,
        "{report:?}"
    );
}

#[test]
fn a_second_answer_to_the_same_request_is_not_lost_sight_of() {
    let mut trace = trace(1, 300, |_, _| vec![A]);
    trace.note(
        100,
        0,
        None,
        Seen {
            server: B,
            answered: ms(100.2),
            received: ms(100.3),
        },
    );
    assert!(judge(&trace, 99.5).dual_active_ms > 0.0);
}

#[test]
fn requests_under_way_are_neither_lost_nor_served() {
    let trace = trace(1, 300, |tick, _| if tick < 250 { vec![A] } else { vec![] });
    let report = report(&trace, ms(0.0), ms(100.0), ms(299.0));
    assert_eq!((report.vips[0].lost, report.vips[0].sent), (0, 250));
}

#[test]
fn overlap_counts_pairs_and_touching_moments() {
    let stretch = |from, to| Stretch {
        from: ms(from),
        to: ms(to),
    };
    assert_eq!(
        overlap_ms(&[vec![stretch(0.0, 10.0)], vec![stretch(10.5, 20.0)]]),
        0.0
    );
    assert!(near(
        overlap_ms(&[
            vec![stretch(0.0, 10.0)],
            vec![stretch(4.0, 6.0), stretch(9.0, 20.0)]
        ]),
        3.0
    ));
    let three = [
        vec![stretch(0.0, 10.0)],
        vec![stretch(0.0, 10.0)],
        vec![stretch(5.0, 10.0)],
    ];
    assert!(near(overlap_ms(&three), 20.0));
}

#[test]
fn the_trace_forgets_what_is_too_old() {
    let mut trace = Trace::new(1, 1);
    for tick in 0..(crate::trace::KEEP_TICKS as u64 + 5) {
        trace.begin(Stamp(tick), 0);
    }
    assert_eq!(
        trace.ticks(Stamp(0), Stamp(u64::MAX)).count(),
        crate::trace::KEEP_TICKS
    );
    // An answer to a question whose row is gone is kept as a stray.
    let seen = Seen {
        server: 0,
        answered: Stamp(700_000),
        received: Stamp(700_000),
    };
    trace.note(2, 0, None, seen);
    assert_eq!(trace.strays(Stamp(0), Stamp(u64::MAX)).count(), 1);
}
