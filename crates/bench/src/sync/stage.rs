//! A pair of servers with one replica between them, for one run.
//!
//! Every run has a fresh pair; only one pair exists at a time, because a loop that looks at a large tree
//! every second would be measured with everybody else. The one thing to know: the replicated directories
//! lie on the machine's own file system ([`Ground`]) and not, as the rest of a server of the lab, in memory.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use haarb_lab::{
    clock::Stamp,
    cluster::{self, Goal},
    error::LabError,
    plan::{Plan, ServerId},
    segment::Segment,
    server::Programs,
    setup,
};
use nix::mount::{MsFlags, mount};

use super::{
    look,
    meter::{self, Reading},
    system::{SINK, SOURCE, System},
    tree::Entry,
};

/// How long a pair may take to be ready: far above what any of them needs.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Directories on the machine's file system, emptied before every run.
#[derive(Debug, Clone)]
pub struct Ground {
    dir: PathBuf,
}

impl Ground {
    /// In a directory that is this program's own; what is left in it of an earlier life goes.
    ///
    /// # Errors
    /// As the file system refuses.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let ground = Self {
            dir: dir.to_owned(),
        };
        remove(dir)?;
        fs::create_dir_all(dir)?;
        Ok(ground)
    }

    /// What a server sees as `/srv`.
    fn srv(&self, server: ServerId) -> PathBuf {
        self.dir
            .join(if server == SOURCE { "source" } else { "sink" })
    }

    /// The replicated directory of a server.
    #[must_use]
    pub fn replicated(&self, server: ServerId) -> PathBuf {
        self.srv(server).join("demo")
    }

    /// A place on the same file system where things are made before they are moved in.
    #[must_use]
    pub fn workshop(&self) -> PathBuf {
        self.dir.join("workshop")
    }

    /// Empties the replicated directories.
    ///
    /// # Errors
    /// As the file system refuses.
    pub fn clear(&self) -> io::Result<()> {
        for server in [SOURCE, SINK] {
            remove(&self.srv(server))?;
            fs::create_dir_all(self.replicated(server))?;
        }
        fs::create_dir_all(self.workshop())
    }

    /// Writes everything to the disk that waits for it, so that no run pays for what was before it.
    ///
    /// # Errors
    /// As the file system refuses.
    pub fn calm(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(fs::File::open(&self.dir)?)?)
    }

    /// Takes everything away.
    pub fn remove(&self) {
        let _ = remove(&self.dir);
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The lab, or haarb as its operator sees it.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The replica did not get there.
    #[error("{what} not within {limit_s} s")]
    Late {
        /// What was awaited.
        what: String,
        /// How long.
        limit_s: u64,
    },
    /// The replica is wrong.
    #[error("the replica differs: {0}")]
    Wrong(String),
    /// A server changed its role by itself.
    #[error("the roles changed in the middle of a run")]
    Roles,
}

/// A pair for one run.
pub struct Stage<'a> {
    system: System,
    lab: Segment,
    ground: &'a Ground,
}

impl<'a> Stage<'a> {
    /// Builds a pair without power on empty directories. `exact_times`: rsync compares nanoseconds.
    ///
    /// # Errors
    /// As the lab or the file system refuses.
    pub fn build(
        system: System,
        dir: &Path,
        programs: Programs,
        ground: &'a Ground,
        exact_times: bool,
    ) -> Result<Self, RunError> {
        let plan = Plan::pair();
        let boot = |plan: &Plan, server| system.boot(plan, server, exact_times);
        let lab = match system.haarb_yaml(&plan) {
            Some(yaml) => setup::build_with(plan, dir, programs, &yaml, boot)?,
            None => Segment::build(plan, dir, programs, boot)?,
        };
        lab.client().pause(true);
        ground.clear()?;
        for server in [SOURCE, SINK] {
            let disk = lab.server(server).disk();
            let (from, to) = (ground.srv(server), disk.join("srv"));
            let none = None::<&str>;
            mount(Some(&from), &to, none, MsFlags::MS_BIND, none).map_err(io::Error::from)?;
            for (name, text) in system.files(lab.plan()) {
                fs::write(disk.join("etc").join(name), text)?;
            }
        }
        let stage = Self {
            system,
            lab,
            ground,
        };
        if system.needs().iter().any(|(command, _)| *command == "ssh") {
            stage.install_ssh_key()?;
        }
        Ok(stage)
    }

