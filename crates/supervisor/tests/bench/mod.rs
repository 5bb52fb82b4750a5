//! A supervisor with a test instead of an arbiter: real keepers, real services.
//!
//! Every bench has its own run directory, so its keepers are its own; at its end they hear
//! that nothing must run, and the bench waits until nothing does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use haarb_api::Directive;
use haarb_config::Config;
use haarb_daemon::{ArbiterLink, FromArbiter, clock};
use haarb_model::{
    Epoch, Mono, NodeName, Report, ReserveDuties, ReserveName, Role, ServiceDuty, ServiceRun,
    ServiceState, Span, SyncDuty, VipDuty,
};
use haarb_supervisor::error::Error;
use haarb_supervisor::supervisor::{Setup, Supervisor};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Longer than anything here takes on a machine that stalls; only failures wait so long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    /// What the configuration file says.
    file: Arc<Mutex<Config>>,
    running: Option<Running>,
    pub(crate) last: Option<ServiceRun>,
    /// Every report since the supervisor started.
    pub(crate) seen: Vec<ServiceRun>,
    pub(crate) stalled: Vec<Span>,
    /// What the supervisor last said about the watchdog.
    pub(crate) watchdog: String,
    /// Repeated when the supervisor says that it was frozen, as an arbiter does that goes on.
    pub(crate) told: Option<Directive>,
}

struct Running {
    directives: mpsc::Sender<FromArbiter>,
    reports: mpsc::Receiver<Report>,
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Bench {
    /// A supervisor for these services: lines of YAML, `LOG` and `DIR` replaced by paths.
    pub(crate) fn new(services: &[&str]) -> Self {
        // A lease of 3 s: a busy machine may freeze this process for a second.
        Self::with_timing("profile: wan", services)
    }

    pub(crate) fn with_timing(timing: &str, services: &[&str]) -> Self {
        Self::with(|dir| config(dir, timing, services))
    }

    /// With a watchdog that is a file; profile lan.
    pub(crate) fn with_watchdog(services: &[&str]) -> Self {
        Self::with(|dir| {
            let device = dir.join("watchdog");
            std::fs::write(&device, "").expect("a file");
            let mut config = config(dir, "profile: lan", services);
            config.watchdog = Some(haarb_config::Watchdog {
                device,
                timeout: Span::from_secs(10),
            });
            config
        })
    }

    fn with(config: impl FnOnce(&Path) -> Config) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = Arc::new(Mutex::new(config(dir.path())));
        let mut bench = Self {
            dir,
            file,
            running: None,
            last: None,
            seen: Vec::new(),
            stalled: Vec::new(),
            watchdog: String::new(),
            told: None,
        };
        bench.start_supervisor();
        bench
    }

    fn supervisor(&self, arbiter: ArbiterLink) -> Result<Supervisor, Error> {
        let file = Arc::clone(&self.file);
        let setup = Setup {
            config: self.config(),
            me: NodeName::new("alpha").expect("a name"),
            run_dir: self.dir.path().to_owned(),
            program: env!("CARGO_BIN_EXE_haarb-supervisor").into(),
            reload: Box::new(move || Ok(file.lock().expect("no panic").clone())),
        };
        Supervisor::new(setup, arbiter)
    }

    fn config(&self) -> Config {
        self.file.lock().expect("no panic").clone()
    }

    /// Another configuration, as the arbiter knows it from now on.
    pub(crate) fn reconfigure(&self, services: &[&str]) {
        *self.file.lock().expect("no panic") = config(self.dir.path(), "profile: wan", services);
    }

    /// What a second supervisor with the same run directory gets.
    pub(crate) fn second_supervisor(&self) -> Result<Supervisor, Error> {
        self.supervisor(ArbiterLink::pair().0)
    }

    pub(crate) fn start_supervisor(&mut self) {
        let (arbiter, directives, reports) = ArbiterLink::pair();
        let supervisor = self.supervisor(arbiter).expect("a supervisor");
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(supervisor.run(async move {
            let _ = ended.await;
        }));
        self.running = Some(Running {
            directives,
            reports,
            end,
            task,
        });
        self.last = None;
        self.seen.clear();
    }

    /// The supervisor dies as by SIGKILL: its connections close, nothing else happens.
    pub(crate) async fn kill_supervisor(&mut self) {
        let running = self.running.take().expect("a supervisor");
        running.task.abort();
        let _ = running.task.await;
    }

    /// The supervisor is asked to end (SIGTERM).
    pub(crate) async fn end_supervisor(&mut self) {
        let running = self.running.take().expect("a supervisor");
        let _ = running.end.send(());
        running.task.await.expect("no panic").expect("a good end");
    }

