//! When a path is looked at after its events, and whether what stands there is at rest.
//!
//! Time is an argument. The one thing to know: an event says that there is something to look at, and
//! never what; what is written at this moment is waited for, and not for ever.

use std::collections::BTreeMap;

use haarb_model::{Mono, Span};

use super::{Change, Tree};
use crate::path::RelPath;
use crate::read::Whole;
use crate::root::{Found, Root};
use crate::settle::{Hint, Ripe};
use crate::version::{Kind, Version};

/// A file that became empty is believed to be meant so after this time. Truncating one took
/// more than 200 ms on a disk with a busy journal, and it is empty all the while.
const EMPTY_DOUBT_NS: i64 = 900_000_000;

/// How long the time of a directory may wait for further changes in it.
const STAMP_REST: Span = Span::from_millis(20);

impl Tree {
    /// Takes an event for a path of this directory.
    pub(crate) fn hint(&mut self, path: RelPath, hint: Hint, now: Mono, told_ns: i64) {
        if path.is_root() {
            self.to_visit.push_back(path);
        } else {
            self.settling.note(path, hint, now, told_ns);
        }
    }

    /// Looks at the paths whose time has come. `all`: at every one.
    pub(crate) fn look_at_ripe(&mut self, now: Mono, all: bool) -> Vec<Change> {
        let ripe = self.settling.ripe(now, all);
        if ripe.is_empty() {
            return Vec::new();
        }
        let Some(root) = self.enter() else {
            return Vec::new();
        };
        let mut changes = self.find_renamed(&root, &ripe);
        for ripe in ripe {
            self.look_at_one(&root, ripe, now, &mut changes);
        }
        changes
    }

    fn look_at_one(&mut self, root: &Root, ripe: Ripe, now: Mono, changes: &mut Vec<Change>) {
        let found = match root.find(&ripe.path) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("{}", self.about(&ripe.path, &error));
                self.settling
                    .note(ripe.path, Hint::Other, now, ripe.told_ns);
                return;
            }
        };
        if let Some(dir) = ripe.path.parent() {
            self.stamp(&dir, now);
        }
        if self.excludes(&ripe.path, found) {
            self.look_at(&ripe.path, None, ripe.since, changes);
            if let Some(found) = found.filter(|found| found.kind == Some(Kind::File)) {
                // It may have other names that are not left out.
                self.others_changed(&ripe.path, &found, ripe.since, changes);
            }
            return;
        }
        if ripe.open && !ripe.overdue && self.in_the_middle(&ripe.path, found) {
            let known = self.disk.get(&ripe.path);
            let quiet = known
                .zip(found)
                .is_some_and(|(known, found)| known.is_same(&found));
            self.settling.hold(ripe, quiet, now);
            return;
        }
        if found.is_some_and(|found| found.kind == Some(Kind::Directory)) {
            // New, moved here, or only touched: watched anew, because a moved one is no
            // longer watched under its new name.
            self.to_visit.push_back(ripe.path.clone());
        }
        // A new name for a file that has others is not the beginning of its being written.
        let known = self.disk.contains_key(&ripe.path);
        let open = ripe.open && (known || !found.is_some_and(|found| found.linked()));
        self.look_at(&ripe.path, found, ripe.since, changes);
        self.disk.told(&ripe.path, ripe.told_ns, open);
    }

    /// An open file that did not just grow is being rewritten.
    fn in_the_middle(&self, path: &RelPath, found: Option<Found>) -> bool {
        let Some(found) = found.filter(|found| found.kind == Some(Kind::File)) else {
            return false;
        };
        // Longer than what was read last, not only than what was seen: a file that is being
        // rewritten grows as well.
        let known = self.disk.get(path);
        let known =
            known.filter(|known| known.kind == Kind::File && known.sig.ino == found.sig.ino);
        let read = known.and_then(|known| known.read_size);
        let grew = read.is_some_and(|size| size < found.sig.size);
        !grew && !found.linked()
    }

    /// Whether a path is open for writing, as far as its events tell.
    pub(crate) fn is_open(&self, path: &RelPath) -> bool {
        self.settling.is_open(path) || self.disk.get(path).is_some_and(|known| known.open)
    }

    /// Whether a file that was just read is probably in the middle of something of which no
    /// event has come yet: its time stamp is later than its last event, or it is empty, as it
    /// is between truncating and writing (the kernel tells of the truncation only after it,
    /// and a busy journal can hold that up for long).
    pub(crate) fn is_suspect(&self, path: &RelPath, whole: &Whole, old: Option<Version>) -> bool {
        let emptied = whole.version.size == 0 && old.is_some_and(|old| old.size > 0);
        if emptied && self.place.wall.now_ns().saturating_sub(whole.sig.ctime_ns) < EMPTY_DOUBT_NS {
            return true;
        }
        let told = self.disk.get(path).map_or(0, |known| known.told_ns);
        whole.doubt && told != 0 && whole.sig.ctime_ns > told
    }

    /// The time of a directory may have changed: looked at after a moment.
    pub(super) fn stamp(&mut self, dir: &RelPath, now: Mono) {
        if !dir.is_root() {
            self.stamps.entry(dir.clone()).or_insert(now);
        }
    }

    /// Looks at the directories whose entries changed a moment ago. `all`: at every one.
    pub(crate) fn look_at_stamps(&mut self, now: Mono, all: bool) -> Vec<Change> {
        let due = |since: &Mono| all || now >= *since + STAMP_REST;
        if !self.stamps.values().any(due) {
            return Vec::new();
        }
        let Some(root) = self.enter() else {
            return Vec::new();
        };
        let mut changes = Vec::new();
        let (due, later): (BTreeMap<_, _>, _) = std::mem::take(&mut self.stamps)
            .into_iter()
            .partition(|(_, since)| due(since));
        self.stamps = later;
        for (dir, since) in due {
            match root.find(&dir) {
                Ok(Some(found))
                    if found.kind == Some(Kind::Directory) && !self.excludes(&dir, Some(found)) =>
                {
                    self.look_at(&dir, Some(found), since, &mut changes);
                }
                // What became of it has an event of its own.
                Ok(_) => {}
                Err(error) => tracing::warn!("{}", self.about(&dir, &error)),
            }
        }
        changes
    }

    /// Whether directories wait for a look at their times.
    pub(crate) fn is_stamping(&self) -> bool {
        !self.stamps.is_empty()
    }

    /// When something here is due.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let stamps = self.stamps.values().min().map(|since| *since + STAMP_REST);
        stamps.into_iter().chain(self.settling.deadline()).min()
    }
}
