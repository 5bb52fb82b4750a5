//! Verdicts over results written by hand.

use super::*;

fn clients(served_by: usize) -> Report {
    Report {
        vips: Vec::new(),
        gap_ms: Some(40.0),
        gap_all_ms: Some(41.0),
        handover_ms: Some(42.0),
        lost_on_all: 0,
        longest_outage_ms: 0.0,
        silent_at_end_ms: 0.0,
        dual_active_ms: 0.0,
        served_by: vec![Some(served_by), Some(served_by)],
        stall_max_ms: 0.0,
    }
}

fn event(rule: &str, from: &str, to: &str) -> Event {
    Event {
        rule: rule.into(),
        from: from.into(),
        to: to.into(),
        ..Event::default()
    }
}

const MOVES: Expect = Expect {
    active: Active::Moves,
    service: Service::Resumes,
    rules: &["B7"],
    dual: Dual::Never,
    takeovers: None,
    as_software_dead: false,
};

fn named(server: Option<usize>) -> Option<String> {
    server.map(|server| format!("s{server}"))
}

fn hardware(server: usize, _: usize) -> Mac {
    [2, 0, 0, 0, 0, u8::try_from(server).unwrap_or(u8::MAX)]
}

/// What happened on two virtual IPs that belong to `after`.
fn facts<'a>(
    before: Option<usize>,
    after: Option<usize>,
    rightful: &'a [Option<usize>],
    clients: &'a Report,
    events: &'a [Event],
) -> Facts<'a> {
    Facts {
        before,
        after,
        rightful,
        untouched: &[],
        clients,
        dual_after_contact_ms: None,
        neighbours: &[],
        files: None,
        software_dead_after_ms: 800.0,
        events,
        name: &named,
        mac: &hardware,
    }
}

/// The expectations that are not met.
fn unmet(
    expect: &Expect,
    before: Option<usize>,
    after: Option<usize>,
    clients: &Report,
    events: &[Event],
) -> Vec<String> {
    let rightful = [after, after];
    checks(expect, &facts(before, after, &rightful, clients, events))
        .into_iter()
        .filter(|check| !check.met)
        .map(|check| check.what)
        .collect()
}

#[test]
fn a_clean_takeover_passes() {
    let events = [event("B7", "standby", "taking")];
    assert_eq!(
        unmet(&MOVES, Some(0), Some(1), &clients(1), &events),
        Vec::<String>::new()
    );
}

#[test]
fn each_broken_expectation_is_named() {
    let events = [event("B7", "standby", "taking")];
    assert_eq!(
        unmet(&MOVES, Some(0), Some(0), &clients(0), &events),
        ["another server becomes active"]
    );
    assert_eq!(
        unmet(&MOVES, Some(0), None, &clients(1), &events),
        [
            "another server becomes active",
            "the active server serves every address"
        ]
    );
    let dual = Report {
        dual_active_ms: 0.001,
        ..clients(1)
    };
    assert_eq!(
        unmet(&MOVES, Some(0), Some(1), &dual, &events),
        ["no two servers answer for one address"]
    );
    let half = Report {
        served_by: vec![Some(1), Some(0)],
        ..clients(1)
    };
    assert_eq!(
        unmet(&MOVES, Some(0), Some(1), &half, &events),
        ["the active server serves every address"]
    );
    assert_eq!(
        unmet(&MOVES, Some(0), Some(1), &clients(1), &[]),
        ["rule B7 fires"]
    );
}

#[test]
fn staying_uninterrupted_and_stopping_are_told_apart() {
    let stays = Expect {
        active: Active::Stays,
        service: Service::Uninterrupted,
        rules: &[],
        ..MOVES
    };
    assert!(unmet(&stays, Some(0), Some(0), &clients(0), &[]).is_empty());
    let outage = |longest_outage_ms| Report {
        lost_on_all: 1,
        longest_outage_ms,
        ..clients(0)
    };
    let stall = outage(STALL_MAX_MS - 1.0);
    assert!(unmet(&stays, Some(0), Some(0), &stall, &[]).is_empty());
    assert_eq!(
        unmet(&stays, Some(0), Some(0), &outage(STALL_MAX_MS), &[]),
        ["the clients are served all the time (stalls below 250 ms aside)"]
    );
    let stops = Expect {
        active: Active::Nobody,
        service: Service::Stops,
        rules: &[],
        ..MOVES
    };
    assert_eq!(
        unmet(&stops, Some(0), None, &clients(0), &[]),
        ["the service stops"]
    );
    let silent = Report {
        silent_at_end_ms: 300.0,
        ..clients(0)
    };
    assert!(unmet(&stops, Some(0), None, &silent, &[]).is_empty());
    assert_eq!(
        unmet(&stops, Some(0), Some(0), &silent, &[]),
        ["nobody is active"]
    );
}

