//! The operators' side of the local API. A task per call: it asks the loop and formats the
//! answer; events and `why` come from the journal without troubling the loop.

use std::pin::Pin;
use std::time::Duration;

use haarb_api::v1::{self, control_server::Control};
use haarb_decision::Command;
use haarb_model::{Epoch, NodeName, ReserveName};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::inbox::Message;
use crate::journal::{Entry, Journal};

/// Answers that may wait for a slow reader of a stream; it then waits, nobody else.
const STREAMED: usize = 64;
/// A watcher gets the ages of things anew after this time even where nothing changed.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Changes within this time are shown as one: a person reads no faster, and a busy second
/// must not cost a status each.
const WATCH_GAP: Duration = Duration::from_millis(20);

/// The gRPC service for operators.
#[derive(Debug)]
pub struct Operators {
    inbox: mpsc::Sender<Message>,
    journal: Journal,
    changes: watch::Receiver<u64>,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Operators {
    /// A service over the loop's inbox, the journal and the loop's count of changes.
    #[must_use]
    pub const fn new(
        inbox: mpsc::Sender<Message>,
        journal: Journal,
        changes: watch::Receiver<u64>,
    ) -> Self {
        Self {
            inbox,
            journal,
            changes,
        }
    }

    async fn command(&self, command: Command) -> Result<Response<v1::Done>, Status> {
        let (answer, answered) = oneshot::channel();
        self.inbox
            .send(Message::Command { command, answer })
            .await
            .map_err(|_| stopping())?;
        match answered.await.map_err(|_| stopping())? {
            Ok(text) => Ok(Response::new(v1::Done { text })),
            Err(refusal) => Err(Status::failed_precondition(refusal)),
        }
    }
}

fn stopping() -> Status {
    Status::unavailable("the arbiter stops; try again once it runs")
}

async fn status(inbox: &mpsc::Sender<Message>) -> Result<v1::Status, Status> {
    let (answer, answered) = oneshot::channel();
    inbox
        .send(Message::Status { answer })
        .await
        .map_err(|_| stopping())?;
    answered.await.map_err(|_| stopping())
}

fn reserve(text: &str) -> Result<ReserveName, Status> {
    ReserveName::new(text).map_err(|e| Status::invalid_argument(format!("reserve: {e}")))
}

#[tonic::async_trait]
impl Control for Operators {
    async fn get_status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::Status>, Status> {
        status(&self.inbox).await.map(Response::new)
    }

    type WatchStatusStream = Streamed<v1::Status>;

    async fn watch_status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let (sender, stream) = mpsc::channel(STREAMED);
        let (inbox, mut changes) = (self.inbox.clone(), self.changes.clone());
        tokio::spawn(async move {
            loop {
                changes.mark_unchanged();
                if sender.send(status(&inbox).await).await.is_err() {
                    return;
                }
                tokio::time::sleep(WATCH_GAP).await;
                let _ = tokio::time::timeout(WATCH_EVERY, changes.changed()).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn switchover(
        &self,
        request: Request<v1::SwitchoverRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let v1::SwitchoverRequest {
            reserve: name,
            to,
            expected_epoch,
        } = request.into_inner();
        let to = if to.is_empty() {
            None
        } else {
            Some(NodeName::new(&to).map_err(|e| Status::invalid_argument(format!("--to: {e}")))?)
        };
        let expected_epoch = expected_epoch.map(Epoch);
        self.command(Command::Switchover {
            reserve: reserve(&name)?,
            to,
            expected_epoch,
        })
        .await
    }

    async fn promote(
        &self,
        request: Request<v1::PromoteRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let v1::PromoteRequest {
            reserve: name,
            force,
            accept_stale,
        } = request.into_inner();
        self.command(Command::Promote {
            reserve: reserve(&name)?,
            force,
            accept_stale,
        })
        .await
    }

    async fn demote(
        &self,
        request: Request<v1::DemoteRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let reserve = reserve(&request.into_inner().reserve)?;
        self.command(Command::Demote { reserve }).await
    }

    async fn maintenance(
        &self,
        request: Request<v1::MaintenanceRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        self.command(Command::Maintenance(request.into_inner().on))
            .await
    }

    async fn clear(
        &self,
        request: Request<v1::ClearRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let reserve = reserve(&request.into_inner().reserve)?;
        self.command(Command::Clear { reserve }).await
    }

    async fn shutdown(
        &self,
        _: Request<v1::ShutdownRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        self.command(Command::Shutdown).await
    }

    type EventsStream = Streamed<v1::EventRecord>;

    async fn events(
        &self,
        request: Request<v1::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let v1::EventsRequest {
            follow,
            since_unix_ms,
        } = request.into_inner();
        let (stored, live) = self.journal.since(since_unix_ms);
        let (sender, stream) = mpsc::channel(STREAMED);
        tokio::spawn(send_events(sender, stored, follow.then_some(live)));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn why(
        &self,
        request: Request<v1::WhyRequest>,
    ) -> Result<Response<v1::WhyAnswer>, Status> {
        let name = request.into_inner().reserve;
        let status = status(&self.inbox).await?;
        if !name.is_empty() && !status.reserves.iter().any(|r| r.name == name) {
            let known: Vec<_> = status.reserves.iter().map(|r| r.name.as_str()).collect();
            return Err(Status::failed_precondition(format!(
                "there is no reserve {name:?}; the configuration has: {}",
                known.join(", ")
            )));
        }
        let last = self
            .journal
            .last_changes(&name)
            .into_iter()
            .map(Into::into)
            .collect();
        let asked = |alarm: &v1::Alarm| {
            name.is_empty() || alarm.reserve.is_empty() || alarm.reserve == name
        };
        let alarms = status.alarms.into_iter().filter(asked).collect();
        Ok(Response::new(v1::WhyAnswer { last, alarms }))
    }
}

/// Sends stored events, then the live ones. A reader that falls behind is told how many it
/// missed, and the stream ends: the next call gets them from the store.
async fn send_events(
    sender: mpsc::Sender<Result<v1::EventRecord, Status>>,
    stored: Vec<Entry>,
    live: Option<broadcast::Receiver<Entry>>,
) {
    for entry in stored {
        if sender.send(Ok(entry.into())).await.is_err() {
            return;
        }
    }
    let Some(mut live) = live else { return };
    loop {
        let next = match live.recv().await {
            Ok(entry) => Ok(entry.into()),
            Err(broadcast::error::RecvError::Lagged(missed)) => Err(Status::data_loss(format!(
                "{missed} events came faster than they were read"
            ))),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let ends = next.is_err();
        if sender.send(next).await.is_err() || ends {
            return;
        }
    }
}
