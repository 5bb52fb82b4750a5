//! Two syncers in one process, over loopback, with real inotify: what an operator would see.

mod deletions;
mod full;
mod kinds;
mod pair;
mod relay;

use std::time::{Duration, Instant};

use haarb_model::{Data, DirectoryState};
use pair::{Pair, read, sink_of, source, write};

#[test]
fn a_change_is_on_the_other_side_and_acknowledged() {
    let pair = Pair::new();
    write(pair.alpha.dir(), "before", "one");
    pair.start(1);
    pair.wait_in_sync();
    assert_eq!(read(pair.beta.dir(), "before"), "one");
    assert_eq!(pair.beta.reserve().data, Data::Current);

    write(pair.alpha.dir(), "before", "two");
    std::fs::create_dir(pair.alpha.dir().join("d")).unwrap();
    write(pair.alpha.dir(), "d/new", "three");
    pair.wait_for(|| read(pair.beta.dir(), "d/new") == "three");
    pair.wait_for(|| read(pair.beta.dir(), "before") == "two");

    std::fs::rename(pair.alpha.dir().join("d"), pair.alpha.dir().join("e")).unwrap();
    pair.wait_for(|| !pair.beta.dir().join("d").exists());
    assert_eq!(read(pair.beta.dir(), "e/new"), "three");
    write(pair.alpha.dir(), "e/later", "four");
    pair.wait_for(|| read(pair.beta.dir(), "e/later") == "four");

    std::fs::remove_dir_all(pair.alpha.dir().join("e")).unwrap();
    pair.wait_for(|| !pair.beta.dir().join("e").exists());
    pair.wait_in_sync();
    assert_eq!(pair.beta.reserve().conflicts, 0);
}

#[test]
fn a_planned_switchover_drains_and_turns_the_direction() {
    let pair = Pair::new();
    pair.start(1);
    pair.wait_in_sync();
    for number in 0..50 {
        write(pair.alpha.dir(), &format!("f{number}"), "x");
    }
    pair.alpha.hold(haarb_model::SyncDuty::Drain, 1);
    pair.wait_for(|| pair.alpha.reserve().drained);
    for number in 0..50 {
        assert_eq!(read(pair.beta.dir(), &format!("f{number}")), "x");
    }
    pair.beta.hold(source(), 2);
    pair.alpha.hold(sink_of("beta"), 2);
    pair.wait_for(|| pair.alpha.reserve().data == Data::Current && pair.alpha.is_receiving());
    write(pair.beta.dir(), "f0", "from beta");
    pair.wait_for(|| read(pair.alpha.dir(), "f0") == "from beta");
    assert_eq!(pair.alpha.reserve().conflicts, 0);
}

#[test]
fn without_a_sink_nothing_is_drained_and_the_standby_stays_current_after_the_loss() {
    let pair = Pair::new();
    write(pair.alpha.dir(), "f", "one");
    pair.alpha.hold(source(), 1);
    pair.wait_for(|| pair.alpha.directory().state == DirectoryState::WaitingForPeer);
    pair.alpha.hold(haarb_model::SyncDuty::Drain, 1);
    pair.wait_for(|| pair.alpha.directory().state == DirectoryState::WaitingForPeer);
    assert!(!pair.alpha.reserve().drained);

    pair.start(2);
    pair.wait_in_sync();
    pair.alpha.hold(haarb_model::SyncDuty::Off, 2);
    pair.wait_for(|| pair.beta.directory().state == DirectoryState::WaitingForSource);
    assert_eq!(pair.beta.reserve().data, Data::Current);
    // The arbiter of the standby hears nothing either, then takes over.
    pair.beta.hold(haarb_model::SyncDuty::Off, 2);
    pair.wait_for(|| pair.beta.directory().state == DirectoryState::Idle);
    assert_eq!(pair.beta.reserve().data, Data::Current);
}

