//! A directory that was renamed on the source, with all that is in it.
//!
//! Nothing is replaced. The one thing to know: it is done only if everything in the directory is what is
//! known to be common, and everything that is known is there; otherwise the source hears that its
//! content is needed, and each entry goes its own way.

use rustix::fs::{self, RenameFlags};

use super::{Apply, OpError};
use crate::compare::below;
use crate::index::{Entry, Record};
use crate::path::RelPath;
use crate::root::{Found, os};
use crate::version::Kind;

impl Apply<'_> {
    pub(super) fn rename_directory(&mut self, from: &RelPath, to: &RelPath) -> Result<(), OpError> {
        if !self.is_all_known(from)? || !self.is_free(to) {
            return Err(OpError::NeedContent);
        }
        let (Ok(old), Ok(new)) = (self.root.parent(from), self.root.parent(to)) else {
            return Err(OpError::NeedContent);
        };
        self.fence.pass()?;
        let flags = RenameFlags::NOREPLACE;
        fs::renameat_with(&old, os(from.name()), &new, os(to.name()), flags)
            .map_err(|_| OpError::NeedContent)?;
        self.note(Record::Move(from.clone(), to.clone()));
        self.tree.spares.forget(from);
        // Each of the files has one name only.
        self.tree.links.retain(|path, _| !path.is_below(from));
        if let Some(known) = self.tree.store.index.entries.get(to) {
            let version = known.version;
            self.settled(to, &new, version)?;
        }
        self.touch(from, old);
        self.touch(to, new);
        Ok(())
    }

    /// Nothing is known of a name, nor of anything below it.
    fn is_free(&self, to: &RelPath) -> bool {
        let (index, local) = (&self.tree.store.index.entries, &self.tree.local);
        let nothing = !index.contains_key(to) && below(index, to).next().is_none();
        nothing && !local.contains_key(to) && below(local, to).next().is_none()
    }

    /// Whether a directory has what is known to be common, all of it and nothing else.
    fn is_all_known(&self, top: &RelPath) -> Result<bool, OpError> {
        let tree = &self.tree;
        let index = &tree.store.index.entries;
        let plain = tree.leaves_nothing_out()
            && !tree.local.contains_key(top)
            && below(&tree.local, top).next().is_none()
            && index.get(top).is_some_and(|top| top.version.is_directory());
        let found = self.root.find(top)?;
        if !plain || found.is_none_or(|found| found.kind != Some(Kind::Directory)) {
            return Ok(false);
        }
        let mut seen = 0;
        let mut to_visit = vec![top.clone()];
        while let Some(dir) = to_visit.pop() {
            let at = self.root.walk(&dir)?;
            for name in self.root.names(&dir)? {
                let (Ok(path), Some(found)) = (dir.join(&name), self.root.find_at(&at, &name)?)
                else {
                    return Ok(false);
                };
                let Some(known) = index.get(&path) else {
                    return Ok(false);
                };
                if found.kind == Some(Kind::Directory) && known.version.is_directory() {
                    to_visit.push(path);
                } else if found.linked() || !self.is_known(&path, &found, known)? {
                    return Ok(false);
                }
                seen += 1;
            }
        }
        Ok(below(index, top).count() == seen)
    }

    /// Whether what was found is what is known to be common: it is read only if its time stamps do not
    /// prove that, as where a name of it came or went since.
    fn is_known(&self, path: &RelPath, found: &Found, known: &Entry) -> Result<bool, OpError> {
        Ok(known.sig == Some(found.sig)
            || (found.may_be(&known.version) && self.local_version(path)? == Some(known.version)))
    }
}
