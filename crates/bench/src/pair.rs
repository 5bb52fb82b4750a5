//! A running pair of one system: settled, struck, mended.
//!
//! Mending only does what must be done; whether the pair has got over it is asked when its next turn
//! comes, so that one pair recovers while another is measured.

use std::{fs, path::Path, time::Duration};

use haarb_lab::{
    clock::Stamp,
    cluster::{self, Goal},
    error::LabError,
    plan::{Plan, ServerId},
    roles,
    segment::Segment,
    server::Programs,
    setup,
};
use nix::unistd::Pid;

use crate::{
    fault::Fault,
    peers,
    system::{Stack, System},
};

/// How long a pair may take until it has settled: far above what any of them needs.
const SETTLE_LIMIT: Duration = Duration::from_secs(40);
/// How often a state is looked at while it is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A pair of servers with one system on them.
pub struct Pair {
    system: System,
    lab: Segment,
}

impl Pair {
    /// Builds it and switches it on. It has not settled yet.
    ///
    /// # Errors
    /// As the lab refuses.
    pub fn start(system: System, dir: &Path, programs: Programs) -> Result<Self, LabError> {
        let plan = Plan::pair();
        let dir = dir.join(system.name);
        let boot = |plan: &Plan, server| system.boot(plan, server);
        let lab = match system.haarb_yaml(&plan) {
            Some(yaml) => setup::build_with(plan, dir, programs, &yaml, boot)?,
            None => Segment::build(plan, dir, programs, boot)?,
        };
        let mut pair = Self { system, lab };
        pair.install()?;
        pair.lab.client().pause(true);
        pair.power_on_all()?;
        Ok(pair)
    }

    /// Puts the peers' files on the servers' disks.
    fn install(&self) -> Result<(), LabError> {
        let plan = self.lab.plan();
        for server in 0..plan.servers.len() {
            let disk = self.lab.server(server).disk();
            match self.system.stack {
                Stack::Haarb { .. } => Ok(()),
                Stack::Keepalived(how) => peers::install_keepalived(&disk, plan, server, how),
                Stack::Ucarp { .. } => peers::install_ucarp(&disk),
            }
            .map_err(|source| LabError::File {
                path: disk.join("etc"),
                source,
            })?;
        }
        Ok(())
    }

    /// The system on it.
    #[must_use]
    pub const fn system(&self) -> &System {
        &self.system
    }

    /// Its segment.
    #[must_use]
    pub const fn lab(&self) -> &Segment {
        &self.lab
    }

    /// Its segment, to do something to it.
    pub const fn lab_mut(&mut self) -> &mut Segment {
        &mut self.lab
    }

    /// The other server of the two.
    #[must_use]
    pub const fn other(&self, server: ServerId) -> ServerId {
        1 - server
    }

    /// Waits until one server holds every virtual IP and the other is ready to take over; says which holds.
    /// A pair that does not get there is switched off and on once.
    ///
    /// # Errors
    /// When that does not help either.
    pub fn settle(&mut self) -> Result<ServerId, LabError> {
        if let Ok(active) = self.settled(SETTLE_LIMIT) {
            return Ok(active);
        }
        self.restart()?;
        self.settled(SETTLE_LIMIT)
    }

    fn settled(&self, limit: Duration) -> Result<ServerId, LabError> {
        match self.system.stack {
            Stack::Haarb { .. } => {
                let active = cluster::reach(&self.lab, Goal::Settled, limit)?;
                active.ok_or_else(|| LabError::Deadline {
                    what: "an active server".into(),
                    waited_ms: 0.0,
                    seen: "no reserve".into(),
                })
            }
            Stack::Keepalived(how) => self.peer_settled(
                limit,
                Duration::from_millis((3 * u64::from(how.advert_ms)).max(200)),
            ),
            Stack::Ucarp { .. } => self.peer_settled(limit, Duration::from_millis(2500)),
        }
    }

