//! Replicates the directories of a reserve from its active server to the others.
//!
//! It follows what the arbiter says (source, sink, neither) and decides nothing about roles.
//! The one thing to know: a version that is not known to be common is never overwritten; it
//! is moved aside (see docs/sync.md).

mod attributes;
mod board;
mod channel;
mod codec;
mod compare;
mod counters;
mod decide;
mod fence;
mod follow;
mod index;
mod journal;
mod link;
mod listen;
mod message;
mod path;
mod paths;
mod priority;
mod read;
mod root;
mod run;
mod serve;
mod settings;
mod settle;
mod signal;
mod sink;
mod source;
mod syncer;
mod version;
mod wall;
mod watch;

pub use channel::ChannelKey;
pub use run::run;
pub use settings::Settings;
pub use syncer::{StartError, Syncer};

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use haarb_config::{DeletionLimit, Excludes, ScrubRate};

/// A directory that is replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicated {
    /// How all servers call it: its path in the configuration.
    pub name: Vec<u8>,
    /// Where it is on this server; the same path, except in tests.
    pub at: PathBuf,
    /// What is left out of it.
    pub exclude: Excludes,
    /// How many files may vanish at once without a question.
    pub deletion_limit: DeletionLimit,
    /// How fast a standby reads everything again.
    pub scrub_rate: ScrubRate,
}

impl Replicated {
    /// A directory that is at its configured path.
    #[must_use]
    pub fn configured(directory: &haarb_config::Directory) -> Self {
        Self {
            exclude: directory.exclude.clone(),
            deletion_limit: directory.deletion_limit,
            scrub_rate: directory.scrub_rate,
            ..Self::at(&directory.path)
        }
    }

    /// All of a directory that is at this path on every server.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self {
            name: path.as_os_str().as_bytes().to_vec(),
            at: path.to_owned(),
            exclude: Excludes::default(),
            deletion_limit: DeletionLimit::default(),
            scrub_rate: ScrubRate::default(),
        }
    }
}

#[cfg(test)]
mod simulation;
