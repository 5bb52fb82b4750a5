//! Where the paths of a directory wait until they are sent, and what is known of the sink there.
//!
//! It looks at no disk and sends nothing. The one thing to know: a path waits in one place at most,
//! so every way in begins with taking it out of wherever it is.

use haarb_model::{Mono, Span};

use super::{Pending, Phase, SessionDir};
use crate::compare::below;
use crate::path::RelPath;
use crate::read::Whole;
use crate::source::tree::Change;
use crate::version::Version;

/// A deletion waits this long for the other half of a rename.
const DELETE_AFTER: Span = Span::from_millis(3);
/// Between two attempts at a path that failed: doubling from the first to the second.
const RETRY_FIRST: Span = Span::from_millis(250);
pub(super) const RETRY_LONGEST: Span = Span::from_secs(10);
/// So many changes are searched for one that should go first.
const CHANGES_LOOKED_AT: usize = 64;

impl SessionDir {
    /// Something changed here. Before the comparison began it will find that by itself.
    pub(crate) fn changed(&mut self, change: &Change, alone: bool) {
        if matches!(self.phase, Phase::Waiting | Phase::Off) {
            return;
        }
        if change.emptied {
            self.uncompared.insert(change.path.clone());
        }
        let earlier = self.take_out(&change.path);
        let comparing = !matches!(self.phase, Phase::Live);
        let pending = match earlier {
            Some(earlier) => Pending {
                anew: earlier.anew || change.anew,
                ..earlier
            },
            None => Pending {
                since: change.since,
                // While it is compared, or with several sinks, what this one has is not known.
                old: change.old.filter(|_| alone && !comparing),
                whole: false,
                anew: change.anew,
                attempts: 0,
            },
        };
        for (path, version) in &change.vanished {
            self.vanished.note(path, version);
        }
        self.live.insert(change.path.clone(), pending);
    }

    /// Takes a path out of wherever it waits.
    fn take_out(&mut self, path: &RelPath) -> Option<Pending> {
        let timed = |(_, pending)| pending;
        let found = [
            self.live.remove(path),
            self.bulk.remove(path),
            self.deletes.remove(path).map(timed),
            self.retry.remove(path).map(timed),
            self.large.remove(path),
            self.unproven.remove(path).map(|(_, pending, _)| pending),
        ];
        found.into_iter().flatten().reduce(Pending::join)
    }

    /// The same, with one more reason to send it.
    fn joined(&mut self, path: &RelPath, pending: Pending) -> Pending {
        match self.take_out(path) {
            Some(earlier) => earlier.join(pending),
            None => pending,
        }
    }

    /// A path is to be sent, among the first.
    pub(crate) fn at_once(&mut self, path: RelPath, pending: Pending) {
        let pending = self.joined(&path, pending);
        self.live.insert(path, pending);
    }

    /// A path is to be sent when the changes are.
    pub(crate) fn want(&mut self, path: RelPath, since: Mono) {
        let live = self.live.contains_key(&path);
        let pending = self.joined(&path, Pending::since(since));
        let place = if live { &mut self.live } else { &mut self.bulk };
        place.insert(path, pending);
    }

    /// A file is too large for one message.
    pub(crate) fn queue_large(&mut self, path: RelPath, pending: Pending) {
        let pending = self.joined(&path, pending);
        self.large.insert(path, pending);
    }

    /// A path failed, or keeps changing: once more after a while.
    pub(crate) fn again_later(&mut self, path: RelPath, mut pending: Pending, now: Mono) {
        let wait = RETRY_FIRST
            .times(1 << pending.attempts.min(16))
            .min(RETRY_LONGEST);
        pending.attempts += 1;
        let pending = self.joined(&path, pending);
        self.retry.insert(path, (now + wait, pending));
    }

    pub(crate) fn again_at(&mut self, path: RelPath, pending: Pending, at: Mono) {
        let pending = self.joined(&path, pending);
        self.retry.insert(path, (at, pending));
    }

    pub(crate) fn again_soon(&mut self, path: RelPath, pending: Pending, now: Mono) {
        let pending = self.joined(&path, pending);
        self.retry.insert(path, (now + DELETE_AFTER, pending));
    }

    /// The path is gone: the sink deletes it once everything else is sent.
    pub(crate) fn delete_later(&mut self, path: RelPath, pending: Pending, now: Mono) {
        for gone in below(&self.bulk, &path)
            .map(|(p, _)| p.clone())
            .collect::<Vec<_>>()
        {
            self.bulk.remove(&gone);
        }
        let pending = self.joined(&path, pending);
        self.deletes.insert(path, (now + DELETE_AFTER, pending));
    }

    /// A file was read and is sent once a mark above `mark` has arrived.
    pub(crate) fn doubt(&mut self, path: RelPath, mark: u64, pending: Pending, whole: Box<Whole>) {
        let pending = self.joined(&path, pending);
        self.unproven.insert(path, (mark, pending, whole));
    }

    /// The next change to send. What the sink has under a name that is taken here is renamed
    /// there before it is replaced, if it was renamed here.
    pub(crate) fn pop_live(&mut self) -> Option<(RelPath, Pending)> {
        let first = self.live.keys().take(CHANGES_LOOKED_AT);
        let needed = |path: &&RelPath| self.vanished.has(path);
        let other = first.clone().find(|path| !needed(path)).cloned();
        match other.and_then(|path| self.live.remove_entry(&path)) {
            None => self.live.pop_first(),
            other => other,
        }
    }

