//! The receiving side of a reserve: what arrives is staged, made durable and visible in
//! batches, and acknowledged.
//!
//! It knows neither sockets nor threads: messages go in, answers come out. The one thing to
//! know: an acknowledgement is given only after everything up to it is on the disk.

mod apply;
mod aside;
mod patrol;
mod replace;
mod transfer;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use rustix::fs::{self, AtFlags, Mode, OFlags};

use crate::Replicated;
use crate::attributes;
use crate::fence::{Closed, Fence};
use crate::message::{DirWelcome, Down, Hello, PROTOCOL, Problem, Refusal, Up, Xattrs};
use crate::path::RelPath;
use crate::root::{Root, os};
use crate::version::{Kind, Version};
use crate::wall::Wall;
use apply::{Apply, Op, Staged};
pub(crate) use aside::count as count_conflicts;
use patrol::Patrol;
use transfer::{Transfer, Unfinished, may_be_kept, write_sparse};
pub(crate) use tree::Tree;

/// A batch is made durable at the latest with this many operations or bytes, so that an
/// acknowledgement never waits long behind a stream that does not pause.
const BATCH_OPS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of one part of a listing.
const LISTING_BYTES: usize = 256 * 1024;

/// Segments that the source may ask for at once.
pub(crate) const SUMS_MAX: u32 = 64;

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
                    for path in paths {
                        tracing::info!("{}", tree.about(&path, &"was changed here"));
                        let dir = dir as u16;
                        self.out.push(Up::Local { dir, path });
                    }
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
                to,
                moved,
                version,
                xattrs,
            } => {
                let op = Op::Link {
                    to,
                    moved,
                    version,
                    xattrs,
                };
                self.stage(seq, dir, path, op, 0)
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
            Down::InSync { seq, dir } => {
                self.tree(dir)?;
                self.count_seq(seq)?;
                self.marks.push(dir);
                self.flush()
            }
        }
    }

    fn take_first(&mut self, message: Down) -> Result<(), SinkError> {
        match message {
            Down::Ping => Ok(()),
            Down::Welcome {
                node,
                epoch,
                directories,
                ..
            } => self.welcome(&node, epoch, &directories),
            Down::Refuse { why, epoch } => Err(SinkError::Refused(match why {
                Refusal::Protocol => "it speaks another version of the protocol: both servers need the same version of haarb"
                        .into(),
                Refusal::NotSource => "it is not the source of this reserve now".into(),
                Refusal::LowerEpoch => format!("it is at epoch {epoch}, behind ours"),
                Refusal::Directories => "its directories of this reserve differ from ours".into(),
            })),
            _ => Err(SinkError::Protocol("no welcome first")),
        }
    }

    fn welcome(
        &mut self,
        node: &str,
        epoch: u64,
        directories: &[DirWelcome],
    ) -> Result<(), SinkError> {
        if node != self.source {
            return Err(SinkError::WrongSource {
                ours: self.source.clone(),
                theirs: node.to_owned(),
            });
        }
        if epoch < self.epoch {
            return Err(SinkError::LowerEpoch {
                ours: self.epoch,
                theirs: epoch,
            });
        }
        if directories.len() != self.trees.len() {
            return Err(SinkError::Protocol("another number of directories"));
        }
        self.epoch = epoch;
        self.stamp = aside::stamp(epoch, &self.wall);
        self.welcomed = true;
        let mut look_again = false;
        for (tree, theirs) in self.trees.iter_mut().zip(directories) {
            match tree.leave_out(&theirs.exclude) {
                Ok(other) => look_again |= other,
                Err(error) => tree.error = error,
            }
        }
        if look_again {
            return Err(SinkError::Excludes);
        }
        for (tree, theirs) in self.trees.iter_mut().zip(directories) {
            if !theirs.error.is_empty() {
                tree.error = format!("stopped by the source: {}", theirs.error);
            }
            if !tree.error.is_empty() {
                continue;
            }
            let joined = tree
                .place
                .enter()
                .map_err(|e| e.to_string())
                .and_then(|root| {
                    tree.join(&root, theirs.lineage, node)
                        .map_err(|e| e.to_string())
                });
            if let Err(error) = joined {
                tree.error = error;
            }
        }
        Ok(())
    }

    fn tree(&mut self, dir: u16) -> Result<&mut Tree, SinkError> {
        self.trees
            .get_mut(usize::from(dir))
            .ok_or(SinkError::Protocol("a directory that is not there"))
    }

    fn list(&mut self, dir: u16, path: &RelPath) -> Result<(), SinkError> {
        // What was received before belongs to what is listed.
        self.flush()?;
        let entries = self.tree(dir)?.listing(path);
        let mut rest = &entries[..];
        loop {
            let mut bytes = 0;
            let fits = rest
                .iter()
                .take_while(|entry| {
                    bytes += entry.name.len() + 128;
                    bytes <= LISTING_BYTES
                })
                .count();
            let (part, later) = rest.split_at(fits);
            rest = later;
            self.out.push(Up::Listing {
                dir,
                path: path.clone(),
                entries: part.to_vec(),
                last: rest.is_empty(),
            });
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn count_seq(&mut self, seq: u64) -> Result<(), SinkError> {
        if seq != self.last_seq + 1 {
            return Err(SinkError::Protocol("a number is missing or came twice"));
        }
        self.last_seq = seq;
        Ok(())
    }

    fn stage(
        &mut self,
        seq: u64,
        dir: u16,
        path: RelPath,
        op: Op,
        bytes: usize,
    ) -> Result<(), SinkError> {
        self.fence.pass()?;
        self.tree(dir)?;
        self.count_seq(seq)?;
        self.staged
            .entry(dir)
            .or_default()
            .push(Staged { seq, path, op });
        self.staged_ops += 1;
        self.staged_bytes += bytes;
        if self.staged_ops >= BATCH_OPS_MAX || self.staged_bytes >= BATCH_BYTES_MAX {
            return self.flush();
        }
        Ok(())
    }

    /// The operation for a whole message; a small file is written to its temporary place.
    fn put(
        &mut self,
        dir: u16,
        version: Version,
        content: Vec<u8>,
        sparse: bool,
        xattrs: Xattrs,
    ) -> Op {
        let whole = version.is_directory()
            || (*blake3::hash(&content).as_bytes() == version.hash
                && content.len() as u64 == version.size);
        if !whole {
            return Op::Failed(Problem::Failed("its content is not what it says".into()));
        }
        match version.kind {
            Kind::Directory => Op::Directory { version, xattrs },
            Kind::Symlink => Op::Symlink {
                target: content,
                version,
            },
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => {
                Op::of_node(version, &content).unwrap_or_else(Op::Failed)
            }
            Kind::File => self
                .write_small(dir, &version, &content, sparse, &xattrs)
                .unwrap_or_else(|error| Op::Failed(Problem::Failed(error))),
        }
    }

    fn write_small(
        &mut self,
        dir: u16,
        version: &Version,
        content: &[u8],
        sparse: bool,
        xattrs: &Xattrs,
    ) -> Result<Op, String> {
        self.next_name += 1;
        let name = format!("new-{}", self.next_name);
        let Some(tree) = self.trees.get_mut(usize::from(dir)) else {
            return Err("no such directory".into());
        };
        let root = tree.place.enter().map_err(|e| e.to_string())?;
        let write = || -> io::Result<std::fs::File> {
            let tmp = root.private(&[b"tmp"])?;
            let flags = OFlags::WRONLY
                | OFlags::CREATE
                | OFlags::TRUNC
                | OFlags::NOFOLLOW
                | OFlags::CLOEXEC;
            let fd = fs::openat(&tmp, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
            let mut file = std::fs::File::from(fd);
            if sparse {
                write_sparse(&file, 0, content)?;
                file.set_len(content.len() as u64)?;
            } else {
                file.write_all(content)?;
            }
            attributes::apply(&file, version, xattrs)?;
            Ok(file)
        };
        let file = write().map_err(|error| {
            // On a full disk what was written of it is room that other files need.
            if let Ok(tmp) = root.private(&[b"tmp"]) {
                let _ = fs::unlinkat(&tmp, name.as_str(), AtFlags::empty());
            }
            format!("cannot be written: {error}")
        })?;
        Ok(Op::File {
            file,
            name,
            version: *version,
        })
    }

    fn begin(
        &mut self,
        transfer: u64,
        dir: u16,
        path: RelPath,
        sparse: bool,
    ) -> Result<(), SinkError> {
        self.fence.pass()?;
        // What was received before may be the base of what comes.
        self.flush()?;
        let begun = match self.tree(dir)?.place.enter() {
            Ok(root) => Transfer::begin(&root, dir, path, sparse).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let segments = match begun {
            Ok(begun) => {
                let segments = begun.segments();
                self.transfers.insert(transfer, begun);
                segments
            }
            Err(error) => {
                // Told at the end of the transfer, where there is a number to answer to.
                tracing::warn!("a large file cannot be received: {error}");
                self.incomplete.insert(dir);
                0
            }
        };
        self.out.push(Up::Base { transfer, segments });
        Ok(())
    }

    fn sums(&mut self, number: u64, first: u64, count: u32) -> Result<(), SinkError> {
        if count > SUMS_MAX {
            return Err(SinkError::Protocol("too many segments asked for"));
        }
        let Some(transfer) = self.transfers.get(&number) else {
            return Ok(());
        };
        for segment in first..first.saturating_add(u64::from(count)) {
            // A segment that cannot be read is described as one that nothing is equal to.
            let answer = transfer
                .signature(number, segment)
                .unwrap_or(Up::Signature {
                    transfer: number,
                    segment,
                    hash: [0; 32],
                    signature: Vec::new(),
                });
            self.out.push(answer);
        }
        Ok(())
    }

    fn end(
        &mut self,
        seq: u64,
        number: u64,
        version: &Version,
        xattrs: &Xattrs,
    ) -> Result<(), SinkError> {
        let Some(transfer) = self.transfers.remove(&number) else {
            // It could not even begin; what it was about is known to the source.
            self.count_seq(seq)?;
            self.problems.push((
                seq,
                Problem::Failed("the large file could not be received here".into()),
            ));
            return Ok(());
        };
        let (dir, path) = (transfer.dir, transfer.path.clone());
        let op = match transfer.finish(version) {
            Ok((file, name)) => match attributes::apply(&file, version, xattrs) {
                Ok(()) => Op::File {
                    file,
                    name,
                    version: *version,
                },
                Err(error) => Op::Failed(Problem::Failed(error.to_string())),
            },
            Err(Unfinished::Differs) => Op::Failed(Problem::NeedContent),
            Err(Unfinished::Failed(error)) => Op::Failed(Problem::Failed(error)),
        };
        self.stage(seq, dir, path, op, 0)
    }

    /// Makes everything that was staged durable and visible, and acknowledges it.
    pub(crate) fn flush(&mut self) -> Result<(), SinkError> {
        self.staged_ops = 0;
        self.staged_bytes = 0;
        for (dir, batch) in std::mem::take(&mut self.staged) {
            let Some(tree) = self.trees.get_mut(usize::from(dir)) else {
                continue;
            };
            let found = match tree.place.enter() {
                Ok(root) => Apply::new(tree, root, &self.fence, &self.stamp).run(batch)?,
                Err(error) => {
                    tree.error = error.to_string();
                    let problem = Problem::Failed(error.to_string());
                    batch.iter().map(|s| (s.seq, problem.clone())).collect()
                }
            };
            if !found.is_empty() {
                self.incomplete.insert(dir);
            }
            if let Some((_, Problem::Failed(text))) = found.last() {
                tree.trouble = text.clone();
            }
            self.problems.extend(found);
        }
        for dir in std::mem::take(&mut self.marks) {
            self.mark(dir)?;
        }
        if self.acked < self.last_seq {
            self.fence.pass()?;
            self.acked = self.last_seq;
            self.out.push(Up::Ack {
                upto: self.acked,
                problems: std::mem::take(&mut self.problems),
            });
        }
        Ok(())
    }

    /// The source says that all it has in this directory was sent.
    fn mark(&mut self, dir: u16) -> Result<(), SinkError> {
        self.fence.pass()?;
        let seq = self.last_seq;
        if self.incomplete.remove(&dir) {
            // It did not know yet what failed here: what stands there instead may be the only
            // copy of something, and must not count as common. It will say so again.
            self.problems.push((seq, Problem::NeedContent));
            return Ok(());
        }
        let busy: Vec<_> = self.transfers.values().map(|t| t.name.clone()).collect();
        let tree = self.tree(dir)?;
        let reached = tree
            .place
            .enter()
            .map_err(|e| e.to_string())
            .and_then(|root| {
                sweep(&root, &busy).map_err(|e| e.to_string())?;
                tree.reached_sync(&root).map_err(|e| e.to_string())
            });
        if let Err(error) = reached {
            tree.error.clone_from(&error);
            self.problems.push((seq, Problem::Failed(error)));
        }
        Ok(())
    }
}

/// Removes what earlier sessions left in the temporary place.
fn sweep(root: &Root, busy: &[String]) -> io::Result<()> {
    let tmp = root.private(&[b"tmp"])?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = fs::openat(&tmp, ".", flags, Mode::empty())?;
    for entry in fs::Dir::read_from(&open)?.flatten() {
        let name = entry.file_name().to_bytes();
        let used = may_be_kept(name) && busy.iter().any(|part| part.as_bytes()[5..] == name[5..]);
        if name != b"." && name != b".." && !used {
            fs::unlinkat(&tmp, os(name), AtFlags::empty())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