    /// The peers have no status: one server holds everything, the other has told its log that it is
    /// backup, and nothing has changed for `quiet`.
    fn peer_settled(&self, limit: Duration, quiet: Duration) -> Result<ServerId, LabError> {
        let what = "one server holds every virtual IP, the other is backup";
        self.lab.until(what, limit, LOOK_EVERY, |lab| {
            let holders: Vec<Vec<ServerId>> = (lab.plan().vips.iter())
                .map(|vip| lab.holders(vip.address))
                .collect();
            let active = match holders.first().map(Vec::as_slice) {
                Some([one]) if holders.iter().all(|holder| holder == &[*one]) => *one,
                _ => return Err(format!("held by {holders:?}")),
            };
            let other = self.other(active);
            if !lab.server(other).is_on() || self.backups(other) < lab.plan().vips.len() {
                return Err(format!("{} is no backup", lab.server(other).name()));
            }
            let now = Stamp::now();
            if lab.vip_events(now.minus(quiet)).is_empty() {
                Ok(active)
            } else {
                Err("a virtual IP has moved just now".into())
            }
        })
    }

    /// How often the daemons of a server have said since its boot that they are backup.
    fn backups(&self, server: ServerId) -> usize {
        let log = self.lab.logs(server, usize::MAX);
        log.lines()
            .filter(|line| line.contains("BACKUP STATE") || line.contains("state: BACKUP"))
            .count()
    }

    /// Does what must be done after a fault of the server that was active then.
    ///
    /// # Errors
    /// As the lab refuses.
    pub fn mend(&mut self, fault: Fault, was_active: ServerId) -> Result<(), LabError> {
        self.lab.client().pause(true);
        let on: Vec<ServerId> = self.lab.powered().collect();
        for server in on {
            self.lab.freeze(server, false)?;
            for network in 0..self.lab.plan().networks.len() {
                if !self
                    .lab
                    .switch(network)
                    .is_plugged(self.lab.server(server).name())
                {
                    self.lab.plug(server, network, true)?;
                }
            }
        }
        let is_haarb = matches!(self.system.stack, Stack::Haarb { .. });
        // haarb finds its way back by itself unless its daemons are gone. The peers may end with the
        // virtual IPs on different servers, or with a daemon that was stopped: begin anew on that server.
        if !is_haarb || fault == Fault::Kill {
            self.power_off(was_active)?;
        }
        self.power_on_all()
    }

    /// Switches both servers off and on again.
    ///
    /// # Errors
    /// As the lab refuses.
    pub fn restart(&mut self) -> Result<(), LabError> {
        for server in 0..self.lab.plan().servers.len() {
            self.power_off(server)?;
        }
        self.power_on_all()
    }

    fn power_off(&mut self, server: ServerId) -> Result<(), LabError> {
        if self.lab.server(server).is_on() {
            self.lab.power_off(server)?;
        }
        Ok(())
    }

    fn power_on_all(&mut self) -> Result<(), LabError> {
        for server in 0..self.lab.plan().servers.len() {
            if self.lab.server(server).is_on() {
                continue;
            }
            if !matches!(self.system.stack, Stack::Haarb { .. }) {
                forget_logs(&self.lab.server(server).disk().join("log"));
            }
            self.lab.power_on(server)?;
        }
        Ok(())
    }

    /// The processes of the system's daemons on a server, parents first.
    ///
    /// # Errors
    /// When it has no power.
    pub fn daemons(&self, server: ServerId) -> Result<Vec<Pid>, LabError> {
        let mut all = self.lab.server(server).processes()?;
        all.retain(|pid| is_daemon(*pid, self.system.daemons()));
        all.sort();
        Ok(all)
    }

    /// The last lines of both servers' logs, for a report of what went wrong.
    #[must_use]
    pub fn last_words(&self) -> String {
        (0..self.lab.plan().servers.len())
            .map(|server| self.lab.logs(server, 15))
            .collect()
    }
}

/// What a peer said before this boot is not to be mistaken for what it says now.
fn forget_logs(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        // What cannot be removed is found as it was: then the pair counts as settled too early.
        let _ = fs::remove_file(entry.path());
    }
}

/// Whether a process is one of the daemons whose names begin with `prefix`; the lab's own helpers in
/// the server are not.
fn is_daemon(pid: Pid, prefix: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let name = program
        .rsplit(|byte| *byte == b'/')
        .next()
        .unwrap_or_default();
    name.starts_with(prefix.as_bytes()) && words.next() != Some(roles::MARK.as_bytes())
}
