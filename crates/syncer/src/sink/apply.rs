//! Making received operations visible, each in one step, none of them over an unknown version.
//!
//! The order within a batch: content durable, note of the intent durable, changes one by one,
//! directories durable, note of what now stands there. The one thing to know: a crash between
//! any two of them leaves whole versions only, and the index never claims more than was true.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, Dev, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::attributes;
use crate::decide::{Fate, fate};
use crate::fence::{Closed, Fence};
use crate::index::{Entry, Record};
use crate::message::{Problem, Xattrs};
use crate::path::RelPath;
use crate::read::version_on_disk;
use crate::root::{Found, Root, os, sync_directory};
use crate::sink::aside;
use crate::sink::tree::Tree;
use crate::version::{Kind, Version};

/// From this many files on, one call for the whole file system is cheaper than one for each.
const SYNC_ALL_FROM: usize = 16;

/// One operation of a batch.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) seq: u64,
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
    },
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
    /// Another name of a file that is here. `moved`: the other name is on its way out.
    Link {
        to: RelPath,
        moved: bool,
        version: Version,
        xattrs: Xattrs,
    },
    Delete,
    /// It failed before it came to this.
    Failed(Problem),
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
        }
    }

    /// Does a batch. What it returns failed; everything else is durable.
    pub(crate) fn run(mut self, batch: Vec<Staged>) -> Result<Vec<(u64, Problem)>, Closed> {
        self.fence.pass()?;
        if let Err(error) = self.prepare(&batch) {
            return Ok(self.all_failed(&batch, &error));
        }
        let seqs: Vec<_> = batch.iter().map(|staged| staged.seq).collect();
        let mut problems = Vec::new();
        for Staged { seq, path, op } in batch {
            let problem = match self.apply(&path, op) {
                Ok(()) => continue,
                Err(OpError::Closed(closed)) => return Err(closed),
                Err(OpError::NeedContent) => Problem::NeedContent,
                Err(OpError::Io(error)) => Problem::Failed(self.tree.about(&path, &error)),
            };
            problems.push((seq, problem));
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
        batch.iter().map(|s| (s.seq, problem.clone())).collect()
    }

    /// Content first, then the intent: after a crash either version is known to be common.
    fn prepare(&mut self, batch: &[Staged]) -> io::Result<()> {
        self.tree.begin_changes(&self.root)?;
        let files: Vec<&File> = batch
            .iter()
            .filter_map(|staged| match &staged.op {
                Op::File { file, .. } => Some(file),
                _ => None,
            })
            .collect();
        if files.len() >= SYNC_ALL_FROM {
            self.root.sync_all()?;
        } else {
            for file in files {
                file.sync_all()?;
            }
        }
        let intents: Vec<Record> = batch.iter().filter_map(|s| self.intent(s)).collect();
        self.tree.store.write(&self.root, &intents, true)
    }

    fn intent(&self, staged: &Staged) -> Option<Record> {
        let version = match &staged.op {
            Op::File { version, .. }
            | Op::Symlink { version, .. }
            | Op::Node { version, .. }
            | Op::Link { version, .. } => *version,
            Op::Directory { .. } | Op::Meta { .. } | Op::Delete | Op::Failed(_) => return None,
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
            Op::File { name, version, .. } => {
                let tmp = self.root.private(&[b"tmp"])?;
                self.rename_into(&tmp, &name, path, &version)
            }
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
            Op::Link {
                to,
                moved,
                version,
                xattrs,
            } => self.link(path, &to, moved, &version, &xattrs),
            Op::Delete => self.delete(path),
            Op::Failed(Problem::NeedContent) => Err(OpError::NeedContent),
            Op::Failed(Problem::Failed(text)) => Err(io::Error::other(text).into()),
        }
    }

    fn make_node(&mut self, path: &RelPath, version: &Version, device: Dev) -> Result<(), OpError> {
        let tmp = self.root.private(&[b"tmp"])?;
        let name = "node";
        let _ = fs::unlinkat(&tmp, name, AtFlags::empty());
        let kind = match version.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        fs::mknodat(&tmp, name, kind, Mode::RUSR, device).map_err(|errno| match errno {
            Errno::PERM if kind != FileType::Fifo => io::Error::other(
                "a device cannot be made here: haarb-syncer needs to be root with CAP_MKNOD, and a file system that holds devices",
            ),
            errno => errno.into(),
        })?;
        attributes::apply_node(&tmp, name.as_bytes(), version)?;
        self.rename_into(&tmp, name, path, version)
    }

    /// Gives a file that is here another name. Whether it is the right file is judged by its
    /// content, not by its name.
    fn link(
        &mut self,
        path: &RelPath,
        to: &RelPath,
        moved: bool,
        version: &Version,
        xattrs: &Xattrs,
    ) -> Result<(), OpError> {
        let from = self.root.parent(to).map_err(|_| OpError::NeedContent)?;
        let Some(found) = self.root.find_at(&from, to.name())? else {
            return Err(OpError::NeedContent);
        };
        let known = self.tree.store.index.entries.get(to);
        let here = match known.filter(|entry| entry.sig == Some(found.sig)) {
            Some(entry) => Some(entry.version),
            None if found.kind == Some(Kind::File) => self.local_version(to)?,
            None => None,
        };
        let same = here.is_some_and(|here| here.same_content(version));
        // A third name would belong to the new file as well.
        if !same || (moved && found.linked()) {
            return Err(OpError::NeedContent);
        }
        let certain = known.is_some_and(|entry| entry.sig == Some(found.sig));
        let tmp = self.root.private(&[b"tmp"])?;
        let name = "name";
        let _ = fs::unlinkat(&tmp, name, AtFlags::empty());
        fs::linkat(&from, os(to.name()), &tmp, name, AtFlags::empty())?;
        let linked = self.root.find_at(&tmp, name.as_bytes())?;
        if linked.is_none_or(|linked| linked.mark() != found.mark()) {
            // Somebody changed it in this moment.
            let _ = fs::unlinkat(&tmp, name, AtFlags::empty());
            return Err(OpError::NeedContent);
        }
        if here != Some(*version) {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file: File = fs::openat(&tmp, name, flags, Mode::empty())?.into();
            attributes::apply(&file, version, xattrs)?;
            file.sync_all()?;
        }
        let parent = self.make_parents(path)?;
        let there = self.root.find_at(&parent, path.name())?;
        if there.is_some_and(|there| there.sig.ino == found.sig.ino) {
            // It is the same file already; a rename would do nothing and leave the temporary.
            fs::unlinkat(&tmp, name, AtFlags::empty())?;
            self.settled(path, &parent, *version)?;
        } else {
            self.rename_into(&tmp, name, path, version)?;
        }
        self.tree.linked(path, to);
        if certain && here == Some(*version) {
            self.recognise(to)?;
            self.twins.insert(to.clone(), path.clone());
        }
        Ok(())
    }

    /// A name more or less changed the time stamp of a file that is known: what stands there is
    /// still what was noted.
    fn recognise(&mut self, path: &RelPath) -> Result<(), OpError> {
        let found = self.root.find(path)?;
        let known = self.tree.store.index.entries.get(path);
        if let (Some(found), Some(entry)) = (found, known)
            && let Some(sig) = entry.sig
            && (sig.ino, sig.size, sig.mtime_ns)
                == (found.sig.ino, found.sig.size, found.sig.mtime_ns)
        {
            let entry = Entry {
                sig: Some(found.sig),
                ..entry.clone()
            };
            self.note(Record::Put(path.clone(), entry));
        }
        Ok(())
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

    /// The directory that holds `path`, made where it is missing. Its attributes come with
    /// its own operation.
    fn make_parents(&mut self, path: &RelPath) -> Result<OwnedFd, OpError> {
        match self.root.parent(path) {
            Ok(parent) => return Ok(parent),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut at = RelPath::root();
        for name in path.parent().unwrap_or_else(RelPath::root).names() {
            let parent = self.root.walk(&at)?;
            at = at.join(name).map_err(io::Error::other)?;
            let found = self.root.find_at(&parent, name)?;
            if found.is_some_and(|found| found.kind == Some(Kind::Directory)) {
                continue;
            }
            self.clear_the_way(&at, &parent)?;
            self.fence.pass()?;
            fs::mkdirat(&parent, os(name), Mode::RWXU)?;
            self.touch(&at, parent);
        }
        Ok(self.root.parent(path)?)
    }

    /// Makes room for nothing, or for a directory: what stands there is removed or moved aside.
    fn clear_the_way(&mut self, path: &RelPath, parent: &OwnedFd) -> Result<(), OpError> {
        let Some(found) = self.root.find_at(parent, path.name())? else {
            return Ok(());
        };
        if found.kind == Some(Kind::Directory) {
            return self.remove_tree(path);
        }
        match self.judge(path, &found, None)? {
            Fate::KeepAside => self.keep(path, parent, &found),
            Fate::Absent => Ok(()),
            Fate::Replace | Fate::Same | Fate::Attributes => {
                self.fence.pass()?;
                self.remove_known(path, parent, &found)
            }
        }
    }

    pub(super) fn judge(
        &self,
        path: &RelPath,
        found: &Found,
        incoming: Option<&Version>,
    ) -> Result<Fate, OpError> {
        if found.kind.is_none() {
            // A socket, or what another file system has mounted here: nobody else has it.
            return Ok(Fate::KeepAside);
        }
        let known = self.tree.store.index.entries.get(path);
        let base = known.map(Entry::base).unwrap_or_default();
        if let Some(entry) = known
            && entry.sig == Some(found.sig)
        {
            return Ok(fate(Some(&entry.version), &base, incoming));
        }
        let local = self.local_version(path)?;
        Ok(fate(local.as_ref(), &base, incoming))
    }

    fn local_version(&self, path: &RelPath) -> Result<Option<Version>, OpError> {
        Ok(version_on_disk(&self.root, path)?.map(|(version, _, _)| version))
    }

    pub(super) fn keep(
        &mut self,
        path: &RelPath,
        parent: &OwnedFd,
        found: &Found,
    ) -> Result<(), OpError> {
        self.fence.pass()?;
        let why = if self.tree.store.index.entries.contains_key(path) {
            "it was changed here and the source has another version"
        } else {
            "it was here only"
        };
        let from = (parent, path.name());
        aside::set_aside(&self.root, self.stamp, path, from, found, why)?;
        self.tree.conflicts += 1;
        self.tree.found_no_more(path, false);
        self.note(Record::Remove(path.clone()));
        Ok(())
    }

    fn make_directory(
        &mut self,
        path: &RelPath,
        version: &Version,
        xattrs: &Xattrs,
    ) -> Result<(), OpError> {
        let parent = self.make_parents(path)?;
        let found = self.root.find_at(&parent, path.name())?;
        let new = found.is_none_or(|found| found.kind != Some(Kind::Directory));
        if new {
            self.clear_the_way(path, &parent)?;
            self.fence.pass()?;
            fs::mkdirat(&parent, os(path.name()), Mode::RWXU)?;
        }
        let at = self.root.walk(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = fs::openat(&at, ".", flags, Mode::empty())?;
        attributes::apply(&open, version, xattrs)?;
        self.settled(path, &parent, *version)?;
        if new {
            self.touch(path, parent);
        }
        self.touched.insert(path.clone(), at);
        Ok(())
    }

    fn set_attributes(
        &mut self,
        path: &RelPath,
        version: &Version,
        xattrs: &Xattrs,
    ) -> Result<(), OpError> {
        let parent = self.root.parent(path).map_err(|_| OpError::NeedContent)?;
        let Some(found) = self.root.find_at(&parent, path.name())? else {
            return Err(OpError::NeedContent);
        };
        let fate = self.judge(path, &found, Some(version))?;
        if !matches!(fate, Fate::Same | Fate::Attributes) {
            return Err(OpError::NeedContent);
        }
        self.fence.pass()?;
        match version.kind {
            Kind::File => {
                let file = self.root.open_file(path)?;
                attributes::apply(&file, version, xattrs)?;
                file.sync_all()?;
            }
            Kind::Symlink => attributes::apply_link(&parent, path.name(), version)?,
            // A node is small enough to be made anew.
            Kind::Directory | Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => {
                return Err(OpError::NeedContent);
            }
        }
        self.settled(path, &parent, *version)
    }

    fn delete(&mut self, path: &RelPath) -> Result<(), OpError> {
        let parent = match self.root.parent(path) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                self.forget(path);
                return Ok(());
            }
            Err(errno) => return Err(errno.into()),
        };
        let Some(found) = self.root.find_at(&parent, path.name())? else {
            self.forget(path);
            return Ok(());
        };
        if found.kind.is_none() {
            // The source has nothing here, and this kind is not synchronised: it is nobody's
            // business.
            return Ok(());
        }
        if self.tree.excludes(path, &found) {
            self.forget(path);
            return Ok(());
        }
        self.clear_the_way(path, &parent)?;
        self.forget(path);
        self.touch(path, parent);
        if let Some(twin) = self.twins.remove(path) {
            self.recognise(&twin)?;
        }
        Ok(())
    }

    fn forget(&mut self, path: &RelPath) {
        self.tree.found_no_more(path, false);
        self.note(Record::Remove(path.clone()));
    }

    /// Removes a directory with all that is in it, each entry judged by itself.
    pub(super) fn remove_tree(&mut self, top: &RelPath) -> Result<(), OpError> {
        // Directories in the order in which they were found: emptied from the last one back.
        let mut directories = vec![top.clone()];
        let mut next = 0;
        while let Some(dir) = directories.get(next).cloned() {
            next += 1;
            let at = self.root.walk(&dir)?;
            for name in self.root.names(&dir)? {
                let path = dir.join(&name).map_err(io::Error::other)?;
                let Some(found) = self.root.find_at(&at, &name)? else {
                    continue;
                };
                if found.kind == Some(Kind::Directory) {
                    directories.push(path);
                    continue;
                }
                self.clear_the_way(&path, &at)?;
                self.forget(&path);
            }
        }
        for dir in directories.iter().rev() {
            self.fence.pass()?;
            let parent = self.root.parent(dir)?;
            fs::unlinkat(&parent, os(dir.name()), AtFlags::REMOVEDIR)?;
            self.touched.remove(dir);
            self.forget(dir);
            self.touch(dir, parent);
        }
        Ok(())
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
