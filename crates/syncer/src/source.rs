//! The sending side of a reserve: what changed here, and what each sink still lacks.
//!
//! It knows neither sockets nor threads nor inotify: events and answers go in, messages come
//! out, time is an argument; only the directories themselves are read. The one thing to know:
//! an event is a hint to look, and what is sent is what then stands on the disk.

mod acknowledge;
mod disk;
mod drain;
mod guard;
mod large;
mod link;
mod send;
mod session;
mod status;
mod tree;
mod vanished;

use std::collections::BTreeMap;

use haarb_model::{Mono, Span};

use crate::Replicated;
use crate::index::Stage;
use crate::message::{DirWelcome, Down, Hello, PROTOCOL, Refusal};
use crate::path::RelPath;
use crate::settle::Hint;
use crate::sink::count_conflicts;
use session::{Pending, Sent, Session};
pub(crate) use tree::Watch;
pub(crate) use tree::forget_question;
use tree::{Change, Tree};

/// Numbers that may be on their way at once. What TCP does not hold waits in the sink's
/// queue; this only bounds our own memory of them.
const INFLIGHT_MAX: usize = 16 * 1024;

/// Between two looks at everything where watching is not possible. The mission's upper bound
/// is one second; two keep a large tree from holding the processor.
const UNWATCHED_INTERVAL: Span = Span::from_secs(2);

/// Between two looks at what stopped a directory.
const STOPPED_INTERVAL: Span = Span::from_secs(1);

/// Names one session.
pub(crate) type SessionId = u64;

/// What happened to the watched directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WatchEvent {
    /// Look at this path of a directory.
    Hint {
        dir: usize,
        path: RelPath,
        hint: Hint,
        /// Wall clock when it was told, nanoseconds.
        told_ns: i64,
    },
    /// All events before [`Watch::mark`] with this number have been delivered.
    Marked { dir: usize, number: u64 },
    /// Events were lost: look at everything.
    Lost,
}

/// What a session has to send.
#[derive(Debug)]
pub(crate) enum Next {
    Send(Down),
    /// Something was done: ask again.
    Busy,
    /// Nothing before the next event or deadline.
    Idle,
}

