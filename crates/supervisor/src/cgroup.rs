//! A control group (cgroups(7), version 2) for a keeper and everything below it.
//!
//! Makes it possible to kill all of a service at one instant, also what forks faster than it is
//! found, and what a dead keeper left behind with a scrubbed environment. Sets no limits and needs
//! no controller. The one thing to know: where version 2 is not there or not writable there is no
//! group, and haarb goes by descent alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The beginning of a group's name; the rest is the hash of its keeper's socket.
const PREFIX: &str = "haarb-";

/// The group of one keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    dir: PathBuf,
}

impl Group {
    /// Makes the group of the keeper with this socket below the group of this process, and moves this
    /// process into it; `None` where that is not possible. May take some milliseconds: the kernel waits
    /// for all forks of the machine, so this is not for the path of a failover.
    pub(crate) fn enter_own(socket: &Path) -> Option<Self> {
        let group = Self::below(&own_dir()?, socket);
        match fs::create_dir(&group.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
            _ => {}
        }
        match group.enter() {
            Ok(()) => Some(group),
            Err(_) => {
                group.remove();
                None
            }
        }
    }

    /// The group that a keeper is in, if it has one of its own.
    pub(crate) fn of(keeper: Pid, socket: &Path) -> Option<Self> {
        let dir = dir_of(&format!("/proc/{keeper}/cgroup"))?;
        let group = Self { dir };
        (group.dir.file_name()? == name(socket).as_str()).then_some(group)
    }

    /// The group that a keeper which is gone may have left here.
    pub(crate) fn left_behind(socket: &Path) -> Option<Self> {
        let group = Self::below(&own_dir()?, socket);
        group.dir.is_dir().then_some(group)
    }

    fn below(dir: &Path, socket: &Path) -> Self {
        Self {
            dir: dir.join(name(socket)),
        }
    }

    fn enter(&self) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.procs"), "0")
    }

    fn leave(&self) -> io::Result<()> {
        let above = self.dir.parent().unwrap_or(&self.dir);
        fs::write(above.join("cgroup.procs"), "0")
    }

    /// Everything in it.
    pub(crate) fn members(&self) -> Vec<Pid> {
        let text = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        text.lines()
            .filter_map(|line| Some(Pid::from_raw(line.trim().parse().ok()?)))
            .collect()
    }

    /// Kills everything in it.
    pub(crate) fn kill(&self) {
        // Linux 5.14: at one instant, and nothing escapes by forking.
        if fs::write(self.dir.join("cgroup.kill"), "1").is_err() {
            for pid in self.members() {
                // Gone in between: that is what is wanted.
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }

    /// Kills everything in it but this process, which steps outside for that moment.
    pub(crate) fn kill_others(&self) {
        if self.leave().is_ok() {
            self.kill();
            // Should this fail, what is started from now on is found by descent alone.
            let _ = self.enter();
            return;
        }
        let me = nix::unistd::getpid();
        for pid in self.members().into_iter().filter(|pid| *pid != me) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// Steps outside and removes the group. One that still has members stays.
    pub(crate) fn leave_and_remove(&self) {
        let _ = self.leave();
        self.remove();
    }

    /// Removes it once it is empty; `false` while it has members.
    pub(crate) fn remove(&self) -> bool {
        match fs::remove_dir(&self.dir) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

fn name(socket: &Path) -> String {
    let bytes = socket.as_os_str().as_encoded_bytes();
    format!("{PREFIX}{:016x}", crate::hash::fnv1a(bytes))
}

/// The directory of this process's group, where version 2 is mounted.
fn own_dir() -> Option<PathBuf> {
    dir_of("/proc/self/cgroup")
}

fn dir_of(membership: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let membership = fs::read_to_string(membership).ok()?;
    place(&mounts, &membership)
}

/// The directory of a group, from `/proc/self/mountinfo` (proc(5)) and `/proc/PID/cgroup`. A group
/// outside of what is mounted here has none.
fn place(mounts: &str, membership: &str) -> Option<PathBuf> {
    let path = membership
        .lines()
        .find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let inside = Path::new(path).strip_prefix(root).ok()?;
        let escapes = inside.components().any(|part| part.as_os_str() == "..");
        (!escapes).then(|| Path::new(point).join(inside))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
24 1 0:21 / /sys rw,nosuid - sysfs sysfs rw
30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 24 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw
";

    #[test]
    fn a_group_is_found_below_its_mount() {
        let dir = |path: &str| place(MOUNTS, &format!("4:memory:/x\n0::{path}\n"));
        let unified = Path::new("/sys/fs/cgroup/unified");
        assert_eq!(dir("/"), Some(unified.join("")));
        assert_eq!(dir("/a.slice/b"), Some(unified.join("a.slice/b")));
        // Outside of what a container sees.
        assert_eq!(dir("/../b"), None);
        assert_eq!(place(MOUNTS, "4:memory:/x\n"), None);
        assert_eq!(place("", "0::/\n"), None);
    }

    #[test]
    fn a_mount_of_a_part_shows_that_part() {
        let part = "31 24 0:27 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            place(part, "0::/box/a\n"),
            Some(PathBuf::from("/sys/fs/cgroup/a"))
        );
        assert_eq!(place(part, "0::/other\n"), None);
    }
}
