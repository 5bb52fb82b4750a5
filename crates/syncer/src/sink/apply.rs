//! Making received operations visible, each in one step, none of them over an unknown version.
//!
//! The order within a batch: content durable, note of the intent durable, changes one by one,
//! directories durable, note of what now stands there. The one thing to know: a crash between
//! any two of them leaves whole versions only, and the index never claims more than was true.

mod clear;
mod make;
mod rename;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, Dev};
use rustix::io::Errno;

use crate::attributes;
use crate::fence::{Closed, Fence};
use crate::index::{Entry, Record};
use crate::message::{Growth, NewName, Problem, Xattrs};
use crate::path::RelPath;
use crate::root::{Root, os, sync_directory, sync_files};
use crate::sink::tree::Tree;
use crate::version::{Kind, Version};

/// From this many files on, one call for the whole file system is cheaper than one for each.
const SYNC_ALL_FROM: usize = 16;

/// One operation of a batch.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) seq: u64,
    /// Numbers before it that it answers for as well.
    pub(crate) also: Vec<u64>,
    pub(crate) path: RelPath,
    pub(crate) op: Op,
}

/// What is to be done at the path.
#[derive(Debug)]
pub(crate) enum Op {
    /// A complete temporary file takes the name.
    File {
        file: File,
        name: String,
        version: Version,
        /// Of a file that grew: the hash so far, for the next time.
        grown: Option<Box<blake3::Hasher>>,
    },
    /// A file gets longer: becomes a complete temporary file first.
    Append(Growth),
    Symlink {
        target: Vec<u8>,
        version: Version,
    },
    /// A fifo or a device with this number.
    Node {
        version: Version,
        device: Dev,
    },
    Directory {
        version: Version,
        xattrs: Xattrs,
    },
    Meta {
        version: Version,
        xattrs: Xattrs,
    },
    Link(NewName),
    /// A directory of this name gets the new one.
    Rename(RelPath),
    Delete,
    /// It failed before it came to this.
    Failed(Problem),
}

impl Staged {
    /// Every number that this answers for.
    fn seqs(&self) -> impl Iterator<Item = u64> {
        self.also.iter().copied().chain([self.seq])
    }
}

/// Of one problem that all of these have.
pub(crate) fn failed<'a>(
    batch: impl Iterator<Item = &'a Staged>,
    problem: &Problem,
) -> Vec<(u64, Problem)> {
    let seqs = batch.flat_map(Staged::seqs);
    seqs.map(|seq| (seq, problem.clone())).collect()
}

impl Op {
    /// A fifo or device from what stands for its content.
    pub(crate) fn of_node(version: Version, content: &[u8]) -> Result<Self, Problem> {
        let number = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).ok();
        let device = match (version.kind, content.split_at_checked(4)) {
            (Kind::Fifo, _) => Some(0),
            (_, Some((major, minor))) => number(major)
                .zip(number(minor))
                .map(|(major, minor)| fs::makedev(major, minor)),
            (_, None) => None,
        };
        let device =
            device.ok_or_else(|| Problem::Failed("this is no number of a device".into()))?;
        Ok(Self::Node { version, device })
    }
}

/// Why one operation was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Closed(#[from] Closed),
    #[error("the content that it builds on is not here")]
    NeedContent,
}

impl From<Errno> for OpError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// One batch at work in one directory.
pub(crate) struct Apply<'a> {
    pub(crate) tree: &'a mut Tree,
    pub(crate) root: Root,
    pub(crate) fence: &'a Fence,
    pub(crate) stamp: &'a str,
    touched: BTreeMap<RelPath, OwnedFd>,
    records: Vec<Record>,
    /// Files of this batch that got another name because they were renamed: old and new one.
    twins: BTreeMap<RelPath, RelPath>,
    /// The operation under way makes a file longer: what comes out is of use for the next time.
    pub(super) grown: Option<Box<blake3::Hasher>>,
}

impl<'a> Apply<'a> {
    pub(crate) fn new(tree: &'a mut Tree, root: Root, fence: &'a Fence, stamp: &'a str) -> Self {
        Self {
            tree,
            root,
            fence,
            stamp,
            touched: BTreeMap::new(),
            records: Vec::new(),
            twins: BTreeMap::new(),
            grown: None,
        }
    }

    /// Does a batch. What it returns failed; everything else is durable.
    pub(crate) fn run(mut self, mut batch: Vec<Staged>) -> Result<Vec<(u64, Problem)>, Closed> {
        self.fence.pass()?;
        for staged in &mut batch {
            self.make_longer(staged)?;
        }
        if let Err(error) = self.prepare(&batch) {
            return Ok(self.all_failed(&batch, &error));
        }
        let seqs: Vec<_> = batch.iter().flat_map(Staged::seqs).collect();
        let mut problems = Vec::new();
        for staged in batch {
            let seqs: Vec<_> = staged.seqs().collect();
            let Staged { path, op, .. } = staged;
            let problem = match self.apply(&path, op) {
                Ok(()) => continue,
                Err(OpError::Closed(closed)) => return Err(closed),
                Err(OpError::NeedContent) => Problem::NeedContent,
                Err(OpError::Io(error)) => Problem::Failed(self.tree.about(&path, &error)),
            };
            problems.extend(seqs.into_iter().map(|seq| (seq, problem.clone())));
        }
        self.fence.pass()?;
        if let Err(error) = self.settle() {
            let problem = Problem::Failed(format!("{}: {error}", self.tree.place.path.display()));
            return Ok(seqs.into_iter().map(|seq| (seq, problem.clone())).collect());
        }
        self.fence.pass()?;
        Ok(problems)
    }

