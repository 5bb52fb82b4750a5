//! One directory on the sending side: what stands there now, and what was acknowledged.
//!
//! It sends nothing. The one thing to know: a directory that cannot be trusted (gone, exchanged, empty
//! without reason) is stopped with a message, until that is over.

mod deletions;
mod describe;
mod differ;
mod renamed;
mod rest;
mod visit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use haarb_config::{DeletionLimit, Excludes};
use haarb_model::Mono;

pub(crate) use deletions::forget_question;

use super::disk::Disk;
use super::guard::Guard;
use crate::index::{Header, Stage};
use crate::journal::Store;
use crate::path::RelPath;
use crate::root::{Found, Place, Root, RootError};
use crate::settle::Settling;
use crate::version::{Kind, Version};

/// Tells of changes in directories; see [`crate::watch`].
pub(crate) trait Watch: Send {
    /// Watches one directory, not what is below it. Again is harmless.
    fn watch(&mut self, dir: &Path) -> Result<(), String>;
    /// Makes an event that arrives after all events of changes before this call.
    fn mark(&mut self, root: &Path, number: u64) -> Result<(), String>;
}

/// A path that is different from what it was.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) path: RelPath,
    pub(crate) since: Mono,
    /// What it was, where that is known.
    pub(crate) old: Option<Version>,
    /// It was a directory and is gone with all that was in it.
    pub(crate) emptied: bool,
    /// It is another file than before, or may share its inode with others on the sink: new
    /// attributes for what the sink has are not enough.
    pub(crate) anew: bool,
    /// Files that are not here any more, under this path or below it.
    pub(crate) vanished: Vec<(RelPath, Version)>,
    /// It is a directory that had this name before, with all that is in it.
    pub(crate) renamed: Option<RelPath>,
}

/// What ends the standstill of a directory that was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The directory is there again.
    There,
    /// Something is in it.
    NotEmpty,
    /// A person restarts the syncer.
    Restart,
}

impl Until {
    fn of(error: &RootError) -> Self {
        match error {
            RootError::Missing(_) | RootError::Open { .. } | RootError::NotDirectory(_) => {
                Self::There
            }
            RootError::Exchanged(_) => Self::Restart,
        }
    }
}

/// A directory that is sent.
pub(crate) struct Tree {
    pub(crate) place: Place,
    /// What is neither sent nor looked at.
    pub(crate) exclude: Excludes,
    pub(crate) store: Store,
    pub(crate) disk: Disk,
    /// Directories whose entries changed, and with them their times.
    stamps: BTreeMap<RelPath, Mono>,
    to_visit: VecDeque<RelPath>,
    /// The whole of it was looked at once.
    pub(crate) visited: bool,
    pub(crate) settling: Settling,
    /// What changed while no sink was connected.
    pub(crate) missed: BTreeSet<RelPath>,
    /// Since when a sink may lack something, while none is connected.
    pub(crate) behind_since: Option<Mono>,
    /// What stopped this directory; empty if nothing did.
    pub(crate) error: String,
    until: Until,
    /// Changes are looked for by visiting, because watching failed: why.
    pub(crate) unwatched: String,
    pub(crate) seal: Option<(u64, bool)>,
    /// The highest mark that has arrived: every event before it was taken.
    pub(crate) marked: u64,
    /// The highest mark that was made.
    pub(crate) making: u64,
    pub(crate) guard: Guard,
    held: deletions::Asked,
}

impl Tree {
    pub(crate) fn new(path: PathBuf, exclude: Excludes, limit: DeletionLimit) -> Self {
        let mut tree = Self {
            place: Place::new(path),
            exclude,
            store: Store::default(),
            disk: Disk::default(),
            stamps: BTreeMap::new(),
            to_visit: VecDeque::new(),
            visited: false,
            settling: Settling::default(),
            missed: BTreeSet::new(),
            behind_since: None,
            error: String::new(),
            until: Until::There,
            unwatched: String::new(),
            seal: None,
            marked: 0,
            making: 0,
            guard: Guard::new(limit),
            held: deletions::Asked::default(),
        };
        if let Err(error) = tree.open() {
            tree.stop(error, Until::There);
        }
        tree
    }

    /// Starts anew if what stopped this directory is over. Says whether it is.
    pub(crate) fn start_again(&mut self) -> bool {
        let over = match (self.until, self.place.enter()) {
            (Until::Restart, _) => false,
            (_, Err(error)) => {
                self.until = Until::of(&error);
                self.error = error.to_string();
                false
            }
            (Until::There, Ok(_)) => true,
            (Until::NotEmpty, Ok(root)) => root
                .names(&RelPath::root())
                .is_ok_and(|names| !names.is_empty()),
        };
        if !over {
            return false;
        }
        self.disk.clear();
        self.stamps.clear();
        self.settling.clear();
        self.to_visit.clear();
        self.visited = false;
        self.error.clear();
        if let Err(error) = self.open() {
            self.stop(error, Until::There);
            return false;
        }
        tracing::info!("{}: is sent again", self.place.path.display());
        true
    }

    fn open(&mut self) -> Result<(), String> {
        let root = self.place.enter().map_err(|e| e.to_string())?;
        let name = self.place.path.display().to_string();
        let index = |e: io::Error| format!("{name}: its index: {e}");
        self.store = Store::load(&root).map_err(index)?;
        let mut header = self.store.index.header.clone();
        if header.lineage == [0; 16] {
            getrandom::fill(&mut header.lineage).map_err(|e| format!("{name}: no lineage: {e}"))?;
        }
        self.store.note_header(&root, header).map_err(index)?;
        self.to_visit.push_back(RelPath::root());
        Ok(())
    }

    /// Our own data are the original from now on. Only once something was really there, or
    /// was there before: an empty mount point must not become the original.
    pub(crate) fn become_original(&mut self) {
        if self.disk.is_empty() || self.store.index.header.stage == Stage::Whole {
            return;
        }
        let header = Header {
            stage: Stage::Whole,
            ..self.store.index.header.clone()
        };
        let noted = self
            .place
            .enter()
            .map_err(|e| e.to_string())
            .and_then(|root| {
                self.store
                    .note_header(&root, header)
                    .map_err(|e| e.to_string())
            });
        if let Err(error) = noted {
            tracing::warn!("{}: {error}", self.place.path.display());
        }
    }

    /// Whether what was found at a path is left out.
    pub(crate) fn excludes(&self, path: &RelPath, found: Option<Found>) -> bool {
        let directory = found.is_some_and(|found| found.kind == Some(Kind::Directory));
        found.is_some() && self.exclude.excludes(path.as_path(), directory)
    }

    /// The directory itself; `None`: it cannot be entered, and is stopped.
    pub(crate) fn enter(&mut self) -> Option<Root> {
        match self.place.enter() {
            Ok(root) => Some(root),
            Err(error) => {
                self.stop(error.to_string(), Until::of(&error));
                None
            }
        }
    }

    pub(crate) fn stop(&mut self, why: String, until: Until) {
        if self.error != why {
            tracing::error!("{why}; this directory is not sent");
        }
        self.error = why;
        self.until = until;
        self.to_visit.clear();
        self.settling.clear();
        self.stamps.clear();
    }

    pub(crate) fn about(&self, path: &RelPath, error: &dyn std::fmt::Display) -> String {
        format!("{}/{}: {error}", self.place.path.display(), path.show())
    }
}
