//! The link-watcher's loop: one task, and a thread for each question to a driver.
//!
//! The kernel holds back what it tells of a lost carrier so that there is at most one such
//! message per second for all interfaces together (net/core/link_watch.c). The first loss is
//! told at once; a second one within that second, as when two switches go one after the other,
//! would be known a second late. So for that second after a change, and only then, this asks.
//!
//! All branches of its select are cancel-safe: the socket is read in one go once it is
//! readable, the rest are queues.

use std::collections::BTreeSet;

use anyhow::Context as _;
use haarb_config::Config;
use haarb_daemon::timer::Alarm;
use haarb_daemon::{ArbiterLink, Context, FromArbiter, Shutdown, clock, prepare_real_time};
use haarb_model::{Agent, LinkReport, Mono, NodeName, Report, Span, sign_at_latest, sign_due};
use tokio::task::JoinSet;

use crate::events::Events;
use crate::links::{Links, Next};
use crate::reason;

/// Between two looks at the configuration file when the arbiter works on another one.
const RELOAD_AFTER: Span = Span::from_secs(1);

/// For how long the kernel may hold back a loss of carrier after it told of another one.
const KERNEL_HOLDS_BACK: Span = Span::from_millis(1100);

/// Runs the link-watcher until it is asked to stop.
///
/// # Errors
/// The kernel refuses a socket or a timer.
pub async fn run(context: Context) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::listen()?;
    let link = ArbiterLink::spawn(
        &context.options.run_dir,
        Agent::LinkWatcher,
        context.config.digest,
    );
    prepare_real_time();
    serve(context, link, async move { shutdown.requested().await }).await
}

/// Watches and reports until `stop` is ready.
///
/// # Errors
/// The kernel refuses a socket or a timer. Nothing else ends it.
pub async fn serve(
    context: Context,
    mut arbiter: ArbiterLink,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut stop = std::pin::pin!(stop);
    let mut alarm = Alarm::new()?;
    // First the changes, then the dump: nothing can be missed between the two.
    let mut events = Events::listen().context("cannot listen to the kernel's links")?;
    let mut watcher = Watcher::new(context);
    watcher.links.dump_begins(events.dump()?);
    loop {
        alarm.set(watcher.wake())?;
        tokio::select! {
            () = &mut stop => return Ok(()),
            batch = events.next() => {
                let batch = batch.context("the kernel tells of links no more")?;
                let mut again = batch.lost;
                for message in batch.messages {
                    again |= watcher.take(message);
                }
                if again {
                    watcher.links.dump_begins(events.dump()?);
                }
            }
            Some(answer) = watcher.questions.join_next() => {
                // A question that failed leaves the plain reason.
                if let Ok((interface, Some(detail))) = answer {
                    watcher.links.detail(&interface, detail);
                }
            }
            message = arbiter.next() => {
                if watcher.hear(message) {
                    watcher.links.dump_begins(events.dump()?);
                }
            }
            () = alarm.rings() => {}
        }
        let now = clock::now();
        if let Some(report) = watcher.turn(now) {
            arbiter.report(report);
        }
        if watcher.asks(now) {
            events.ask(watcher.links.watched())?;
        }
    }
}

type Answer = (String, Option<String>);

#[derive(Debug)]
struct Watcher {
    context: Context,
    links: Links,
    /// The first dump is complete: before it nothing is reported.
    complete: bool,
    reported: Option<Vec<LinkReport>>,
    told_at: Mono,
    /// When the kernel is asked next, and until when it goes on.
    ask_at: Mono,
    ask_until: Mono,
    questions: JoinSet<Answer>,
    reload_at: Mono,
}

impl Watcher {
    fn new(context: Context) -> Self {
        Self {
            links: Links::new(watched(&context.config, &context.me)),
            context,
            complete: false,
            reported: None,
            told_at: Mono::ZERO,
            ask_at: Mono::FAR,
            ask_until: Mono::ZERO,
            questions: JoinSet::new(),
            reload_at: Mono::ZERO,
        }
    }

