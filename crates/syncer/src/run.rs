//! The daemon's loop: duties in, reports out, a sign of life.

use std::time::Duration;

use haarb_daemon::{ArbiterLink, Context, FromArbiter, Shutdown, clock, timer::Alarm};
use haarb_model::{Agent, DirectoryState, Report, Span, SyncReport, sign_at_latest};
use haarb_wire::ClusterKey;
use tokio::time::{Instant, sleep_until};

use crate::{ChannelKey, Settings, Syncer};

/// Moving numbers are reported this often; everything else at once.
const NUMBERS_EVERY: Duration = Duration::from_millis(200);

/// What the channel's key is derived for. Another text is another key.
const KEY_PURPOSE: &str = "haarb sync channel v1";

/// Runs the syncer of this server until it is asked to stop.
///
/// # Errors
/// The cluster key cannot be used, or an address of this server is taken; one line each.
pub async fn run(context: Context) -> anyhow::Result<()> {
    let key = ClusterKey::load(&context.options.key)?;
    let settings = Settings::new(
        &context.config,
        &context.me,
        ChannelKey::new(key.derive(KEY_PURPOSE)),
        context.options.state_dir.clone(),
    );
    let mut shutdown = Shutdown::listen()?;
    let syncer = Syncer::start(settings)?;
    let mut reports = syncer.reports();
    let digest = context.config.digest;
    let mut link = ArbiterLink::spawn(&context.options.run_dir, Agent::Syncer, digest);
    let lease = context.config.timing.lease;
    let mut alive = Alarm::new()?;
    let mut turned = clock::now();
    let mut told = Told::default();
    loop {
        alive.set(sign_at_latest(turned, lease))?;
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            message = link.next() => match message {
                FromArbiter::Attached => {
                    reports.mark_unchanged();
                    told.tell(&link, reports.borrow().clone());
                }
                FromArbiter::Directive(directive) if directive.config_digest != digest => {
                    start_anew(&context, directive.config_digest)?;
                }
                FromArbiter::Directive(directive) => {
                    syncer.heard(&directive.heard);
                    syncer.hold(&directive.reserves);
                }
                FromArbiter::Lost => {}
            },
            changed = reports.changed() => {
                changed?;
                let report = reports.borrow_and_update().clone();
                told.consider(&link, report);
            }
            () = told.due() => told.tell_waiting(&link),
            () = alive.rings() => {
                // One that stood still longer than the lease says so (rule X1).
                let now = clock::now();
                let gap = now.since(turned);
                turned = now;
                link.report(if gap > lease + Span::from_millis(1) {
                    Report::Stalled(gap)
                } else {
                    Report::Alive
                });
            }
        }
    }
}

/// The arbiter has read another configuration. A replica loses nothing by a restart, so that
/// is how the syncer reads it, too; but only once the file here says the same.
fn start_anew(context: &Context, wanted: u64) -> anyhow::Result<()> {
    match context.options.load_config() {
        Ok((config, _)) if config.digest == wanted => {
            anyhow::bail!("the configuration has changed: starting anew with it")
        }
        Ok(_) => tracing::error!(
            "the arbiter runs a configuration that is not in {}: its directive is not followed",
            context.options.config.display()
        ),
        Err(problems) => tracing::error!("the new configuration cannot be used: {problems}"),
    }
    Ok(())
}

/// What the arbiter was told last, and what waits.
#[derive(Default)]
struct Told {
    last: SyncReport,
    at: Option<Instant>,
    waiting: Option<SyncReport>,
}

impl Told {
    fn consider(&mut self, link: &ArbiterLink, report: SyncReport) {
        let rested = self.at.is_none_or(|at| at.elapsed() >= NUMBERS_EVERY);
        if rested || is_news(&self.last, &report) {
            self.tell(link, report);
        } else {
            self.waiting = Some(report);
        }
    }

    fn tell(&mut self, link: &ArbiterLink, report: SyncReport) {
        link.report(Report::Sync(report.clone()));
        self.last = report;
        self.at = Some(Instant::now());
        self.waiting = None;
    }

    fn tell_waiting(&mut self, link: &ArbiterLink) {
        if let Some(report) = self.waiting.take() {
            self.tell(link, report);
        }
    }

    /// Waits until what waits may be told; for ever if nothing does. Cancel-safe.
    async fn due(&self) {
        match (&self.waiting, self.at) {
            (Some(_), Some(at)) => sleep_until(at + NUMBERS_EVERY).await,
            _ => std::future::pending().await,
        }
    }
}

/// Whether more than moving numbers changed. `Syncing` and `InSync` follow each other with
/// every change of a file: they count as numbers.
fn is_news(old: &SyncReport, new: &SyncReport) -> bool {
    old.reserves.len() != new.reserves.len()
        || old.reserves.iter().zip(&new.reserves).any(|(old, new)| {
            let same_fact = old.epoch == new.epoch
                && old.data == new.data
                && old.drained == new.drained
                && old.conflicts == new.conflicts
                && old.directories.len() == new.directories.len();
            let same_directories = old.directories.iter().zip(&new.directories);
            !same_fact
                || same_directories
                    .into_iter()
                    .any(|(old, new)| !alike(old.state, new.state) || old.error != new.error)
        })
}

fn alike(old: DirectoryState, new: DirectoryState) -> bool {
    let moving = |state| matches!(state, DirectoryState::Syncing | DirectoryState::InSync);
    old == new || (moving(old) && moving(new))
}
