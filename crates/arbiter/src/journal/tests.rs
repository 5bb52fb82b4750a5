use haarb_model::{Epoch, ReserveName, Severity};

use super::*;

fn event(reserve: &str, from: Role, to: Role) -> Event {
    Event {
        severity: Severity::Info,
        rule: "B7",
        reserve: Some(ReserveName::new(reserve).expect("a name")),
        from: Some(from),
        to: Some(to),
        epoch: Epoch(3),
        why: "because".into(),
        evidence: vec![("links", "all".into())],
    }
}

fn journal(directory: &Path) -> Journal {
    Journal::open(directory, NodeName::new("alpha").expect("a name"))
}

/// Waits for the writing thread by looking at what it writes.
fn wait_for_lines(directory: &Path, lines: usize) {
    let path = directory.join("events.jsonl");
    for _ in 0..2000 {
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        if written.matches('\n').count() >= lines {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{lines} line(s) were not written in ten seconds");
}

#[test]
fn events_survive_a_restart_and_go_on_counting() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = journal(directory.path());
    first.note(event("sip", Role::Standby, Role::Taking));
    first.note(event("sip", Role::Taking, Role::Active));
    wait_for_lines(directory.path(), 2);

    let second = journal(directory.path());
    second.note(event("web", Role::Starting, Role::Standby));
    let (events, _) = second.since(0);
    assert_eq!(events.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(events[1].to, "active");
}

#[test]
fn a_torn_last_line_costs_that_line_only() {
    let directory = tempfile::tempdir().expect("a directory");
    journal(directory.path()).note(event("sip", Role::Standby, Role::Taking));
    wait_for_lines(directory.path(), 1);
    let path = directory.path().join("events.jsonl");
    let mut text = std::fs::read_to_string(&path).expect("the log");
    text.push_str("{\"seq\":2,\"at_un");
    std::fs::write(&path, text).expect("the log");

    assert_eq!(journal(directory.path()).since(0).0.len(), 1);
}

#[test]
fn without_a_disk_everything_is_in_memory() {
    let journal = journal(Path::new("/nonexistent/haarb"));
    journal.note(event("sip", Role::Standby, Role::Taking));
    assert_eq!(journal.since(0).0.len(), 1);
}

#[test]
fn why_finds_the_last_change_of_each_reserve_and_passes_over_the_rest() {
    let journal = journal(Path::new("/nonexistent/haarb"));
    journal.note(event("web", Role::Starting, Role::Standby));
    journal.note(event("sip", Role::Standby, Role::Taking));
    journal.note(event("sip", Role::Taking, Role::Active));
    journal.note(event("sip", Role::Active, Role::Active));
    let last = journal.last_changes("");
    let found: Vec<_> = last.iter().map(|e| (e.reserve.as_str(), e.seq)).collect();
    assert_eq!(found, [("sip", 3), ("web", 1)]);
    assert_eq!(journal.last_changes("web").len(), 1);
    assert!(journal.last_changes("other").is_empty());
}
