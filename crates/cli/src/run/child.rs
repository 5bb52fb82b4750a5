//! One daemon as a child process: started so that it cannot outlive `haarb run`, its output
//! passed on line by line with its name in front.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use haarb_daemon::Options;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinSet;

use super::Daemon;
use super::voice::Voice;

/// A longer line is cut in two: memory has a bound.
const LINE_BYTES_MAX: usize = 8192;

/// What systemd means for `haarb run` alone.
const NOT_PASSED_ON: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// Starts a daemon, its output passed on by tasks in `pipes`. Whoever calls it reaps the
/// process (`waitpid`).
pub(super) fn start(
    daemon: &Daemon,
    bin_dir: &Path,
    options: &Options,
    me: &str,
    voice: &Voice,
    pipes: &mut JoinSet<()>,
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
    die_with_parent(&mut command, daemon);
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    pass_on(child.stdout.take().map(OwnedFd::from), daemon, voice, pipes);
    pass_on(child.stderr.take().map(OwnedFd::from), daemon, voice, pipes);
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

/// Has the kernel signal the child when this thread ends, also by SIGKILL.
///
/// The kernel forgets this setting when the child executes a set-user-ID file or one with
/// file capabilities (prctl(2), PR_SET_PDEATHSIG): the daemons are installed without either.
fn die_with_parent(command: &mut Command, daemon: &Daemon) {
    let signal = if daemon.lets_go {
        Signal::SIGTERM
    } else {
        Signal::SIGKILL
    };
    let parent = Pid::this();
    let before_exec = move || {
        nix::sys::prctl::set_pdeathsig(signal)?;
        // The parent may have died before the line above took effect.
        if nix::unistd::getppid() == parent {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(nix::libc::ESRCH))
        }
    };
    // SAFETY: between fork and exec only prctl(2) and getppid(2) are called, and no memory
    // is allocated.
    #[expect(
        unsafe_code,
        reason = "pre_exec is the only way to set it in the child"
    )]
    unsafe {
        command.pre_exec(before_exec);
    }
}

/// Passes a stream on until its last writer has closed it.
fn pass_on(stream: Option<OwnedFd>, daemon: &Daemon, voice: &Voice, pipes: &mut JoinSet<()>) {
    let receiver = stream.map(Receiver::from_owned_fd);
    let (name, voice) = (daemon.name, voice.clone());
    match receiver {
        Some(Ok(receiver)) => {
            pipes.spawn(lines(receiver, name, voice));
        }
        Some(Err(e)) => voice.say(format!("haarb: the output of {name} cannot be read: {e}")),
        None => {}
    }
}

async fn lines(mut stream: Receiver, name: &'static str, voice: Voice) {
    let mut pending = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        for byte in chunk.iter().take(n) {
            if *byte == b'\n' || pending.len() >= LINE_BYTES_MAX {
                say(&mut pending, name, &voice);
            }
            if *byte != b'\n' {
                pending.push(*byte);
            }
        }
    }
    if !pending.is_empty() {
        say(&mut pending, name, &voice);
    }
}

/// Daemons that name themselves in their last words are not named twice.
fn say(line: &mut Vec<u8>, name: &str, voice: &Voice) {
    let text = String::from_utf8_lossy(line);
    let text = text
        .strip_prefix(name)
        .and_then(|t| t.strip_prefix(": "))
        .unwrap_or(&text);
    voice.say(format!("{name}: {text}"));
    line.clear();
}
