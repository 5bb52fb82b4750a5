//! The sandbox: namespaces around the whole lab, so that everything in it dies with it.
//!
//! [`enter`] splits the program in three processes. The *outer* one waits, passes signals on and
//! returns the exit status. The *init* is pid 1 of a new pid namespace: it reaps orphans, and when it
//! ends the kernel kills whatever is left in the namespace. The *worker* is the program proper. The
//! init dies with the outer process (parent-death signal), even when that is killed by SIGKILL; with
//! it go all processes, all network namespaces and the temporary file system: nothing is left on the
//! machine, not even a file.
//!
//! It never touches the namespaces the program was started in. It must be called before any thread
//! exists, because it forks.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::exit,
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getegid, geteuid, pipe},
};

use crate::roles;

/// Why this machine or this user cannot have a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// `unshare` was refused.
    #[error("cannot make namespaces ({0}): {advice}", advice = namespace_advice(*.0))]
    Namespaces(Errno),
    /// The namespaces were made but something in them was refused.
    #[error("namespaces can be made here, but not used: cannot {what}: {source}; {HARDENING}")]
    Useless {
        /// What was refused.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The program was not single-threaded any more.
    #[error("the sandbox must be entered before the program starts threads ({0} are running)")]
    Threads(usize),
    /// A system call that always works failed.
    #[error("cannot start the sandbox: cannot {what}: {errno}")]
    System {
        /// What failed.
        what: &'static str,
        /// Its errno.
        errno: Errno,
    },
}

const HARDENING: &str = "a security module or a container runtime restricts user namespaces: run as root, or on Ubuntu \
     `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or give the container CAP_SYS_ADMIN and an unmasked /proc";

fn namespace_advice(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOSPC | Errno::EUSERS => {
            "the limit of namespaces is reached or zero: raise user.max_user_namespaces, user.max_net_namespaces"
        }
        Errno::ENOSYS | Errno::EINVAL => {
            "this kernel is built without the namespaces that the lab needs"
        }
        _ => {
            "run as root, or allow user namespaces to ordinary users \
             (`sysctl kernel.unprivileged_userns_clone=1`, `sysctl user.max_user_namespaces=10000`)"
        }
    }
}

/// The worker's view of the sandbox it is in.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// A private, empty directory in memory that vanishes with the sandbox.
    pub dir: PathBuf,
    /// Whether the worker has all rights of root on this machine, or only inside its user namespace.
    pub privileged: bool,
}

/// Moves the program into a sandbox and returns in it, as the worker.
///
/// `keep_visible` are paths that the program will still need; the sandbox hides none of them.
/// Internal roles of the lab (see [`crate::roles`]) are served here too, and then this never returns.
///
/// # Errors
/// [`SandboxError`] when the machine or the user does not allow it; the program then goes on outside
/// of any sandbox (or in a useless one) and must do no more than report it.
pub fn enter(keep_visible: &[&Path]) -> Result<Sandbox, SandboxError> {
    if let Some(code) = roles::dispatch() {
        exit(code);
    }
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(SandboxError::Threads(threads));
    }
    let privileged = unshare_all().map_err(SandboxError::Namespaces)?;
    let (lifeline, keep) = pipe().map_err(|errno| SandboxError::System {
        what: "make a pipe",
        errno,
    })?;
    let old_mask = block_signals().map_err(|errno| SandboxError::System {
        what: "block signals",
        errno,
    })?;
    match fork_alone().map_err(|errno| SandboxError::System {
        what: "fork",
        errno,
    })? {
        ForkResult::Parent { child } => {
            drop(lifeline);
            let status = stand_by(child);
            drop(keep);
            exit(i32::from(status))
        }
        ForkResult::Child => {
            drop(keep);
            die_with_parent(lifeline.as_fd());
        }
    }
    // Here we are pid 1 of the new namespace. The set-up comes before the next fork, so that the worker
    // finds it done and can tell the user when it failed.
    let set_up = furnish(keep_visible);
    match fork_alone().map_err(|errno| SandboxError::System {
        what: "fork",
        errno,
    })? {
        ForkResult::Parent { child } => {
            let status = stand_by(child);
            exit(i32::from(status))
        }
        ForkResult::Child => {
            let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&old_mask), None);
            set_up.map(|dir| Sandbox { dir, privileged })
        }
    }
}