#[test]
fn nobody_before_and_nobody_after_is_neither_staying_nor_moving() {
    let stays = Expect {
        active: Active::Stays,
        service: Service::Uninterrupted,
        rules: &[],
        ..MOVES
    };
    assert!(!unmet(&stays, None, None, &clients(0), &[]).is_empty());
}

#[test]
fn the_headline_is_the_expected_rule_or_the_first_change_of_role() {
    let events = [
        event("X4", "", ""),
        event("B5", "standby", "taking"),
        event("B7", "taking", "active"),
    ];
    assert_eq!(headline(&MOVES, &events).as_deref(), Some("B7"));
    assert_eq!(
        headline(
            &Expect {
                rules: &["A1"],
                ..MOVES
            },
            &events
        )
        .as_deref(),
        Some("B5")
    );
    assert_eq!(headline(&MOVES, &events[..1]).as_deref(), Some("X4"));
    assert_eq!(headline(&MOVES, &[]), None);
}

#[test]
fn a_torn_file_on_the_active_server_fails_the_drill() {
    let files = |state_torn| FilesReport {
        on_active: history::Found {
            state_torn,
            ..history::Found::default()
        },
        not_copied: Some(3),
    };
    let judged = |state_torn| {
        let events = [event("B7", "standby", "taking")];
        let rightful = [Some(1), Some(1)];
        let (clients, files) = (clients(1), files(state_torn));
        let facts = Facts {
            files: Some(&files),
            ..facts(Some(0), Some(1), &rightful, &clients, &events)
        };
        checks(&MOVES, &facts).iter().all(|check| check.met)
    };
    assert!(judged(false) && !judged(true));
}

#[test]
fn a_neighbour_table_that_names_the_wrong_server_fails_the_drill() {
    let judged = |mac: Option<Mac>, answered_by: Option<&str>| {
        let events = [event("B7", "standby", "taking")];
        let (rightful, clients) = ([Some(1), Some(1)], clients(1));
        let known = Neighbour {
            address: "10.77.1.100".parse().expect("an address"),
            mac,
            answered_by: answered_by.map(str::to_owned),
        };
        let facts = Facts {
            neighbours: &[Some(known), None],
            ..facts(Some(0), Some(1), &rightful, &clients, &events)
        };
        checks(&MOVES, &facts).iter().all(|check| check.met)
    };
    assert!(judged(Some(hardware(1, 0)), Some("s1")));
    assert!(judged(None, Some("s1")), "no entry asks anew");
    assert!(!judged(Some(hardware(0, 0)), Some("s1")));
    assert!(!judged(Some(hardware(1, 0)), Some("s0")));
    assert!(!judged(Some(hardware(1, 0)), None));
}

#[test]
fn in_a_residual_case_two_may_serve_until_they_hear_each_other() {
    let residual = Expect {
        dual: Dual::UntilContact("R1"),
        ..MOVES
    };
    let unmet = |expect: &Expect, after_contact| {
        let events = [event("B7", "standby", "taking")];
        let rightful = [Some(1), Some(1)];
        let clients = Report {
            dual_active_ms: 1000.0,
            ..clients(1)
        };
        let facts = Facts {
            dual_after_contact_ms: after_contact,
            ..facts(Some(0), Some(1), &rightful, &clients, &events)
        };
        let unmet = checks(expect, &facts);
        unmet.into_iter().filter(|check| !check.met).count()
    };
    assert_eq!(unmet(&residual, None), 0);
    assert_eq!(unmet(&residual, Some(CONTACT_MAX_MS)), 0);
    assert_eq!(unmet(&residual, Some(CONTACT_MAX_MS + STALL_MAX_MS)), 1);
    assert_eq!(unmet(&MOVES, Some(0.0)), 1);
}

#[test]
fn more_takeovers_than_allowed_fail_the_drill() {
    let once = Expect {
        takeovers: Some(1),
        ..MOVES
    };
    let take = || event("B7", "standby", "taking");
    assert!(unmet(&once, Some(0), Some(1), &clients(1), &[take()]).is_empty());
    assert_eq!(
        unmet(&once, Some(0), Some(1), &clients(1), &[take(), take()]),
        ["the reserve moves 1 times at most"]
    );
}

#[test]
fn a_takeover_from_dead_software_that_takes_longer_than_promised_fails_the_drill() {
    let promised = Expect {
        as_software_dead: true,
        ..MOVES
    };
    let events = [event("B7", "standby", "taking")];
    let after = |gap_all_ms| Report {
        gap_all_ms,
        ..clients(1)
    };
    let unmet = |report: &Report| unmet(&promised, Some(0), Some(1), report, &events);
    assert!(unmet(&after(Some(1249.0))).is_empty());
    let late = unmet(&after(Some(1251.0)));
    assert_eq!(late.len(), 1, "{late:?}");
    assert!(late[0].contains("within 1000 ms"), "{late:?}");
}
