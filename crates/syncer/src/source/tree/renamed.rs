//! Directories that were renamed: what is known of what is in them is known under the new name.
//!
//! It sends nothing. The one thing to know: a rename changes neither the inode of the directory nor
//! anything about what is in it, so what is in it is looked at as always, and found to be the same.

use std::collections::BTreeMap;

use super::{Change, Tree};
use crate::compare::below;
use crate::path::RelPath;
use crate::root::Root;
use crate::settle::Ripe;
use crate::source::disk::Known;
use crate::version::Kind;

impl Tree {
    /// Finds directories that have another name than they had.
    pub(super) fn find_renamed(&mut self, root: &Root, ripe: &[Ripe]) -> Vec<Change> {
        let mut changes = Vec::new();
        if !self.visited || !self.exclude.patterns().is_empty() {
            return changes;
        }
        let directory = |known: &&Known| known.kind == Kind::Directory;
        let known = |path: &RelPath| self.disk.get(path).filter(directory).map(|k| k.sig.ino);
        let mut gone: BTreeMap<u64, RelPath> = BTreeMap::new();
        for ripe in ripe {
            if let Some(ino) = known(&ripe.path)
                && let Ok(found) = root.find(&ripe.path)
                && found.is_none_or(|found| found.sig.ino != ino)
            {
                gone.insert(ino, ripe.path.clone());
            }
        }
        for ripe in ripe {
            if gone.is_empty() || self.knows(&ripe.path) {
                continue;
            }
            let Ok(Some(found)) = root.find(&ripe.path) else {
                continue;
            };
            if found.kind == Some(Kind::Directory)
                && let Some(from) = gone.remove(&found.sig.ino)
                && self.rename(&from, &ripe.path)
            {
                changes.push(Change {
                    path: ripe.path.clone(),
                    since: ripe.since,
                    old: None,
                    emptied: false,
                    anew: false,
                    vanished: Vec::new(),
                    renamed: Some(from),
                });
            }
        }
        changes
    }

    /// Notes everything that is known under one name under the other. `false`: a path would be
    /// too long.
    fn rename(&mut self, from: &RelPath, to: &RelPath) -> bool {
        let below = below(&self.disk, from).map(|(path, _)| path);
        let all = std::iter::once(from).chain(below);
        let moved: Option<Vec<_>> = all
            .map(|path| Some((path.clone(), path.moved(from, to)?)))
            .collect();
        let Some(moved) = moved else {
            return false;
        };
        for (old, new) in moved {
            if let Some(known) = self.disk.remove(&old) {
                self.disk.insert(new, known);
            }
        }
        true
    }

    /// The same as changes of each entry, for a sink that cannot do it at once.
    pub(crate) fn each_renamed(&self, from: &RelPath, change: &Change) -> Vec<Change> {
        let to = &change.path;
        let own = self.disk.get_key_value(to);
        let all: Vec<_> = own.into_iter().chain(below(&self.disk, to)).collect();
        let plain = |path: RelPath| Change {
            path,
            since: change.since,
            old: None,
            emptied: false,
            anew: true,
            vanished: Vec::new(),
            renamed: None,
        };
        let files = all.iter().filter_map(|(path, known)| {
            let version = known.version.filter(|version| version.kind == Kind::File)?;
            Some((path.moved(to, from)?, version))
        });
        let gone = Change {
            emptied: true,
            vanished: files.collect(),
            ..plain(from.clone())
        };
        let there = all.iter().map(|(path, _)| plain((*path).clone()));
        std::iter::once(gone).chain(there).collect()
    }
}