    /// One key for both ends: it proves nothing here and costs the same.
    fn install_ssh_key(&self) -> io::Result<()> {
        let etc = |server| self.lab.server(server).disk().join("etc");
        let key = etc(SOURCE).join("ssh_key");
        let output = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("ssh-keygen: {said}")));
        }
        for name in ["ssh_key", "ssh_key.pub"] {
            fs::copy(etc(SOURCE).join(name), etc(SINK).join(name))?;
        }
        Ok(())
    }

    /// The system on it.
    #[must_use]
    pub const fn system(&self) -> &System {
        &self.system
    }

    /// Its segment, to do something to it.
    pub const fn lab_mut(&mut self) -> &mut Segment {
        &mut self.lab
    }

    /// The place for what is made beforehand.
    #[must_use]
    pub fn workshop(&self) -> PathBuf {
        self.ground.workshop()
    }

    /// The directory that is changed.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        self.ground.replicated(SOURCE)
    }

    /// Its replica.
    #[must_use]
    pub fn sink(&self) -> PathBuf {
        self.ground.replicated(SINK)
    }

    /// Switches on the server that the other one needs first: haarb's source, so that it becomes active,
    /// or the peers' receiving daemon. Nothing is replicated yet.
    ///
    /// # Errors
    /// As the lab refuses.
    pub fn start_first(&mut self) -> Result<(), RunError> {
        self.ground.calm()?;
        if self.system.is_haarb() {
            self.lab.power_on(SOURCE)?;
            // A server that is alone would wait for its neighbour: the operator knows better.
            let reserve = self.lab.plan().reserves().concat();
            let words = ["promote", &reserve, "--force"];
            let promoted = || {
                let active = cluster::who_is_active_for(&self.lab, &reserve) == Some(SOURCE);
                if !active {
                    // Refused until its daemons are up: then once more.
                    let _ = cluster::haarb(&self.lab, SOURCE, &words);
                }
                active
            };
            look::until(READY_LIMIT, promoted)
                .ok_or_else(|| late("an active server", READY_LIMIT))?;
            // What an operator has promoted stays in manual mode until he ends it.
            cluster::haarb(&self.lab, SOURCE, &["clear", &reserve])?;
            return Ok(());
        }
        self.lab.power_on(SINK)?;
        let port = if self.system.is_encrypted() { 22 } else { 873 };
        let listens = |stage: &Self| {
            let pid = stage.lab.server(SINK).processes().ok()?.first().copied()?;
            meter::listens(pid, port).then_some(())
        };
        look::until(READY_LIMIT, || listens(self).is_some())
            .ok_or_else(|| late("its daemon", READY_LIMIT))?;
        Ok(())
    }

    /// Switches the other server on: from here on changes are replicated. Says when that was.
    ///
    /// # Errors
    /// As the lab refuses.
    pub fn start(&mut self) -> Result<Stamp, RunError> {
        let second = if self.system.is_haarb() { SINK } else { SOURCE };
        Ok(self.lab.power_on(second)?.done)
    }

    /// Both, with what is in the source's directory now; returns when the replica is complete and, with
    /// haarb, when both servers are ready for everything.
    ///
    /// # Errors
    /// As the lab refuses, or when it does not get there.
    pub fn start_with(&mut self, entries: &[Entry], limit: Duration) -> Result<(), RunError> {
        self.start_first()?;
        self.start()?;
        self.until_there(entries, limit)?;
        self.settle()
    }

    /// Waits until haarb's pair is ready for everything; the peers have no such state.
    ///
    /// # Errors
    /// When it does not get there, or somebody else is active.
    pub fn settle(&self) -> Result<(), RunError> {
        if self.system.is_haarb() {
            let active = cluster::reach(&self.lab, Goal::Settled, READY_LIMIT)?;
            if active != Some(SOURCE) {
                return Err(RunError::Roles);
            }
        }
        Ok(())
    }

    /// Waits until the replica shows all of these.
    ///
    /// # Errors
    /// When it does not.
    pub fn until_there(&self, entries: &[Entry], limit: Duration) -> Result<look::Seen, RunError> {
        let sink = self.sink();
        look::until_each(entries, limit, |entry| entry.is_at(&sink))
            .ok_or_else(|| late("a complete replica", limit))
    }

    /// Network, CPU and memory of the replica until now; a server without power has none.
    ///
    /// # Errors
    /// When its processes cannot be listed.
    pub fn read(&self) -> Result<Reading, RunError> {
        let mut sum = Reading::default();
        for server in self.lab.powered() {
            let all = self.lab.server(server).processes()?;
            sum = sum.plus(Reading::of(&all, self.system.processes()));
        }
        Ok(sum)
    }

    /// Bytes that both servers have sent until now, by the counters of their interfaces.
    ///
    /// # Errors
    /// When a server has no power.
    pub fn sent(&self) -> Result<u64, RunError> {
        let of = |server| {
            let all = self.lab.server(server).processes()?;
            Ok::<_, LabError>(all.first().map_or(0, |pid| meter::sent_bytes(*pid)))
        };
        Ok(of(SOURCE)? + of(SINK)?)
    }

    /// The last lines of both servers' logs, for a report of what went wrong.
    #[must_use]
    pub fn last_words(&self) -> String {
        [SOURCE, SINK]
            .map(|server| self.lab.logs(server, 12))
            .concat()
    }
}

/// An error for what did not come in time.
#[must_use]
pub fn late(what: &str, limit: Duration) -> RunError {
    RunError::Late {
        what: what.to_owned(),
        limit_s: limit.as_secs(),
    }
}
