//! A server: power, disk, processes.
//!
//! Power-off takes the links first and the processes in the same breath, as a pulled mains plug does;
//! what remains of the dead server (namespace, interfaces) is cleared away later, because clearing takes
//! the kernel's network lock, which the surviving server needs just then. The disk stays.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    clock::Stamp,
    error::LabError,
    guest::{BootCommand, GuestSpec},
    machine::{self, Identity},
    netns::NetNs,
    observer::{AddressLog, AddressWatch},
    plan::{Plan, ServerId},
    roles,
    switch::Switch,
};

/// Of a server's disk.
const DISK_SIZE: &str = "mode=755,size=256m";
/// The file that fills it.
const BALLAST: &str = "ballast";

/// When a fault began and when the kernel had carried it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct FaultTimes {
    /// Just before the first system call.
    pub began: Stamp,
    /// Just after the last one.
    pub done: Stamp,
}

impl FaultTimes {
    /// Carries a fault out and takes its times.
    ///
    /// # Errors
    /// What `act` returns.
    pub fn of<E>(act: impl FnOnce() -> Result<(), E>) -> Result<Self, E> {
        let began = Stamp::now();
        act()?;
        Ok(Self {
            began,
            done: Stamp::now(),
        })
    }
}

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

/// One server of the segment.
pub struct Server {
    id: ServerId,
    name: String,
    /// Everything of the server that lies on the lab's file system.
    dir: PathBuf,
    power: Option<Power>,
    remains: Vec<Power>,
    boots: u32,
    /// Programs that cannot be started now.
    broken: BTreeSet<String>,
}

/// What exists only while a server has power.
struct Power {
    netns: NetNs,
    init: Pid,
    launcher: Child,
    watch: AddressWatch,
}

/// Where the programs come from that servers run.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Directory of the binaries under test.
    pub bin_dir: PathBuf,
    /// The lab's own program.
    pub helper: PathBuf,
}

impl Server {
    /// A server without power, with an empty disk below `dir`.
    ///
    /// # Errors
    /// As the file system refuses.
    pub fn new(id: ServerId, name: &str, dir: &Path) -> Result<Self, LabError> {
        let dir = dir.join(name);
        let server = Self {
            id,
            name: name.to_owned(),
            dir,
            power: None,
            remains: Vec::new(),
            boots: 0,
            broken: BTreeSet::new(),
        };
        server.mount_disk()?;
        for (part, _) in crate::guest::ON_DISK {
            let part = server.disk().join(part);
            fs::create_dir_all(&part).map_err(LabError::file(part))?;
        }
        Ok(server)
    }