/// A message that a sink should not have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sink broke the protocol: {0}")]
pub(crate) struct Broken(&'static str);

/// The sending side of one reserve.
pub(crate) struct Source {
    me: String,
    pub(crate) epoch: u64,
    /// The other servers: what all of them have is common.
    others: Vec<String>,
    names: Vec<Vec<u8>>,
    pub(crate) trees: Vec<Tree>,
    sessions: BTreeMap<SessionId, Session>,
    next_session: SessionId,
    watch: Box<dyn Watch>,
    draining: bool,
    drained: bool,
    seals: u64,
    looked_at: Mono,
    tried_at: Mono,
    /// A sink knows a higher epoch: nothing is sent any more.
    pub(crate) outranked: Option<u64>,
    pub(crate) conflicts: u64,
}

impl Source {
    pub(crate) fn new(
        me: &str,
        epoch: u64,
        others: Vec<String>,
        directories: &[Replicated],
        watch: Box<dyn Watch>,
    ) -> Self {
        Self {
            me: me.to_owned(),
            epoch,
            others,
            names: directories.iter().map(|dir| dir.name.clone()).collect(),
            trees: directories
                .iter()
                .map(|dir| Tree::new(dir.at.clone(), dir.exclude.clone(), dir.deletion_limit))
                .collect(),
            sessions: BTreeMap::new(),
            next_session: 0,
            watch,
            draining: false,
            drained: false,
            seals: 0,
            looked_at: Mono::ZERO,
            tried_at: Mono::ZERO,
            outranked: None,
            conflicts: 0,
        }
    }

    /// Goes by another clock.
    #[cfg(test)]
    pub(crate) fn set_wall(&mut self, wall: &crate::wall::Wall) {
        for tree in &mut self.trees {
            tree.place.wall = wall.clone();
        }
    }

    /// Takes what the watch saw.
    pub(crate) fn events(&mut self, events: Vec<WatchEvent>, now: Mono) {
        for event in events {
            match event {
                WatchEvent::Hint {
                    dir,
                    path,
                    hint,
                    told_ns,
                } => {
                    if let Some(tree) = self.trees.get_mut(dir)
                        && tree.error.is_empty()
                    {
                        tree.hint(path, hint, now, told_ns);
                    }
                }
                WatchEvent::Marked { dir, number } => {
                    let Some(tree) = self.trees.get_mut(dir) else {
                        continue;
                    };
                    tree.marked = tree.marked.max(number);
                    if let Some((wanted, reached)) = &mut tree.seal
                        && *wanted == number
                    {
                        *reached = true;
                    }
                }
                WatchEvent::Lost => {
                    tracing::warn!("events were lost: everything is looked at again");
                    for dir in 0..self.trees.len() {
                        let tree = &mut self.trees[dir];
                        tree.look_again();
                        // A mark on its way may be lost, too: nothing waits for it.
                        tree.making = tree.marked;
                        self.seal(dir);
                        for session in self.sessions.values_mut() {
                            session.dirs[dir].doubt_all();
                        }
                    }
                }
            }
        }
    }

    /// Does what is due here. Says whether there is more to do at once.
    pub(crate) fn tick(&mut self, now: Mono) -> bool {
        let unwatched = self.trees.iter().any(|tree| !tree.unwatched.is_empty());
        if unwatched && now >= self.looked_at + UNWATCHED_INTERVAL {
            self.looked_at = now;
            for tree in self.trees.iter_mut().filter(|t| !t.is_visiting()) {
                tree.look_again();
            }
        }
        if self.is_stopped() && now >= self.tried_at + STOPPED_INTERVAL {
            self.tried_at = now;
            self.start_again(now);
        }
        let mut busy = false;
        for dir in 0..self.trees.len() {
            let tree = &mut self.trees[dir];
            if !tree.error.is_empty() {
                continue;
            }
            let mut changes = tree.look_at_ripe(now, self.draining);
            changes.extend(tree.look_at_stamps(now, self.draining));
            if tree.is_visiting() {
                let first = !tree.visited;
                changes.extend(tree.visit(self.watch.as_mut(), now));
                if first && tree.visited {
                    tree.become_original();
                    tree.begin_to_guard(now);
                }
                busy |= tree.is_visiting();
            }
            tree.gate(self.draining, now);
            tree.look_for_confirmation(now);
            for change in changes {
                self.changed(dir, &change);
            }
        }
        for session in self.sessions.values_mut() {
            for dir in &mut session.dirs {
                dir.wake(now);
            }
            session.forget_trouble();
        }
        if self.draining && !self.drained {
            self.drained = self.is_drained();
        }
        busy
    }

    fn is_stopped(&self) -> bool {
        self.trees.iter().any(|tree| !tree.error.is_empty())
    }

    /// Directories that were stopped are tried again; the sinks introduce themselves anew,
    /// because what they said about such a directory does not hold any more.
    fn start_again(&mut self, now: Mono) {
        let stopped = self.trees.iter_mut().filter(|tree| !tree.error.is_empty());
        // Each of them, not only up to the first that works.
        let started = stopped
            .filter_map(|tree| tree.start_again().then_some(()))
            .count();
        if started > 0 {
            for id in self.sessions.keys().copied().collect::<Vec<_>>() {
                self.disconnect(id, now);
            }
        }
    }

    fn changed(&mut self, dir: usize, change: &Change) {
        if let Some(from) = &change.renamed {
            return self.renamed_directory(dir, change, from);
        }
        let alone = self.sessions.len() == 1;
        for session in self.sessions.values_mut() {
            session.dirs[dir].changed(change, alone);
        }
        if self.sessions.is_empty() {
            let tree = &mut self.trees[dir];
            tree.behind_since.get_or_insert(change.since);
            tree.missed.insert(change.path.clone());
        }
    }

    /// One message where the sink surely has all that is in the directory; a change of each entry
    /// elsewhere.
    fn renamed_directory(&mut self, dir: usize, change: &Change, from: &RelPath) {
        let alone = self.sessions.len() == 1 && self.others.len() == 1;
        for session in self.sessions.values_mut() {
            if alone && session.can_rename(dir, from, &change.path) {
                let (from, path) = (from.clone(), change.path.clone());
                let sent = Sent::Rename {
                    from: from.clone(),
                    path: path.clone(),
                };
                let seq = session.number(dir, sent, Pending::since(change.since));
                session.out.push_back(Down::Rename {
                    seq,
                    dir: dir as u16,
                    from,
                    path,
                });
                continue;
            }
            for each in self.trees[dir].each_renamed(from, change) {
                session.dirs[dir].changed(&each, false);
            }
        }
        if self.sessions.is_empty() {
            let tree = &mut self.trees[dir];
            tree.behind_since.get_or_insert(change.since);
            tree.missed.extend([from.clone(), change.path.clone()]);
        }
    }

    /// When [`Source::tick`] is due without an event, after it was done `now`.
    pub(crate) fn deadline(&self, now: Mono) -> Option<Mono> {
        let settling = self.trees.iter().filter_map(Tree::deadline);
        let sessions = self.sessions.values().flat_map(|session| &session.dirs);
        let unwatched = self.trees.iter().any(|tree| !tree.unwatched.is_empty());
        settling
            .chain(sessions.filter_map(|dir| dir.deadline(now)))
            .chain(self.trees.iter().filter_map(Tree::guard_deadline))
            .chain(unwatched.then_some(self.looked_at + UNWATCHED_INTERVAL))
            .chain(
                self.is_stopped()
                    .then_some(self.tried_at + STOPPED_INTERVAL),
            )
            .min()
    }

    /// A sink introduces itself.
    pub(crate) fn connect(&mut self, hello: Hello) -> Result<(SessionId, Down), Refusal> {
        if hello.protocol != PROTOCOL {
            return Err(Refusal::Protocol);
        }
        if hello.epoch > self.epoch {
            self.outrank(hello.epoch);
        }
        if self.outranked.is_some() {
            return Err(Refusal::LowerEpoch);
        }
        let theirs = hello.directories.iter().map(|dir| &dir.path);
        if !self.names.iter().eq(theirs) {
            return Err(Refusal::Directories);
        }
        // A person may have restored or purged some.
        let roots = self.trees.iter().map(|tree| &tree.place.path);
        self.conflicts = roots.map(|root| count_conflicts(root)).sum();
        // A sink that comes again has lost its earlier session.
        self.sessions
            .retain(|_, session| session.node != hello.node);
        let directories = self
            .trees
            .iter()
            .map(|tree| DirWelcome {
                lineage: tree.store.index.header.lineage,
                error: tree.error.clone(),
                exclude: tree.exclude.patterns().to_vec(),
            })
            .collect();
        self.next_session += 1;
        let session = Session::new(hello.node, hello.directories);
        self.sessions.insert(self.next_session, session);
        let welcome = Down::Welcome {
            protocol: PROTOCOL,
            node: self.me.clone(),
            epoch: self.epoch,
            directories,
        };
        Ok((self.next_session, welcome))
    }

    /// Somebody else was activated after us.
    fn outrank(&mut self, epoch: u64) {
        tracing::error!(
            "a sink has seen epoch {epoch}, we send under {}: nothing more is sent",
            self.epoch
        );
        self.outranked = Some(epoch);
        self.sessions.clear();
    }

    /// The content of what was sent last.
    #[cfg(test)]
    pub(crate) fn sent_last(&self, id: SessionId) -> Option<crate::version::Hash> {
        match &self.sessions.get(&id)?.inflight.back()?.sent {
            Sent::Put { version, .. } => Some(version.hash),
            _ => None,
        }
    }

    pub(crate) fn is_connected(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// The link to a sink is gone.
    pub(crate) fn disconnect(&mut self, id: SessionId, now: Mono) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        for (dir, tree) in self.trees.iter_mut().enumerate() {
            if session.is_in_sync(dir) && tree.settling.is_empty() {
                continue;
            }
            let since = session
                .oldest(dir)
                .into_iter()
                .chain(tree.settling.oldest());
            let since = since.min().unwrap_or(now);
            tree.behind_since = Some(tree.behind_since.unwrap_or(since).min(since));
            tree.missed.extend(session.lacking(dir).cloned());
        }
    }
}

/// Why this directory must not be sent: it is empty, and nothing shows that it is the one that
/// the replica came from.
fn would_empty(tree: &Tree, sink: &crate::message::DirHello) -> Option<String> {
    let header = &tree.store.index.header;
    let ours = header.stage == Stage::Whole && header.lineage == sink.lineage;
    (tree.disk.is_empty() && sink.entries > 0 && !ours).then(|| {
        format!(
            "{}: is empty here and has {} entries on the other server: is its file system mounted? mount it, or put a file there if it is meant to be empty",
            tree.place.path.display(),
            sink.entries
        )
    })
}