    /// Tells a duty. What was reported before no longer satisfies [`Bench::until`].
    pub(crate) async fn tell(&mut self, epoch: u64, duty: ServiceDuty) {
        self.last = None;
        let reserve = ReserveDuties {
            reserve: ReserveName::new("sip").expect("a name"),
            role: if duty.run {
                Role::Active
            } else {
                Role::Standby
            },
            epoch: Epoch(epoch),
            vip: VipDuty::default(),
            services: duty,
            sync: SyncDuty::Off,
        };
        let directive = Directive {
            config_digest: self.config().digest,
            reserves: vec![reserve],
            ..Directive::default()
        };
        self.told = Some(directive);
        self.tell_again().await;
    }

    async fn tell_again(&self) {
        let running = self.running.as_ref().expect("a supervisor");
        let Some(directive) = self.told.clone() else {
            return;
        };
        running
            .directives
            .send(FromArbiter::Directive(directive))
            .await
            .expect("the supervisor listens");
    }

    /// Run, without an end of the lease.
    pub(crate) async fn run(&mut self, epoch: u64) {
        self.run_until(epoch, Mono::FAR).await;
    }

    pub(crate) async fn run_until(&mut self, epoch: u64, until: Mono) {
        let duty = ServiceDuty {
            run: true,
            until,
            ..ServiceDuty::default()
        };
        self.tell(epoch, duty).await;
    }

    pub(crate) async fn stop(&mut self, epoch: u64) {
        self.tell(epoch, ServiceDuty::default()).await;
    }

    /// Takes the reports that have arrived.
    pub(crate) fn read_reports(&mut self) {
        let running = self.running.as_mut().expect("a supervisor");
        while let Ok(report) = running.reports.try_recv() {
            if let Report::Services(report) = report {
                self.seen.extend(report.reserves);
            }
        }
    }

    /// Waits for a report that satisfies `wanted`.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&ServiceRun) -> bool,
    ) -> ServiceRun {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        if let Some(last) = self.last.as_ref().filter(|run| wanted(run)) {
            return last.clone();
        }
        loop {
            let running = self.running.as_mut().expect("a supervisor");
            match tokio::time::timeout_at(deadline, running.reports.recv()).await {
                Ok(Some(Report::Services(report))) => {
                    self.watchdog = report.watchdog;
                    let run = report.reserves.into_iter().next().expect("a reserve");
                    self.last = Some(run.clone());
                    self.seen.push(run.clone());
                    if wanted(&run) {
                        return run;
                    }
                }
                Ok(Some(Report::Stalled(gap))) => {
                    self.stalled.push(gap);
                    self.tell_again().await;
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    let task = self.running.take().expect("a supervisor").task;
                    panic!("the supervisor ended ({:?}) before: {what}", task.await);
                }
                Err(_) => panic!("not within {PATIENCE:?}: {what}; last: {:#?}", self.last),
            }
        }
    }

    /// Waits until the supervisor says something of the watchdog.
    pub(crate) async fn until_watchdog(
        &mut self,
        what: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !wanted(&self.watchdog) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}; last: {}",
                self.watchdog
            );
            self.last = None;
            self.until(what, |_| true).await;
        }
        self.watchdog.clone()
    }

    /// What was written to the watchdog.
    pub(crate) fn watchdog_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("watchdog")).unwrap_or_default()
    }

    pub(crate) fn feedings(&self) -> usize {
        self.watchdog_log().matches('.').count()
    }

    /// Ends it all; the last that the watchdog got must be this.
    pub(crate) async fn finish_with_watchdog(self, last: &str) {
        let device = self.dir.path().join("watchdog");
        let keep = tempfile::NamedTempFile::new().expect("a file");
        std::fs::remove_file(keep.path()).expect("the file");
        std::fs::hard_link(&device, keep.path()).expect("a second name");
        self.finish().await;
        let log = std::fs::read_to_string(keep.path()).expect("the file");
        assert!(log.ends_with(last), "{log}");
    }

    pub(crate) async fn until_running(&mut self) -> ServiceRun {
        self.until("all run", |run| run.running).await
    }

    pub(crate) async fn until_stopped(&mut self) -> ServiceRun {
        self.until("all stopped", |run| run.stopped).await
    }

    /// Ends it all: everything stopped, the supervisor ended, no process left.
    pub(crate) async fn finish(mut self) {
        if self.running.is_none() {
            self.start_supervisor();
        }
        self.stop(u64::MAX).await;
        self.until_stopped().await;
        self.end_supervisor().await;
        until("no process of this bench is left", || {
            self.pids().is_empty()
        })
        .await;
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Keepers and services of this bench, except this process.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let mut pids = self.service_pids();
        pids.extend(self.keeper_pids());
        pids
    }

    /// Everything that a keeper of this bench has started: its environment names the bench's
    /// directory.
    pub(crate) fn service_pids(&self) -> Vec<i32> {
        let needle = self.dir.path().display().to_string();
        processes()
            .filter(|pid| proc_text(*pid, "environ").contains(&needle))
            .collect()
    }

    /// Keepers of this bench: their standard input is a socket below its directory.
    pub(crate) fn keeper_pids(&self) -> Vec<i32> {
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let needle = self.dir.path().display().to_string();
        let inodes: Vec<String> = (sockets.lines())
            .filter(|line| line.contains(&needle))
            .filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().nth(6)?)))
            .collect();
        processes()
            .filter(|pid| {
                let stdin = std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap_or_default();
                inodes.contains(&stdin.display().to_string())
            })
            .collect()
    }

    /// The services' processes with this name.
    pub(crate) fn named(&self, name: &str) -> Vec<i32> {
        let is_named = |pid: &i32| proc_text(*pid, "comm").trim() == name;
        self.service_pids().into_iter().filter(is_named).collect()
    }

    /// Waits for one process of that name and kills it.
    pub(crate) async fn kill_service(&mut self, name: &str) {
        until("the process is there", || !self.named(name).is_empty()).await;
        for pid in self.named(name) {
            kill(pid);
        }
        self.last = None;
    }

    pub(crate) fn kill_keepers(&mut self) {
        for pid in self.keeper_pids() {
            kill(pid);
        }
        self.last = None;
    }
}

