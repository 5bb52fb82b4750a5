//! What can go wrong in the lab, as its users read it.

use std::{io, path::PathBuf};

use crate::netlink::NetlinkError;

/// An error of the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A namespace or something in it was refused.
    #[error("cannot {what} in the lab: {source}; `haarb-lab check` says what is missing")]
    Namespace {
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The kernel refused a network change.
    #[error("the lab's network: {0}")]
    Netlink(#[from] NetlinkError),
    /// A name that the segment does not have.
    #[error("no {what} called {name}; there is {}", .known.join(", "))]
    Unknown {
        /// Kind of thing.
        what: &'static str,
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A server without power was asked to do something.
    #[error("{server} has no power: cannot {what}")]
    NoPower {
        /// Its name.
        server: String,
        /// What was asked.
        what: String,
    },
    /// A server did not come up.
    #[error("{server} did not boot: {reason}")]
    Boot {
        /// Its name.
        server: String,
        /// What it said.
        reason: String,
    },
    /// A command in a server failed.
    #[error("`{command}` on {server}: {reason}")]
    Command {
        /// The server.
        server: String,
        /// The command line.
        command: String,
        /// Exit status, time-out or unreadable output.
        reason: String,
    },
    /// An awaited state was not reached in time.
    #[error("waited {waited_ms:.0} ms in vain for: {what} (last seen: {seen})")]
    Deadline {
        /// What was awaited.
        what: String,
        /// For how long, milliseconds.
        waited_ms: f64,
        /// What was the case instead.
        seen: String,
    },
    /// A file of the lab.
    #[error("cannot use {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The binaries under test are missing.
    #[error("no {} in {}: build them with `cargo build --release` or name their directory with --bin-dir", .names.join(", "), .dir.display())]
    Binaries {
        /// Where they were looked for.
        dir: PathBuf,
        /// What is missing.
        names: Vec<String>,
    },
    /// A thread or timer of the lab was refused.
    #[error("the lab's client: {0}")]
    Client(io::Error),
}

impl LabError {
    pub(crate) fn namespace(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Namespace { what, source }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