/// A writer rewrites a file all the time, in place and by rename; under its name the standby
/// never shows a version that is not whole.
#[test]
fn a_torn_file_is_never_visible() {
    let pair = Pair::new();
    pair.start(1);
    pair.wait_in_sync();
    let end = Instant::now() + Duration::from_millis(1500);
    let mut versions = std::collections::BTreeSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0u32;
            while Instant::now() < end {
                number += 1;
                let content = format!("{number:08}").repeat(2000);
                write(pair.alpha.dir(), "in-place", &content);
                write(pair.alpha.dir(), "new", &content);
                let (from, to) = (
                    pair.alpha.dir().join("new"),
                    pair.alpha.dir().join("renamed"),
                );
                std::fs::rename(from, to).unwrap();
                // A status file, not a benchmark of rewriting: between two versions there is a
                // moment in which it is closed.
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        while Instant::now() < end {
            for name in ["in-place", "renamed"] {
                let content = read(pair.beta.dir(), name);
                let Some(first) = content.get(..8) else {
                    let seen = versions.iter().any(|(other, _)| *other == name);
                    assert!(!seen, "{name} is empty between two versions");
                    continue;
                };
                let whole = content == first.repeat(2000);
                assert!(whole, "{name} is torn: {} bytes", content.len());
                versions.insert((name, first.to_owned()));
            }
        }
    });
    pair.wait_for(|| {
        ["in-place", "renamed"]
            .into_iter()
            .all(|name| read(pair.alpha.dir(), name) == read(pair.beta.dir(), name))
    });
    assert!(versions.len() > 5, "only {} versions seen", versions.len());
}

/// A log that stays open is sent while it is written.
#[test]
fn an_open_log_is_followed() {
    use std::io::Write as _;
    let pair = Pair::new();
    write(pair.alpha.dir(), "log", "begin\n");
    pair.start(1);
    pair.wait_in_sync();
    let path = pair.alpha.dir().join("log");
    let mut log = std::fs::File::options().append(true).open(path).unwrap();
    for number in 0..5 {
        let line = format!("line {number}\n");
        log.write_all(line.as_bytes()).unwrap();
        pair.wait_for(|| read(pair.beta.dir(), "log").ends_with(&line));
    }
}

#[test]
fn a_lower_epoch_is_refused_and_a_higher_one_stops_the_source() {
    let pair = Pair::new();
    write(pair.alpha.dir(), "f", "of an old active");
    pair.beta.hold(sink_of("alpha"), 9);
    pair.alpha.hold(source(), 5);
    pair.wait_for(|| pair.alpha.directory().state == DirectoryState::Error);
    assert!(pair.alpha.directory().error.contains("epoch 9"));
    assert!(!pair.beta.dir().join("f").exists());
    // Activated again, it is followed.
    pair.alpha.hold(source(), 10);
    pair.wait_for(|| read(pair.beta.dir(), "f") == "of an old active");
    // And the epoch is remembered over a restart, whatever the arbiter of a fresh start says.
    let mut pair = pair;
    pair.wait_for(|| pair.beta.reserve().epoch.0 == 10);
    pair.beta.restart();
    write(pair.alpha.dir(), "f", "again");
    pair.alpha.hold(source(), 9);
    pair.beta.hold(sink_of("alpha"), 9);
    pair.wait_for(|| pair.alpha.directory().error.contains("epoch 10"));
    assert_eq!(read(pair.beta.dir(), "f"), "of an old active");
}

#[test]
fn a_stranger_gets_nothing_and_is_counted() {
    let pair = Pair::new();
    write(pair.alpha.dir(), "secret", "x");
    let stranger = pair.stranger();
    pair.alpha.hold(source(), 1);
    stranger.hold(sink_of("alpha"), 1);
    pair.wait_for(|| pair.alpha.refused("wrong key or replay") >= 2);
    assert!(!stranger.dir().join("secret").exists());
    // The others are not disturbed.
    pair.beta.hold(sink_of("alpha"), 1);
    pair.wait_for(|| read(pair.beta.dir(), "secret") == "x");
}

