//! One directory on the sending side: what stands there now, and what was acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use haarb_config::Excludes;
use haarb_model::{Mono, Span};

use super::disk::{Disk, Known};
use crate::compare::{Link, Listed, below, children, digests};
use crate::index::{Header, Stage};
use crate::journal::Store;
use crate::path::RelPath;
use crate::read::{Whole, version_on_disk};
use crate::root::{Found, Place, Root, RootError};
use crate::settle::{Hint, Ripe, Settling};
use crate::version::{Hash, Kind, Version};

/// How many entries are looked at in one step, so that nothing else waits for long.
const VISIT_ENTRIES: usize = 500;

/// A file that became empty is believed to be meant so after this time. Truncating one took
/// more than 200 ms on a disk with a busy journal, and it is empty all the while.
const EMPTY_DOUBT_NS: i64 = 900_000_000;

/// Tells of changes in directories; see [`crate::watch`].
pub(crate) trait Watch: Send {
    /// Watches one directory, not what is below it. Again is harmless.
    fn watch(&mut self, dir: &Path) -> Result<(), String>;
    /// Makes an event that arrives after all events of changes before this call.
    fn mark(&mut self, root: &Path, number: u64) -> Result<(), String>;
}

/// A path that is different from what it was.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) path: RelPath,
    pub(crate) since: Mono,
    /// What it was, where that is known.
    pub(crate) old: Option<Version>,
    /// It was a directory and is gone with all that was in it.
    pub(crate) emptied: bool,
    /// It is another file than before, or may share its inode with others on the sink: new
    /// attributes for what the sink has are not enough.
    pub(crate) anew: bool,
    /// Files that are not here any more, under this path or below it.
    pub(crate) vanished: Vec<(RelPath, Version)>,
}

/// How long the time of a directory may wait for further changes in it.
const STAMP_REST: Span = Span::from_millis(20);

/// What ends the standstill of a directory that was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The directory is there again.
    There,
    /// Something is in it.
    NotEmpty,
    /// A person restarts the syncer.
    Restart,
}

impl Until {
    fn of(error: &RootError) -> Self {
        match error {
            RootError::Missing(_) | RootError::Open { .. } | RootError::NotDirectory(_) => {
                Self::There
            }
            RootError::Exchanged(_) => Self::Restart,
        }
    }
}

/// A directory that is sent.
pub(crate) struct Tree {
    pub(crate) place: Place,
    /// What is neither sent nor looked at.
    pub(crate) exclude: Excludes,
    pub(crate) store: Store,
    pub(crate) disk: Disk,
    /// Directories whose entries changed, and with them their times.
    stamps: BTreeMap<RelPath, Mono>,
    to_visit: VecDeque<RelPath>,
    /// The whole of it was looked at once.
    pub(crate) visited: bool,
    pub(crate) settling: Settling,
    /// What changed while no sink was connected.
    pub(crate) missed: BTreeSet<RelPath>,
    /// Since when a sink may lack something, while none is connected.
    pub(crate) behind_since: Option<Mono>,
    /// What stopped this directory; empty if nothing did.
    pub(crate) error: String,
    until: Until,
    /// Changes are looked for by visiting, because watching failed: why.
    pub(crate) unwatched: String,
    pub(crate) seal: Option<(u64, bool)>,
    /// The highest mark that has arrived: every event before it was taken.
    pub(crate) marked: u64,
    /// The highest mark that was made.
    pub(crate) making: u64,
}

impl Tree {
    pub(crate) fn new(path: PathBuf, exclude: Excludes) -> Self {
        let mut tree = Self {
            place: Place::new(path),
            exclude,
            store: Store::default(),
            disk: Disk::default(),
            stamps: BTreeMap::new(),
            to_visit: VecDeque::new(),
            visited: false,
            settling: Settling::default(),
            missed: BTreeSet::new(),
            behind_since: None,
            error: String::new(),
            until: Until::There,
            unwatched: String::new(),
            seal: None,
            marked: 0,
            making: 0,
        };
        if let Err(error) = tree.open() {
            tree.stop(error, Until::There);
        }
        tree
    }

    /// Starts anew if what stopped this directory is over. Says whether it is.
    pub(crate) fn start_again(&mut self) -> bool {
        let over = match (self.until, self.place.enter()) {
            (Until::Restart, _) => false,
            (_, Err(error)) => {
                self.until = Until::of(&error);
                self.error = error.to_string();
                false
            }
            (Until::There, Ok(_)) => true,
            (Until::NotEmpty, Ok(root)) => root
                .names(&RelPath::root())
                .is_ok_and(|names| !names.is_empty()),
        };
        if !over {
            return false;
        }
        self.disk.clear();
        self.stamps.clear();
        self.settling.clear();
        self.to_visit.clear();
        self.visited = false;
        self.error.clear();
        if let Err(error) = self.open() {
            self.stop(error, Until::There);
            return false;
        }
        tracing::info!("{}: is sent again", self.place.path.display());
        true
    }

