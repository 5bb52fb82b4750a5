//! What can be done to the processes of a server: stopped, killed, made impossible to start.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Command,
};

use nix::{
    fcntl::OFlag,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{FaultTimes, Server};
use crate::{clock::Stamp, error::LabError, roles};

impl Server {
    /// The processes of this server, as the lab's pid namespace numbers them.
    ///
    /// # Errors
    /// When it has no power.
    pub fn processes(&self) -> Result<Vec<Pid>, LabError> {
        let power = self
            .power
            .as_ref()
            .ok_or_else(|| self.no_power("list its processes"))?;
        let space = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = space(power.init.as_raw());
        let all = fs::read_dir("/proc").map_err(LabError::file("/proc"))?;
        Ok(all
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| own.is_some() && space(*pid) == own)
            .map(Pid::from_raw)
            .collect())
    }

    /// Stops (or lets go on) every process of the server: its user space hangs, its kernel lives.
    ///
    /// # Errors
    /// When it has no power.
    pub fn freeze(&self, frozen: bool) -> Result<FaultTimes, LabError> {
        let signal = if frozen {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        FaultTimes::of(|| {
            // Twice over: a process may be born while the first round goes through the list.
            let mut done = BTreeSet::new();
            for pid in [self.processes()?, self.processes()?].concat() {
                if done.insert(pid) {
                    let _ = kill(pid, signal);
                }
            }
            Ok(())
        })
    }

    /// Whether a program runs on it.
    ///
    /// # Errors
    /// When it has no power.
    pub fn runs(&self, program: &str) -> Result<bool, LabError> {
        Ok(!self.find(|name| name == program.as_bytes())?.is_empty())
    }

    /// The processes whose program has a name (the last part of its path) like this.
    fn find(&self, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Pid>, LabError> {
        let named = |pid: &Pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = first.rsplit(|byte| *byte == b'/').next();
            name.is_some_and(&wanted)
        };
        // Its init is the lab's own program, whatever that is called.
        let init = self.power.as_ref().map(|power| power.init);
        let all = self.processes()?.into_iter();
        Ok(all.filter(|pid| Some(*pid) != init && named(pid)).collect())
    }

    /// Sends a signal to every process whose program is called `program` (the last part of its path).
    ///
    /// # Errors
    /// When it has no power or no such process runs.
    pub fn signal_program(&self, program: &str, signal: Signal) -> Result<FaultTimes, LabError> {
        self.signal_all(program, signal, |name| name == program.as_bytes())
    }

    /// Sends a signal to every process whose program has a name that begins with `prefix`, all at once.
    ///
    /// # Errors
    /// When it has no power or no such process runs.
    pub fn signal_family(&self, prefix: &str, signal: Signal) -> Result<FaultTimes, LabError> {
        self.signal_all(prefix, signal, |name| name.starts_with(prefix.as_bytes()))
    }

    fn signal_all(
        &self,
        what: &str,
        signal: Signal,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<FaultTimes, LabError> {
        let victims = self.find(wanted)?;
        if victims.is_empty() {
            return Err(LabError::Unknown {
                what: "running program",
                name: what.to_owned(),
                known: Vec::new(),
            });
        }
        FaultTimes::of(|| {
            for pid in victims {
                let _ = kill(pid, signal);
            }
            Ok(())
        })
    }

    /// Kills a program and makes it impossible to start again, until [`Server::mend_programs`].
    ///
    /// # Errors
    /// When the server has no power or no such process runs, or as the kernel refuses.
    pub fn break_program(&mut self, helper: &Path, program: &str) -> Result<FaultTimes, LabError> {
        self.cover(helper, program, "break")?;
        self.broken.insert(program.to_owned());
        self.signal_program(program, Signal::SIGKILL)
    }

    /// Makes every program possible to start again.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn mend_programs(&mut self, helper: &Path) -> Result<(), LabError> {
        while let Some(program) = self.broken.pop_first() {
            self.cover(helper, &program, "mend")?;
        }
        Ok(())
    }

    fn cover(&self, helper: &Path, program: &str, what: &str) -> Result<(), LabError> {
        let power = self
            .power
            .as_ref()
            .ok_or_else(|| self.no_power(&format!("{what} {program}")))?;
        let path = format!("{}/{program}", crate::guest::BIN_DIR);
        let failed = |reason: String| LabError::Command {
            server: self.name.clone(),
            command: format!("{what} {program}"),
            reason,
        };
        let output = Command::new(helper)
            .args([roles::MARK, "cover", &power.init.to_string(), &path, what])
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }

    /// Stops `haarb run`, the reader of the daemons' logs, and fills every pipe to it to the brim.
    ///
    /// # Errors
    /// When the server has no power or `haarb run` does not run on it, or no daemon has such a pipe.
    pub fn stick_logs(&self) -> Result<FaultTimes, LabError> {
        let began = self.signal_program("haarb", Signal::SIGSTOP)?.began;
        let mut filled = 0;
        for pid in self.find(|name| name.starts_with(b"haarb-"))? {
            for stream in [1, 2] {
                let path = format!("/proc/{pid}/fd/{stream}");
                let is_pipe = fs::read_link(&path)
                    .is_ok_and(|target| target.to_string_lossy().starts_with("pipe:"));
                if is_pipe {
                    fill_pipe(Path::new(&path)).map_err(LabError::file(&path))?;
                    filled += 1;
                }
            }
        }
        if filled == 0 {
            return Err(LabError::Unknown {
                what: "log that goes through a pipe",
                name: "any".to_owned(),
                known: Vec::new(),
            });
        }
        Ok(FaultTimes {
            began,
            done: Stamp::now(),
        })
    }

    /// Kills every process of the server but its init, all at once. Only a reboot brings them back.
    ///
    /// # Errors
    /// When it has no power.
    pub fn kill_everything(&self) -> Result<FaultTimes, LabError> {
        let init = self.power.as_ref().map(|power| power.init);
        let victims = self.processes()?;
        FaultTimes::of(|| {
            for pid in victims.into_iter().filter(|pid| Some(*pid) != init) {
                let _ = kill(pid, Signal::SIGKILL);
            }
            Ok(())
        })
    }
}

/// Writes into a pipe until it takes nothing more: whole pages first, then byte by byte.
fn fill_pipe(path: &Path) -> io::Result<()> {
    let mut pipe = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    for block in [&[b'.'; 4096][..], b"."] {
        loop {
            match pipe.write(block) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
