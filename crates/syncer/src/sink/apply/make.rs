//! What is made where it belongs: nodes, directories, attributes, other names of files.
//!
//! It carries no content. The one thing to know: a file on which something builds is first checked to
//! be here; if it is not, the source hears that its content is needed.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, Dev, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Apply, OpError};
use crate::attributes;
use crate::decide::Fate;
use crate::index::{Entry, Record};
use crate::message::{NewName, Xattrs};
use crate::path::RelPath;
use crate::root::os;
use crate::version::{Kind, Version};

impl Apply<'_> {
    pub(super) fn make_node(
        &mut self,
        path: &RelPath,
        version: &Version,
        device: Dev,
    ) -> Result<(), OpError> {
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

    pub(super) fn make_directory(
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

    pub(super) fn set_attributes(
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

    /// Gives a file that is here another name. Whether it is the right file is judged by its
    /// content, not by its name.
    pub(super) fn link(&mut self, path: &RelPath, new: &NewName) -> Result<(), OpError> {
        let NewName {
            to,
            moved,
            version,
            xattrs,
        } = new;
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
        if !same || (*moved && found.linked()) {
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
    pub(super) fn recognise(&mut self, path: &RelPath) -> Result<(), OpError> {
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

    /// The directory that holds `path`, made where it is missing. Its attributes come with
    /// its own operation.
    pub(super) fn make_parents(&mut self, path: &RelPath) -> Result<OwnedFd, OpError> {
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
}