    fn open(&mut self) -> Result<(), String> {
        let root = self.place.enter().map_err(|e| e.to_string())?;
        let name = self.place.path.display().to_string();
        let index = |e: io::Error| format!("{name}: its index: {e}");
        self.store = Store::load(&root).map_err(index)?;
        let mut header = self.store.index.header.clone();
        if header.lineage == [0; 16] {
            getrandom::fill(&mut header.lineage).map_err(|e| format!("{name}: no lineage: {e}"))?;
        }
        self.store.note_header(&root, header).map_err(index)?;
        self.to_visit.push_back(RelPath::root());
        Ok(())
    }

    /// Our own data are the original from now on. Only once something was really there, or
    /// was there before: an empty mount point must not become the original.
    pub(crate) fn become_original(&mut self) {
        if self.disk.is_empty() || self.store.index.header.stage == Stage::Whole {
            return;
        }
        let header = Header {
            stage: Stage::Whole,
            ..self.store.index.header.clone()
        };
        let noted = self
            .place
            .enter()
            .map_err(|e| e.to_string())
            .and_then(|root| {
                self.store
                    .note_header(&root, header)
                    .map_err(|e| e.to_string())
            });
        if let Err(error) = noted {
            tracing::warn!("{}: {error}", self.place.path.display());
        }
    }

    /// Whether there are directories that wait to be looked at.
    pub(crate) fn is_visiting(&self) -> bool {
        !self.to_visit.is_empty()
    }

    /// Everything may have changed.
    pub(crate) fn look_again(&mut self) {
        if self.error.is_empty() {
            self.to_visit.clear();
            self.to_visit.push_back(RelPath::root());
        }
    }

    /// Looks at some of the directories that wait for it. Returns what turned out to differ.
    pub(crate) fn visit(&mut self, watch: &mut dyn Watch, now: Mono) -> Vec<Change> {
        let mut changes = Vec::new();
        let root = match self.place.enter() {
            Ok(root) => root,
            Err(error) => {
                self.stop_at_root(&error);
                return changes;
            }
        };
        let mut entries = 0;
        while entries < VISIT_ENTRIES
            && let Some(dir) = self.to_visit.pop_front()
        {
            match self.visit_one(&root, &dir, watch, now, &mut changes) {
                Ok(count) => entries += count + 1,
                // It is gone again; whoever removed it left an event.
                Err(error) if !dir.is_root() && gone(&error) => {}
                Err(error) => tracing::warn!("{}", self.about(&dir, &error)),
            }
        }
        if self.to_visit.is_empty() {
            self.visited = true;
        }
        changes
    }

    fn visit_one(
        &mut self,
        root: &Root,
        dir: &RelPath,
        watch: &mut dyn Watch,
        now: Mono,
        changes: &mut Vec<Change>,
    ) -> io::Result<usize> {
        // First the watch, then the look: what comes in between is seen twice, not missed.
        if let Err(error) = watch.watch(&self.absolute(dir))
            && root.walk(dir).is_ok()
        {
            self.unwatched = error;
        }
        let names = root.names(dir)?;
        let known: Vec<RelPath> = children(&self.disk, dir)
            .map(|(path, _)| path.clone())
            .collect();
        for path in known {
            if names
                .binary_search_by(|name| name[..].cmp(path.name()))
                .is_err()
            {
                changes.push(self.gone(&path, now));
            }
        }
        self.stamp(dir, now);
        let at = root.walk(dir)?;
        for name in &names {
            let Ok(path) = dir.join(name) else {
                tracing::warn!("{}: its path is too long to be sent", self.about(dir, &""));
                continue;
            };
            let found = root.find_at(&at, name)?;
            let directory = found.is_some_and(|found| found.kind == Some(Kind::Directory));
            if self.exclude.excludes_entry(path.as_path(), directory) {
                // A pattern with `/` at its end may match only since this is a directory.
                self.look_at(&path, None, now, changes);
                continue;
            }
            self.look_at(&path, found, now, changes);
            if directory {
                self.to_visit.push_back(path);
            }
        }
        Ok(names.len())
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

    /// Compares what was found at a path with what is known.
    fn look_at(
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
        let now_known = Known {
            version: as_acknowledged,
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
        });
    }

