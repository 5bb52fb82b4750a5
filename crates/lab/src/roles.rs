//! The parts that a program of the lab plays when it starts itself again.
//!
//! A server's init, a command run inside a server and the measured service are processes of their own.
//! They are this same program, called with [`MARK`] and the name of the role, so that the lab needs no
//! second binary and works the same from `haarb-lab` and from the test runner. Nothing here is meant
//! for people; [`crate::sandbox::enter`] serves it before anything else.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use clap::Parser;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns},
};

use crate::{guest, serve};

/// First argument of every call in a role.
pub const MARK: &str = "@lab-role";

/// Where a server finds this program inside its own file system.
pub const HELPER: &str = "/opt/haarb/lab";

/// Plays the role that the command line asks for, if it asks for one, and returns its exit status.
#[must_use]
pub fn dispatch() -> Option<i32> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != MARK {
        return None;
    }
    let role = args.next().unwrap_or_default();
    let rest: Vec<OsString> = args.collect();
    let outcome = match role.to_str() {
        Some("guest") => guest::play(&rest),
        Some("enter") => enter(&rest),
        Some("cover") => cover(&rest),
        Some("serve") => {
            serve::Options::try_parse_from(std::iter::once(OsString::from("serve")).chain(rest))
                .map_err(io::Error::other)
                .and_then(|options| serve::run(&options).map(|()| 0))
        }
        _ => Err(io::Error::other(format!("unknown role {}", role.display()))),
    };
    Some(outcome.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "haarb-lab {}: {error}", role.display());
        1
    }))
}

/// Runs `COMMAND ARG…` in all namespaces of the process `PID` (`-` for the network namespace alone, at
/// a path): `enter PID|- NETNS|- COMMAND ARG…`.
fn enter(args: &[OsString]) -> io::Result<i32> {
    let [pid, netns, program, arguments @ ..] = args else {
        return Err(io::Error::other(
            "usage: enter PID|- NETNS|- COMMAND [ARG…]",
        ));
    };
    if pid == "-" {
        setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
    } else {
        let ns = Path::new("/proc").join(pid).join("ns");
        // All are opened first: after the mount namespace is entered this /proc is out of sight.
        let spaces = [
            ("ipc", CloneFlags::CLONE_NEWIPC),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("net", CloneFlags::CLONE_NEWNET),
            ("pid", CloneFlags::CLONE_NEWPID),
            ("mnt", CloneFlags::CLONE_NEWNS),
        ];
        // Only a server that systemd boots has one of its own.
        let own = std::fs::read_link("/proc/self/ns/cgroup").ok();
        let groups = match std::fs::read_link(ns.join("cgroup")).ok() == own {
            true => None,
            false => Some(File::open(ns.join("cgroup"))?),
        };
        let open = |(name, flag)| File::open(ns.join(name)).map(|file| (file, flag));
        for (file, flag) in spaces
            .into_iter()
            .map(open)
            .collect::<io::Result<Vec<_>>>()?
        {
            setns(file, flag)?;
        }
        if let Some(groups) = groups {
            setns(groups, CloneFlags::CLONE_NEWCGROUP)?;
        }
        std::env::set_current_dir("/")?;
    }
    let mut command = Command::new(program);
    command.args(arguments);
    if pid != "-" {
        command.env_clear().envs(guest::environment());
    }
    let status = command.status().map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot run {}: {error}", PathBuf::from(program).display()),
        )
    })?;
    Ok(exit_code(status))
}

/// Makes a program of a server impossible to start, or (`mend`) possible again: in the server's mount
/// namespace something that is no program lies over it. `cover PID PATH break|mend`.
fn cover(args: &[OsString]) -> io::Result<i32> {
    let [pid, path, what] = args else {
        return Err(io::Error::other("usage: cover PID PATH break|mend"));
    };
    let space = Path::new("/proc").join(pid).join("ns/mnt");
    setns(File::open(space)?, CloneFlags::CLONE_NEWNS)?;
    let path = Path::new(path);
    if what == "mend" {
        umount2(path, MntFlags::MNT_DETACH)?;
    } else {
        let none = None::<&str>;
        mount(Some("/dev/null"), path, none, MsFlags::MS_BIND, none)?;
    }
    Ok(0)
}

/// The exit status in the manner of a shell.
fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1)
}
