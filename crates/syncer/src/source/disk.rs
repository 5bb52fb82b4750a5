//! What stands in a directory that is sent, by path and by inode.
//!
//! No I/O. The one thing to know: an event tells of one name of a file, and a file can have
//! several; the others are found here by their inode.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use crate::compare::{Link, link_of};
use crate::path::RelPath;
use crate::read::Whole;
use crate::root::Found;
use crate::version::{Kind, Sig, Version};

/// What stands at a path, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// `None`: it changed and was not read since.
    pub(crate) version: Option<Version>,
    pub(crate) kind: Kind,
    pub(crate) sig: Sig,
    /// A change could hide behind the same signature: an event is believed.
    pub(crate) doubt: bool,
    /// When its last event was told; 0: none was.
    pub(crate) told_ns: i64,
    /// By its last event it was open for writing.
    pub(crate) open: bool,
    /// How long it was when it was read last, while it only got longer since.
    pub(crate) read_size: Option<u64>,
}

impl From<&Whole> for Known {
    fn from(whole: &Whole) -> Self {
        Self {
            doubt: whole.doubt,
            ..Self::read(whole.version, whole.sig)
        }
    }
}

impl Known {
    /// A version that was read, and what it was read from.
    pub(crate) fn read(version: Version, sig: Sig) -> Self {
        Self {
            version: Some(version),
            kind: version.kind,
            sig,
            doubt: false,
            told_ns: 0,
            open: false,
            read_size: Some(version.size),
        }
    }

    /// Something that was found and not read.
    pub(crate) fn found(kind: Kind, found: &Found) -> Self {
        Self {
            version: None,
            kind,
            sig: found.sig,
            doubt: false,
            told_ns: 0,
            open: false,
            read_size: None,
        }
    }

    /// Whether what was found under another name of the file is certainly what is known under
    /// this one. A name more or less also changes the time stamp of the inode, but so does a
    /// change of the content whose time was set back: then it is read again.
    pub(crate) fn is_still(&self, found: &Found) -> bool {
        !self.doubt && self.is_same(found)
    }

    /// The same, when an event of whatever this reading did not see is still believed.
    pub(crate) fn is_same(&self, found: &Found) -> bool {
        self.version.is_some() && self.sig == found.sig
    }
}

/// The names of one inode.
#[derive(Debug)]
enum Names {
    One(RelPath),
    More(BTreeSet<RelPath>),
}

/// Everything that is known to stand in a directory.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    entries: BTreeMap<RelPath, Known>,
    /// Of every file.
    names: BTreeMap<u64, Names>,
    /// How many entries are no directories.
    files: u64,
}

impl Deref for Disk {
    type Target = BTreeMap<RelPath, Known>;

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl Disk {
    pub(crate) fn insert(&mut self, path: RelPath, known: Known) -> Option<Known> {
        if known.kind == Kind::File {
            self.add_name(known.sig.ino, &path);
        }
        self.files += u64::from(known.kind != Kind::Directory);
        let before = self.entries.insert(path.clone(), known);
        self.forget_file(before);
        if let Some(before) = before
            && (before.sig.ino != known.sig.ino || known.kind != Kind::File)
        {
            self.remove_name(&before, &path);
        }
        before
    }

    pub(crate) fn remove(&mut self, path: &RelPath) -> Option<Known> {
        let known = self.entries.remove(path)?;
        self.forget_file(Some(known));
        self.remove_name(&known, path);
        Some(known)
    }

    fn forget_file(&mut self, known: Option<Known>) {
        self.files -= u64::from(known.is_some_and(|known| known.kind != Kind::Directory));
    }

    /// How many entries are no directories.
    pub(crate) fn files(&self) -> u64 {
        self.files
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Notes when the last event of a path was told, and whether it was open then.
    pub(crate) fn told(&mut self, path: &RelPath, told_ns: i64, open: bool) {
        if let Some(known) = self.entries.get_mut(path) {
            known.told_ns = told_ns;
            known.open = open;
        }
    }

    fn add_name(&mut self, ino: u64, path: &RelPath) {
        let names = self
            .names
            .entry(ino)
            .or_insert_with(|| Names::One(path.clone()));
        match names {
            Names::One(only) if only == path => {}
            Names::One(only) => *names = Names::More([only.clone(), path.clone()].into()),
            Names::More(more) => {
                more.insert(path.clone());
            }
        }
    }

    fn remove_name(&mut self, known: &Known, path: &RelPath) {
        if known.kind != Kind::File {
            return;
        }
        let gone = match self.names.get_mut(&known.sig.ino) {
            Some(Names::One(only)) => only == path,
            Some(Names::More(more)) => {
                more.remove(path);
                more.is_empty()
            }
            None => false,
        };
        if gone {
            self.names.remove(&known.sig.ino);
        }
    }

    /// The other names of a file, in their order.
    pub(crate) fn others<'a>(
        &'a self,
        ino: u64,
        path: &'a RelPath,
    ) -> impl Iterator<Item = &'a RelPath> {
        let (one, more) = match self.names.get(&ino) {
            Some(Names::One(only)) => (Some(only), None),
            Some(Names::More(more)) => (None, Some(more)),
            None => (None, None),
        };
        let all = one.into_iter().chain(more.into_iter().flatten());
        all.filter(move |other| *other != path)
    }

    /// With which other names a path belongs together.
    pub(crate) fn link(&self, known: &Known) -> Link {
        match self.names.get(&known.sig.ino) {
            Some(Names::More(more)) if known.kind == Kind::File && more.len() > 1 => {
                more.first().map(link_of).unwrap_or_default()
            }
            _ => Link::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn file(ino: u64) -> Known {
        let sig = Sig {
            ino,
            size: 1,
            mtime_ns: 1,
            ctime_ns: 1,
        };
        Known {
            version: None,
            kind: Kind::File,
            sig,
            doubt: false,
            told_ns: 0,
            open: false,
            read_size: None,
        }
    }

    #[test]
    fn names_of_a_file_belong_together_as_long_as_they_lead_to_it() {
        let mut disk = Disk::default();
        for (name, ino) in [("b", 7), ("a", 7), ("c", 8)] {
            disk.insert(path(name), file(ino));
        }
        let (a, b, c) = (path("a"), path("b"), path("c"));
        let others = |disk: &Disk, of: &RelPath| disk.others(7, of).cloned().collect::<Vec<_>>();
        assert_eq!(others(&disk, &b), std::slice::from_ref(&a));
        assert_eq!(disk.link(&disk[&a]), disk.link(&disk[&b]));
        assert_eq!(disk.link(&disk[&c]), Link::default());
        // Another file takes one of the names.
        disk.insert(a.clone(), file(9));
        assert_eq!(others(&disk, &b), []);
        assert_eq!(disk.link(&disk[&b]), Link::default());
        disk.insert(c.clone(), file(7));
        assert_eq!(others(&disk, &b), std::slice::from_ref(&c));
        disk.remove(&b);
        disk.remove(&c);
        assert_eq!(others(&disk, &a), []);
        assert_eq!((disk.files(), disk.len()), (1, 1));
        assert_eq!(disk.names.len(), 1, "nothing is left over");
    }
}
