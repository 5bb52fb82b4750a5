use super::*;

fn limits() -> Limits {
    Limits {
        restarts: 1,
        window: Span::from_secs(60),
    }
}

fn machine(state: State) -> Machine {
    let mut machine = Machine::new(limits());
    machine.adopt(state);
    machine
}

const OLD: Mono = Mono::from_micros(1000);
const NOW: Mono = Mono::from_micros(5_000_000);
/// The first restart is due at once.
const DUE: Mono = NOW;
const AGAIN: Mono = Mono::from_micros(6_000_000);

const STATES: [State; 9] = [
    State::Unknown,
    State::Stopped,
    State::Starting,
    State::Running { since: OLD },
    State::Broken { until: OLD },
    State::Cleaning { until: OLD },
    State::Waiting { until: OLD },
    State::Stopping,
    State::Stuck { until: OLD },
];

/// Every state with one input: next state, action, failures counted.
type Row = (State, Option<Act>, bool);

fn check(input: Input<'_>, expected: [Row; 9]) {
    for (state, (next, act, counted)) in STATES.into_iter().zip(expected) {
        let mut machine = machine(state);
        let got = machine.step(NOW, input);
        assert_eq!(
            (machine.state(), got),
            (next, act),
            "{state:?} with {input:?}"
        );
        // One more failure goes beyond one restart exactly if this one was counted.
        machine.restarts.note(NOW, "probe");
        let failed = machine.restarts.failed().is_some();
        assert_eq!(failed, counted, "{state:?} with {input:?} counts");
    }
}

const fn to(state: State) -> Row {
    (state, None, false)
}

const fn fails(state: State) -> Row {
    (state, None, true)
}

const fn does(state: State, act: Act) -> Row {
    (state, Some(act), false)
}

const UNKNOWN: State = State::Unknown;
const STOPPED: State = State::Stopped;
const STARTING: State = State::Starting;
const STOPPING: State = State::Stopping;
const RUNNING: State = State::Running { since: OLD };
const RUNNING_NOW: State = State::Running { since: NOW };
const BROKEN: State = State::Broken { until: OLD };
const BROKEN_NOW: State = State::Broken { until: DUE };
const CLEANING: State = State::Cleaning { until: OLD };
const WAITING: State = State::Waiting { until: OLD };
const WAITING_NOW: State = State::Waiting { until: DUE };
const STUCK: State = State::Stuck { until: OLD };
const STUCK_NOW: State = State::Stuck { until: AGAIN };

// The rows are in the order of STATES: unknown, stopped, starting, running, broken, cleaning,
// waiting, stopping, stuck.

#[test]
fn idle() {
    check(
        Input::Idle,
        [
            to(STOPPED),
            to(STOPPED),
            to(STOPPED),
            to(STOPPED),
            to(WAITING),
            to(WAITING),
            to(WAITING),
            to(STOPPED),
            to(STOPPED),
        ],
    );
}

#[test]
fn alive() {
    check(
        Input::Alive,
        [
            to(RUNNING_NOW),
            to(RUNNING_NOW),
            to(RUNNING_NOW),
            to(RUNNING),
            to(RUNNING_NOW),
            to(CLEANING),
            to(RUNNING_NOW),
            to(STOPPING),
            to(RUNNING_NOW),
        ],
    );
}

#[test]
fn gone() {
    check(
        Input::Gone("x"),
        [
            fails(WAITING_NOW),
            to(STOPPED),
            fails(WAITING_NOW),
            fails(WAITING_NOW),
            to(WAITING),
            to(WAITING),
            to(WAITING),
            to(STOPPED),
            to(STOPPED),
        ],
    );
}

#[test]
fn sick() {
    check(
        Input::Sick("x"),
        [
            fails(BROKEN_NOW),
            to(STOPPED),
            fails(BROKEN_NOW),
            fails(BROKEN_NOW),
            to(BROKEN),
            to(CLEANING),
            to(BROKEN),
            to(STOPPING),
            to(STUCK),
        ],
    );
}

#[test]
fn stop_failed() {
    check(Input::StopFailed("x"), [to(STUCK_NOW); 9]);
}

#[test]
fn lost() {
    let mut expected = [to(UNKNOWN); 9];
    expected[2] = fails(UNKNOWN);
    expected[3] = fails(UNKNOWN);
    check(Input::Lost("x"), expected);
}

#[test]
fn start() {
    check(
        Input::Start,
        [
            to(UNKNOWN),
            does(STARTING, Act::Start),
            to(STARTING),
            to(RUNNING),
            to(BROKEN),
            to(CLEANING),
            does(STARTING, Act::Start),
            to(STOPPING),
            to(STUCK),
        ],
    );
}

#[test]
fn stop() {
    check(
        Input::Stop,
        [
            does(STOPPING, Act::Stop),
            to(STOPPED),
            does(STOPPING, Act::Stop),
            does(STOPPING, Act::Stop),
            does(CLEANING, Act::Stop),
            to(CLEANING),
            to(STOPPED),
            to(STOPPING),
            does(STOPPING, Act::Stop),
        ],
    );
}

#[test]
fn a_service_that_does_not_stop_says_so_until_it_did() {
    let mut machine = machine(STOPPING);
    machine.step(
        NOW,
        Input::StopFailed("its stop command exited with status 1"),
    );
    assert_eq!(
        machine.failed(),
        Some("its stop command exited with status 1")
    );
    assert!(!machine.is_stopped());
    assert_eq!(machine.deadline(), Some(AGAIN));
    machine.step(AGAIN, Input::Stop);
    assert!(
        machine.failed().is_some(),
        "the second attempt has not succeeded yet"
    );
    machine.step(AGAIN, Input::Idle);
    assert_eq!(machine.failed(), None);
    assert!(machine.is_stopped());
}

#[test]
fn after_too_many_failures_it_heals_by_running_or_by_an_operator() {
    let mut crashing = machine(STARTING);
    crashing.step(NOW, Input::Gone("exited with status 1"));
    crashing.step(NOW, Input::Start);
    assert_eq!(crashing.failed(), None);
    crashing.step(NOW, Input::Gone("exited with status 1"));
    assert_eq!(
        crashing.failed(),
        Some("exited with status 1 (2 failures within 60s)")
    );

    let mut cleared = crashing.clone();
    cleared.clear(NOW);
    assert_eq!(cleared.failed(), None);
    assert_eq!(cleared.state(), WAITING_NOW);

    crashing.step(NOW, Input::Start);
    crashing.step(NOW, Input::Alive);
    let healthy = NOW + Span::from_secs(60);
    assert_eq!(crashing.deadline(), Some(healthy));
    crashing.tick(NOW + Span::from_secs(59));
    assert!(crashing.failed().is_some());
    crashing.tick(healthy);
    assert_eq!((crashing.failed(), crashing.deadline()), (None, None));
}

#[test]
fn only_what_is_certain_counts_as_stopped() {
    let stopped: Vec<State> = (STATES.into_iter())
        .filter(|state| machine(*state).is_stopped())
        .collect();
    assert_eq!(stopped, [STOPPED, WAITING]);
}
