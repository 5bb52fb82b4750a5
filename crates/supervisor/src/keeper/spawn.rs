//! Starting one process below the keeper.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

/// How readily the kernel kills this process when memory runs out (proc(5)).
const OOM_SCORE_ADJ: &CStr = c"/proc/self/oom_score_adj";

/// Starts `argv` in a session of its own, output into `output`, and returns once its exec
/// has succeeded. The process is not waited for here: the keeper reaps everything below it.
///
/// # Errors
/// As execve(2): the program does not exist, is not executable; or fork(2) failed.
pub(super) fn spawn(
    argv: &[String],
    environment: &BTreeMap<String, String>,
    output: OwnedFd,
) -> io::Result<Pid> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program"));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let keeper = nix::unistd::getpid();
    let protected = is_protected();
    // SAFETY: runs in the child between fork and exec. It makes system calls only, all of
    // them async-signal-safe, allocates nothing and takes no lock.
    #[expect(unsafe_code, reason = "there is no safe way to run code before exec")]
    unsafe {
        command.pre_exec(move || detach(keeper, protected));
    }
    let child = command.spawn()?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}

/// Whether haarb's own protection from a lack of memory would be passed on to the service.
fn is_protected() -> bool {
    std::fs::read_to_string("/proc/self/oom_score_adj").is_ok_and(|score| score.starts_with('-'))
}

/// In the child: a session of its own, no blocked signals, and an end together with the keeper.
fn detach(keeper: Pid, protected: bool) -> io::Result<()> {
    nix::unistd::setsid()?;
    SigSet::empty().thread_set_mask()?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if protected {
        // Refused: the service stays as protected as haarb is.
        let _ = nix::fcntl::open(OOM_SCORE_ADJ, OFlag::O_WRONLY, Mode::empty())
            .and_then(|file| nix::unistd::write(file, b"0"));
    }
    // The keeper may have died before the line above.
    if nix::unistd::getppid() != keeper {
        return Err(io::Error::from_raw_os_error(libc::ECHILD));
    }
    Ok(())
}
