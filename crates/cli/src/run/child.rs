//! One daemon as a child process: started so that it cannot outlive `haarb run`.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use haarb_daemon::Options;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::Daemon;
use super::ears::Ears;

/// What systemd means for `haarb run` alone.
const NOT_PASSED_ON: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// Starts a daemon, its output passed on by `ears`. Whoever calls it reaps the process
/// (`waitpid`).
pub(super) fn start(
    daemon: &Daemon,
    bin_dir: &Path,
    options: &Options,
    me: &str,
    ears: &mut Ears,
) -> io::Result<Pid> {
    let mut command = Command::new(bin_dir.join(daemon.name));
    command
        .args(arguments(options, me))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Out of the terminal's foreground group: Ctrl-C is for `haarb run`, which stops
        // the daemons in order.
        .process_group(0);
    for name in NOT_PASSED_ON {
        command.env_remove(name);
    }
    prepare_child(&mut command, daemon);
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    ears.pass_on(child.stdout.take().map(OwnedFd::from), daemon.name);
    ears.pass_on(child.stderr.take().map(OwnedFd::from), daemon.name);
    Ok(Pid::from_raw(pid))
}

fn arguments(options: &Options, me: &str) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("--node"), me.into()];
    for (name, path) in [
        ("--config", &options.config),
        ("--run-dir", &options.run_dir),
        ("--state-dir", &options.state_dir),
        ("--key", &options.key),
    ] {
        arguments.push(name.into());
        arguments.push(path.into());
    }
    arguments
}

/// Has the kernel signal the child when this thread ends, also by SIGKILL, and gives a daemon on
/// the failover path its priority before it loads: until it can ask for it itself, a loaded
/// processor may keep it waiting for longer than its lease lasts.
///
/// The kernel forgets this setting when the child executes a set-user-ID file or one with
/// file capabilities (prctl(2), PR_SET_PDEATHSIG): the daemons are installed without either.
fn prepare_child(command: &mut Command, daemon: &Daemon) {
    let signal = if daemon.lets_go {
        Signal::SIGTERM
    } else {
        Signal::SIGKILL
    };
    let (parent, on_path) = (Pid::this(), daemon.on_path);
    let before_exec = move || {
        nix::sys::prctl::set_pdeathsig(signal)?;
        if on_path {
            // Refused: it asks again itself, and says so.
            haarb_daemon::schedule_real_time();
        }
        // The parent may have died before it was set that its death is told.
        if nix::unistd::getppid() == parent {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(nix::libc::ESRCH))
        }
    };
    // SAFETY: between fork and exec only prctl(2), sched_setscheduler(2) and getppid(2) are
    // called, and no memory is allocated.
    #[expect(
        unsafe_code,
        reason = "pre_exec is the only way to set it in the child"
    )]
    unsafe {
        command.pre_exec(before_exec);
    }
}
