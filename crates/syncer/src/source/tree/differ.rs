//! What was found at a path, compared with what is known of it: the changes, and what they make
//! unknown elsewhere.
//!
//! It touches no disk. The one thing to know: a file can have several names, and an event tells of
//! one of them; the others are noted here.

use std::collections::BTreeSet;

use haarb_model::Mono;

use super::{Change, Tree};
use crate::compare::below;
use crate::path::RelPath;
use crate::root::Found;
use crate::settle::Hint;
use crate::source::disk::Known;
use crate::version::{Kind, Version};

impl Tree {
    /// Compares what was found at a path with what is known.
    pub(super) fn look_at(
        &mut self,
        path: &RelPath,
        found: Option<Found>,
        since: Mono,
        changes: &mut Vec<Change>,
    ) {
        let Some((found, kind)) = found.and_then(|found| Some((found, found.kind?))) else {
            if self.knows(path) {
                changes.push(self.gone(path, since));
            }
            return;
        };
        if kind == Kind::File {
            self.others_changed(path, &found, since, changes);
        }
        let known = self.disk.get(path).copied();
        if known.is_some_and(|known| known.sig == found.sig && !known.doubt) {
            return;
        }
        let replaced = known.filter(|known| known.kind != kind || known.sig.ino != found.sig.ino);
        let mut vanished = Vec::new();
        if replaced.is_some() {
            self.look_at_others(path, since);
        }
        if replaced.is_some() || kind != Kind::Directory {
            vanished = self.files(path, replaced.is_some());
        }
        if kind != Kind::Directory {
            self.remove_below(path);
        }
        let entry = self.store.index.entries.get(path);
        let as_acknowledged = entry
            .filter(|entry| known.is_none() && entry.sig == Some(found.sig))
            .map(|entry| entry.version);
        let same = known.filter(|_| kind == Kind::File && replaced.is_none() && !found.linked());
        let read_size = same.and_then(|known| known.read_size);
        let now_known = Known {
            version: as_acknowledged,
            read_size: read_size.filter(|size| *size < found.sig.size),
            ..Known::found(kind, &found)
        };
        self.disk.insert(path.clone(), now_known);
        if as_acknowledged.is_some() && !self.visited {
            return;
        }
        changes.push(Change {
            path: path.clone(),
            since,
            old: known.and_then(|known| known.version),
            emptied: false,
            anew: known.is_none() || replaced.is_some(),
            vanished,
            renamed: None,
        });
    }

    /// A file with several names was changed through one of them: there is no event for the
    /// others.
    pub(super) fn others_changed(
        &mut self,
        path: &RelPath,
        found: &Found,
        since: Mono,
        changes: &mut Vec<Change>,
    ) {
        let others = self.disk.others(found.sig.ino, path);
        let stale = |known: &Known| known.version.is_some() && !known.is_still(found);
        let stale: Vec<RelPath> = others
            .filter(|other| self.disk.get(*other).is_some_and(stale))
            .cloned()
            .collect();
        for other in stale {
            let Some(known) = self.disk.get(&other).copied() else {
                continue;
            };
            let unread = Known {
                told_ns: known.told_ns,
                ..Known::found(known.kind, found)
            };
            self.disk.insert(other.clone(), unread);
            changes.push(Change {
                path: other,
                since,
                old: known.version,
                emptied: false,
                anew: false,
                vanished: Vec::new(),
                renamed: None,
            });
        }
    }

    /// The known files at (`itself`) and below a path.
    fn files(&self, path: &RelPath, itself: bool) -> Vec<(RelPath, Version)> {
        let own = self.disk.get_key_value(path).filter(|_| itself);
        let all = own.into_iter().chain(below(&self.disk, path));
        all.filter_map(|(path, known)| Some((path.clone(), known.version?)))
            .filter(|(_, version)| version.kind == Kind::File)
            .collect()
    }

    /// Whether anything is known at a path or below it.
    pub(crate) fn knows(&self, path: &RelPath) -> bool {
        self.disk.contains_key(path) || below(&self.disk, path).next().is_some()
    }

    /// Nothing stands at the path any more.
    pub(crate) fn gone(&mut self, path: &RelPath, now: Mono) -> Change {
        let had_entries = below(&self.disk, path).next().is_some();
        let vanished = self.files(path, true);
        self.look_at_others(path, now);
        self.remove_below(path);
        let known = self.disk.remove(path);
        Change {
            path: path.clone(),
            since: now,
            old: known.and_then(|known| known.version),
            emptied: had_entries || known.is_some_and(|known| known.kind == Kind::Directory),
            anew: true,
            vanished,
            renamed: None,
        }
    }

    /// A name is gone, and with it what would have told of a change that was made through it: the
    /// other names of the same file are looked at.
    pub(crate) fn look_at_others(&mut self, path: &RelPath, now: Mono) {
        let own = self.disk.get_key_value(path).into_iter();
        let files = own.chain(below(&self.disk, path));
        let files = files.filter(|(_, known)| known.kind == Kind::File);
        let others: BTreeSet<RelPath> = files
            .flat_map(|(name, known)| self.disk.others(known.sig.ino, name))
            .filter(|other| *other != path && !other.is_below(path))
            .cloned()
            .collect();
        for other in others {
            if self.settling.has(&other) {
                continue;
            }
            let told_ns = self.disk.get(&other).map_or(0, |known| known.told_ns);
            self.settling.note(other, Hint::Other, now, told_ns);
        }
    }

    pub(crate) fn remove_below(&mut self, path: &RelPath) {
        let below: Vec<RelPath> = below(&self.disk, path).map(|(p, _)| p.clone()).collect();
        for path in below {
            self.disk.remove(&path);
        }
    }
}
