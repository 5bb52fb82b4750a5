//! One reserve with its real services: keepers' connections and checks around the pure
//! [`Reserve`].

mod ask;
mod escalate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use haarb_config as config;
use haarb_model::{Epoch, Mono, NodeName, ReserveDuties, ReserveName, ServiceRun, Span};
use nix::unistd::Pid;
use tokio::sync::mpsc;

use super::{Event, Place, read_epoch};
use crate::error::Error;
use crate::keepers::{Home, Link, News};
use crate::kinds::{self, Means};
use crate::machine::{Input, State};
use crate::order::{Doing, FromKeeper, Lease, Recipe, ToKeeper};
use crate::reserve::{Action, Reserve, What};
use crate::restart::Limits;
use crate::sweep;

/// Between two attempts to get a keeper.
const KEEPER_AGAIN_AFTER: Span = Span::from_millis(200);

/// What the services of a reserve share.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) home: Home,
    pub(super) inbox: mpsc::Sender<Event>,
    pub(super) me: NodeName,
    pub(super) lease: Span,
    pub(super) grace: Span,
}

#[derive(Debug)]
pub(super) struct LiveReserve {
    place: usize,
    context: Context,
    reserve: Reserve,
    services: Vec<Live>,
    epoch_file: PathBuf,
    epoch_written: Epoch,
    lapse_said: bool,
}

/// A number that no connection and no state had before, also not in an earlier configuration.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[derive(Debug)]
struct Live {
    config: config::Service,
    means: Means,
    label: String,
    keeper: Option<Link>,
    /// It has said what it does.
    greeted: bool,
    /// Its process, as it has said.
    keeper_pid: Option<Pid>,
    /// Since when the service should be stopped and is not.
    stop_told: Option<Mono>,
    /// The number of the connection, so that a message of an old one is known.
    link: u64,
    keeper_due: Mono,
    check_due: Mono,
    /// The check that runs: its number, and that of the state it is about.
    check: Option<(u64, u64)>,
    /// The number of the state, so that an answer about an old one is known.
    asked: u64,
    state_seen: Option<State>,
    startable_due: Mono,
}

impl LiveReserve {
    pub(super) fn new(now: Mono, place: usize, config: &config::Reserve, context: Context) -> Self {
        let mut services = Vec::new();
        let mut limits = Vec::new();
        for service in &config.services {
            limits.push((
                service.name.clone(),
                Limits {
                    restarts: service.restarts,
                    window: service.restart_window,
                },
            ));
            services.push(Live {
                means: kinds::means(service),
                label: format!("{}/{}", config.name, service.name),
                config: service.clone(),
                keeper: None,
                greeted: false,
                keeper_pid: None,
                stop_told: None,
                link: 0,
                keeper_due: Mono::ZERO,
                check_due: Mono::ZERO,
                check: None,
                asked: 0,
                state_seen: None,
                startable_due: Mono::ZERO,
            });
        }
        let epoch_file = context.home.dir.join(format!("{}.epoch", config.name));
        let epoch_written = read_epoch(&epoch_file);
        let mut reserve = Reserve::new(config.name.clone(), now + context.lease, limits);
        reserve.remember(epoch_written);
        Self {
            place,
            context,
            reserve,
            services,
            epoch_file,
            epoch_written,
            lapse_said: false,
        }
    }

