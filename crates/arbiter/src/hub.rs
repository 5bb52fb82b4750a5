//! The agents' side of the local API: one stream per agent.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use haarb_api::v1::{self, agent_message, arbiter_server::Arbiter};
use haarb_model::{Agent, Report};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::inbox::{ConnectionId, Message};

/// Directives that may wait for a busy agent: several leases' worth of renewals. An agent that
/// is further behind is stuck and loses its connection, and with it, in time, its leases.
const DIRECTIVES: usize = 64;

/// The gRPC service for agents.
#[derive(Debug)]
pub struct Hub {
    inbox: mpsc::Sender<Message>,
    connections: AtomicU64,
}

impl Hub {
    /// A service that puts everything into `inbox`.
    #[must_use]
    pub const fn new(inbox: mpsc::Sender<Message>) -> Self {
        Self {
            inbox,
            connections: AtomicU64::new(0),
        }
    }
}

type Directives = Pin<Box<dyn Stream<Item = Result<v1::Directive, Status>> + Send>>;

#[tonic::async_trait]
impl Arbiter for Hub {
    type AttachStream = Directives;

    async fn attach(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Directives>, Status> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|m| m.message);
        let Some(agent_message::Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument(
                "the first message must be `hello`",
            ));
        };
        let agent = hello
            .sender()
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let connection = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed));
        let (directives, stream) = mpsc::channel(DIRECTIVES);
        let attached = Message::Attached {
            agent,
            connection,
            hello,
            directives,
        };
        self.inbox
            .send(attached)
            .await
            .map_err(|_| Status::unavailable("the arbiter stops"))?;
        tokio::spawn(collect(self.inbox.clone(), agent, connection, messages));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// Passes the reports of one connection on, and its end.
async fn collect(
    inbox: mpsc::Sender<Message>,
    agent: Agent,
    connection: ConnectionId,
    mut messages: Streaming<v1::AgentMessage>,
) {
    while let Ok(Some(v1::AgentMessage { message })) = messages.message().await {
        // Nothing inside: a message of a newer version, which this one does not know.
        let Some(message) = message else { continue };
        let report = match Report::try_from(message) {
            Ok(report) => report,
            Err(invalid) => {
                tracing::warn!("report of {} ignored: {invalid}", agent.as_str());
                continue;
            }
        };
        let report = Message::Report {
            agent,
            connection,
            report,
        };
        if inbox.send(report).await.is_err() {
            return;
        }
    }
    let _ = inbox.send(Message::Detached { agent, connection }).await;
}
