//! The end of `haarb run`: hand over, let go, stop one after the other.
//!
//! First the arbiter is asked to shut down: it hands over what a neighbour can take and
//! answers when nothing is held any more. Then the daemons end in an order in which each
//! still has what it needs: the services while the addresses are there, the arbiter last.

use std::time::Duration;

use haarb_api::transport::connect_control;
use haarb_api::v1;
use haarb_config::Config;
use haarb_daemon::{Options, Shutdown, Voice};
use haarb_model::Span;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep_until, timeout};

use super::crew::Crew;
use super::preflight::Ready;
use crate::control::refused;
use crate::failure::Failure;

const ORDER: [&str; 6] = [
    "haarb-supervisor",
    "haarb-vip-agent",
    "haarb-syncer",
    "haarb-prober",
    "haarb-link-watcher",
    "haarb-arbiter",
];

/// Added to what the configuration allows for stopping services and draining.
const MARGIN: Duration = Duration::from_secs(5);
/// For a hand-over by a server whose configuration cannot be read any more.
const WITHOUT_CONFIG: Duration = Duration::from_secs(120);
/// For a daemon that only has to end.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
/// After SIGKILL: longer takes only a process that is stuck in the kernel.
const KILLED_WITHIN: Duration = Duration::from_secs(1);

/// Stops the server. An error names what had to be killed.
pub(super) async fn stop(
    options: &Options,
    ready: &Ready,
    voice: &Voice,
    crew: &mut Crew,
    shutdown: &mut Shutdown,
) -> Result<(), Failure> {
    let bounds = Bounds::of(&ready.config);
    voice.say("haarb: stopping: handing over and letting go; a second signal does not wait".into());
    let asked = tokio::select! {
        // A daemon that dies now is still needed for the hand-over.
        () = crew.tend() => None,
        result = hand_over(options, bounds.hand_over) => Some(result),
        () = shutdown.requested() => None,
    };
    voice.say(match &asked {
        Some(Ok(text)) => format!("haarb: {text}"),
        Some(Err(reason)) => {
            format!("haarb: no hand-over: {reason}; the daemons let go by themselves")
        }
        None => "haarb: second signal: not waiting for the hand-over".into(),
    });
    crew.dismiss();
    let (killed, hurried) = one_by_one(&bounds, asked.is_none(), voice, crew, shutdown).await;
    if !hurried && !matches!(asked, Some(Ok(_))) {
        // Services end with their lease, below keepers that outlive the supervisor: as pid 1
        // of a container, ending before them would cut their stop commands short.
        tokio::select! {
            () = crew.orphans() => {}
            () = tokio::time::sleep(bounds.services) => {
                voice.say("haarb: processes of services go on; look for them with ps".into());
            }
            () = shutdown.requested() => {}
        }
    }
    crew.last_words().await;
    if killed.is_empty() {
        super::tell("haarb: stopped\n".into()).await;
        return Ok(());
    }
    Err(Failure::new(format!(
        "stopped, but {} had to be killed; check that no virtual IP and no service is left (`ip address`, the services' own status)",
        killed.join(", ")
    )))
}

/// Hands over and lets go of everything while the daemons go on; returns the arbiter's line. Without
/// a configuration there is no bound to be read from it.
pub(crate) async fn leave(options: &Options) -> Result<String, Failure> {
    let bound = match options.load_config() {
        Ok((config, _)) => Bounds::of(&config).hand_over,
        Err(_) => WITHOUT_CONFIG,
    };
    hand_over(options, bound).await.map_err(|reason| {
        Failure::new(format!(
            "no hand-over: {reason}; what is held here ends with its lease once the daemons stop"
        ))
    })
}

/// Asks the arbiter to let go of everything; returns its line.
async fn hand_over(options: &Options, bound: Duration) -> Result<String, String> {
    let call = async {
        let mut client = connect_control(&options.run_dir)
            .await
            .map_err(|e| e.to_string())?;
        match client.shutdown(v1::ShutdownRequest {}).await {
            Ok(done) => Ok(done.into_inner().text),
            Err(status) => match refused(&status) {
                Failure::Lines(text) => Err(text),
                Failure::NobodyReads | Failure::Said => Err(String::new()),
            },
        }
    };
    timeout(bound, call)
        .await
        .unwrap_or_else(|_| Err(format!("not done within {}s", bound.as_secs())))
}

/// Ends the daemons in order; returns those that had to be killed, and whether it hurried.
async fn one_by_one(
    bounds: &Bounds,
    mut hurried: bool,
    voice: &Voice,
    crew: &mut Crew,
    shutdown: &mut Shutdown,
) -> (Vec<&'static str>, bool) {
    let mut killed = Vec::new();
    for name in ORDER {
        if !crew.signal(name, Signal::SIGTERM) {
            continue;
        }
        let mut deadline = Instant::now() + bounds.grace(name, hurried);
        loop {
            tokio::select! {
                () = crew.gone(name) => break,
                () = shutdown.requested(), if !hurried => {
                    hurried = true;
                    voice.say(format!("haarb: second signal: not waiting long for {name}"));
                    deadline = deadline.min(Instant::now() + bounds.grace(name, true));
                }
                () = sleep_until(deadline) => {
                    voice.say(format!("haarb: {name} does not end; killing it"));
                    crew.signal(name, Signal::SIGKILL);
                    killed.push(name);
                    let _ = timeout(KILLED_WITHIN, crew.gone(name)).await;
                    break;
                }
            }
        }
    }
    (killed, hurried)
}

/// How long the steps may take with this configuration.
#[derive(Debug, PartialEq, Eq)]
struct Bounds {
    hand_over: Duration,
    services: Duration,
}

impl Bounds {
    fn of(config: &Config) -> Self {
        let stops = |r: &haarb_config::Reserve| {
            r.services
                .iter()
                .fold(Span::ZERO, |sum, s| sum + s.stop_timeout)
        };
        let longest = config.reserves.iter().map(stops).max();
        let services = longest.unwrap_or_default().to_duration();
        let drain = config.timing.drain_max.to_duration();
        Self {
            hand_over: services + drain + MARGIN,
            services: config.timing.lease.to_duration() + services + MARGIN,
        }
    }

    /// How long a daemon gets between SIGTERM and SIGKILL. In a hurry the two that let go
    /// of something still get a moment for it.
    fn grace(&self, name: &str, hurried: bool) -> Duration {
        match (name, hurried) {
            ("haarb-supervisor", false) => self.services,
            ("haarb-supervisor", true) => Duration::from_secs(2),
            ("haarb-vip-agent", true) => Duration::from_secs(1),
            (_, true) => Duration::from_millis(300),
            (_, false) => ENDS_WITHIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::DAEMONS;

    #[test]
    fn every_daemon_is_stopped_once_and_the_arbiter_last() {
        let mut order = ORDER.to_vec();
        assert_eq!(order.last(), Some(&"haarb-arbiter"));
        let mut started: Vec<&str> = DAEMONS.iter().map(|d| d.name).collect();
        order.sort_unstable();
        started.sort_unstable();
        assert_eq!(order, started);
    }

    #[test]
    fn a_hurry_shortens_every_grace() {
        let bounds = Bounds {
            hand_over: Duration::from_secs(30),
            services: Duration::from_secs(20),
        };
        for name in ORDER {
            assert!(
                bounds.grace(name, true) < bounds.grace(name, false),
                "{name}"
            );
        }
    }
}