/// One network goes silent in the middle of a large file: it arrives over the other one, and
/// what was received before is not sent again.
#[test]
fn a_cut_link_is_left_for_the_other_network_and_resumed() {
    let pair = Pair::with_relays();
    pair.start(1);
    pair.wait_in_sync();
    let big: Vec<u8> = (0..48 * 1024 * 1024u32)
        .map(|i| (i / 7 % 251) as u8)
        .collect();
    std::fs::write(pair.alpha.dir().join("big"), &big).unwrap();
    let half = big.len() as u64 / 2;
    pair.wait_for(|| pair.relays().iter().any(|relay| relay.carried() > half));
    let carries = |relay: &&relay::Relay| relay.carried() > half;
    let cut = pair.relays().iter().find(carries).unwrap();
    cut.silence();
    let before: u64 = pair.relays().iter().map(relay::Relay::carried).sum();
    pair.wait_for(|| pair.beta.dir().join("big").exists());
    assert!(std::fs::read(pair.beta.dir().join("big")).unwrap() == big);
    let carried: u64 = pair.relays().iter().map(relay::Relay::carried).sum();
    // What was under way when it was cut may be lost: buffers of sockets and of the relay.
    assert!(
        carried < before + half + 8 * 1024 * 1024,
        "{carried} bytes in all, {before} before the cut"
    );
    write(pair.alpha.dir(), "after", "still alive");
    pair.wait_for(|| read(pair.beta.dir(), "after") == "still alive");
}

/// The arbiter knows at once that a network is gone; a channel stands ready on the other one.
#[test]
fn a_lost_network_is_left_for_a_channel_that_is_ready() {
    let pair = Pair::with_relays();
    // A source that is there at once is followed over the first network.
    pair.alpha.hold(source(), 1);
    pair.wait_for(|| pair.alpha.directory().state == DirectoryState::WaitingForPeer);
    pair.beta.hold(sink_of("alpha"), 1);
    pair.wait_in_sync();
    let [red, blue] = pair.relays() else {
        panic!("two networks")
    };
    // The handshake is 100 bytes, and signs of life have followed it for a second.
    pair.wait_for(|| red.carried().min(blue.carried()) > 300);
    red.silence();
    let begun = Instant::now();
    pair.beta.heard("alpha", &["blue"]);
    write(pair.alpha.dir(), "file", "over blue");
    pair.wait_for(|| read(pair.beta.dir(), "file") == "over blue");
    println!("over the other network after {:?}", begun.elapsed());
    assert_eq!(blue.connections(), 1, "the one that was ready");
    pair.wait_in_sync();
}

#[test]
fn an_empty_source_stops_instead_of_emptying_the_replica() {
    let mut pair = Pair::new();
    write(pair.alpha.dir(), "f", "precious");
    pair.start(1);
    pair.wait_in_sync();
    // The file system is not mounted: an empty directory is in its place.
    pair.alpha.stop();
    std::fs::rename(pair.alpha.dir(), pair.alpha.dir().with_extension("away")).unwrap();
    std::fs::create_dir(pair.alpha.dir()).unwrap();
    pair.alpha.restart();
    pair.start(2);
    pair.wait_for(|| pair.alpha.directory().error.contains("is empty here"));
    assert_eq!(pair.alpha.directory().state, DirectoryState::Error);
    assert_eq!(read(pair.beta.dir(), "f"), "precious");
    // A missing one says so, too, and goes on once it is there.
    pair.alpha.stop();
    std::fs::remove_dir_all(pair.alpha.dir()).unwrap();
    pair.alpha.restart();
    pair.start(3);
    pair.wait_for(|| pair.alpha.directory().error.contains("does not exist"));
    std::fs::rename(pair.alpha.dir().with_extension("away"), pair.alpha.dir()).unwrap();
    pair.wait_in_sync();
    assert_eq!(read(pair.beta.dir(), "f"), "precious");
    assert_eq!(pair.beta.reserve().conflicts, 0);
}

#[test]
fn changes_on_the_standby_are_seen_kept_and_undone() {
    let pair = Pair::new();
    std::fs::create_dir_all(pair.alpha.dir().join("dir/deep")).unwrap();
    for name in ["changed", "removed", "dir/deep/file", "quiet"] {
        write(pair.alpha.dir(), name, "alpha's");
    }
    pair.start(1);
    pair.wait_in_sync();
    let at = |name: &str| pair.beta.dir().join(name);
    write(pair.beta.dir(), "changed", "beta's");
    write(pair.beta.dir(), "made", "beta's, too");
    std::fs::remove_file(at("removed")).unwrap();
    std::fs::remove_dir_all(at("dir")).unwrap();
    pair.wait_for(|| {
        let back = ["changed", "removed", "dir/deep/file", "quiet"];
        back.iter()
            .all(|name| read(pair.beta.dir(), name) == "alpha's")
            && !at("made").exists()
    });
    pair.wait_in_sync();
    pair.wait_for(|| pair.beta.reserve().conflicts == 2);
    // Once it is as it should be, nothing is sent any more.
    write(pair.alpha.dir(), "last", "sent");
    pair.wait_for(|| read(pair.beta.dir(), "last") == "sent");
    assert_eq!(pair.beta.reserve().conflicts, 2);
}

