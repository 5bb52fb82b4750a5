//! The receiving side of a reserve: what arrives is staged, made durable and visible in
//! batches, and acknowledged.
//!
//! It knows neither sockets nor threads: messages go in, answers come out. The one thing to
//! know: an acknowledgement is given only after everything up to it is on the disk.

mod apply;
mod aside;
mod greet;
mod grow;
mod large;
mod patrol;
mod replace;
mod scrub;
mod stage;
mod transfer;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use crate::Replicated;
use crate::fence::{Closed, Fence};
use crate::message::{Down, Hello, PROTOCOL, Problem, Up};
use crate::wall::Wall;
use apply::{Op, Staged};
pub(crate) use aside::count as count_conflicts;
use grow::Spares;
pub(crate) use large::SUMS_MAX;
use patrol::Patrol;
use scrub::Scrub;
use transfer::Transfer;
pub(crate) use tree::Tree;

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    #[error(transparent)]
    Closed(#[from] Closed),
    #[error("the source refuses: {0}")]
    Refused(String),
    #[error("the source has epoch {theirs}, and {ours} was seen here: its changes are refused")]
    LowerEpoch { ours: u64, theirs: u64 },
    #[error("the source is {theirs:?}, and what is followed here is {ours}")]
    WrongSource { ours: String, theirs: String },
    #[error(
        "the source leaves out other paths than are left out here: looking once more, as it does"
    )]
    Excludes,
    #[error("the source broke the protocol: {0}")]
    Protocol(&'static str),
}

/// The receiving side of one reserve.
pub(crate) struct Sink {
    reserve: String,
    me: String,
    source: String,
    /// The highest epoch that was seen.
    pub(crate) epoch: u64,
    pub(crate) trees: Vec<Tree>,
    patrols: Vec<Patrol>,
    /// What reads everything again, and at how many bytes a second.
    scrubs: Vec<(Scrub, u64)>,
    fence: Fence,
    stamp: String,
    wall: Wall,
    welcomed: bool,
    staged: BTreeMap<u16, Vec<Staged>>,
    staged_ops: usize,
    staged_bytes: usize,
    marks: Vec<u16>,
    last_seq: u64,
    acked: u64,
    problems: Vec<(u64, Problem)>,
    /// Directories of which something failed since the source last called them complete.
    incomplete: BTreeSet<u16>,
    transfers: BTreeMap<u64, Transfer>,
    next_name: u64,
    out: Vec<Up>,
}

impl Sink {
    pub(crate) fn new(
        reserve: &str,
        me: &str,
        source: &str,
        epoch: u64,
        directories: &[Replicated],
        fence: Fence,
    ) -> Self {
        Self {
            reserve: reserve.to_owned(),
            me: me.to_owned(),
            source: source.to_owned(),
            epoch,
            trees: directories.iter().map(Tree::new).collect(),
            patrols: directories.iter().map(|_| Patrol::default()).collect(),
            scrubs: directories
                .iter()
                .map(|directory| (Scrub::default(), directory.scrub_rate.bytes_per_second()))
                .collect(),
            fence,
            stamp: aside::stamp(epoch, &Wall::default()),
            wall: Wall::default(),
            welcomed: false,
            staged: BTreeMap::new(),
            staged_ops: 0,
            staged_bytes: 0,
            marks: Vec::new(),
            last_seq: 0,
            acked: 0,
            problems: Vec::new(),
            incomplete: BTreeSet::new(),
            transfers: BTreeMap::new(),
            next_name: 0,
            out: Vec::new(),
        }
    }

    /// Goes by another clock.
    #[cfg(test)]
    pub(crate) fn set_wall(&mut self, wall: &Wall) {
        self.wall = wall.clone();
        for tree in &mut self.trees {
            tree.place.wall = wall.clone();
        }
    }

    /// Looks at all directories before a session and says what is there. `go_on` is asked now
    /// and then.
    pub(crate) fn hello(&mut self, mut go_on: impl FnMut() -> bool) -> Hello {
        self.welcomed = false;
        self.staged.clear();
        self.staged_ops = 0;
        self.staged_bytes = 0;
        self.marks.clear();
        self.last_seq = 0;
        self.acked = 0;
        self.problems.clear();
        self.incomplete.clear();
        self.transfers.clear();
        self.out.clear();
        for tree in &mut self.trees {
            tree.spares = Spares::default();
            if let Err(error) = tree.scan(&mut go_on) {
                tree.error = error;
            }
        }
        Hello {
            protocol: PROTOCOL,
            reserve: self.reserve.clone(),
            node: self.me.clone(),
            epoch: self.epoch,
            directories: self.trees.iter().map(Tree::hello).collect(),
        }
    }

