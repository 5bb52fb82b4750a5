//! What keeps the supervisor from running. One line each: what, where, what to do.

use std::path::PathBuf;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory of the keepers' sockets.
    #[error("cannot prepare {path}: {source}; check --run-dir and its owner")]
    RunDir {
        /// Which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Two supervisors for one run directory would pull at the same services.
    #[error("another supervisor already runs with {0}; end it, or give --run-dir")]
    Running(PathBuf),
    /// A newer supervisor has connected to our keepers.
    #[error("another supervisor took over the keepers of this server")]
    Replaced,
    /// The kernel refused a timer.
    #[error("no timer: {0}")]
    Timer(std::io::Error),
}
