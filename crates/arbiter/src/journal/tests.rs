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

    let next = journal(directory.path());
    assert_eq!(next.since(0).0.len(), 1);
    // Nor does it swallow what comes after it.
    next.note(event("sip", Role::Taking, Role::Active));
    wait_for_lines(directory.path(), 3);
    assert_eq!(journal(directory.path()).since(0).0.len(), 2);
}

/// Notes events until the queue to the disk is full for certain.
fn note_too_many(journal: &Journal) -> u64 {
    // One is in the hands of the writer.
    let many = WAITING + 1 + 100;
    for _ in 0..many {
        journal.note(event("sip", Role::Standby, Role::Taking));
    }
    many as u64
}

#[test]
fn a_disk_that_stands_still_holds_nobody_up_and_what_it_misses_is_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = journal(directory.path());
    let path = directory.path().join("events.jsonl");
    // To open it takes as long as nobody reads it.
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let noted = note_too_many(&journal);
    let turned_away = journal.turned_away.load(Ordering::Relaxed);
    assert!((100..=101).contains(&turned_away), "{turned_away}");
    assert_eq!(journal.since(0).0.len() as u64, noted, "all in memory");

    // The disk goes on: what waited is written, and the count is told and begins anew.
    let written = BufReader::new(File::open(&path).expect("the fifo")).lines();
    let waited = usize::try_from(noted - turned_away).expect("a small number");
    assert_eq!(written.take(waited).flatten().count(), waited);
    for _ in 0..2000 {
        if journal.turned_away.load(Ordering::Relaxed) == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("the count was not told in ten seconds");
}

#[test]
fn a_full_disk_costs_the_events_of_its_time_and_no_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let turned_away = Arc::new(AtomicU64::new(2));
    let mut writer = Writer {
        path: "/dev/full".into(),
        file: None,
        torn: false,
        lost: 0,
        turned_away: Arc::clone(&turned_away),
    };
    let journal = journal(Path::new("/nonexistent/haarb"));
    journal.note(event("sip", Role::Standby, Role::Taking));
    let entry = journal.since(0).0.remove(0);
    writer.write(&entry);
    writer.write(&entry);
    assert_eq!((writer.lost, writer.torn), (2, true));

    // The file system took a part of the second one.
    writer.path = directory.path().join("events.jsonl");
    std::fs::write(&writer.path, b"{\"seq\":2,\"at_un").expect("the log");
    writer.write(&entry);
    assert_eq!((writer.lost, turned_away.load(Ordering::Relaxed)), (0, 0));
    assert_eq!(read_back(&writer.path).expect("the log"), [entry]);
}

#[test]
fn without_a_disk_everything_is_in_memory() {
    let journal = journal(Path::new("/nonexistent/haarb"));
    journal.note(event("sip", Role::Standby, Role::Taking));
    assert_eq!(journal.since(0).0.len(), 1);
}

/// Notes more events than may wait for a disk on which the log lies at `path`: all of them are in
/// memory, and nobody waited.
fn notes_without_waiting(path: PathBuf) {
    let (disk, waiting) = sync_channel::<Entry>(WAITING);
    let turned_away = Arc::new(AtomicU64::new(0));
    let mut writer = Writer {
        path,
        file: None,
        torn: false,
        lost: 0,
        turned_away: Arc::clone(&turned_away),
    };
    std::thread::spawn(move || waiting.into_iter().for_each(|entry| writer.write(&entry)));
    let journal = Journal {
        node: NodeName::new("alpha").expect("a name"),
        kept: Arc::default(),
        live: broadcast::channel(WAITING).0,
        disk,
        turned_away,
    };
    let (done, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..2 * WAITING {
            journal.note(event("sip", Role::Standby, Role::Taking));
        }
        let _ = done.send(journal.since(0).0.len());
    });
    let patience = std::time::Duration::from_secs(60);
    let kept = told.recv_timeout(patience).expect("it never waits");
    assert_eq!(kept, 2 * WAITING);
}

#[test]
fn a_full_disk_costs_lines_on_disk_and_no_time() {
    // Takes writes and refuses them: no space left on device.
    notes_without_waiting("/dev/full".into());
}

#[test]
fn a_disk_that_stands_still_costs_lines_on_disk_and_no_time() {
    let directory = tempfile::tempdir().expect("a directory");
    // Opening a fifo that nobody reads waits for ever, as a file system that hangs.
    let fifo = directory.path().join("events.jsonl");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    notes_without_waiting(fifo);
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
