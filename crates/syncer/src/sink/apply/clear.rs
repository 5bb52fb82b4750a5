//! What stands in the way of what arrives: judged, then removed or moved aside.
//!
//! It puts nothing in its place. The one thing to know: every entry is judged by itself, also each one
//! in a directory that goes.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use super::{Apply, OpError};
use crate::decide::{Fate, fate};
use crate::index::{Entry, Record};
use crate::path::RelPath;
use crate::read::version_on_disk;
use crate::root::{Found, os};
use crate::sink::aside;
use crate::version::{Kind, Version};

impl Apply<'_> {
    /// Makes room for nothing, or for a directory: what stands there is removed or moved aside.
    pub(super) fn clear_the_way(
        &mut self,
        path: &RelPath,
        parent: &OwnedFd,
    ) -> Result<(), OpError> {
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

    pub(in crate::sink) fn judge(
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

    pub(super) fn local_version(&self, path: &RelPath) -> Result<Option<Version>, OpError> {
        Ok(version_on_disk(&self.root, path)?.map(|(version, _, _)| version))
    }

    pub(in crate::sink) fn keep(
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

    pub(super) fn delete(&mut self, path: &RelPath) -> Result<(), OpError> {
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
    pub(in crate::sink) fn remove_tree(&mut self, top: &RelPath) -> Result<(), OpError> {
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
}
