//! One connected sink: what it lacks, what was sent to it, what it acknowledged.
//!
//! What is to be done is a set of paths, never a list of events: a path is looked at when its
//! turn comes, and what stands there then is sent. The one thing to know: deletions come last,
//! so that a renamed file is never missing under both names.

mod comparing;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use haarb_model::Mono;

use super::large::Outgoing;
use super::vanished::Vanished;
use crate::compare::Listed;
use crate::message::{DirHello, Down};
use crate::path::RelPath;
use crate::read::Whole;
use crate::version::{Hash, Sig, Version};

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
    /// A directory got another name.
    Rename {
        from: RelPath,
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
            Sent::Rename { .. } | Sent::Mark => {}
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

    /// Whether a directory can get another name on the sink at once: nothing of what is in it is
    /// on its way or waits, under either name.
    pub(crate) fn can_rename(&self, dir: usize, from: &RelPath, to: &RelPath) -> bool {
        let d = &self.dirs[dir];
        let part = |path: &RelPath| {
            let within = |top: &RelPath| path == top || path.is_below(top) || top.is_below(path);
            within(from) || within(to)
        };
        matches!(d.phase, Phase::Live) && !d.is_asking() && !self.lacking(dir).any(part)
    }

    /// Whether a path waits to be sent as a large file, or is on its way as one.
    pub(crate) fn has_large(&self, dir: usize, path: &RelPath) -> bool {
        let large = self.large.as_ref();
        self.dirs[dir].large.contains_key(path)
            || large.is_some_and(|l| l.dir == dir && l.path == *path)
    }

    /// The paths of a directory that the sink may lack, as far as they are known; some twice.
    pub(crate) fn lacking(&self, dir: usize) -> impl Iterator<Item = &RelPath> {
        let flying = self.inflight.iter().filter(move |i| i.dir == dir);
        let flying = flying.filter_map(|i| match &i.sent {
            Sent::Put { path, .. } | Sent::Delete { path } | Sent::Rename { path, .. } => {
                Some(path)
            }
            Sent::Mark => None,
        });
        let large = self.large.iter().filter(move |l| l.dir == dir);
        let large = large.map(|large| &large.path);
        self.dirs[dir].paths().chain(flying).chain(large)
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

    /// What was wrong with single paths is over when each of them was sent.
    pub(crate) fn forget_trouble(&mut self) {
        for dir in 0..self.dirs.len() {
            if !self.dirs[dir].trouble.is_empty() && self.failed(dir, 1) == 0 {
                self.dirs[dir].trouble.clear();
            }
        }
    }

    /// How many paths failed more than once and are tried again.
    pub(crate) fn failing(&self, dir: usize) -> u64 {
        // The sink cannot take anything at all: the directory itself.
        let none = u64::from(!self.dirs[dir].hello.error.is_empty());
        self.failed(dir, 2) + none
    }

    /// How many paths failed so often at least.
    fn failed(&self, dir: usize, times: u32) -> u64 {
        let flying = self.inflight.iter().filter(|i| i.dir == dir);
        let flying = flying.map(|i| &i.pending);
        let large = self.large.iter().filter(|l| l.dir == dir);
        let all = flying.chain(large.map(|l| &l.pending));
        let failed = all.filter(|pending| pending.attempts >= times);
        failed.count() as u64 + self.dirs[dir].failed(times)
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

    /// Everything in this directory was acknowledged but deletions that wait for a person.
    pub(crate) fn lacks_deletions_only(&self, dir: usize) -> bool {
        let d = &self.dirs[dir];
        matches!(d.phase, Phase::Live)
            && d.mark == Mark::Done
            && !d.is_asking()
            && self.unacknowledged(dir) == d.deletes.len()
    }

    /// Whether a path is one that waits to be deleted, or lies in one.
    pub(crate) fn is_to_be_deleted(&self, dir: usize, path: &RelPath) -> bool {
        let deletes = &self.dirs[dir].deletes;
        let mut next = (!deletes.is_empty()).then(|| path.clone());
        while let Some(path) = next {
            if deletes.contains_key(&path) {
                return true;
            }
            next = path.parent();
        }
        false
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
