//! The step in which one version takes another one's place, so that nothing is lost even if
//! somebody changes that very file in the same moment.
//!
//! What goes is exchanged for what comes and then looked at: what came out is removed only if it
//! is what was judged before. The one thing to know: who goes on writing to a file that is open
//! writes to what came out, as with any rename over it.

use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, RenameFlags};
use rustix::io::Errno;

use super::apply::{Apply, OpError};
use crate::decide::Fate;
use crate::path::RelPath;
use crate::root::{Found, os};
use crate::sink::aside;
use crate::version::{Kind, Version};

/// How often an operation begins anew because something came or went in the same moment.
const TRIES: u32 = 8;

/// Where something that is removed stands while it is looked at once more.
const GONE: &str = "gone";

impl Apply<'_> {
    /// What stands in the temporary place takes the name; what stood there is removed if it is
    /// known to be common, and moved aside if not.
    pub(super) fn replace(
        &mut self,
        tmp: &OwnedFd,
        name: &str,
        path: &RelPath,
        parent: &OwnedFd,
        version: &Version,
    ) -> Result<(), OpError> {
        for _ in 0..TRIES {
            let found = self.root.find_at(parent, path.name())?;
            let replaced = match found {
                Some(found) if found.kind != Some(Kind::Directory) => {
                    match self.judge(path, &found, Some(version))? {
                        Fate::KeepAside => {
                            self.keep(path, parent, &found)?;
                            None
                        }
                        Fate::Absent => None,
                        Fate::Replace | Fate::Same | Fate::Attributes => Some(found),
                    }
                }
                Some(_) => {
                    self.remove_tree(path)?;
                    None
                }
                None => None,
            };
            self.fence.pass()?;
            let flags = match replaced {
                Some(_) => RenameFlags::EXCHANGE,
                None => RenameFlags::NOREPLACE,
            };
            match fs::renameat_with(tmp, name, parent, os(path.name()), flags) {
                Ok(()) => return self.exchanged(tmp, name, path, replaced.as_ref(), version),
                // Something came or went since it was looked at.
                Err(Errno::EXIST | Errno::NOENT) => {}
                // A file system that does not know the flags.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    return Ok(fs::renameat(tmp, name, parent, os(path.name()))?);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(busy())
    }

    /// What came out of the tree goes, or waits for the next time that this file grows.
    fn exchanged(
        &mut self,
        tmp: &OwnedFd,
        name: &str,
        path: &RelPath,
        judged: Option<&Found>,
        version: &Version,
    ) -> Result<(), OpError> {
        if let Some(hasher) = self.grown.take()
            && let Some(judged) = judged
            && self.keep_spare(tmp, name, path, judged, version, hasher)?
        {
            return Ok(());
        }
        self.came_out(tmp, name, path, judged)
    }

    /// Removes a version that is known to be common.
    pub(super) fn remove_known(
        &mut self,
        path: &RelPath,
        parent: &OwnedFd,
        found: &Found,
    ) -> Result<(), OpError> {
        let tmp = self.root.private(&[b"tmp"])?;
        let _ = fs::unlinkat(&tmp, GONE, AtFlags::empty());
        let flags = RenameFlags::NOREPLACE;
        match fs::renameat_with(parent, os(path.name()), &tmp, GONE, flags) {
            Ok(()) => self.came_out(&tmp, GONE, path, Some(found)),
            Err(Errno::NOENT) => Ok(()),
            // Mounted over, or a file system that does not know the flag.
            Err(_) => Ok(fs::unlinkat(parent, os(path.name()), AtFlags::empty())?),
        }
    }

    /// Looks at what was taken out of the tree: it goes if it is what was `judged`.
    fn came_out(
        &mut self,
        tmp: &OwnedFd,
        name: &str,
        path: &RelPath,
        judged: Option<&Found>,
    ) -> Result<(), OpError> {
        let Some(judged) = judged else {
            return Ok(());
        };
        let Some(found) = self.root.find_at(tmp, name.as_bytes())? else {
            return Ok(());
        };
        if found.mark() == judged.mark() {
            return Ok(fs::unlinkat(tmp, name, AtFlags::empty())?);
        }
        let from = (tmp, name.as_bytes());
        let why = "it was changed here in the moment in which the source's version came";
        aside::set_aside(&self.root, self.stamp, path, from, &found, why)?;
        self.tree.conflicts += 1;
        Ok(())
    }
}

fn busy() -> OpError {
    std::io::Error::other("somebody keeps making and removing it here").into()
}