/// Makes the namespaces; tells whether it could do so as root of the machine.
fn unshare_all() -> Result<bool, Errno> {
    let wanted = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        match unshare(wanted) {
            Ok(()) => return Ok(true),
            Err(Errno::EPERM) => {} // root of a container without CAP_SYS_ADMIN: try like an ordinary user
            Err(errno) => return Err(errno),
        }
    }
    unshare(wanted | CloneFlags::CLONE_NEWUSER)?;
    let write = |file: &str, text: String| {
        fs::write(Path::new("/proc/self").join(file), text)
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    };
    write("setgroups", "deny".into())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))?;
    Ok(false)
}

/// Mounts and interfaces of the new namespaces; returns the private directory.
fn furnish(keep_visible: &[&Path]) -> Result<PathBuf, SandboxError> {
    let useless = |what: &str| {
        let what = what.to_owned();
        move |errno: Errno| SandboxError::Useless {
            what,
            source: errno.into(),
        }
    };
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(useless("make the mounts private"))?;
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        none,
    )
    .map_err(useless("mount a /proc of its own"))?;
    let dir = place_for_files(keep_visible);
    mount(
        Some("tmpfs"),
        &dir,
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        Some("mode=755"),
    )
    .map_err(useless(&format!("mount a tmpfs on {}", dir.display())))?;
    probe_network().map_err(|source| SandboxError::Useless {
        what: "make a virtual cable".into(),
        source,
    })?;
    Ok(dir)
}

/// Picks a directory that exists everywhere and hides nothing that is needed when it is mounted over.
fn place_for_files(keep_visible: &[&Path]) -> PathBuf {
    let mut needed: Vec<PathBuf> = keep_visible
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    needed.extend(std::env::current_exe());
    needed.extend(std::env::current_dir());
    [
        "/mnt", "/media", "/srv", "/opt", "/var/tmp", "/tmp", "/boot",
    ]
    .iter()
    .map(PathBuf::from)
    .find(|place| place.is_dir() && !needed.iter().any(|path| path.starts_with(place)))
    .unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// Makes and forgets one cable, to learn now whether the kernel has veth and lets us use it.
fn probe_network() -> io::Result<()> {
    use crate::netlink::{CableEnd, Netlink};
    let end = |name| CableEnd {
        name,
        mac: None,
        netns: None,
        index: None,
    };
    let mut netlink = Netlink::open()?;
    netlink
        .add_cable(&end("probe0"), &end("probe1"))
        .map_err(io::Error::other)?;
    let index = netlink.index_of("probe0").map_err(io::Error::other)?;
    netlink.delete_link(index).map_err(io::Error::other)
}

/// Waits for `child`, reaping every other process that ends up here, and passing signals on to it.
/// Returns its exit status in the manner of a shell.
fn stand_by(child: Pid) -> u8 {
    let signals = passed_on();
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == child => {
                    return u8::try_from(code & 0xff).unwrap_or(1);
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                    return u8::try_from(128 + signal as i32).unwrap_or(1);
                }
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return 1, // no child left although ours was never reported: nothing to wait for
            }
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            Ok(signal) => {
                let _ = kill(child, signal);
            }
        }
    }
}

fn passed_on() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        set.add(signal);
    }
    set
}

fn block_signals() -> Result<SigSet, Errno> {
    let mut old = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&passed_on()), Some(&mut old))?;
    Ok(old)
}

/// Ties this process to its parent. The pipe closes the gap before the signal was set: when the parent
/// is gone already, the pipe's other end is closed.
pub(crate) fn die_with_parent(lifeline: std::os::fd::BorrowedFd<'_>) {
    let tied = prctl::set_pdeathsig(Signal::SIGKILL).is_ok();
    let mut fds = [PollFd::new(lifeline, PollFlags::POLLIN)];
    let gone = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    if !tied || gone {
        exit(1);
    }
}

/// Forks a process that has one thread.
#[expect(unsafe_code, reason = "fork has no safe form")]
pub(crate) fn fork_alone() -> Result<ForkResult, Errno> {
    // SAFETY: callers are single-threaded (`enter` checks it, roles run before any thread starts), so no
    // lock can be held by a thread that does not exist in the child.
    unsafe { fork() }
}
