//! The supervisor's loop: directives and news in, orders to keepers and reports out.
//!
//! One task owns all state; connections, checks and questions run beside it and report into
//! its inbox. It never waits for a service, a disk or the arbiter. The one thing to know:
//! after every event it settles every reserve and reports if anything changed.

mod live;

use std::fs::File;
use std::path::{Path, PathBuf};

use haarb_config::Config;
use haarb_daemon::timer::Alarm;
use haarb_daemon::{ArbiterLink, FromArbiter, clock};
use haarb_model::{Epoch, Mono, NodeName, Report, ServiceReport, Span, sign_at_latest, sign_due};
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::mpsc;

use crate::error::Error;
use crate::keepers::{Home, News};
use crate::kinds::Verdict;
use crate::watchdog::Watchdog;
use live::LiveReserve;

/// Messages of keepers and checks that may wait: their senders wait then, which holds up
/// nothing but themselves.
const INBOX_EVENTS: usize = 256;

/// Between two attempts to read a changed configuration.
const RELOAD_AFTER: Span = Span::from_secs(1);

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    reserve: usize,
    service: usize,
}

/// Everything that wakes the loop beside the arbiter and the alarm.
#[derive(Debug)]
pub(crate) enum Event {
    /// From a keeper, over the connection with this number.
    Keeper(Place, u64, News),
    /// The check with this number has ended.
    Checked(Place, u64, Verdict),
    /// Whether a service could start here; empty: it could.
    Startable(Place, String),
}

/// Where the supervisor finds its things.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// This server.
    pub me: NodeName,
    /// Where sockets and what does not survive a boot are.
    pub run_dir: PathBuf,
    /// The program that is started as keeper: the supervisor's own.
    pub program: PathBuf,
    /// Reads the configuration again; one line per problem where that fails.
    pub reload: Box<dyn Fn() -> Result<Config, String> + Send>,
}

