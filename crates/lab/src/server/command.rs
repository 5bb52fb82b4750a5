//! Commands that run inside a server.

use std::{
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::Server;
use crate::{clock::Stamp, error::LabError, roles};

/// Output of a command run in a server.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit status in the manner of a shell.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Server {
    /// A command that runs inside the server, ready to be configured and spawned.
    ///
    /// # Errors
    /// When it has no power.
    pub fn command(&self, helper: &Path, argv: &[&str]) -> Result<Command, LabError> {
        let power = self
            .power
            .as_ref()
            .ok_or_else(|| self.no_power(&format!("run {}", argv.join(" "))))?;
        let mut command = Command::new(helper);
        command
            .args([roles::MARK, "enter", &power.init.to_string(), "-"])
            .args(argv);
        Ok(command)
    }

    /// Runs a command inside the server and waits for it, at most `limit`.
    ///
    /// # Errors
    /// When the server has no power, the command cannot be started or does not end in time. A status
    /// other than 0 is no error here.
    pub fn run(&self, helper: &Path, argv: &[&str], limit: Duration) -> Result<Output, LabError> {
        let failed = |reason: String| LabError::Command {
            server: self.name.clone(),
            command: argv.join(" "),
            reason,
        };
        let mut child = self
            .command(helper, argv)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let group = Pid::from_raw(-i32::try_from(child.id()).unwrap_or(i32::MAX));
        let read = |pipe: Option<Box<dyn io::Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = pipe {
                    let _ = pipe.read_to_end(&mut bytes);
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let out = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
        let err = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
        let end = Stamp::now().plus(limit);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Stamp::now() < end => std::thread::sleep(Duration::from_millis(2)),
                Ok(None) | Err(_) => break None,
            }
        };
        if status.is_none() {
            let _ = kill(group, Signal::SIGKILL);
            let _ = child.wait();
            return Err(failed(format!(
                "did not end within {} ms",
                limit.as_millis()
            )));
        }
        Ok(Output {
            status: status.and_then(|status| status.code()).unwrap_or(-1),
            stdout: out.join().unwrap_or_default(),
            stderr: err.join().unwrap_or_default(),
        })
    }
}