    /// A file with several names was changed through one of them: there is no event for the
    /// others.
    fn others_changed(
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

    /// The time of a directory may have changed: looked at after a moment.
    fn stamp(&mut self, dir: &RelPath, now: Mono) {
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
        let root = match self.place.enter() {
            Ok(root) => root,
            Err(error) => {
                self.stop_at_root(&error);
                return Vec::new();
            }
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

    /// Takes an event for a path of this directory.
    pub(crate) fn hint(&mut self, path: RelPath, hint: Hint, now: Mono, told_ns: i64) {
        if path.is_root() {
            self.to_visit.push_back(path);
        } else {
            self.settling.note(path, hint, now, told_ns);
        }
    }

    /// Whether what was found at a path is left out.
    pub(crate) fn excludes(&self, path: &RelPath, found: Option<Found>) -> bool {
        let directory = found.is_some_and(|found| found.kind == Some(Kind::Directory));
        found.is_some() && self.exclude.excludes(path.as_path(), directory)
    }

    /// Looks at the paths whose time has come. `all`: at every one.
    pub(crate) fn look_at_ripe(&mut self, now: Mono, all: bool) -> Vec<Change> {
        let ripe = self.settling.ripe(now, all);
        if ripe.is_empty() {
            return Vec::new();
        }
        let root = match self.place.enter() {
            Ok(root) => root,
            Err(error) => {
                self.stop_at_root(&error);
                return Vec::new();
            }
        };
        let mut changes = Vec::new();
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
            self.settling.hold(ripe, now);
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
        let read = self.disk.get(path).and_then(|known| known.version);
        let grew = read.is_some_and(|read| read.kind == Kind::File && read.size < found.sig.size);
        !grew && !found.linked()
    }

    /// Reads one entry whose content is not known. `false`: there is none left.
    pub(crate) fn read_one_unknown(&mut self, from: &mut Option<RelPath>) -> bool {
        let start = from.clone().unwrap_or_else(RelPath::root);
        let next = self
            .disk
            .range((Bound::Excluded(start), Bound::Unbounded))
            .find(|(_, known)| known.version.is_none())
            .map(|(path, _)| path.clone());
        let Some(path) = next else {
            return false;
        };
        // Each is tried once: what cannot be read now is found when it is to be sent.
        *from = Some(path.clone());
        let Ok(root) = self.place.enter() else {
            return false;
        };
        match version_on_disk(&root, &path) {
            Ok(Some((version, sig, doubt))) => {
                let known = Known {
                    doubt,
                    ..Known::read(version, sig)
                };
                self.disk.insert(path, known);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!("{}", self.about(&path, &error)),
        }
        true
    }

    /// The digest of every directory. What could not be read counts as different.
    pub(crate) fn digests(&self) -> BTreeMap<RelPath, Hash> {
        let versions: Vec<(&RelPath, Version, Link)> = self
            .disk
            .iter()
            .map(|(path, known)| {
                let version = known.version.unwrap_or(unread(known));
                (path, version, self.disk.link(known))
            })
            .collect();
        digests(
            versions
                .iter()
                .map(|(path, version, link)| (*path, version, *link)),
        )
    }

    pub(crate) fn listing(&self, dir: &RelPath, digests: &BTreeMap<RelPath, Hash>) -> Vec<Listed> {
        children(&self.disk, dir)
            .map(|(path, known)| Listed {
                name: path.name().to_vec(),
                version: known.version.unwrap_or(unread(known)),
                link: self.disk.link(known),
                digest: digests.get(path).copied().unwrap_or_default(),
            })
            .collect()
    }

    /// The directory itself cannot be entered.
    pub(crate) fn stop_at_root(&mut self, error: &RootError) {
        self.stop(error.to_string(), Until::of(error));
    }

    pub(crate) fn stop(&mut self, why: String, until: Until) {
        if self.error != why {
            tracing::error!("{why}; this directory is not sent");
        }
        self.error = why;
        self.until = until;
        self.to_visit.clear();
        self.settling.clear();
        self.stamps.clear();
    }

    fn absolute(&self, path: &RelPath) -> PathBuf {
        if path.is_root() {
            self.place.path.clone()
        } else {
            self.place.path.join(crate::root::os(path.as_bytes()))
        }
    }

    pub(crate) fn about(&self, path: &RelPath, error: &dyn std::fmt::Display) -> String {
        format!("{}/{}: {error}", self.place.path.display(), path.show())
    }
}

/// Stands for content that is not known: equal to nothing.
fn unread(known: &Known) -> Version {
    Version {
        kind: known.kind,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime_ns: i64::MIN,
        size: known.sig.size,
        hash: [0xff; 32],
        xattrs: [0xff; 16],
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
    )
}
