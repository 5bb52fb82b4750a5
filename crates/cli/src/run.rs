//! `haarb run`: all daemons of one server, in the foreground.
//!
//! It starts them, starts again what dies, passes their logs on and stops them in order. It
//! takes no part in any decision: a server goes on as it is while `haarb run` itself does
//! nothing. The one thing to know: everything runs on the main thread, because the kernel
//! ties the parent-death signal of a child to the thread that started it (prctl(2)).

mod backoff;
mod child;
mod crew;
mod ears;
mod preflight;
mod stop;

use std::path::Path;
use std::time::Duration;

use haarb_api::transport::connect_control;
use haarb_api::v1;
use haarb_daemon::{Options, Shutdown, Voice};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::control::with;
use crate::failure::{Failure, print};

use crew::Crew;
use preflight::Ready;

/// A daemon as `haarb run` sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Daemon {
    /// The name of its process.
    pub(crate) name: &'static str,
    /// Told by the kernel when `haarb run` dies: true SIGTERM, false SIGKILL.
    ///
    /// What holds something outside its own process must still let go of it in good order:
    /// the vip-agent removes the addresses, the supervisor tells the services' keepers. The
    /// others hold nothing, and an arbiter or prober that lived on would claim towards the
    /// neighbours that all is well. Behind both stand the leases: without an arbiter the
    /// keepers stop the services and the kernel ends the addresses.
    pub(crate) lets_go: bool,
    /// Real-time priority from its start on.
    pub(crate) on_path: bool,
}

/// In the order in which they are started.
pub(crate) const DAEMONS: [Daemon; 6] = [
    daemon("haarb-arbiter", false, true),
    daemon("haarb-vip-agent", true, true),
    daemon("haarb-supervisor", true, true),
    daemon("haarb-link-watcher", false, true),
    daemon("haarb-prober", false, true),
    daemon("haarb-syncer", false, false),
];

const fn daemon(name: &'static str, lets_go: bool, on_path: bool) -> Daemon {
    Daemon {
        name,
        lets_go,
        on_path,
    }
}

/// How long the last lines wait for their reader.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);
/// Between two attempts to reach an arbiter that is starting.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// A server that is not up by then has a problem that the operator should hear of.
const UP_WITHIN: Duration = Duration::from_secs(10);

/// Hands over and lets go of everything; the daemons go on.
pub(crate) fn leave(options: &Options) -> Result<(), Failure> {
    let said = with(stop::leave(options))?;
    print(&format!("{said}\n"))
}

/// Runs the server until a signal stops it.
pub(crate) fn run(options: &Options, bin_dir: Option<&Path>) -> Result<(), Failure> {
    let ready = preflight::check(options, bin_dir)?;
    let voice = Voice::start("haarb");
    for warning in &ready.warnings {
        voice.say(format!("haarb: {warning}"));
    }
    let outcome = with(serve(options, &ready, &voice)).map_err(|failure| {
        failure.say(&voice);
        Failure::Said
    });
    voice.finish(FLUSH_WITHIN);
    outcome
}

/// Tells standard output, and waits only for a moment for its reader: there are daemons to be
/// tended. A thread of its own, because a runtime would wait for one of its own at the end.
async fn tell(text: String) {
    let (done, told) = oneshot::channel();
    let started = std::thread::Builder::new().spawn(move || {
        // Nobody wants it: fine.
        let _ = print(&text);
        let _ = done.send(());
    });
    if started.is_ok() {
        let _ = timeout(FLUSH_WITHIN, told).await;
    }
}

async fn serve(options: &Options, ready: &Ready, voice: &Voice) -> Result<(), Failure> {
    let no_signals = |e| Failure::new(format!("the kernel refuses signal handlers: {e}"));
    let mut shutdown = Shutdown::listen().map_err(no_signals)?;
    // A daemon that died is started again within its lease, however busy the processors are.
    // Where it is refused, the daemons say so.
    haarb_daemon::schedule_real_time();
    let mut crew = Crew::new(options, ready, voice.clone()).map_err(|e| {
        Failure::new(format!(
            "the kernel refuses what it takes to run daemons: {e}"
        ))
    })?;
    let began = Instant::now();
    crew.start_all();
    let up = async {
        announce(options, ready, voice, began).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = crew.tend() => {}
        () = up => {}
        () = shutdown.requested() => {}
    }
    stop::stop(options, ready, voice, &mut crew, &mut shutdown).await
}

/// Says that the server is up once every agent is attached to the arbiter, and after
/// [`UP_WITHIN`] once what is missing.
async fn announce(options: &Options, ready: &Ready, voice: &Voice, began: Instant) {
    let mut missing = "the arbiter does not answer".to_owned();
    let late = tokio::time::sleep(UP_WITHIN);
    tokio::pin!(late);
    let mut told = false;
    loop {
        tokio::select! {
            () = attached(options, &mut missing) => break,
            () = &mut late, if !told => {
                told = true;
                voice.say(format!(
                    "haarb: the server is not up after {}s: {missing}; see the lines of that daemon",
                    UP_WITHIN.as_secs()
                ));
            }
        }
    }
    tell(format!(
        "haarb: {} of cluster {} is up: {} daemons, ready after {}ms\n",
        ready.me,
        ready.config.cluster,
        DAEMONS.len(),
        began.elapsed().as_millis()
    ))
    .await;
}

/// Returns when every agent is attached; `missing` says what is waited for meanwhile.
async fn attached(options: &Options, missing: &mut String) {
    loop {
        if let Ok(mut client) = connect_control(&options.run_dir).await
            && let Ok(stream) = client.watch_status(v1::StatusRequest {}).await
        {
            let mut stream = stream.into_inner();
            while let Ok(Some(status)) = stream.message().await {
                let absent: Vec<&str> = status
                    .agents
                    .iter()
                    .filter(|a| !a.attached)
                    .map(|a| a.name.as_str())
                    .collect();
                if absent.is_empty() && status.agents.len() + 1 == DAEMONS.len() {
                    return;
                }
                *missing = format!("not attached to the arbiter: {}", absent.join(", "));
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
