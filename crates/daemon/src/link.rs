//! An agent's link to the arbiter: reports up, directives down, attached again by itself.
//!
//! One task owns the connection; the daemon's loop talks to it through two bounded queues
//! and never waits. What is reported while nobody listens is dropped, because a report is a
//! whole state: after [`FromArbiter::Attached`] the daemon reports everything anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use haarb_api::{Directive, transport, v1};
use haarb_model::{Agent, Report};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Reports that may wait while the arbiter is busy: seconds of the fastest agent. An arbiter
/// that is further behind is stuck; the link starts anew rather than delivering old facts.
const OUTBOX_REPORTS: usize = 256;
/// Directives that may wait while the daemon is busy. A full queue makes the arbiter's
/// stream wait, which it notices.
const INBOX_DIRECTIVES: usize = 64;
/// Between two attempts to reach the arbiter: an attempt costs some 20 us, and a restarted
/// arbiter waits for its agents before it acts.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// What an agent hears from its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromArbiter {
    /// A new connection stands: report everything.
    Attached,
    /// Hold this from now on.
    Directive(Directive),
    /// The connection is gone; the link tries again. Leases run on.
    Lost,
}

/// The daemon's end of the link.
#[derive(Debug)]
pub struct ArbiterLink {
    inbox: mpsc::Receiver<FromArbiter>,
    outbox: mpsc::Sender<Report>,
}

impl ArbiterLink {
    /// Starts the link's task on the current runtime.
    #[must_use]
    pub fn spawn(run_dir: &Path, agent: Agent, config_digest: u64) -> Self {
        let (to_daemon, inbox) = mpsc::channel(INBOX_DIRECTIVES);
        let (outbox, from_daemon) = mpsc::channel(OUTBOX_REPORTS);
        let hello = v1::Hello {
            agent: v1::Agent::from(agent).into(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_digest,
            scheduling: None,
        };
        let task = Task {
            run_dir: run_dir.into(),
            hello,
            to_daemon,
            from_daemon,
        };
        tokio::spawn(task.run());
        Self { inbox, outbox }
    }

    /// The next thing that the link has to say. Cancel-safe. Every daemon's loop asks for it in
    /// each turn, so this is where the service manager hears that the loop turns.
    pub async fn next(&mut self) -> FromArbiter {
        crate::notify::turn();
        match self.inbox.recv().await {
            Some(message) => message,
            // The task ends only with the runtime.
            None => std::future::pending().await,
        }
    }

    /// Reports without waiting. Dropped where no arbiter listens.
    pub fn report(&self, report: Report) {
        // Full means that the arbiter stands still; the task notices and starts anew.
        let _ = self.outbox.try_send(report);
    }

    /// A link without an arbiter, and its other end: for tests of a daemon's loop.
    #[must_use]
    pub fn pair() -> (Self, mpsc::Sender<FromArbiter>, mpsc::Receiver<Report>) {
        let (to_daemon, inbox) = mpsc::channel(INBOX_DIRECTIVES);
        let (outbox, from_daemon) = mpsc::channel(OUTBOX_REPORTS);
        (Self { inbox, outbox }, to_daemon, from_daemon)
    }
}

struct Task {
    run_dir: PathBuf,
    hello: v1::Hello,
    to_daemon: mpsc::Sender<FromArbiter>,
    from_daemon: mpsc::Receiver<Report>,
}

impl Task {
    async fn run(mut self) {
        let mut said = false;
        loop {
            match self.attached().await {
                Ok(()) => return, // the daemon is gone
                Err(reason) if !said => {
                    tracing::info!("waiting for the arbiter: {reason}");
                    said = true;
                }
                Err(Ended::NeverAttached(_)) => {}
                Err(reason) => tracing::warn!("{reason}"),
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// One connection from its beginning to its end. `Ok` when the daemon has gone.
    async fn attached(&mut self) -> Result<(), Ended> {
        let mut client = transport::connect_agent(&self.run_dir)
            .await
            .map_err(|e| Ended::NeverAttached(e.to_string()))?;
        let (to_arbiter, stream) = mpsc::channel(OUTBOX_REPORTS);
        // Asked for after the link was made, as a rule.
        self.hello.scheduling = crate::granted_real_time().map(Into::into);
        send(
            &to_arbiter,
            v1::agent_message::Message::Hello(self.hello.clone()),
        )?;
        let answer = client
            .attach(ReceiverStream::new(stream))
            .await
            .map_err(|status| Ended::NeverAttached(status.message().to_owned()))?;
        let mut directives = answer.into_inner();
        // What was reported before belongs to an older connection.
        while self.from_daemon.try_recv().is_ok() {}
        if self.to_daemon.send(FromArbiter::Attached).await.is_err() {
            return Ok(());
        }
        tracing::info!("attached to the arbiter");
        let ended = self.carry(&to_arbiter, &mut directives).await;
        match self.to_daemon.send(FromArbiter::Lost).await {
            Ok(()) => ended,
            Err(_) => Ok(()),
        }
    }

    /// Carries messages both ways. Each branch waits on a queue or the stream, all of which
    /// are cancel-safe.
    async fn carry(
        &mut self,
        to_arbiter: &mpsc::Sender<v1::AgentMessage>,
        directives: &mut tonic::Streaming<v1::Directive>,
    ) -> Result<(), Ended> {
        loop {
            tokio::select! {
                report = self.from_daemon.recv() => match report {
                    Some(report) => send(to_arbiter, (&report).into())?,
                    None => return Ok(()),
                },
                message = directives.message() => match message {
                    Ok(Some(wire)) => match Directive::try_from(wire) {
                        Ok(directive) => {
                            let message = FromArbiter::Directive(directive);
                            if self.to_daemon.send(message).await.is_err() {
                                return Ok(());
                            }
                        }
                        Err(invalid) => tracing::error!("directive ignored: {invalid}"),
                    },
                    Ok(None) => return Err(Ended::Closed("the arbiter closed the link".into())),
                    Err(status) => return Err(Ended::Closed(format!(
                        "the link to the arbiter broke: {}", status.message()
                    ))),
                },
            }
        }
    }
}

fn send(
    to_arbiter: &mpsc::Sender<v1::AgentMessage>,
    message: v1::agent_message::Message,
) -> Result<(), Ended> {
    to_arbiter
        .try_send(v1::AgentMessage {
            message: Some(message),
        })
        .map_err(|_| {
            Ended::Closed("the arbiter does not read its reports; starting the link anew".into())
        })
}

impl From<&crate::RealTime> for v1::Scheduling {
    fn from(granted: &crate::RealTime) -> Self {
        Self {
            real_time: granted.scheduled,
            locked: granted.locked,
            problem: granted.problem.clone(),
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    NeverAttached(String),
    #[error("{0}")]
    Closed(String),
}
