//! Both ends of haarb's Unix sockets, and their names.
//!
//! The arbiter listens on two sockets in the run directory: one for its agents, one for
//! operators. Who may connect is judged by the kernel's peer credentials (unix(7),
//! `SO_PEERCRED`), not by the mode of the file alone.

mod stream;

use std::io;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::v1::arbiter_client::ArbiterClient;
use crate::v1::control_client::ControlClient;

pub use stream::Stream;

/// The socket on which the arbiter waits for its agents.
#[must_use]
pub fn agent_socket(run_dir: &Path) -> PathBuf {
    run_dir.join("arbiter.sock")
}

/// The socket on which the arbiter waits for operators.
#[must_use]
pub fn control_socket(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

/// Connects an agent to the arbiter.
///
/// # Errors
/// The arbiter does not listen, or does not speak gRPC.
pub async fn connect_agent(run_dir: &Path) -> Result<ArbiterClient<Channel>, ConnectError> {
    Ok(ArbiterClient::new(connect(agent_socket(run_dir)).await?))
}

/// Connects an operator's tool to the arbiter.
///
/// # Errors
/// The arbiter does not listen, or does not speak gRPC.
pub async fn connect_control(run_dir: &Path) -> Result<ControlClient<Channel>, ConnectError> {
    Ok(ControlClient::new(connect(control_socket(run_dir)).await?))
}

/// The arbiter cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("the arbiter does not answer on {}: {reason}", socket.display())]
pub struct ConnectError {
    /// The socket that was tried.
    pub socket: PathBuf,
    /// The kernel's reason, where it gave one: `NotFound`, `ConnectionRefused`, `PermissionDenied`.
    pub kind: io::ErrorKind,
    reason: String,
}

async fn connect(socket: PathBuf) -> Result<Channel, ConnectError> {
    // The first connection is tried by hand: tonic buries the kernel's reason too deep.
    let first = UnixStream::connect(&socket)
        .await
        .map_err(|error| ConnectError {
            socket: socket.clone(),
            kind: error.kind(),
            reason: error.to_string(),
        })?;
    let mut first = Some(first);
    let path = socket.clone();
    let connector = service_fn(move |_: tonic::transport::Uri| {
        let ready = first.take();
        let path = path.clone();
        async move {
            let stream = match ready {
                Some(stream) => stream,
                None => UnixStream::connect(path).await?,
            };
            Ok::<_, io::Error>(TokioIo::new(Stream::new(stream)?))
        }
    });
    // The URI is never used: a Unix socket has no host.
    Endpoint::from_static("http://arbiter.local")
        .connect_with_connector(connector)
        .await
        .map_err(|error| ConnectError {
            socket,
            kind: io::ErrorKind::Other,
            reason: error.to_string(),
        })
}
