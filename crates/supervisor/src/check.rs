//! Runs a command that only asks: a status command, a question to systemctl.
//!
//! Below the supervisor, not below a keeper: it may end with the supervisor at any moment.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// How much of the output is kept.
const OUTPUT_BYTES_MAX: u64 = 4096;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It exited.
    Exited {
        /// Its status.
        code: i32,
        /// The beginning of what it printed.
        output: String,
    },
    /// It was killed by a signal.
    Killed(i32),
    /// It did not end in time and was killed.
    TimedOut,
    /// It could not be run.
    NotRun(String),
}

/// Runs a command with a time limit. Ends it, with its process group, when the limit passes.
pub async fn ask(argv: &[String], environment: &[(String, String)], timeout: Duration) -> Answer {
    let mut child = match start(argv, environment) {
        Ok(child) => child,
        Err(error) => return Answer::NotRun(error.to_string()),
    };
    let group = child.id().map(|pid| Pid::from_raw(pid.cast_signed()));
    match tokio::time::timeout(timeout, finish(&mut child)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer::NotRun(error.to_string()),
        Err(_) => {
            if let Some(group) = group {
                // Gone in between: that is what is wanted.
                let _ = killpg(group, Signal::SIGKILL);
            }
            Answer::TimedOut
        }
    }
}

fn start(argv: &[String], environment: &[(String, String)]) -> io::Result<Child> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program"));
    };
    let mut command = Command::new(program);
    for name in crate::keepers::NOT_PASSED_ON {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

async fn finish(child: &mut Child) -> io::Result<Answer> {
    let mut output = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        // Read beside the wait: who forks away with the pipe open must not hold this up.
        let mut limited = pipe.take(OUTPUT_BYTES_MAX);
        tokio::select! {
            biased;
            read = limited.read_to_end(&mut output) => drop(read),
            _ = child.wait() => {}
        }
    }
    let status = child.wait().await?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => Answer::Exited {
            code,
            output: String::from_utf8_lossy(&output).trim().to_owned(),
        },
        (None, signal) => Answer::Killed(signal.unwrap_or_default()),
    })
}
