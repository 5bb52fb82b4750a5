//! A server that is a whole Debian system: this machine's own, changed at will, booted by systemd.
//!
//! `/usr`, `/etc` and `/var` are the machine's own below a layer that takes all changes (overlayfs), so
//! that packages are installed, configured and purged as on a real server and nothing of it reaches the
//! machine. The layer outlives a power-off. Needs root, and a machine that is a Debian with systemd.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{dup2_stderr, dup2_stdin, dup2_stdout, execve, pivot_root},
};
use serde::{Deserialize, Serialize};

use super::{GuestSpec, bind, plain_mount};
use crate::roles::HELPER;

/// Where a server finds the directory of the lab that [`GuestSpec::disk`] names.
pub const FROM_LAB: &str = "/mnt/lab";

/// What such a server needs besides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DebianSpec {
    /// The directory that takes its changes, on a file system that can be the upper layer of another.
    pub changes: PathBuf,
    /// Where its control group is to be, in a version 2 hierarchy.
    pub cgroup: PathBuf,
}

const INIT: &str = "/lib/systemd/systemd";
/// Directories of the machine that lie below a layer of changes.
const LAYERED: [&str; 3] = ["usr", "etc", "var"];
/// Directories that are the server's alone.
const OWN: [&str; 5] = ["root", "srv", "opt", "home", "mnt"];
/// Links into /usr, as every Debian has them since 12.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Devices that a container has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// What a container without devices, seats and terminals does not start.
const MASKED: [&str; 17] = [
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-udevd.service",
    "systemd-udevd-kernel.socket",
    "systemd-udevd-control.socket",
    "systemd-udev-trigger.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-modules-load.service",
    "ldconfig.service",
    "getty.target",
    "console-getty.service",
    "systemd-logind.service",
    "systemd-sysctl.service",
    "systemd-journal-flush.service",
    "systemd-update-utmp.service",
];

/// Why this machine's system cannot be booted in the lab, and what to do about it; nothing if it can.
#[must_use]
pub fn missing() -> Option<String> {
    let needed = [
        (INIT, "systemd"),
        ("/usr/bin/dbus-daemon", "dbus"),
        ("/usr/bin/dpkg", "dpkg (a Debian system)"),
        ("/var/lib/dpkg/status", "dpkg's database (a Debian system)"),
    ];
    let absent: Vec<&str> = needed
        .iter()
        .filter(|(path, _)| !Path::new(path).exists())
        .map(|(_, what)| *what)
        .collect();
    if !absent.is_empty() {
        return Some(format!(
            "this machine lacks {}: apt-get install systemd systemd-sysv dbus",
            absent.join(", ")
        ));
    }
    let kinds = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    ["overlay", "cgroup2"]
        .iter()
        .find(|kind| {
            !kinds
                .lines()
                .any(|line| line.trim_start_matches("nodev").trim() == **kind)
        })
        .map(|kind| format!("this kernel has no {kind} (modprobe {kind})"))
}

/// Builds the root file system and becomes systemd.
pub(super) fn boot(spec: &GuestSpec, debian: &DebianSpec) -> io::Result<i32> {
    let root = &spec.root;
    fs::create_dir_all(root)?;
    plain_mount("tmpfs", root, "tmpfs", MsFlags::MS_NOSUID, Some("mode=755"))?;
    layers(root, &debian.changes)?;
    kernel_file_systems(root)?;
    devices(root)?;
    for dir in ["run", "tmp"] {
        fs::create_dir(root.join(dir))?;
        let mode = if dir == "tmp" {
            "mode=1777"
        } else {
            "mode=755"
        };
        plain_mount(
            "tmpfs",
            &root.join(dir),
            "tmpfs",
            MsFlags::MS_NOSUID,
            Some(mode),
        )?;
    }
    let from_lab = root.join(FROM_LAB.trim_start_matches('/'));
    fs::create_dir_all(&from_lab)?;
    bind(&spec.disk, &from_lab)?;
    let helper = root.join(HELPER.trim_start_matches('/'));
    fs::create_dir_all(helper.parent().unwrap_or(root))?;
    File::create(&helper)?;
    bind(&spec.helper, &helper)?;
    let prepared = debian.changes.join("prepared");
    if !prepared.exists() {
        prepare(&root.join("etc"), &spec.name)?;
        // Containers forbid services to start; this is a server.
        let _ = fs::remove_file(root.join("usr/sbin/policy-rc.d"));
        for dir in ["var/log/journal", "var/lib/haarb", "etc/haarb"] {
            let _ = fs::remove_dir_all(root.join(dir));
        }
        File::create(prepared)?;
    }
    std::env::set_current_dir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")?;
    // As systemd finds it on a server: what it mounts for a unit (credentials) is seen there.
    let flags = MsFlags::MS_REC | MsFlags::MS_SHARED;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?;
    become_systemd()
}

