//! One connected sink: what it lacks, what was sent to it, what it acknowledged.
//!
//! What is to be done is a set of paths, never a list of events: a path is looked at when its
//! turn comes, and what stands there then is sent. The one thing to know: deletions come last,
//! so that a renamed file is never missing under both names.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use haarb_model::{Mono, Span};

use super::large::Outgoing;
use super::tree::{Change, Tree};
use super::vanished::Vanished;
use crate::compare::{Difference, Link, Listed, below, differences};
use crate::message::{DirHello, Down};
use crate::path::RelPath;
use crate::read::Whole;
use crate::version::{Hash, Sig, Version};

/// A deletion waits this long for the other half of a rename.
const DELETE_AFTER: Span = Span::from_millis(3);
/// Between two attempts at a path that failed: doubling from the first to the second.
const RETRY_FIRST: Span = Span::from_millis(250);
const RETRY_LONGEST: Span = Span::from_secs(10);
/// So many changes are searched for one that should go first.
const CHANGES_LOOKED_AT: usize = 64;

/// A path that the sink lacks.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Since when.
    pub(crate) since: Mono,
    /// What the sink has there, if that is known.
    pub(crate) old: Option<Version>,
    /// Nothing of what the sink has may be built on.
    pub(crate) whole: bool,
    /// New attributes are not enough: the file itself is another one.
    pub(crate) anew: bool,
    pub(crate) attempts: u32,
}

impl Pending {
    /// Of a path of which nothing is known but that the sink lacks it.
    pub(crate) fn since(since: Mono) -> Self {
        Self {
            since,
            old: None,
            whole: false,
            anew: false,
            attempts: 0,
        }
    }

    /// Two reasons to send one path: only what both know of the sink is known.
    fn join(self, other: Self) -> Self {
        Self {
            since: self.since.min(other.since),
            old: self.old.filter(|old| other.old == Some(*old)),
            whole: self.whole || other.whole,
            anew: self.anew || other.anew,
            attempts: self.attempts.max(other.attempts),
        }
    }
}

/// How far a directory came.
pub(crate) enum Phase {
    /// The source has not seen all of its own directory yet.
    Waiting,
    /// What has no known content is being read.
    Reading(Option<RelPath>),
    Comparing(Box<Comparing>),
    Live,
    /// Stopped on one side.
    Off,
}

/// A comparison under way.
pub(crate) struct Comparing {
    digests: BTreeMap<RelPath, Hash>,
    parts: BTreeMap<RelPath, Vec<Listed>>,
    unanswered: usize,
}

/// Whether the sink knows that it has everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    No,
    Sent,
    Done,
}

/// One directory of a session. A path waits in one place at most: what is noted there is what is
/// known of the sink, and two notes would grow apart.
pub(crate) struct SessionDir {
    pub(crate) hello: DirHello,
    pub(crate) phase: Phase,
    pub(crate) mark: Mark,
    /// Changes that happened since.
    pub(crate) live: BTreeMap<RelPath, Pending>,
    /// What the comparison found.
    pub(crate) bulk: BTreeMap<RelPath, Pending>,
    pub(crate) deletes: BTreeMap<RelPath, (Mono, Pending)>,
    pub(crate) retry: BTreeMap<RelPath, (Mono, Pending)>,
    /// Large files whose turn has not come.
    pub(crate) large: BTreeMap<RelPath, Pending>,
    /// Files that were read and wait for the proof that nobody was writing them: the mark
    /// after which that is known.
    unproven: BTreeMap<RelPath, (u64, Pending, Box<Whole>)>,
    /// Where the sink has a directory with entries that the source has not: if there is a
    /// directory again when the path is sent, the two are compared.
    uncompared: BTreeSet<RelPath>,
    /// What the sink has under names where it does not belong any more.
    pub(crate) vanished: Vanished,
    /// Directories that are compared while changes are sent, with what was listed so far.
    asked: BTreeMap<RelPath, Vec<Listed>>,
    pub(crate) trouble: String,
}

