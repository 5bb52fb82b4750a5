//! The life of a change until it is looked at.

use super::*;

fn at(ms: u64) -> Mono {
    Mono::from_micros(ms * 1000)
}

fn path() -> RelPath {
    RelPath::parse(b"f").unwrap()
}

/// Plays events (ms, hint) and returns when the file is looked at, with whether it was open.
fn looked_at(events: &[(u64, Hint)], until: u64) -> Vec<(u64, bool)> {
    let mut settling = Settling::default();
    let mut found = Vec::new();
    for ms in 0..=until {
        for (_, hint) in events.iter().filter(|(when, _)| *when == ms) {
            settling.note(path(), *hint, at(ms), 0);
        }
        for ripe in settling.ripe(at(ms), false) {
            found.push((ms, ripe.open));
        }
    }
    found
}

#[test]
fn a_closed_file_is_looked_at_at_once() {
    use Hint::*;
    assert_eq!(
        looked_at(&[(0, Written), (0, Written), (0, Closed)], 20),
        [(1, false)]
    );
    assert_eq!(looked_at(&[(0, Other)], 20), [(1, false)]);
}

#[test]
fn an_open_file_is_looked_at_when_it_rests_and_marked_as_open() {
    use Hint::*;
    assert_eq!(looked_at(&[(0, Written), (3, Written)], 20), [(7, true)]);
}

#[test]
fn a_file_that_never_rests_is_looked_at_all_the_same() {
    let writes: Vec<_> = (0..30).map(|ms| (ms, Hint::Written)).collect();
    assert_eq!(looked_at(&writes, 35), [(15, true), (35, true)]);
}

#[test]
fn what_is_held_waits_for_its_end_but_not_for_ever() {
    let mut settling = Settling::default();
    settling.note(path(), Hint::Written, at(0), 0);
    let ripe = settling.ripe(at(4), false).remove(0);
    settling.hold(ripe, false, at(4));
    assert_eq!(settling.deadline(), Some(at(0) + LONGEST));
    assert!(settling.ripe(at(100), false).is_empty());
    settling.note(path(), Hint::Closed, at(101), 0);
    assert_eq!(settling.ripe(at(102), false).len(), 1);

    settling.note(path(), Hint::Written, at(200), 0);
    let ripe = settling.ripe(at(204), false).remove(0);
    settling.hold(ripe, false, at(204));
    let ripe = settling.ripe(at(200) + LONGEST, false).remove(0);
    assert!(ripe.overdue, "then it is taken as it is");
    assert_eq!(ripe.since, at(200));
}

#[test]
fn a_drain_takes_everything_as_it_is() {
    let mut settling = Settling::default();
    settling.note(path(), Hint::Written, at(0), 0);
    let ripe = settling.ripe(at(0), true);
    assert_eq!(ripe.len(), 1);
    assert!(!ripe[0].open);
    assert!(settling.is_empty());
}

/// An event may come after its file was read, with what the event is about.
#[test]
fn what_is_held_because_nothing_is_new_is_looked_at_after_the_next_event() {
    let mut settling = Settling::default();
    settling.note(path(), Hint::Written, at(0), 0);
    let ripe = settling.ripe(at(4), false).remove(0);
    settling.hold(ripe, true, at(4));
    assert!(settling.ripe(at(100), false).is_empty());
    settling.note(path(), Hint::Written, at(100), 0);
    let ripe = settling.ripe(at(104), false).remove(0);
    assert_eq!((ripe.since, ripe.overdue), (at(100), false));
}

#[test]
fn looks_at_an_open_file_keep_a_pace() {
    let writes: Vec<_> = (0..10).map(|line| (line * 10, Hint::Written)).collect();
    assert_eq!(looked_at(&writes, 100).len(), 5);
}