    /// To be asked in a pause, with nothing staged: looks for changes by others in directories
    /// that are in sync, each `pause` after the last time. Says whether there are any.
    pub(crate) fn look_around(&mut self, pause: std::time::Duration) -> bool {
        let before = self.out.len();
        let idle = self.staged.is_empty() && self.transfers.is_empty();
        let places = self.trees.iter_mut().zip(&mut self.patrols).enumerate();
        for (dir, (tree, patrol)) in places.filter(|_| idle) {
            if !tree.synced || !tree.error.is_empty() {
                continue;
            }
            match patrol.step(tree, pause) {
                Ok(paths) => {
                    tree.drop_old_spares();
                    for path in paths {
                        tracing::info!("{}", tree.about(&path, &"was changed here"));
                        let dir = dir as u16;
                        self.out.push(Up::Local { dir, path });
                    }
                }
                Err(error) => tracing::warn!("{}: {error}", tree.place.path.display()),
            }
        }
        let places = self.trees.iter_mut().zip(&mut self.scrubs).enumerate();
        for (dir, (tree, (scrub, rate))) in places.filter(|_| idle) {
            if !tree.synced || !tree.error.is_empty() {
                continue;
            }
            match scrub.step(tree, *rate, pause) {
                Ok(path) => {
                    let dir = dir as u16;
                    self.out.extend(path.map(|path| Up::Local { dir, path }));
                }
                Err(error) => tracing::warn!("{}: {error}", tree.place.path.display()),
            }
        }
        self.out.len() > before
    }

    /// Answers to send, oldest first.
    pub(crate) fn answers(&mut self) -> Vec<Up> {
        std::mem::take(&mut self.out)
    }

    /// Takes one message. Staged operations become visible with [`Sink::flush`].
    pub(crate) fn take(&mut self, message: Down) -> Result<(), SinkError> {
        if !self.welcomed {
            return self.take_first(message);
        }
        match message {
            Down::Welcome { .. } | Down::Refuse { .. } => {
                Err(SinkError::Protocol("a second welcome"))
            }
            Down::Ping => Ok(()),
            Down::List { dir, path } => self.list(dir, &path),
            Down::Put {
                seq,
                dir,
                path,
                version,
                content,
                sparse,
                xattrs,
            } => {
                let bytes = content.len();
                self.tree(dir)?;
                let op = self.put(dir, version, content, sparse, xattrs);
                self.stage(seq, dir, path, op, bytes)
            }
            Down::Append {
                seq,
                dir,
                path,
                growth,
            } => self.append(seq, dir, path, growth),
            Down::Meta {
                seq,
                dir,
                path,
                version,
                xattrs,
            } => self.stage(seq, dir, path, Op::Meta { version, xattrs }, 0),
            Down::Link {
                seq,
                dir,
                path,
                name,
            } => self.stage(seq, dir, path, Op::Link(name), 0),
            Down::Rename {
                seq,
                dir,
                from,
                path,
            } => {
                // A batch of its own: what comes before and after goes by the names of its time.
                self.flush()?;
                self.stage(seq, dir, path, Op::Rename(from), 0)?;
                self.flush()
            }
            Down::Delete { seq, dir, path } => self.stage(seq, dir, path, Op::Delete, 0),
            Down::Begin {
                transfer,
                dir,
                path,
                sparse,
            } => self.begin(transfer, dir, path, sparse),
            Down::Sums {
                transfer,
                first,
                count,
            } => self.sums(transfer, first, count),
            Down::Part { transfer, piece } => {
                self.fence.pass()?;
                if let Some(transfer) = self.transfers.get_mut(&transfer) {
                    transfer.add(piece);
                }
                Ok(())
            }
            Down::End {
                seq,
                transfer,
                version,
                xattrs,
            } => self.end(seq, transfer, &version, &xattrs),
            Down::Cancel { transfer } => {
                self.transfers.remove(&transfer);
                Ok(())
            }
            Down::Held { dir, paths } => {
                self.tree(dir)?.hold(paths);
                Ok(())
            }
            Down::InSync { seq, dir } => {
                self.tree(dir)?;
                self.count_seq(seq)?;
                self.marks.push(dir);
                self.flush()
            }
        }
    }

    fn tree(&mut self, dir: u16) -> Result<&mut Tree, SinkError> {
        self.trees
            .get_mut(usize::from(dir))
            .ok_or(SinkError::Protocol("a directory that is not there"))
    }
}

#[cfg(test)]
mod tests;
