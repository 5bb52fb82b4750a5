//! The arbiter's Unix sockets: made safely, guarded by the kernel's peer credentials.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another arbiter answers there.
    #[error(
        "{} is in use: another arbiter runs on this server; stop it first, or give another --run-dir",
        .0.display()
    )]
    InUse(PathBuf),
    /// The run directory or the socket cannot be made.
    #[error("cannot listen on {}: {source}; check that --run-dir exists and may be written", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Listens on a Unix socket, replacing one that a dead process left behind.
///
/// # Errors
/// [`ListenError`]; a socket on which somebody answers is never replaced.
pub fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Io {
        path: path.into(),
        source,
    };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse(path.into()));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Group members may connect: the units put the daemons' users into one group.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Lets through who runs as root, as the arbiter's own user or in its group.
///
/// # Errors
/// `PERMISSION_DENIED` for anybody else.
pub fn guard(request: Request<()>) -> Result<Request<()>, Status> {
    let peer = request
        .extensions()
        .get::<UdsConnectInfo>()
        .and_then(|info| info.peer_cred);
    let allowed = peer.is_some_and(|peer| {
        peer.uid() == 0
            || peer.uid() == nix::unistd::geteuid().as_raw()
            || peer.gid() == nix::unistd::getegid().as_raw()
    });
    if allowed {
        Ok(request)
    } else {
        Err(Status::permission_denied(
            "only root and haarb's own users may talk to the arbiter",
        ))
    }
}