/// Only the active server's configuration says so: the standby follows it.
#[test]
fn what_is_left_out_is_left_alone_on_both_sides() {
    let mut pair = Pair::new();
    let there = |pair: &Pair, name: &str| pair.beta.dir().join(name).exists();
    for dir in [pair.alpha.dir(), pair.beta.dir()] {
        std::fs::create_dir_all(dir.join("cache/deep")).unwrap();
    }
    write(pair.alpha.dir(), "kept", "one");
    write(pair.alpha.dir(), "a.tmp", "alpha's");
    write(pair.alpha.dir(), "cache/deep/x", "alpha's");
    write(pair.beta.dir(), "b.tmp", "beta's");
    write(pair.beta.dir(), "cache/deep/x", "beta's");
    pair.alpha.leave_out(&["*.tmp", "/cache/"]);
    pair.start(1);
    pair.wait_in_sync();
    write(pair.alpha.dir(), "c.tmp", "alpha's");
    write(pair.alpha.dir(), "cache/deep/y", "alpha's");
    write(pair.alpha.dir(), "last", "sent");
    pair.wait_for(|| read(pair.beta.dir(), "last") == "sent");
    pair.wait_in_sync();
    assert_eq!(read(pair.beta.dir(), "kept"), "one");
    assert_eq!(read(pair.beta.dir(), "b.tmp"), "beta's");
    assert_eq!(read(pair.beta.dir(), "cache/deep/x"), "beta's");
    for name in ["a.tmp", "c.tmp", "cache/deep/y"] {
        assert!(!there(&pair, name), "{name}");
    }
    // A name that is left out of a file that is not.
    let (sent, left_out) = (
        pair.alpha.dir().join("last"),
        pair.alpha.dir().join("d.tmp"),
    );
    std::fs::hard_link(sent, left_out).unwrap();
    write(pair.alpha.dir(), "d.tmp", "through the other name");
    pair.wait_for(|| read(pair.beta.dir(), "last") == "through the other name");
    // Renamed out of and into the patterns.
    let rename = |from: &str, to: &str| {
        let dir = pair.alpha.dir();
        std::fs::rename(dir.join(from), dir.join(to)).unwrap();
    };
    rename("a.tmp", "a");
    rename("kept", "kept.tmp");
    rename("cache", "store");
    pair.wait_for(|| {
        read(pair.beta.dir(), "a") == "alpha's"
            && read(pair.beta.dir(), "store/deep/y") == "alpha's"
            && !there(&pair, "kept")
    });
    pair.wait_in_sync();
    assert_eq!(read(pair.beta.dir(), "cache/deep/x"), "beta's");
    assert_eq!(pair.beta.reserve().conflicts, 0);
}

#[test]
fn what_a_file_is_besides_its_content_arrives() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let pair = Pair::new();
    let file = pair.alpha.dir().join("f");
    write(pair.alpha.dir(), "f", "x");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o4750)).unwrap();
    let handle = std::fs::File::options().write(true).open(&file).unwrap();
    handle
        .set_modified(std::time::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789))
        .unwrap();
    let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"odd\n\xff name");
    let odd: &std::ffi::OsStr = odd;
    symlink("nowhere\nat all", pair.alpha.dir().join(odd)).unwrap();
    let xattr = rustix::fs::setxattr(&file, "user.note", b"kept", rustix::fs::XattrFlags::empty());
    pair.start(1);
    pair.wait_in_sync();
    let there = pair.beta.dir().join("f");
    let meta = there.metadata().unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o4750);
    assert_eq!(
        (meta.mtime(), meta.mtime_nsec()),
        (1_000_000_000, 123_456_789)
    );
    let link = pair.beta.dir().join(odd).read_link().unwrap();
    assert_eq!(link.to_str().unwrap(), "nowhere\nat all");
    if xattr.is_ok() {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(&there, "user.note", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"kept");
    }
    // Attributes alone, later.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    pair.wait_for(|| there.metadata().unwrap().mode() & 0o7777 == 0o600);
}
