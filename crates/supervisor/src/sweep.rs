//! Finds and kills what a keeper that is gone left behind.
//!
//! A keeper that is killed takes its program with it (PR_SET_PDEATHSIG), but not what the
//! program forked. That is in the keeper's control group, where there are such groups; and
//! everything that a keeper starts carries the keeper's socket in its environment. By either
//! its children are known. Reads all of /proc: rare, never on the
//! path of a failover.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Group;

/// The environment variable that names the keeper's socket.
pub(crate) const MARK: &str = "HAARB_KEEPER";
/// How long to wait for killed processes to be gone. Longer ones are in the kernel's hands.
const GONE_WITHIN: Duration = Duration::from_millis(500);

/// Kills every process that the keeper of this socket started, and waits until it is gone.
pub(crate) fn kill_left_behind(socket: &Path) {
    let begun = Instant::now();
    let group = Group::left_behind(socket);
    if let Some(group) = &group {
        for pid in group.members() {
            tracing::warn!("killing process {pid}, left behind by a keeper that is gone");
        }
        group.kill();
    }
    loop {
        let mut left = marked(socket);
        for pid in &left {
            tracing::warn!("killing process {pid}, left behind by a keeper that is gone");
            // Gone in between: that is what is wanted.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        if let Some(group) = group.as_ref().filter(|group| !group.remove()) {
            left.extend(group.members());
        } else if left.is_empty() {
            return;
        }
        if begun.elapsed() > GONE_WITHIN {
            tracing::error!("{} processes left behind do not die of SIGKILL", left.len());
            return;
        }
        std::thread::yield_now();
    }
}

fn marked(socket: &Path) -> Vec<Pid> {
    let mut mark = format!("{MARK}=").into_bytes();
    mark.extend_from_slice(socket.as_os_str().as_bytes());
    let me = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| is_number(name) && *name != *me)
        // The environment of a zombie is empty: it is gone already.
        .filter(|name| {
            fs::read(Path::new("/proc").join(name).join("environ"))
                .is_ok_and(|environment| environment.split(|b| *b == 0).any(|v| v == mark))
        })
        .filter_map(|name| Some(Pid::from_raw(name.to_str()?.parse().ok()?)))
        .collect()
}

fn is_number(name: &OsStr) -> bool {
    name.as_bytes().iter().all(u8::is_ascii_digit)
}
