//! A standby that cannot store a file: that file waits and is told of, and nothing else stops.
//!
//! The one thing to know: the full disk is a small tmpfs in a mount namespace of its own, for which
//! the test starts itself once more; without the right to make one there is no such test.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use haarb_model::DirectoryState;

use crate::pair::{Pair, read, sink_of, write};

const INSIDE: &str = "HAARB_SYNC_SMALL_DISK";

fn noise(bytes: usize) -> String {
    let mut seed = bytes as u64;
    let next = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + (seed >> 60) as u8)
    };
    (0..bytes).map(next).collect()
}

/// Runs a test once more, with a tmpfs of its own and with `wrap` around it.
fn on_own_disk(test: &str, options: &str, wrap: &str, inside: fn(&Path)) {
    if let Some(disk) = std::env::var_os(INSIDE) {
        inside(Path::new(&disk));
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let script = format!(
        r#"mount -t tmpfs -o {options} none "$1" || exit 77; exec {wrap} "$2" --exact full::{test} --nocapture"#
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]);
    command
        .arg(disk.path())
        .arg(std::env::current_exe().unwrap());
    let output = command.env(INSIDE, disk.path()).output();
    let no_right = |code| code == Some(77) || code == Some(1);
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) if no_right(output.status.code()) && !rustix::process::geteuid().is_root() => {}
        Err(_) if !rustix::process::geteuid().is_root() => {}
        Ok(output) => panic!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => panic!("unshare: {error}"),
    }
}

/// A pair with beta's directory on that disk.
fn pair_on(disk: &Path) -> Pair {
    let mut pair = Pair::new();
    let directory = disk.join("data");
    std::fs::create_dir(&directory).unwrap();
    pair.beta.move_to(&directory);
    pair.start(1);
    pair.wait_in_sync();
    pair
}

/// A path is told of, counts as pending, and waits.
fn wait_failing(pair: &Pair, why: &str) {
    pair.wait_for(|| {
        let told = pair.alpha.directory();
        told.failing > 0 && told.error.contains(why)
    });
    let told = pair.alpha.directory();
    assert!(told.pending_files > 0 && told.lag_ms > 0, "{told:?}");
}

fn wait_mended(pair: &Pair) {
    pair.wait_in_sync();
    let told = pair.alpha.directory();
    assert_eq!((told.failing, told.error.as_str()), (0, ""), "{told:?}");
    pair.wait_for(|| {
        let told = pair.beta.directory();
        (told.failing, told.error.as_str()) == (0, "")
    });
}

fn remount(disk: &Path, how: &str) {
    let mut command = Command::new("mount");
    let done = command.args(["-o", &format!("remount,{how}")]).arg(disk);
    assert!(done.status().unwrap().success());
}

#[test]
fn a_disk_without_inodes_stops_nothing_else() {
    let test = "a_disk_without_inodes_stops_nothing_else";
    on_own_disk(test, "size=8m,nr_inodes=40", "", |disk| {
        let pair = pair_on(disk);
        for number in 0..60 {
            write(pair.alpha.dir(), &number.to_string(), "x");
        }
        wait_failing(&pair, "No space left");
        // What needs no inode more is sent: the file that it replaces gives one back.
        for number in 0..60 {
            std::fs::remove_file(pair.alpha.dir().join(number.to_string())).unwrap();
        }
        write(pair.alpha.dir(), "last", "one");
        wait_mended(&pair);
        assert_eq!(read(pair.beta.dir(), "last"), "one");
    });
}

