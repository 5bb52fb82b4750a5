//! What can go wrong so badly that the agent cannot work. What the kernel refuses for one
//! address is no such thing: it is reported with its reserve.

use std::io;
use std::path::PathBuf;

/// The kernel's addresses and interfaces are out of reach.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No socket.
    #[error("cannot open an rtnetlink socket")]
    Open(#[source] io::Error),
    /// No answer to a question.
    #[error("cannot list interfaces and addresses")]
    List(#[source] rtnetlink::Error),
    /// Notifications were lost; a new picture is needed.
    #[error("notifications of the kernel were lost")]
    Lost,
    /// The socket is gone.
    #[error("the rtnetlink socket was closed")]
    Closed,
}

/// The agent cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It may not do what it is for.
    #[error(
        "lacks {0}: the vip-agent needs CAP_NET_ADMIN and CAP_NET_RAW; start it as root, or \
         give it both (AmbientCapabilities= of its unit)"
    )]
    Privileges(&'static str),
    /// See there.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No timer or no signals.
    #[error("cannot set up the event loop")]
    Loop(#[source] io::Error),
    /// The record of leases cannot be kept.
    #[error("cannot open {} (the run directory must exist and be writable)", path.display())]
    Record {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        reason: io::Error,
    },
}