impl Drop for Bench {
    /// Leaves nothing behind when a test fails.
    fn drop(&mut self) {
        let mut groups: Vec<PathBuf> = self.keeper_pids().into_iter().filter_map(group).collect();
        groups.retain(|dir| dir.to_string_lossy().contains("/haarb-"));
        while !self.pids().is_empty() {
            self.pids().into_iter().for_each(kill);
        }
        for group in groups {
            let _ = std::fs::remove_dir(group);
        }
    }
}

/// Whether a process is there and no zombie.
pub(crate) fn lives(pid: i32) -> bool {
    let stat = proc_text(pid, "stat");
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The directory of a process's control group of version 2.
fn group(pid: i32) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let point = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mount = kind.starts_with("cgroup2 ").then_some(mount)?;
        mount.split(' ').nth(4)
    })?;
    let own = proc_text(pid, "cgroup");
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(point).join(path))
}

/// Whether this test may make control groups of version 2.
pub(crate) fn has_groups() -> bool {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let me = std::process::id();
    let Some(own) = group(me.cast_signed()) else {
        return false;
    };
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let probe = own.join(format!("probe-{me}-{number}"));
    std::fs::create_dir(&probe).is_ok() && std::fs::remove_dir(&probe).is_ok()
}

fn kill(pid: i32) {
    use nix::sys::signal::{Signal, kill};
    // Gone in between: that is what is wanted.
    let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != std::process::id().cast_signed())
}

fn proc_text(pid: i32, file: &str) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn state(run: &ServiceRun, service: &str) -> Option<ServiceState> {
    let found = run.services.iter().find(|(name, _)| name == service);
    found.map(|(_, state)| *state)
}

/// Waits until something that no report tells is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn now() -> Mono {
    clock::now()
}

/// A program for `exec` that logs its start and its end by SIGTERM.
pub(crate) fn program(name: &str) -> String {
    format!(
        "{{ name: {name}, exec: [/bin/sh, -c, 'trap \"echo stop {name} >> LOG; exit 0\" TERM; \
         echo start {name} >> LOG; while :; do sleep 0.1; done'] }}"
    )
}

fn config(dir: &Path, timing: &str, services: &[&str]) -> Config {
    let log: PathBuf = dir.join("log");
    let lines: String = services
        .iter()
        .map(|line| format!("      - {line}\n"))
        .collect();
    let text = format!(
        "cluster: test\ntiming: {{ {timing} }}\nnetworks:\n  - name: red\n  - name: blue\nnodes:\n\
         \x20 - name: alpha\n    networks: {{ red: {{ interface: a0, address: 10.0.1.1 }}, blue: {{ interface: a1, address: 10.0.2.1 }} }}\n\
         \x20 - name: beta\n    networks: {{ red: {{ interface: b0, address: 10.0.1.2 }}, blue: {{ interface: b1, address: 10.0.2.2 }} }}\n\
         reserves:\n  - name: sip\n    vips:\n      - {{ address: 10.0.1.100/24, interface: eth0 }}\n    services:\n{lines}"
    );
    let text = text
        .replace("LOG", &log.display().to_string())
        .replace("DIR", &dir.display().to_string());
    Config::parse(&text, "test.yaml").unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}
