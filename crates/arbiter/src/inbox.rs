//! Everything that can wake the arbiter, as one closed list.

use haarb_api::{Directive, v1};
use haarb_decision::Command;
use haarb_model::{Agent, Report};
use tokio::sync::{mpsc, oneshot};

/// Inputs that may wait while the loop is busy with one of them (well below a millisecond):
/// a second of all agents at their fastest. Senders wait when it is full, and their own
/// queues then tell the agents.
pub const INBOX_MESSAGES: usize = 1024;

/// Counts connections, so that the end of an old one is not taken for that of its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId(pub u64);

/// One input of the arbiter's loop.
#[derive(Debug)]
pub enum Message {
    /// An agent said hello.
    Attached {
        /// Which one.
        agent: Agent,
        /// Its connection.
        connection: ConnectionId,
        /// What it said.
        hello: v1::Hello,
        /// Where its directives go.
        directives: mpsc::Sender<Result<v1::Directive, tonic::Status>>,
    },
    /// A connection ended.
    Detached {
        /// Whose.
        agent: Agent,
        /// Which.
        connection: ConnectionId,
    },
    /// An agent reports.
    Report {
        /// Which one.
        agent: Agent,
        /// Over which connection.
        connection: ConnectionId,
        /// What.
        report: Report,
    },
    /// An operator commands.
    Command {
        /// What.
        command: Command,
        /// Where the answer goes: one line, done or refused.
        answer: oneshot::Sender<Result<String, String>>,
    },
    /// An operator asks for the state.
    Status {
        /// Where it goes.
        answer: oneshot::Sender<v1::Status>,
    },
}

/// An agent's end of the directives, as the loop keeps it.
#[derive(Debug)]
pub struct Attachment {
    /// Its connection.
    pub connection: ConnectionId,
    /// What it said at the beginning.
    pub hello: v1::Hello,
    directives: mpsc::Sender<Result<v1::Directive, tonic::Status>>,
    sent: Option<Directive>,
}

impl Attachment {
    /// A fresh attachment that has been told nothing.
    #[must_use]
    pub const fn new(
        connection: ConnectionId,
        hello: v1::Hello,
        directives: mpsc::Sender<Result<v1::Directive, tonic::Status>>,
    ) -> Self {
        Self {
            connection,
            hello,
            directives,
            sent: None,
        }
    }

    /// Tells the agent what to hold, unless it was told just this. `false`: the agent does not
    /// read its directives, or is gone.
    pub fn tell(&mut self, directive: Directive) -> bool {
        if self.sent.as_ref() == Some(&directive) {
            return true;
        }
        let told = self.directives.try_send(Ok((&directive).into())).is_ok();
        self.sent = Some(directive);
        told
    }
}