#[test]
fn a_read_only_disk_is_told_and_waited_for() {
    let test = "a_read_only_disk_is_told_and_waited_for";
    on_own_disk(test, "size=8m", "", |disk| {
        let mut pair = pair_on(disk);
        remount(disk, "ro");
        write(pair.alpha.dir(), "file", "one");
        wait_failing(&pair, "Read-only");
        remount(disk, "rw");
        wait_mended(&pair);
        assert_eq!(read(pair.beta.dir(), "file"), "one");
        // The same when it is so from the beginning.
        remount(disk, "ro");
        pair.beta.restart();
        pair.beta.hold(sink_of("alpha"), 1);
        pair.wait_for(|| pair.beta.directory().state == DirectoryState::Error);
        pair.wait_for(|| pair.alpha.directory().failing > 0);
        assert!(pair.beta.directory().error.contains("Read-only"));
        write(pair.alpha.dir(), "file", "two");
        remount(disk, "rw");
        pair.wait_for(|| read(pair.beta.dir(), "file") == "two");
        wait_mended(&pair);
    });
}

/// Root without the right to override permissions: as a syncer that runs as somebody else.
#[test]
fn permission_denied_is_told_and_waited_for() {
    let test = "permission_denied_is_told_and_waited_for";
    let wrap = "setpriv --bounding-set=-dac_override,-dac_read_search";
    on_own_disk(test, "size=8m", wrap, |disk| {
        let mut pair = pair_on(disk);
        pair.beta.never_look_around();
        pair.beta.hold(sink_of("alpha"), 1);
        let allow = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        std::fs::create_dir(pair.alpha.dir().join("d")).unwrap();
        write(&pair.alpha.dir().join("d"), "file", "one");
        pair.wait_for(|| read(pair.beta.dir(), "d/file") == "one");
        // It cannot be written to the standby.
        allow(pair.beta.dir(), 0o555);
        write(pair.alpha.dir(), "new", "two");
        wait_failing(&pair, "Permission denied");
        pair.wait_for(|| pair.beta.directory().failing == 1);
        allow(pair.beta.dir(), 0o755);
        wait_mended(&pair);
        assert_eq!(read(pair.beta.dir(), "new"), "two");
        // It cannot be read here.
        allow(&pair.alpha.dir().join("d/file"), 0o000);
        wait_failing(&pair, "Permission denied");
        write(pair.alpha.dir(), "other", "three");
        pair.wait_for(|| read(pair.beta.dir(), "other") == "three");
        allow(&pair.alpha.dir().join("d/file"), 0o644);
        wait_mended(&pair);
    });
}

#[test]
fn a_full_disk_stops_nothing_else() {
    let test = "a_full_disk_stops_nothing_else";
    on_own_disk(test, "size=1m", "", on_small_disk);
}

fn on_small_disk(disk: &Path) {
    for large in [200_000, 700_000] {
        let mut pair = Pair::new();
        let directory = disk.join(large.to_string());
        std::fs::create_dir(&directory).unwrap();
        pair.beta.move_to(&directory);
        write(pair.alpha.dir(), "first", &noise(600_000));
        pair.start(1);
        pair.wait_in_sync();
        // More than there is room for, in small files or in a large one.
        let names: Vec<String> = (0..700_000 / large).map(|n| format!("more-{n}")).collect();
        for name in &names {
            write(pair.alpha.dir(), name, &noise(large));
        }
        pair.wait_for(|| pair.alpha.directory().error.contains("No space left"));
        let told = pair.alpha.directory();
        assert_eq!(told.state, DirectoryState::Syncing);
        assert!(
            told.pending_files > 0 && told.error.contains("more-"),
            "{told:?}"
        );
        for round in 0..20 {
            let text = format!("round {round}");
            write(pair.alpha.dir(), "small", &text);
            pair.wait_for(|| read(pair.beta.dir(), "small") == text);
        }
        // Room is made where it belongs to be made: on the active server.
        std::fs::remove_file(pair.alpha.dir().join("first")).unwrap();
        pair.wait_in_sync();
        for name in &names {
            assert_eq!(read(pair.beta.dir(), name), noise(large));
        }
        assert_eq!(pair.alpha.directory().error, "");
        assert_eq!(pair.beta.reserve().conflicts, 0);
        drop(pair);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