/// The supervisor.
pub struct Supervisor {
    setup: Setup,
    arbiter: ArbiterLink,
    inbox: mpsc::Receiver<Event>,
    to_inbox: mpsc::Sender<Event>,
    reserves: Vec<LiveReserve>,
    watchdog: Option<Watchdog>,
    alarm: Alarm,
    turned_at: Mono,
    /// What was due at this moment has been done.
    settled_at: Mono,
    reported: ServiceReport,
    reported_at: Mono,
    reload_at: Mono,
    /// Held as long as this supervisor lives: one per run directory.
    _lock: Flock<File>,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor")
            .field("reserves", &self.reserves)
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    /// Prepares the run directory, and finds or starts a keeper per service.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(setup: Setup, arbiter: ArbiterLink) -> Result<Self, Error> {
        let home = home(&setup);
        let lock = prepare(&home.dir)?;
        let (to_inbox, inbox) = mpsc::channel(INBOX_EVENTS);
        let now = clock::now();
        let reserves = live_reserves(now, &setup, &setup.config, &to_inbox);
        let watchdog = setup.config.watchdog.as_ref();
        Ok(Self {
            watchdog: watchdog.map(|config| Watchdog::new(now, config)),
            setup,
            arbiter,
            inbox,
            to_inbox,
            reserves,
            alarm: Alarm::new().map_err(Error::Timer)?,
            turned_at: now,
            settled_at: now,
            reported: ServiceReport::default(),
            reported_at: Mono::ZERO,
            reload_at: Mono::ZERO,
            _lock: lock,
        })
    }

    fn lease(&self) -> Span {
        self.setup.config.timing.lease
    }

    /// Works until `shutdown` is done. Services run on below their keepers until their lease
    /// ends: the next supervisor finds them.
    ///
    /// # Errors
    /// [`Error::Replaced`] where another supervisor took over; [`Error::Timer`].
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::pin!(shutdown);
        self.settle(clock::now());
        loop {
            self.alarm.set(self.deadline()).map_err(Error::Timer)?;
            tokio::select! {
                biased;
                () = &mut shutdown => {
                    if let Some(watchdog) = self.watchdog.take() {
                        watchdog.close();
                    }
                    return Ok(());
                }
                message = self.arbiter.next() => {
                    let now = self.turn();
                    self.follow(now, message);
                }
                Some(event) = self.inbox.recv() => {
                    let now = self.turn();
                    self.note(now, event)?;
                }
                () = self.alarm.rings() => {
                    self.turn();
                }
            }
            self.settle(clock::now());
            self.feed(clock::now());
            self.report(clock::now());
        }
    }

    /// Begins a turn. One that begins far too late means that this process was frozen: what
    /// it knew to be allowed is over, and letting go comes before anything else (rule X1).
    fn turn(&mut self) -> Mono {
        let now = clock::now();
        let gap = now.since(self.turned_at);
        self.turned_at = now;
        if gap > self.lease() {
            tracing::error!("was frozen for {gap}, longer than the lease; stopping what runs here");
            self.arbiter.report(Report::Stalled(gap));
            for reserve in &mut self.reserves {
                reserve.stalled(now);
            }
            self.settle(now);
        }
        now
    }

    fn follow(&mut self, now: Mono, message: FromArbiter) {
        match message {
            FromArbiter::Attached => self.reported_at = Mono::ZERO,
            FromArbiter::Lost => {}
            FromArbiter::Directive(directive) => {
                if directive.config_digest != self.setup.config.digest {
                    self.reload(now, directive.config_digest);
                }
                for told in &directive.reserves {
                    let known = (self.reserves.iter_mut()).find(|r| *r.name() == told.reserve);
                    match known {
                        Some(reserve) => reserve.direct(now, told),
                        None => tracing::debug!(
                            "told about reserve {}, which is not in this configuration",
                            told.reserve
                        ),
                    }
                }
            }
        }
    }

    /// The arbiter works on another configuration: reads the file again. Services that are in
    /// both run on: the new reserves find them below their keepers.
    fn reload(&mut self, now: Mono, digest: u64) {
        if now < self.reload_at {
            return;
        }
        self.reload_at = now + RELOAD_AFTER;
        let config = match (self.setup.reload)() {
            Ok(config) if config.digest == digest => config,
            Ok(_) => {
                return tracing::warn!(
                    "the arbiter works on another configuration than the file; restart it, or put the file right"
                );
            }
            Err(problems) => {
                return tracing::warn!("the configuration cannot be read again: {problems}");
            }
        };
        tracing::info!("the configuration has changed; services that stay run on");
        let mut reserves = live_reserves(now, &self.setup, &config, &self.to_inbox);
        for reserve in &mut reserves {
            reserve.settle(now);
        }
        // Only now: a keeper that is never without a connection does not end.
        self.reserves = reserves;
        if config.watchdog != self.setup.config.watchdog {
            // The old one first: a device can be open once.
            if let Some(old) = self.watchdog.take() {
                old.close();
            }
            let watchdog = config.watchdog.as_ref();
            self.watchdog = watchdog.map(|config| Watchdog::new(now, config));
        }
        self.setup.config = config;
    }

    fn note(&mut self, now: Mono, event: Event) -> Result<(), Error> {
        match event {
            Event::Keeper(place, link, news) => {
                if let Some(reserve) = self.reserves.get_mut(place.reserve) {
                    reserve.heard(now, place.service, link, news)?;
                }
            }
            Event::Checked(place, number, verdict) => {
                if let Some(reserve) = self.reserves.get_mut(place.reserve) {
                    reserve.checked(now, place.service, number, &verdict);
                }
            }
            Event::Startable(place, why_not) => {
                if let Some(reserve) = self.reserves.get_mut(place.reserve) {
                    reserve.startable(now, place.service, why_not);
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, now: Mono) {
        for reserve in &mut self.reserves {
            reserve.settle(now);
        }
        self.settled_at = now;
    }

    /// Feeds the hardware watchdog while every service that runs may run.
    fn feed(&mut self, now: Mono) {
        if let Some(watchdog) = &mut self.watchdog {
            let overstays = self.reserves.iter().find_map(|r| r.overstays(now));
            watchdog.tend(now, overstays.as_deref());
        }
    }

    /// When the loop must turn even if nothing happens.
    fn deadline(&self) -> Mono {
        let now = self.settled_at;
        let alive = sign_at_latest(self.reported_at, self.lease());
        let feed = self.watchdog.as_ref().map_or(Mono::FAR, Watchdog::deadline);
        let alive = alive.min(feed);
        (self.reserves.iter().filter_map(|r| r.deadline(now))).fold(alive, Mono::min)
    }

    /// Reports everything when something changed, and a sign of life otherwise.
    fn report(&mut self, now: Mono) {
        let report = ServiceReport {
            reserves: self.reserves.iter().map(LiveReserve::report).collect(),
            watchdog: (self.watchdog.as_ref()).map_or_else(String::new, Watchdog::describe),
        };
        if report != self.reported || self.reported_at == Mono::ZERO {
            self.reported = report.clone();
            self.reported_at = now;
            self.arbiter.report(Report::Services(report));
        } else if now >= sign_due(self.reported_at, self.lease()) {
            self.reported_at = now;
            self.arbiter.report(Report::Alive);
        }
    }
}

fn home(setup: &Setup) -> Home {
    Home {
        dir: setup.run_dir.join("supervisor"),
        program: setup.program.clone(),
    }
}

/// The reserves of a configuration; keepers of services that are not in it are told to end.
fn live_reserves(
    now: Mono,
    setup: &Setup,
    config: &Config,
    inbox: &mpsc::Sender<Event>,
) -> Vec<LiveReserve> {
    let (home, timing) = (home(setup), &config.timing);
    let mut reserves = Vec::new();
    for (place, reserve) in config.reserves.iter().enumerate() {
        let context = live::Context {
            home: home.clone(),
            inbox: inbox.clone(),
            me: setup.me.clone(),
            lease: timing.lease,
            // Half of the time in which nobody else may start yet.
            grace: (timing.software_dead_after - timing.lease).part(2),
        };
        reserves.push(LiveReserve::new(now, place, reserve, context));
    }
    let labels: Vec<&str> = reserves.iter().flat_map(LiveReserve::labels).collect();
    home.retire_all_but(&labels);
    reserves
}

/// Makes the directory of the keepers' sockets, for this user alone, and locks it.
fn prepare(dir: &Path) -> Result<Flock<File>, Error> {
    use std::os::unix::fs::DirBuilderExt;
    let fails = |path: &Path| {
        let path = path.to_owned();
        |source| Error::RunDir { path, source }
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(fails(dir))?;
    let path = dir.join("lock");
    let file = File::create(&path).map_err(fails(&path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| Error::Running(dir.to_owned()))
}

/// Reads an epoch that an earlier supervisor has seen.
fn read_epoch(path: &Path) -> Epoch {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    Epoch(text.trim().parse().unwrap_or_default())
}