    pub(super) fn name(&self) -> &ReserveName {
        self.reserve.name()
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|live| live.label.as_str())
    }

    pub(super) fn report(&self) -> ServiceRun {
        self.reserve.report()
    }

    /// See [`Reserve::overstays`].
    pub(super) fn overstays(&self, now: Mono) -> Option<String> {
        self.reserve.overstays(now, self.context.grace)
    }

    pub(super) fn stalled(&mut self, now: Mono) {
        self.reserve.stalled(now);
    }

    pub(super) fn direct(&mut self, now: Mono, told: &ReserveDuties) {
        match self.reserve.direct(now, told) {
            Ok(actions) => {
                self.lapse_said = false;
                self.act(now, &actions);
            }
            Err(refused) => tracing::error!("reserve {}: {refused}", told.reserve),
        }
    }

    /// Does what is due, until nothing is.
    pub(super) fn settle(&mut self, now: Mono) {
        if self.reserve.lapsed(now) && !std::mem::replace(&mut self.lapse_said, true) {
            tracing::warn!(
                "reserve {}: the arbiter has not renewed the lease; stopping its services",
                self.name()
            );
        }
        let actions = self.reserve.settle(now);
        self.act(now, &actions);
        self.escalate(now);
        for service in 0..self.services.len() {
            self.attach(now, service);
            self.check(now, service);
            self.ask_startable(now, service);
        }
        self.write_epoch();
    }

    fn act(&mut self, now: Mono, actions: &[Action]) {
        for Action { service, what } in actions {
            let order = match what {
                What::Start => ToKeeper::Start(self.recipe(*service), self.lease()),
                What::Stop => ToKeeper::Stop(self.recipe(*service)),
                What::Renew => ToKeeper::Renew(self.lease()),
            };
            if *what != What::Renew {
                let verb = if *what == What::Start {
                    "starting"
                } else {
                    "stopping"
                };
                tracing::info!("service {}: {verb}", self.services[*service].label);
            }
            self.send(now, *service, &order);
        }
    }

    fn send(&mut self, now: Mono, service: usize, order: &ToKeeper) {
        let live = &mut self.services[service];
        let Some(keeper) = &live.keeper else {
            return; // the next one's first message settles what happens
        };
        if let Err(error) = keeper.send(order) {
            tracing::error!("service {}: its keeper is lost: {error}", live.label);
            self.lose_keeper(now, service);
        }
    }

    fn lease(&self) -> Lease {
        Lease {
            until_us: self.reserve.until().as_micros(),
            grace_us: self.context.grace.as_micros(),
            epoch: self.reserve.epoch().0,
        }
    }

    fn recipe(&self, service: usize) -> Recipe {
        let live = &self.services[service];
        let mut environment: BTreeMap<String, String> =
            self.environment(service).into_iter().collect();
        let socket = self.context.home.socket(&live.label);
        environment.insert(sweep::MARK.to_owned(), socket.display().to_string());
        Recipe {
            run: live.means.run.clone(),
            environment,
            start_timeout_us: live.config.start_timeout.as_micros(),
            stop_timeout_us: live.config.stop_timeout.as_micros(),
        }
    }

    fn environment(&self, service: usize) -> Vec<(String, String)> {
        [
            ("HAARB_RESERVE", self.name().to_string()),
            ("HAARB_SERVICE", self.services[service].config.name.clone()),
            ("HAARB_EPOCH", self.reserve.epoch().to_string()),
            ("HAARB_NODE", self.context.me.to_string()),
            ("HAARB_ROLE", self.reserve.role().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Gets a keeper where there is none.
    fn attach(&mut self, now: Mono, service: usize) {
        let live = &mut self.services[service];
        if live.keeper.is_some() || now < live.keeper_due {
            return;
        }
        live.link = number();
        let link = live.link;
        let place = Place {
            reserve: self.place,
            service,
        };
        let wrap = move |news| Event::Keeper(place, link, news);
        let inbox = self.context.inbox.clone();
        match Link::open(&self.context.home, &live.label, inbox, wrap) {
            Ok(link) => live.keeper = Some(link),
            Err(error) => {
                live.keeper_due = now + KEEPER_AGAIN_AFTER;
                tracing::error!("service {}: no keeper: {error}", live.label);
            }
        }
    }

    fn lose_keeper(&mut self, now: Mono, service: usize) {
        let live = &mut self.services[service];
        live.keeper = None;
        live.greeted = false;
        live.keeper_pid = None;
        live.keeper_due = now;
        // A failure that is counted: a keeper that is killed again and again is one too.
        self.reserve
            .note(now, service, Input::Lost("its keeper was killed"));
    }

    /// A keeper said something.
    ///
    /// # Errors
    /// [`Error::Replaced`]: it has another supervisor now.
    pub(super) fn heard(
        &mut self,
        now: Mono,
        service: usize,
        link: u64,
        news: News,
    ) -> Result<(), Error> {
        let Some(live) = self.services.get(service).filter(|live| live.link == link) else {
            return Ok(());
        };
        let news = match news {
            News::Said(news) => news,
            News::Gone => {
                tracing::error!("service {}: its keeper is gone", live.label);
                self.lose_keeper(now, service);
                return Ok(());
            }
        };
        tracing::debug!("service {}: {news:?}", live.label);
        let label = live.label.clone();
        let mut note = |fact| self.reserve.note(now, service, fact);
        match news {
            FromKeeper::Hello {
                pid,
                doing,
                since_us,
                lease,
                ..
            } => {
                self.services[service].keeper_pid = Some(Pid::from_raw(pid)).filter(|_| pid > 1);
                self.greeted(service, doing, Mono::from_micros(since_us), lease);
            }
            FromKeeper::Started { .. } => {
                tracing::info!("service {label}: runs");
                note(Input::Alive);
            }
            FromKeeper::StartFailed { why, clean } => {
                tracing::warn!("service {label}: {why}");
                note(if clean {
                    Input::Gone(&why)
                } else {
                    Input::Sick(&why)
                });
            }
            FromKeeper::Ended { why } => {
                tracing::warn!("service {label}: {why}");
                note(Input::Gone(&why));
            }
            FromKeeper::Emptied => self.services[service].check_due = now,
            FromKeeper::Stopped { lapsed } => {
                let by = if lapsed {
                    " by its keeper: the lease ended"
                } else {
                    ""
                };
                tracing::info!("service {label}: stopped{by}");
                note(Input::Idle);
            }
            FromKeeper::StopFailed { why } => {
                tracing::error!("service {label}: {why}");
                note(Input::StopFailed(&why));
                self.services[service].check_due = now;
            }
            FromKeeper::Replaced => return Err(Error::Replaced),
        }
        Ok(())
    }

    /// First message of a keeper: what it does is the truth.
    fn greeted(&mut self, service: usize, doing: Doing, since: Mono, lease: Lease) {
        let live = &mut self.services[service];
        live.greeted = true;
        let state = match doing {
            // Commands may have started something that no keeper knows of: ask.
            Doing::Idle if live.means.status.is_some() => State::Unknown,
            Doing::Idle => State::Stopped,
            Doing::Starting => State::Starting,
            Doing::Running => State::Running { since },
            Doing::Stopping => State::Stopping,
        };
        let until = match doing {
            Doing::Idle | Doing::Stopping => Mono::ZERO,
            Doing::Starting | Doing::Running => {
                tracing::info!("service {}: found running; goes on", live.label);
                lease.until()
            }
        };
        self.reserve
            .adopt(service, state, Epoch(lease.epoch), until);
    }

    /// Keeps the epoch for a supervisor that starts after this one. In the run directory,
    /// which is memory, and after the services were told.
    fn write_epoch(&mut self) {
        let epoch = self.reserve.epoch();
        if epoch == self.epoch_written {
            return;
        }
        self.epoch_written = epoch;
        if let Err(error) = std::fs::write(&self.epoch_file, format!("{epoch}\n")) {
            tracing::warn!("cannot write {}: {error}", self.epoch_file.display());
        }
    }

    pub(super) fn deadline(&self, now: Mono) -> Option<Mono> {
        let services = self.services.iter().flat_map(|live| {
            let keeper = live.keeper.is_none().then_some(live.keeper_due);
            let idle = live.means.status.is_none() || live.check.is_some() || !live.greeted;
            let check = (!idle).then_some(live.check_due);
            [keeper, check, Some(live.startable_due)]
        });
        services
            .flatten()
            .filter(|at| *at > now)
            .chain(self.reserve.deadline(now))
            .min()
    }
}
