//! The control group of a server that systemd boots: its name, and its end when the server is dead.
//!
//! Control groups outlive every namespace, so they are the one thing of the lab that must be cleared
//! away by hand; what a lab that was killed left behind is cleared by the next one.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::mount::{MsFlags, mount};

use crate::clock::Stamp;

/// Names of the lab's groups begin so; then come the namespace of the lab and the server.
const PREFIX: &str = "haarb-lab-";
/// How long the kernel takes to let go of a group whose processes have all been killed.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Where the group of the server called `name` is; its launcher makes it. The hierarchy is mounted `at`.
///
/// # Errors
/// As the kernel refuses.
pub(super) fn place(at: &Path, name: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(at)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("cgroup2"), at, Some("cgroup2"), flags, None::<&str>)?;
    let own = format!("{PREFIX}{}-", lab()?);
    for entry in fs::read_dir(at)?.flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        if found.starts_with(PREFIX) && !found.starts_with(&own) {
            // One of a lab that runs is not empty and stays, or is made again when it is needed.
            let _ = remove(&entry.path());
        }
    }
    Ok(at.join(format!("{own}{name}")))
}

/// Removes a group and all below it, once its processes are gone.
pub(super) fn clear(dir: &Path) {
    let end = Stamp::now().plus(GONE_WITHIN);
    while remove(dir).is_err() && Stamp::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes of a group that are found here go from the leaves up; one with a process stays.
fn remove(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

/// A number that no other lab on this machine has now: that of its pid namespace.
fn lab() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}
