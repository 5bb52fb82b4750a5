use super::*;

const PATIENCE: Span = Span::from_millis(15);

fn us(us: u64) -> Mono {
    Mono::from_micros(1_000_000 + us)
}

/// A switch that answered at 0.
fn answered() -> SwitchWatch {
    let mut switch = SwitchWatch::new(&Timing::telecom());
    switch.echo_sent(0, us(0));
    assert!(switch.echo_reply(0, us(80)));
    switch
}

/// Asks as the engine does, from the regular request at 10 ms on, until `until`; nobody answers.
fn ask_in_vain(switch: &mut SwitchWatch, until: u64) -> u64 {
    let (mut number, mut now) = (0, us(10_000));
    while now <= us(until) {
        number += 1;
        switch.echo_sent(number, now);
        match switch.burst_at(now) {
            Some(at) => now = at,
            None => break,
        }
    }
    number
}

#[test]
fn before_its_first_reply_it_is_silent_and_not_worth_a_burst() {
    let mut switch = SwitchWatch::new(&Timing::telecom());
    assert_eq!(switch.answer(us(0), false), SwitchAnswer::Silent);
    switch.echo_sent(1, us(0));
    assert_eq!(switch.answer(us(9_000), false), SwitchAnswer::Silent);
    assert!(switch.is_missing(us(9_000), PATIENCE, None));
    assert_eq!(switch.burst_at(us(9_000)), None);
}

#[test]
fn an_overdue_answer_starts_a_burst_and_any_answer_ends_it() {
    let mut switch = answered();
    assert_eq!(switch.burst_at(us(5_000)), None);
    switch.echo_sent(1, us(10_000));
    let due = switch.burst_at(us(10_000)).expect("due");
    assert!(due >= us(10_500) && due <= us(11_000), "{due:?}");
    switch.echo_sent(2, us(11_000));
    assert_eq!(switch.burst_at(us(11_000)), Some(us(12_000)));
    assert!(switch.echo_reply(2, us(11_400)));
    assert_eq!(switch.burst_at(us(11_400)), None);
    assert_eq!(switch.missing(us(12_000)), 0);
}

#[test]
fn it_is_missing_after_ten_requests_and_silent_after_many_more() {
    let mut switch = answered();
    ask_in_vain(&mut switch, 18_900);
    assert!(!switch.is_missing(us(18_900), PATIENCE, None));
    let mut switch = answered();
    ask_in_vain(&mut switch, 19_900);
    assert!(switch.is_missing(us(20_500), PATIENCE, None));
    assert_eq!(switch.answer(us(20_500), true), SwitchAnswer::Silent);
    assert_eq!(switch.answer(us(20_500), false), SwitchAnswer::Answers);
    // A neighbour that was heard a moment ago proves that we are not cut off.
    assert!(!switch.is_missing(us(20_500), PATIENCE, Some(us(11_000))));
    assert!(switch.is_missing(us(21_000), PATIENCE, Some(us(11_000))));
    let late = switch.deadline(us(20_500), PATIENCE);
    assert_eq!(late, Mono::FAR, "more requests first");
}

#[test]
fn a_silent_switch_is_not_flooded() {
    let mut switch = answered();
    let asked = ask_in_vain(&mut switch, 1_000_000);
    assert!((25..=27).contains(&asked), "{asked}");
    let now = us(40_000);
    assert_eq!(switch.answer(now, false), SwitchAnswer::Silent);
    assert_eq!(switch.burst_at(now), None);
    assert!(switch.echo_reply(asked, now));
    assert_eq!(switch.answer(now, false), SwitchAnswer::Answers);
}

#[test]
fn what_cannot_leave_is_silence_at_once() {
    let mut switch = answered();
    switch.cannot_send();
    assert_eq!(switch.answer(us(1_000), false), SwitchAnswer::Silent);
    assert_eq!(switch.burst_at(us(1_000)), None);
}