fn layers(root: &Path, changes: &Path) -> io::Result<()> {
    for name in LAYERED {
        let (upper, work) = (changes.join(name), changes.join(format!("{name}.work")));
        let place = root.join(name);
        for dir in [&upper, &work, &place] {
            fs::create_dir_all(dir)?;
        }
        let layers = format!(
            "lowerdir=/{name},upperdir={},workdir={}",
            upper.display(),
            work.display()
        );
        plain_mount(
            "overlay",
            &place,
            "overlay",
            MsFlags::empty(),
            Some(&layers),
        )?;
    }
    for name in OWN {
        let (own, place) = (changes.join(name), root.join(name));
        fs::create_dir_all(&own)?;
        fs::create_dir(&place)?;
        bind(&own, &place)?;
    }
    fs::set_permissions(root.join("root"), fs::Permissions::from_mode(0o700))?;
    for name in MERGED {
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            symlink(target, root.join(name))?;
        }
    }
    Ok(())
}

/// `/proc` and `/sys`. A booting system sets its kernel up: of what the machine shares with it, only the
/// settings of its own network may be written.
fn kernel_file_systems(root: &Path) -> io::Result<()> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let (proc, sys) = (root.join("proc"), root.join("sys"));
    fs::create_dir(&proc)?;
    fs::create_dir(&sys)?;
    plain_mount("proc", &proc, "proc", quiet, None)?;
    for (place, flags) in [("sys", MsFlags::MS_RDONLY), ("sys/net", MsFlags::empty())] {
        let place = proc.join(place);
        bind(&place, &place)?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
        mount(None::<&str>, &place, None::<&str>, flags, None::<&str>)?;
    }
    plain_mount("sysfs", &sys, "sysfs", quiet | MsFlags::MS_RDONLY, None)?;
    plain_mount("cgroup2", &sys.join("fs/cgroup"), "cgroup2", quiet, None)
}

fn devices(root: &Path) -> io::Result<()> {
    let dev = root.join("dev");
    fs::create_dir(&dev)?;
    plain_mount("tmpfs", &dev, "tmpfs", MsFlags::MS_NOSUID, Some("mode=755"))?;
    for name in DEVICES {
        File::create(dev.join(name))?;
        bind(&Path::new("/dev").join(name), &dev.join(name))?;
    }
    fs::create_dir(dev.join("pts"))?;
    fs::create_dir(dev.join("shm"))?;
    let terminals = Some("newinstance,ptmxmode=0666,mode=620,gid=5");
    plain_mount(
        "devpts",
        &dev.join("pts"),
        "devpts",
        MsFlags::MS_NOSUID,
        terminals,
    )?;
    plain_mount(
        "tmpfs",
        &dev.join("shm"),
        "tmpfs",
        MsFlags::MS_NOSUID,
        Some("mode=1777"),
    )?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        symlink(target, dev.join(name))?;
    }
    Ok(())
}

/// Makes the machine's `/etc` that of a fresh server: nothing is enabled, no host name of another.
fn prepare(etc: &Path, name: &str) -> io::Result<()> {
    let units = etc.join("systemd/system");
    fs::create_dir_all(&units)?;
    for entry in fs::read_dir(&units)?.flatten() {
        if entry.file_name().to_string_lossy().ends_with(".wants") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    for level in 2..=5 {
        let Ok(links) = fs::read_dir(etc.join(format!("rc{level}.d"))) else {
            continue;
        };
        for link in links.flatten() {
            fs::remove_file(link.path())?;
        }
    }
    for unit in MASKED {
        replace(&units.join(unit), |path| symlink("/dev/null", path))?;
    }
    replace(&units.join("default.target"), |path| {
        symlink("/lib/systemd/system/multi-user.target", path)
    })?;
    // Images leave documentation out; here it is looked at.
    for entry in fs::read_dir(etc.join("dpkg/dpkg.cfg.d"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let _ = fs::remove_file(entry.path());
    }
    // Given none, systemd would take the machine's own for all servers.
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
    let hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n");
    for (file, text) in [
        ("hostname", format!("{name}\n")),
        ("hosts", hosts),
        ("machine-id", id),
        ("fstab", String::new()),
        ("resolv.conf", "# no name service in the lab\n".to_owned()),
    ] {
        replace(&etc.join(file), |path| fs::write(path, &text))?;
    }
    Ok(())
}

/// Makes a file anew; what was there, also a link that leads elsewhere, is not touched.
fn replace(path: &Path, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => make(path),
    }
}

fn become_systemd() -> io::Result<i32> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    let init = CString::new(INIT)?;
    let environment = [
        CString::new("container=haarb-lab")?,
        CString::new("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")?,
    ];
    let arguments = [init.clone(), CString::new("--system")?];
    let Err(errno) = execve(&init, &arguments, &environment);
    Err(Errno::into(errno))
}
