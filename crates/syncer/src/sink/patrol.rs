//! Looks for changes by others on a standby, slowly and for ever: what was changed, removed or made
//! here is told to the source, which sends what belongs there; what stands there is then moved aside
//! as always.
//!
//! The one thing to know: it compares time stamps and inodes, and reads only what differs in
//! them. What a disk forgot is found by [`super::scrub`].

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::compare::{below, children};
use crate::index::{Entry, Record};
use crate::path::RelPath;
use crate::read::version_on_disk;
use crate::root::Root;
use crate::sink::tree::Tree;
use crate::version::Kind;

/// Entries that are looked at in one step, five steps a second: a million files in an hour, and
/// less than a thousandth of a processor.
const ENTRIES: usize = 50;

/// How far a round through one directory came.
#[derive(Debug, Default)]
pub(crate) struct Patrol {
    to_visit: Vec<RelPath>,
    /// What is left of the directory that is being looked at.
    entries: VecDeque<RelPath>,
    /// When the last round ended.
    ended: Option<Instant>,
}

impl Patrol {
    /// One step; a new round begins `pause` after the last one, the first one `pause` after this
    /// was asked first. Returns the paths at which something else stands than was received.
    pub(crate) fn step(&mut self, tree: &mut Tree, pause: Duration) -> io::Result<Vec<RelPath>> {
        if self.to_visit.is_empty() && self.entries.is_empty() {
            if self.ended.get_or_insert_with(Instant::now).elapsed() < pause {
                return Ok(Vec::new());
            }
            self.to_visit.push(RelPath::root());
        }
        let root = tree.place.enter().map_err(io::Error::other)?;
        let mut differing = Vec::new();
        for _ in 0..ENTRIES {
            if let Some(path) = self.entries.pop_front() {
                self.look_at(&root, tree, path, &mut differing)?;
            } else if let Some(dir) = self.to_visit.pop() {
                self.open(&root, tree, &dir, &mut differing)?;
            } else {
                self.ended = Some(Instant::now());
                break;
            }
        }
        Ok(differing)
    }

    /// Begins with a directory: what is missing from it is known at once.
    fn open(
        &mut self,
        root: &Root,
        tree: &Tree,
        dir: &RelPath,
        differing: &mut Vec<RelPath>,
    ) -> io::Result<()> {
        let names = match root.names(dir) {
            Ok(names) => names,
            // It went since it was seen; the next round tells.
            Err(e) if !dir.is_root() && e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let known = &tree.store.index.entries;
        for (path, entry) in children(known, dir) {
            if names
                .binary_search_by(|name| name[..].cmp(path.name()))
                .is_ok()
            {
                continue;
            }
            differing.push(path.clone());
            if entry.version.is_directory() {
                differing.extend(below(known, path).map(|(path, _)| path.clone()));
            }
        }
        self.entries
            .extend(names.iter().filter_map(|name| dir.join(name).ok()));
        Ok(())
    }

    fn look_at(
        &mut self,
        root: &Root,
        tree: &mut Tree,
        path: RelPath,
        differing: &mut Vec<RelPath>,
    ) -> io::Result<()> {
        let Some(found) = root.find(&path)? else {
            return Ok(());
        };
        if found.kind.is_none() || tree.excludes(&path, &found) {
            return Ok(());
        }
        let known = tree.store.index.entries.get(&path);
        let same = known.is_some_and(|entry| entry.sig == Some(found.sig));
        if found.kind == Some(Kind::Directory) && known.is_some() {
            self.to_visit.push(path.clone());
        }
        if same {
            return Ok(());
        }
        let Some((version, sig, doubt)) = version_on_disk(root, &path)? else {
            return Ok(());
        };
        if known.is_some_and(|entry| entry.version == version) {
            let entry = Entry {
                version,
                sig: (!doubt).then_some(sig),
                before: None,
            };
            tree.store.take(vec![Record::Put(path, entry)]);
        } else {
            differing.push(path);
        }
        Ok(())
    }
}
