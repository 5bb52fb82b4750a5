//! A standby that cannot store a file: that file waits and is told of, and nothing else stops.
//!
//! The one thing to know: the full disk is a small tmpfs in a mount namespace of its own, for which
//! the test starts itself once more; without the right to make one there is no such test.

use std::process::Command;

use haarb_model::DirectoryState;

use crate::pair::{Pair, read, write};

const INSIDE: &str = "HAARB_SYNC_SMALL_DISK";

fn noise(bytes: usize) -> String {
    let mut seed = bytes as u64;
    let next = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + (seed >> 60) as u8)
    };
    (0..bytes).map(next).collect()
}

#[test]
fn a_full_disk_stops_nothing_else() {
    if let Some(disk) = std::env::var_os(INSIDE) {
        on_small_disk(std::path::Path::new(&disk));
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=1m none "$1" || exit 77; exec "$2" --exact full::a_full_disk_stops_nothing_else --nocapture"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
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

fn on_small_disk(disk: &std::path::Path) {
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