    /// Takes in a message; true where everything must be asked again.
    fn take(&mut self, message: crate::message::Message) -> bool {
        match self.links.take(message) {
            Next::Nothing => false,
            Next::Complete => {
                self.complete = true;
                false
            }
            Next::DumpAgain => true,
        }
    }

    /// What to tell the arbiter now, if anything. Asks drivers where a carrier is lost.
    fn turn(&mut self, now: Mono) -> Option<Report> {
        if !self.complete {
            return None;
        }
        for interface in self.links.unexplained() {
            self.questions.spawn_blocking(move || {
                let detail = reason::ask(&interface);
                (interface, detail)
            });
        }
        let report = self.links.report();
        if self.reported.as_ref() != Some(&report) {
            self.note(&report);
            self.reported = Some(report.clone());
            self.told_at = now;
            self.ask_until = now + KERNEL_HOLDS_BACK;
            self.ask_at = now + self.context.config.timing.switch_interval;
            return Some(Report::Links(report));
        }
        if now >= sign_due(self.told_at, self.lease()) {
            self.told_at = now;
            return Some(Report::Alive);
        }
        None
    }

    fn wake(&self) -> Mono {
        sign_at_latest(self.told_at, self.lease()).min(self.ask_at)
    }

    const fn lease(&self) -> Span {
        self.context.config.timing.lease
    }

    /// Whether the kernel is to be asked now.
    fn asks(&mut self, now: Mono) -> bool {
        if now < self.ask_at {
            return false;
        }
        self.ask_at = if now < self.ask_until {
            now + self.context.config.timing.switch_interval
        } else {
            Mono::FAR
        };
        true
    }

    /// Writes down what is new in a report.
    fn note(&self, report: &[LinkReport]) {
        let before = self.reported.as_deref().unwrap_or_default();
        for link in report.iter().filter(|link| !before.contains(link)) {
            if link.up {
                tracing::info!("{} is up", link.interface);
            } else {
                tracing::warn!("{}: {}", link.interface, link.reason);
            }
        }
    }

    /// True where the watched interfaces have changed, so that all must be asked again.
    fn hear(&mut self, message: FromArbiter) -> bool {
        match message {
            FromArbiter::Attached => {
                self.reported = None;
                false
            }
            FromArbiter::Lost => false,
            FromArbiter::Directive(directive) => {
                directive.config_digest != self.context.config.digest
                    && self.reload(directive.config_digest, clock::now())
            }
        }
    }

    /// The arbiter works on another configuration: reads the file again.
    fn reload(&mut self, digest: u64, now: Mono) -> bool {
        if now < self.reload_at {
            return false;
        }
        self.reload_at = now + RELOAD_AFTER;
        match self.context.options.load_config() {
            Ok((config, me)) if config.digest == digest => {
                tracing::info!("the configuration has changed; watching anew");
                self.links = Links::new(watched(&config, &me));
                self.complete = false;
                self.context.config = config;
                self.context.me = me;
                true
            }
            Ok(_) => {
                tracing::warn!(
                    "the arbiter works on another configuration than {}; restart it, or put the file right",
                    self.context.options.config.display()
                );
                false
            }
            Err(problems) => {
                tracing::warn!("the configuration cannot be read again: {problems}");
                false
            }
        }
    }
}

/// Every interface that haarb uses on a server: those of its networks in their order, then
/// those that carry virtual IPs.
fn watched(config: &Config, me: &NodeName) -> Vec<String> {
    let own = config.node(me);
    let networks = own.into_iter().flat_map(|node| config.attachments(node));
    let vips = config.reserves.iter().flat_map(|reserve| &reserve.vips);
    let mut seen = BTreeSet::new();
    networks
        .map(|(_, here)| here.interface.clone())
        .chain(vips.map(|vip| vip.interface.clone()))
        .filter(|interface| seen.insert(interface.clone()))
        .collect()
}
