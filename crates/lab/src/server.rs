//! A server: power, disk, processes.
//!
//! Power-off takes the links first and the processes in the same breath, as a pulled mains plug does;
//! what remains of the dead server (namespace, interfaces) is cleared away later, because clearing takes
//! the kernel's network lock, which the surviving server needs just then. The disk stays.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    clock::Stamp,
    error::LabError,
    guest::{BootCommand, GuestSpec, debian::DebianSpec},
    machine::{self, Identity},
    netns::NetNs,
    observer::{AddressLog, AddressWatch},
    plan::{Plan, ServerId},
    roles,
    switch::Switch,
};

mod cgroup;
mod command;
mod disk;
mod processes;

pub use command::Output;

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
    /// A whole Debian system that systemd boots.
    debian: Option<DebianSpec>,
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
            debian: None,
        };
        server.mount_disk()?;
        for (part, _) in crate::guest::ON_DISK {
            let part = server.disk().join(part);
            fs::create_dir_all(&part).map_err(LabError::file(part))?;
        }
        Ok(server)
    }

    /// From its next power-on on this is a whole Debian system, this machine's own with changes of its
    /// own, and boots with systemd. See [`crate::guest::debian`].
    ///
    /// # Errors
    /// As the kernel refuses: only root may.
    pub fn become_debian(&mut self) -> Result<(), LabError> {
        let changes = self.mount_changes()?;
        let groups = self.dir.join("cgroup");
        let cgroup = cgroup::place(&groups, &self.name).map_err(LabError::file(groups))?;
        self.debian = Some(DebianSpec { changes, cgroup });
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
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
            debian: self.debian.clone(),
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
        if let Some(debian) = &self.debian {
            cgroup::clear(&debian.cgroup);
        }
        self.unmount_disk();
    }
}