    /// A disk of its own, so that it can be full.
    fn mount_disk(&self) -> Result<(), LabError> {
        let disk = self.disk();
        fs::create_dir_all(&disk).map_err(LabError::file(&disk))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), &disk, Some("tmpfs"), flags, Some(DISK_SIZE))
            .map_err(|errno| LabError::file(disk)(errno.into()))
    }

    /// Fills its disk to the last byte.
    ///
    /// # Errors
    /// As the file system refuses, beside the refusal that is wanted.
    pub fn fill_disk(&self) -> Result<FaultTimes, LabError> {
        let path = self.disk().join(BALLAST);
        let mut file = fs::File::create(&path).map_err(LabError::file(&path))?;
        let block = vec![0x55; 1 << 16];
        FaultTimes::of(|| {
            // The last bytes are filled with smaller pieces.
            let mut length = block.len();
            while length > 0 {
                match file.write(&block[..length]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => length /= 2,
                    Err(error) => return Err(LabError::file(&path)(error)),
                }
            }
            Ok(())
        })
    }

    /// Takes away what filled the disk, if it was filled.
    ///
    /// # Errors
    /// As the file system refuses.
    pub fn empty_disk(&self) -> Result<(), LabError> {
        let path = self.disk().join(BALLAST);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LabError::file(path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its disk: `etc` is its `/etc/haarb`, `state` its `/var/lib/haarb`, `srv` its `/srv`, `log` its `/var/log`.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }

    /// Whether it has power.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.power.is_some()
    }

    /// Its network namespace while it has power.
    #[must_use]
    pub fn netns(&self) -> Option<&NetNs> {
        self.power.as_ref().map(|power| &power.netns)
    }

    /// Switches it on: cables, addresses, then `boot`. Nothing happens when it is on.
    ///
    /// # Errors
    /// When the kernel refuses something or the server does not boot.
    pub fn power_on(
        &mut self,
        plan: &Plan,
        switches: &mut [Switch],
        programs: &Programs,
        boot: Vec<BootCommand>,
        addresses: &AddressLog,
    ) -> Result<(), LabError> {
        if self.power.is_some() {
            return Ok(());
        }
        self.clear_remains();
        self.boots += 1;
        self.broken.clear();
        let id = self.id;
        let who = Identity {
            name: &self.name,
            mac: &|network| plan.server_mac(id, network),
            addresses: &|network| plan.server_addresses(id, network),
        };
        let netns = machine::build(plan, switches, &who)?;
        let watch = AddressWatch::start(&netns, id, addresses.clone()).map_err(LabError::Client)?;
        let spec = GuestSpec {
            name: self.name.clone(),
            netns: netns.path(),
            root: self.dir.join(format!("root-{}", self.boots)),
            disk: self.disk(),
            bin_dir: programs.bin_dir.clone(),
            helper: programs.helper.clone(),
            boot,
        };
        let launched = self.launch(&spec, &programs.helper);
        if launched.is_err() {
            // Its interfaces go with its namespace; the switches must not count on them.
            for switch in switches {
                switch.remove_cable(&self.name)?;
            }
        }
        let (launcher, init) = launched?;
        self.power = Some(Power {
            netns,
            init,
            launcher,
            watch,
        });
        Ok(())
    }

    fn launch(&self, spec: &GuestSpec, helper: &Path) -> Result<(Child, Pid), LabError> {
        let failed = |reason: String| LabError::Boot {
            server: self.name.clone(),
            reason,
        };
        let spec = serde_json::to_string(spec).map_err(|error| failed(error.to_string()))?;
        let mut launcher = Command::new(helper)
            .args([roles::MARK, "guest", &spec])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| failed(format!("cannot start {}: {error}", helper.display())))?;
        let mut init = None;
        let mut up = false;
        if let Some(out) = launcher.stdout.take() {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                match line.strip_prefix("pid ").map(str::parse) {
                    Some(Ok(pid)) => init = Some(Pid::from_raw(pid)),
                    _ => up |= line == "up",
                }
                // Two processes print them; on a busy machine the second may come first.
                if up && init.is_some() {
                    break;
                }
            }
        }
        match init {
            Some(init) if up => Ok((launcher, init)),
            _ => {
                let _ = launcher.kill();
                let mut said = String::new();
                if let Some(mut err) = launcher.stderr.take() {
                    let _ = err.read_to_string(&mut said);
                }
                let _ = launcher.wait();
                Err(failed(said.trim().to_owned()))
            }
        }
    }

    /// Cuts the power: every link and every process at the same instant.
    ///
    /// # Errors
    /// When it has no power, or as the kernel refuses.
    pub fn power_off(
        &mut self,
        switches: &mut [Switch],
        addresses: &AddressLog,
    ) -> Result<FaultTimes, LabError> {
        let power = self
            .power
            .take()
            .ok_or_else(|| self.no_power("be switched off"))?;
        let times = FaultTimes::of(|| {
            let cut = switches
                .iter_mut()
                .try_for_each(|switch| switch.far_end_dead(&self.name));
            let _ = kill(power.init, Signal::SIGKILL);
            cut
        });
        addresses.power_lost(self.id, Stamp::now());
        self.remains.push(power);
        times
    }

    /// Waits for the processes of earlier lives and gives their namespaces back.
    pub fn clear_remains(&mut self) {
        for mut power in self.remains.drain(..) {
            let _ = power.launcher.wait();
            drop(power.watch);
            drop(power.netns);
        }
    }

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

    fn no_power(&self, what: &str) -> LabError {
        LabError::NoPower {
            server: self.name.clone(),
            what: what.to_owned(),
        }
    }
}

/// A server that nobody holds any more is switched off; its processes end before this returns.
impl Drop for Server {
    fn drop(&mut self) {
        if let Some(power) = self.power.take() {
            // Its pid 1: the kernel kills the rest of the namespace with it.
            let _ = kill(power.init, Signal::SIGKILL);
            self.remains.push(power);
        }
        self.clear_remains();
        let _ = umount2(&self.disk(), MntFlags::MNT_DETACH);
    }
}
