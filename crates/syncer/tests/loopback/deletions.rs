//! A mass deletion on the active server is held back until somebody says that it is meant so.

use std::path::Path;

use haarb_config::DeletionLimit;
use haarb_model::{Data, DirectoryState, SyncDuty};

use crate::pair::{Pair, read, sink_of, source, write};

const FILES: usize = 1500;

/// A pair in sync with some files in each of three directories.
fn pair() -> Pair {
    let pair = Pair::new();
    for number in 0..FILES {
        let dir = pair.alpha.dir().join(format!("d{}", number % 3));
        std::fs::create_dir_all(&dir).unwrap();
        write(&dir, &number.to_string(), "x");
    }
    pair.start(1);
    pair.wait_in_sync();
    pair
}

/// How many files are in the three directories.
fn count(dir: &Path) -> usize {
    let lists = ["d0", "d1", "d2"].map(|name| std::fs::read_dir(dir.join(name)));
    lists.into_iter().flatten().map(Iterator::count).sum()
}

fn remove(dir: &Path, names: &[&str]) {
    for name in names {
        std::fs::remove_dir_all(dir.join(name)).unwrap();
    }
}

fn confirm(dir: &Path) {
    std::fs::rename(dir.join(".haarb/held"), dir.join(".haarb/confirmed")).unwrap();
}

fn is_held(pair: &Pair) -> bool {
    pair.alpha.directory().held_deletions > 0
}

/// Few enough were deleted before it was noticed, and what happens besides is sent.
fn check_held(pair: &Pair, text: &str) {
    pair.wait_for(|| is_held(pair));
    write(pair.alpha.dir(), "new", text);
    pair.wait_for(|| read(pair.beta.dir(), "new") == text);
    let left = count(pair.beta.dir());
    assert!(left >= FILES - FILES / 20 - 1, "{left} are left");
    let told = pair.alpha.directory();
    assert!(
        told.error.contains("haarb sync confirm") && told.error.contains("such as d"),
        "{told:?}"
    );
}

#[test]
fn most_files_vanish_and_come_back() {
    let pair = pair();
    let elsewhere = tempfile::tempdir().unwrap();
    for name in ["d0", "d1"] {
        let from = pair.alpha.dir().join(name);
        std::fs::rename(from, elsewhere.path().join(name)).unwrap();
    }
    check_held(&pair, "while held");
    let told = pair.alpha.directory();
    assert_eq!(told.held_deletions, 1000);
    assert_eq!(told.state, DirectoryState::Syncing);
    assert!(told.pending_files > 0 && told.lag_ms > 0, "{told:?}");
    for name in ["d0", "d1"] {
        let to = pair.alpha.dir().join(name);
        std::fs::rename(elsewhere.path().join(name), to).unwrap();
    }
    pair.wait_in_sync();
    assert_eq!(pair.alpha.directory().error, "");
    assert!(!pair.alpha.dir().join(".haarb/held").exists());
    assert_eq!(count(pair.beta.dir()), FILES);
    assert_eq!(pair.beta.reserve().conflicts, 0);
}

#[test]
fn it_holds_over_restarts_and_is_carried_out_when_confirmed() {
    let mut pair = pair();
    remove(pair.alpha.dir(), &["d0", "d1", "d2"]);
    check_held(&pair, "before");
    pair.alpha.restart();
    pair.alpha.hold(source(), 1);
    check_held(&pair, "after a restart of the source");
    pair.beta.restart();
    pair.beta.hold(sink_of("alpha"), 1);
    check_held(&pair, "after a restart of the sink");
    pair.wait_for(|| pair.beta.reserve().data == Data::Current);
    confirm(pair.alpha.dir());
    pair.wait_in_sync();
    assert_eq!(count(pair.beta.dir()), 0);
    assert_eq!(pair.alpha.directory().error, "");
    assert_eq!(pair.beta.reserve().conflicts, 0);
}