    /// How many files wait for a mark.
    pub(crate) fn doubting(&self) -> usize {
        self.unproven.len()
    }

    /// One of the files that are proved by a mark.
    pub(crate) fn proven(&mut self, marked: u64) -> Option<(RelPath, Pending, Box<Whole>)> {
        let proved = self.unproven.iter().find(|(_, (mark, ..))| *mark < marked);
        let path = proved?.0.clone();
        let (_, pending, whole) = self.unproven.remove(&path)?;
        Some((path, pending, whole))
    }

    /// Marks were lost: what waits for one is read again.
    pub(crate) fn doubt_all(&mut self) {
        for (path, (_, pending, _)) in std::mem::take(&mut self.unproven) {
            self.at_once(path, pending);
        }
    }

    /// What is sent next under this path must be a file of its own.
    pub(crate) fn send_anew(&mut self, path: &RelPath) {
        for pending in self.pending_mut(path) {
            pending.anew = true;
        }
    }

    pub(super) fn pending_mut(&mut self, path: &RelPath) -> impl Iterator<Item = &mut Pending> {
        let plain = [&mut self.live, &mut self.bulk, &mut self.large];
        let plain = plain.into_iter().filter_map(|map| map.get_mut(path));
        let timed = [&mut self.deletes, &mut self.retry];
        let timed = timed.into_iter().filter_map(|map| map.get_mut(path));
        let timed = timed.map(|(_, pending)| pending);
        let unproven = self.unproven.get_mut(path).map(|(_, pending, _)| pending);
        plain.chain(timed).chain(unproven)
    }

    /// From now on, if nothing fails, the sink has this version at a path (`None`: nothing);
    /// below it nothing, unless it is a directory.
    pub(super) fn will_have(&mut self, path: &RelPath, version: Option<Version>) {
        for pending in self.pending_mut(path) {
            pending.old = version;
        }
        if version.is_some_and(|version| version.is_directory()) {
            return;
        }
        let plain = [&self.live, &self.bulk, &self.large];
        let plain = plain.into_iter().flat_map(|map| below(map, path));
        let timed = [&self.deletes, &self.retry];
        let timed = timed.into_iter().flat_map(|map| below(map, path));
        let unproven = below(&self.unproven, path).map(|(path, _)| path.clone());
        let all = plain.map(|(path, _)| path.clone());
        let all = all.chain(timed.map(|(path, _)| path.clone()));
        for path in all.chain(unproven).collect::<Vec<_>>() {
            for pending in self.pending_mut(&path) {
                pending.old = None;
            }
        }
    }

    /// The deletions whose time has come. `all`: every one.
    pub(crate) fn due_delete(&mut self, now: Mono, all: bool) -> Option<(RelPath, Pending)> {
        let path = self
            .deletes
            .iter()
            .find(|(_, (due, _))| all || *due <= now)
            .map(|(path, _)| path.clone())?;
        let (_, pending) = self.deletes.remove(&path)?;
        Some((path, pending))
    }

    /// Puts paths whose waiting is over back among the others.
    pub(crate) fn wake(&mut self, now: Mono) {
        let due: Vec<RelPath> = self
            .retry
            .iter()
            .filter(|(_, (due, _))| *due <= now)
            .map(|(path, _)| path.clone())
            .collect();
        for path in due {
            if let Some((_, pending)) = self.retry.remove(&path) {
                self.at_once(path, pending);
            }
        }
    }

    /// When [`SessionDir::wake`] or a deletion will be due. A deletion that is due already waits for
    /// something else, which has a time or an event of its own.
    pub(crate) fn deadline(&self, now: Mono) -> Option<Mono> {
        let retry = self.retry.values().map(|(due, _)| *due);
        let deletes = self.deletes.values().map(|(due, _)| *due);
        retry.chain(deletes.filter(|due| *due > now)).min()
    }

    /// Every path that waits.
    pub(super) fn paths(&self) -> impl Iterator<Item = &RelPath> {
        let plain = [&self.live, &self.bulk, &self.large];
        let timed = [&self.deletes, &self.retry];
        let plain = plain.into_iter().flat_map(|map| map.keys());
        let timed = timed.into_iter().flat_map(|map| map.keys());
        plain.chain(timed).chain(self.unproven.keys())
    }

    pub(crate) fn waiting(&self) -> usize {
        self.live.len()
            + self.bulk.len()
            + self.deletes.len()
            + self.retry.len()
            + self.large.len()
            + self.unproven.len()
    }

    /// How many of them failed so often at least.
    pub(super) fn failed(&self, times: u32) -> u64 {
        let plain = self.live.values().chain(self.large.values());
        let timed = self.deletes.values().chain(self.retry.values());
        let all = plain.chain(timed.map(|(_, pending)| pending));
        all.filter(|pending| pending.attempts >= times).count() as u64
    }

    pub(crate) fn oldest(&self) -> Option<Mono> {
        let maps = self.live.values().chain(self.bulk.values());
        let timed = self.deletes.values().chain(self.retry.values());
        maps.map(|pending| pending.since)
            .chain(timed.map(|(_, pending)| pending.since))
            .chain(self.large.values().map(|pending| pending.since))
            .chain(self.unproven.values().map(|(_, pending, _)| pending.since))
            .min()
    }
}