/// What was sent and not acknowledged.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    Put {
        path: RelPath,
        version: Version,
        sig: Option<Sig>,
        /// It was sent as another name of this file.
        to: Option<RelPath>,
    },
    Delete {
        path: RelPath,
    },
    Mark,
}

/// One number on its way.
#[derive(Clone, Debug)]
pub(crate) struct Inflight {
    pub(crate) seq: u64,
    pub(crate) dir: usize,
    pub(crate) sent: Sent,
    pub(crate) pending: Pending,
}

/// One connected sink.
pub(crate) struct Session {
    pub(crate) node: String,
    pub(crate) dirs: Vec<SessionDir>,
    pub(crate) out: VecDeque<Down>,
    pub(crate) seq: u64,
    pub(crate) inflight: VecDeque<Inflight>,
    pub(crate) large: Option<Outgoing>,
    pub(crate) transfers: u64,
    /// Whose turn it is while a large file is on its way.
    pub(crate) large_turn: bool,
}

impl SessionDir {
    pub(crate) fn new(hello: DirHello) -> Self {
        Self {
            hello,
            phase: Phase::Waiting,
            mark: Mark::No,
            live: BTreeMap::new(),
            bulk: BTreeMap::new(),
            deletes: BTreeMap::new(),
            retry: BTreeMap::new(),
            large: BTreeMap::new(),
            unproven: BTreeMap::new(),
            uncompared: BTreeSet::new(),
            vanished: Vanished::default(),
            asked: BTreeMap::new(),
            trouble: String::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        let phase = match &self.phase {
            Phase::Waiting => "waiting".into(),
            Phase::Reading(from) => format!("reading after {from:?}"),
            Phase::Comparing(comparing) => format!("comparing, {} left", comparing.unanswered),
            Phase::Live => "live".into(),
            Phase::Off => "off".into(),
        };
        format!(
            "{phase}, mark {:?}\nlive {:?}\nbulk {:?}\ndeletes {:?}\nretry {:?}\nlarge {:?}\nunproven {:?}\nasked {:?}\n",
            self.mark,
            self.live,
            self.bulk,
            self.deletes,
            self.retry,
            self.large,
            self.unproven.keys(),
            self.asked.keys(),
        )
    }

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

    /// A path is about to be sent. If both sides have a directory there now and what is in the
    /// sink's is not known, this is the question to ask.
    pub(crate) fn sending(&mut self, number: u16, path: &RelPath, directory: bool) -> Option<Down> {
        if directory {
            self.vanished.forget_one(path);
        } else {
            self.vanished.forget(path);
        }
        if !self.uncompared.remove(path) {
            return None;
        }
        if !directory {
            // The sink removes what was below.
            self.deleting(path);
            return None;
        }
        self.asked.insert(path.clone(), Vec::new());
        Some(Down::List {
            dir: number,
            path: path.clone(),
        })
    }

    /// What is sent next under this path must be a file of its own.
    pub(crate) fn send_anew(&mut self, path: &RelPath) {
        for pending in self.pending_mut(path) {
            pending.anew = true;
        }
    }

    fn pending_mut(&mut self, path: &RelPath) -> impl Iterator<Item = &mut Pending> {
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
    fn will_have(&mut self, path: &RelPath, version: Option<Version>) {
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

    /// The sink is about to remove everything at and below a path.
    pub(crate) fn deleting(&mut self, path: &RelPath) {
        self.vanished.forget(path);
        self.uncompared
            .retain(|other| other != path && !other.is_below(path));
    }

    /// Whether the sink was asked for something and has not answered.
    pub(crate) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
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

    /// When [`SessionDir::wake`] or a deletion is due.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let retry = self.retry.values().map(|(due, _)| *due);
        let deletes = self.deletes.values().map(|(due, _)| *due);
        retry.chain(deletes).min()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.live.len()
            + self.bulk.len()
            + self.deletes.len()
            + self.retry.len()
            + self.large.len()
            + self.unproven.len()
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

    /// Begins the comparison. Returns the first question, or `None` if there is nothing to ask.
    pub(crate) fn compare(&mut self, number: u16, tree: &Tree) -> Option<Down> {
        let digests = tree.digests();
        if digests.get(&RelPath::root()) == Some(&self.hello.digest) {
            self.phase = Phase::Live;
            return None;
        }
        self.phase = Phase::Comparing(Box::new(Comparing {
            digests,
            parts: BTreeMap::new(),
            unanswered: 1,
        }));
        Some(Down::List {
            dir: number,
            path: RelPath::root(),
        })
    }

    /// Takes an answer and returns the next questions.
    pub(crate) fn listing(
        &mut self,
        number: u16,
        tree: &Tree,
        path: RelPath,
        entries: Vec<Listed>,
        last: bool,
        now: Mono,
    ) -> Vec<Down> {
        let nothing = BTreeMap::new();
        // Before the directory is live its digests say what need not be listed; after that
        // they are old, and every directory below is listed.
        let (parts, digests, deep) = match &mut self.phase {
            Phase::Comparing(comparing) => (&mut comparing.parts, &comparing.digests, false),
            _ if self.asked.contains_key(&path) => (&mut self.asked, &nothing, true),
            _ => return Vec::new(),
        };
        let part = parts.entry(path.clone()).or_default();
        part.extend(entries);
        if !last {
            return Vec::new();
        }
        let theirs = parts.remove(&path).unwrap_or_default();
        let mut ours = tree.listing(&path, digests);
        for listed in ours.iter_mut().filter(|_| deep) {
            // The digest of nothing that the sink could have.
            listed.digest = [1; 32];
        }
        let found = differences(&ours, &theirs);
        let since = tree.behind_since.unwrap_or(now);
        let mut questions = Vec::new();
        for difference in found {
            match difference {
                Difference::Below(name) => {
                    questions.extend(path.join(&name).ok());
                }
                Difference::Ours(name) | Difference::Theirs(name) => {
                    let Ok(child) = path.join(&name) else {
                        continue;
                    };
                    let listed = theirs.iter().find(|listed| listed.name == name);
                    self.differs(tree, child, listed, since, deep);
                }
            }
        }
        self.ask(number, questions)
    }

    /// One path turned out to differ; `theirs` is what the sink had there when it answered.
    /// `live`: something may have been sent since.
    fn differs(
        &mut self,
        tree: &Tree,
        path: RelPath,
        theirs: Option<&Listed>,
        since: Mono,
        live: bool,
    ) {
        let link = theirs.map(|theirs| theirs.link).unwrap_or_default();
        let theirs = theirs.map(|theirs| theirs.version);
        let ours = tree.disk.get(&path);
        let own_link = ours.map(|known| tree.disk.link(known)).unwrap_or_default();
        if let Some(theirs) = theirs.filter(|theirs| {
            let ours = ours.and_then(|known| known.version);
            ours.is_none_or(|ours| !ours.same_content(theirs))
        }) {
            self.vanished.note(&path, &theirs);
        }
        let theirs_directory = theirs.is_some_and(|theirs| theirs.is_directory());
        let ours_directory = tree
            .disk
            .get(&path)
            .is_some_and(|known| known.kind == crate::version::Kind::Directory);
        if theirs_directory && !ours_directory {
            self.uncompared.insert(path.clone());
        }
        if !theirs_directory {
            // Where both have a directory it is compared by its own listing.
            for (below, _) in below(&tree.disk, &path) {
                self.want(below.clone(), since);
            }
        }
        self.want(path.clone(), since);
        for pending in self.pending_mut(&path) {
            pending.old = theirs.filter(|_| !live);
            // There it is another name of something else.
            pending.anew |= link != Link::default() && link != own_link;
        }
    }

    fn ask(&mut self, number: u16, paths: Vec<RelPath>) -> Vec<Down> {
        match &mut self.phase {
            Phase::Comparing(comparing) => {
                comparing.unanswered += paths.len();
                comparing.unanswered -= 1;
                if comparing.unanswered == 0 {
                    self.phase = Phase::Live;
                }
            }
            _ => {
                let parts = paths.iter().map(|path| (path.clone(), Vec::new()));
                self.asked.extend(parts);
            }
        }
        let question = |path| Down::List { dir: number, path };
        paths.into_iter().map(question).collect()
    }
}

impl Session {
    pub(crate) fn new(node: String, dirs: Vec<DirHello>) -> Self {
        Self {
            node,
            dirs: dirs.into_iter().map(SessionDir::new).collect(),
            out: VecDeque::new(),
            seq: 0,
            inflight: VecDeque::new(),
            large: None,
            transfers: 0,
            large_turn: false,
        }
    }

    /// Gives the next number to what is being sent.
    pub(crate) fn number(&mut self, dir: usize, sent: Sent, pending: Pending) -> u64 {
        self.seq += 1;
        match &sent {
            Sent::Put { path, version, .. } => self.dirs[dir].will_have(path, Some(*version)),
            Sent::Delete { path } => self.dirs[dir].will_have(path, None),
            Sent::Mark => {}
        }
        self.inflight.push_back(Inflight {
            seq: self.seq,
            dir,
            sent,
            pending,
        });
        self.seq
    }

    /// The next number that is acknowledged up to `upto`.
    pub(crate) fn acknowledged(&mut self, upto: u64) -> Option<Inflight> {
        if self.inflight.front()?.seq > upto {
            return None;
        }
        self.inflight.pop_front()
    }

    /// Whether the sink may lack this path.
    pub(crate) fn lacks(&self, dir: usize, path: &RelPath) -> bool {
        let d = &self.dirs[dir];
        !matches!(d.phase, Phase::Live)
            || d.live.contains_key(path)
            || d.bulk.contains_key(path)
            || d.retry.contains_key(path)
            || d.deletes.contains_key(path)
            || d.unproven.contains_key(path)
            || self.has_large(dir, path)
    }

    /// Whether a path waits to be sent as a large file, or is on its way as one.
    pub(crate) fn has_large(&self, dir: usize, path: &RelPath) -> bool {
        let large = self.large.as_ref();
        self.dirs[dir].large.contains_key(path)
            || large.is_some_and(|l| l.dir == dir && l.path == *path)
    }

    /// How many paths of a directory are not acknowledged.
    pub(crate) fn unacknowledged(&self, dir: usize) -> usize {
        let flying = self
            .inflight
            .iter()
            .filter(|i| i.dir == dir && !matches!(i.sent, Sent::Mark))
            .count();
        let large = self.large.iter().filter(|l| l.dir == dir).count();
        self.dirs[dir].waiting() + flying + large
    }

    pub(crate) fn oldest(&self, dir: usize) -> Option<Mono> {
        let flying = self
            .inflight
            .iter()
            .filter(|i| i.dir == dir && !matches!(i.sent, Sent::Mark));
        let large = self.large.iter().filter(|l| l.dir == dir);
        flying
            .map(|i| i.pending.since)
            .chain(large.map(|l| l.pending.since))
            .chain(self.dirs[dir].oldest())
            .min()
    }

    /// Everything in this directory was acknowledged, and the sink knows it.
    pub(crate) fn is_in_sync(&self, dir: usize) -> bool {
        matches!(self.dirs[dir].phase, Phase::Live)
            && self.dirs[dir].mark == Mark::Done
            && !self.dirs[dir].is_asking()
            && self.unacknowledged(dir) == 0
    }
}

#[cfg(test)]
mod tests;