/// What was deleted while the syncer did not run counts as well; and what is only on the standby
/// is not lost with it.
#[test]
fn files_that_are_missing_after_a_restart_are_held_back() {
    let mut pair = pair();
    pair.alpha.stop();
    pair.beta.stop();
    remove(pair.alpha.dir(), &["d0", "d1", "d2"]);
    write(&pair.beta.dir().join("d0"), "here-only", "a person's");
    pair.alpha.restart();
    pair.beta.restart();
    pair.start(1);
    check_held(&pair, "after it");
    pair.wait_for(|| pair.beta.reserve().data == Data::Current);
    assert_eq!(count(pair.beta.dir()), FILES + 1);
    confirm(pair.alpha.dir());
    pair.wait_in_sync();
    assert_eq!(count(pair.beta.dir()), 0);
    assert_eq!(pair.beta.reserve().conflicts, 1, "what was here only");
}

#[test]
fn a_hand_over_leaves_the_files_with_the_other_server_and_brings_them_back() {
    let pair = pair();
    remove(pair.alpha.dir(), &["d0", "d1"]);
    check_held(&pair, "before");
    let left = count(pair.beta.dir());
    pair.alpha.hold(SyncDuty::Drain, 1);
    pair.wait_for(|| pair.alpha.reserve().drained);
    pair.beta.hold(source(), 2);
    pair.alpha.hold(sink_of("beta"), 2);
    pair.wait_for(|| pair.alpha.reserve().data == Data::Current && pair.alpha.is_receiving());
    pair.wait_for(|| pair.beta.directory().state == DirectoryState::InSync);
    assert_eq!(pair.beta.directory().held_deletions, 0);
    assert_eq!(count(pair.alpha.dir()), left);
    assert_eq!(read(pair.alpha.dir(), "new"), "before");
    assert!(!pair.alpha.dir().join(".haarb/held").exists());
    assert_eq!(pair.alpha.reserve().conflicts, 0);
}

/// A directory that is replaced by something else is deleted, too.
#[test]
fn a_directory_that_becomes_a_symlink_is_held_back() {
    let pair = pair();
    let elsewhere = tempfile::tempdir().unwrap();
    for name in ["d0", "d1"] {
        let at = pair.alpha.dir().join(name);
        std::fs::rename(&at, elsewhere.path().join(name)).unwrap();
        std::os::unix::fs::symlink("elsewhere", &at).unwrap();
    }
    check_held(&pair, "beside it");
    assert!(pair.beta.dir().join("d1").is_dir());
    confirm(pair.alpha.dir());
    pair.wait_in_sync();
    assert!(pair.beta.dir().join("d1").is_symlink());
}

#[test]
fn renames_and_a_directory_without_a_limit_ask_nobody() {
    let mut pair = pair();
    for name in ["d0", "d1", "d2"] {
        let new = pair.alpha.dir().join(format!("new-{name}"));
        std::fs::rename(pair.alpha.dir().join(name), new).unwrap();
    }
    pair.wait_for(|| count(pair.beta.dir()) == 0);
    pair.wait_in_sync();
    assert_eq!(pair.alpha.directory().held_deletions, 0);
    pair.alpha.limit_deletions(DeletionLimit::None);
    pair.alpha.hold(source(), 1);
    pair.wait_in_sync();
    for name in ["new-d0", "new-d1", "new-d2"] {
        std::fs::remove_dir_all(pair.alpha.dir().join(name)).unwrap();
    }
    pair.wait_for(|| !pair.beta.dir().join("new-d2").exists());
    pair.wait_in_sync();
}

/// An answer to an earlier question confirms nothing.
#[test]
fn an_old_answer_has_no_effect() {
    let pair = pair();
    remove(pair.alpha.dir(), &["d0", "d1"]);
    pair.wait_for(|| is_held(&pair));
    let place = pair.alpha.dir().join(".haarb");
    std::fs::write(place.join("confirmed"), "another question").unwrap();
    pair.wait_for(|| !place.join("confirmed").exists());
    check_held(&pair, "still");
    assert!(place.join("held").exists());
}