    fn all_failed(&self, batch: &[Staged], error: &io::Error) -> Vec<(u64, Problem)> {
        let problem = Problem::Failed(format!("{}: {error}", self.tree.place.path.display()));
        failed(batch.iter(), &problem)
    }

    /// Content and the intent durable: after a crash either version is known to be common.
    fn prepare(&mut self, batch: &[Staged]) -> io::Result<()> {
        self.tree.begin_changes(&self.root)?;
        let intents: Vec<Record> = batch.iter().filter_map(|s| self.intent(s)).collect();
        let journal = self.tree.store.write(&self.root, &intents)?;
        let files = batch.iter().filter_map(|staged| match &staged.op {
            Op::File { file, .. } => Some(file),
            _ => None,
        });
        let files: Vec<&File> = files.chain(&journal).collect();
        if files.len() >= SYNC_ALL_FROM {
            self.root.sync_all()
        } else {
            sync_files(&files)
        }
    }

    fn intent(&self, staged: &Staged) -> Option<Record> {
        let version = match &staged.op {
            Op::File { version, .. }
            | Op::Symlink { version, .. }
            | Op::Node { version, .. }
            | Op::Link(NewName { version, .. }) => *version,
            Op::Directory { .. }
            | Op::Meta { .. }
            | Op::Append(_)
            | Op::Rename(_)
            | Op::Delete
            | Op::Failed(_) => return None,
        };
        let before = self.tree.store.index.base(&staged.path);
        let entry = Entry {
            version,
            sig: None,
            before: before.version.map(|version| version.hash),
        };
        Some(Record::Put(staged.path.clone(), entry))
    }

    fn apply(&mut self, path: &RelPath, op: Op) -> Result<(), OpError> {
        self.fence.pass()?;
        match op {
            Op::File {
                name,
                version,
                grown,
                ..
            } => {
                let tmp = self.root.private(&[b"tmp"])?;
                self.grown = grown;
                let renamed = self.rename_into(&tmp, &name, path, &version);
                self.grown = None;
                renamed
            }
            Op::Append(_) => Err(OpError::NeedContent),
            Op::Symlink { target, version } => {
                let tmp = self.root.private(&[b"tmp"])?;
                let name = "link";
                let _ = fs::unlinkat(&tmp, name, AtFlags::empty());
                fs::symlinkat(os(&target), &tmp, name)?;
                attributes::apply_link(&tmp, name.as_bytes(), &version)?;
                self.rename_into(&tmp, name, path, &version)
            }
            Op::Node { version, device } => self.make_node(path, &version, device),
            Op::Directory { version, xattrs } => self.make_directory(path, &version, &xattrs),
            Op::Meta { version, xattrs } => self.set_attributes(path, &version, &xattrs),
            Op::Link(name) => self.link(path, &name),
            Op::Rename(from) => self.rename_directory(&from, path),
            Op::Delete => self.delete(path),
            Op::Failed(Problem::NeedContent) => Err(OpError::NeedContent),
            Op::Failed(Problem::Failed(text)) => Err(io::Error::other(text).into()),
        }
    }

    fn rename_into(
        &mut self,
        tmp: &OwnedFd,
        name: &str,
        path: &RelPath,
        version: &Version,
    ) -> Result<(), OpError> {
        let parent = self.make_parents(path)?;
        self.replace(tmp, name, path, &parent, version)?;
        self.settled(path, &parent, *version)?;
        self.touch(path, parent);
        Ok(())
    }

    /// Notes what now stands under a name. Our own writing leaves the source's time stamp on
    /// it, so that any later change here shows, whatever the kernel's clock tick.
    fn settled(
        &mut self,
        path: &RelPath,
        parent: &OwnedFd,
        version: Version,
    ) -> Result<(), OpError> {
        let found = self.root.find_at(parent, path.name())?;
        let entry = Entry {
            version,
            // What somebody else put there since is read before anything is put over it.
            sig: found
                .filter(|found| found.may_be(&version))
                .map(|found| found.sig),
            before: None,
        };
        self.tree.found_no_more(path, version.is_directory());
        self.note(Record::Put(path.clone(), entry));
        Ok(())
    }

    /// Into the memory now, so that the next operation sees it; to the disk with the batch.
    fn note(&mut self, record: Record) {
        self.tree.store.take(vec![record.clone()]);
        self.records.push(record);
    }

    fn touch(&mut self, path: &RelPath, parent: OwnedFd) {
        self.touched
            .insert(path.parent().unwrap_or_else(RelPath::root), parent);
    }

    /// Directories whose entries changed get the time back that the source's have, as far as it
    /// is known: the source tells a later one once it sees it.
    fn restore_times(&self) -> io::Result<()> {
        for (path, at) in &self.touched {
            let entry = self.tree.store.index.entries.get(path);
            let known = match self.tree.local.get(path) {
                // The source was told of this one, and has the same if it sends no other.
                Some(local) => local.map(|(version, _)| version),
                None => entry.map(|entry| entry.version),
            };
            let Some(version) = known.filter(Version::is_directory) else {
                continue;
            };
            match attributes::apply_time(at, &version) {
                // It was removed by a later operation of the batch.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Everything durable, then what now stands there into the journal.
    fn settle(&mut self) -> io::Result<()> {
        self.restore_times()?;
        if self.touched.len() >= SYNC_ALL_FROM {
            self.root.sync_all()?;
        } else {
            for at in self.touched.values() {
                match sync_directory(at) {
                    // It was removed by a later operation of the batch.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    result => result?,
                }
            }
        }
        let records = std::mem::take(&mut self.records);
        self.tree.store.append(&self.root, &records)
    }
}
