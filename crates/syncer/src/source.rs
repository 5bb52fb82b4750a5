//! The sending side of a reserve: what changed here, and what each sink still lacks.
//!
//! It knows neither sockets nor threads nor inotify: events and answers go in, messages come
//! out, time is an argument; only the directories themselves are read. The one thing to know:
//! an event is a hint to look, and what is sent is what then stands on the disk.

mod large;
mod session;
mod status;
mod tree;

use std::collections::BTreeMap;

use haarb_model::{Mono, Span};

use crate::Replicated;
use crate::index::{Entry, Header, Record, Stage};
use crate::message::{DirWelcome, Down, Hello, PROTOCOL, Problem, Refusal, Up};
use crate::path::RelPath;
use crate::read::{Look, Whole, look};
use crate::settle::Hint;
use crate::version::{Kind, Version};
use large::{Outgoing, Step};
use session::{Mark, Pending, Phase, Sent, Session};
pub(crate) use tree::Watch;
use tree::{Change, Known, Tree, Until};

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
                .map(|dir| Tree::new(dir.at.clone()))
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

    /// Takes what the watch saw.
    pub(crate) fn events(&mut self, events: Vec<WatchEvent>, now: Mono) {
        for event in events {
            match event {
                WatchEvent::Hint { dir, path, hint } => {
                    if let Some(tree) = self.trees.get_mut(dir)
                        && tree.error.is_empty()
                    {
                        tree.hint(path, hint, now);
                    }
                }
                WatchEvent::Marked { dir, number } => {
                    if let Some(tree) = self.trees.get_mut(dir)
                        && let Some((wanted, reached)) = &mut tree.seal
                        && *wanted == number
                    {
                        *reached = true;
                    }
                }
                WatchEvent::Lost => {
                    tracing::warn!("events were lost: everything is looked at again");
                    for dir in 0..self.trees.len() {
                        self.trees[dir].look_again();
                        self.seal(dir);
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
            if tree.is_visiting() {
                let first = !tree.visited;
                changes.extend(tree.visit(self.watch.as_mut(), now));
                if first && tree.visited {
                    tree.become_original();
                }
                busy |= tree.is_visiting();
            }
            for change in changes {
                self.changed(dir, &change);
            }
        }
        for session in self.sessions.values_mut() {
            for dir in &mut session.dirs {
                dir.wake(now);
            }
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

    /// When [`Source::tick`] is due without an event.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let settling = self
            .trees
            .iter()
            .filter_map(|tree| tree.settling.deadline());
        let sessions = self.sessions.values().flat_map(|session| &session.dirs);
        let unwatched = self.trees.iter().any(|tree| !tree.unwatched.is_empty());
        settling
            .chain(sessions.filter_map(|dir| dir.deadline()))
            .chain(unwatched.then_some(self.looked_at + UNWATCHED_INTERVAL))
            .chain(
                self.is_stopped()
                    .then_some(self.tried_at + STOPPED_INTERVAL),
            )
            .min()
    }

    /// A sink introduces itself.
    pub(crate) fn connect(&mut self, hello: Hello) -> Result<(SessionId, Down), Down> {
        let refuse = |why, epoch| Err(Down::Refuse { why, epoch });
        if hello.protocol != PROTOCOL {
            return refuse(Refusal::Protocol, self.epoch);
        }
        if hello.epoch > self.epoch {
            self.outrank(hello.epoch);
        }
        if self.outranked.is_some() {
            return refuse(Refusal::LowerEpoch, self.epoch);
        }
        let theirs = hello.directories.iter().map(|dir| &dir.path);
        if !self.names.iter().eq(theirs) {
            return refuse(Refusal::Directories, self.epoch);
        }
        // A sink that comes again has lost its earlier session.
        self.sessions
            .retain(|_, session| session.node != hello.node);
        let directories = self
            .trees
            .iter()
            .map(|tree| DirWelcome {
                lineage: tree.store.index.header.lineage,
                error: tree.error.clone(),
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
            let d = &session.dirs[dir];
            let waiting = d.live.keys().chain(d.bulk.keys()).chain(d.retry.keys());
            let waiting = waiting.chain(d.deletes.keys()).cloned();
            let flying = session.inflight.iter().filter(|i| i.dir == dir);
            let flying = flying.filter_map(|i| match &i.sent {
                Sent::Put { path, .. } | Sent::Delete { path } => Some(path.clone()),
                Sent::Mark => None,
            });
            tree.missed.extend(waiting.chain(flying));
        }
    }

    /// The next message for a session.
    pub(crate) fn next(&mut self, id: SessionId, now: Mono) -> Next {
        let Some(mut session) = self.sessions.remove(&id) else {
            return Next::Idle;
        };
        let next = self.next_of(&mut session, now);
        self.sessions.insert(id, session);
        next
    }

    fn next_of(&mut self, session: &mut Session, now: Mono) -> Next {
        if let Some(message) = session.out.pop_front() {
            return Next::Send(message);
        }
        if session.inflight.len() >= INFLIGHT_MAX {
            return Next::Idle;
        }
        for dir in 0..self.trees.len() {
            if let Some(next) = self.prepare(session, dir) {
                return next;
            }
        }
        session.large_turn = !session.large_turn;
        if session.large_turn
            && let Some(next) = self.next_large(session, now)
        {
            return next;
        }
        for dir in 0..self.trees.len() {
            if let Some(next) = self.next_small(session, dir, now) {
                return next;
            }
        }
        if let Some(next) = self.next_large(session, now) {
            return next;
        }
        for dir in 0..self.trees.len() {
            if let Some(next) = self.next_last(session, dir, now) {
                return next;
            }
        }
        Next::Idle
    }

    /// Brings a directory to where changes can be sent.
    fn prepare(&mut self, session: &mut Session, number: usize) -> Option<Next> {
        let tree = &mut self.trees[number];
        let dir = &mut session.dirs[number];
        match &mut dir.phase {
            Phase::Waiting => {
                if !tree.error.is_empty() || !dir.hello.error.is_empty() {
                    dir.phase = Phase::Off;
                } else if tree.visited {
                    if let Some(why) = would_empty(tree, &dir.hello) {
                        tree.stop(why, Until::NotEmpty);
                        dir.phase = Phase::Off;
                        return Some(Next::Busy);
                    }
                    dir.phase = Phase::Reading(None);
                    return Some(Next::Busy);
                }
                None
            }
            Phase::Reading(from) => {
                if !tree.read_one_unknown(from) {
                    session.out.extend(dir.compare(number as u16, tree));
                }
                Some(Next::Busy)
            }
            Phase::Comparing(_) | Phase::Live | Phase::Off => {
                if !tree.error.is_empty() {
                    dir.phase = Phase::Off;
                }
                None
            }
        }
    }

    fn next_small(&mut self, session: &mut Session, number: usize, now: Mono) -> Option<Next> {
        let dir = &mut session.dirs[number];
        if !matches!(dir.phase, Phase::Live) {
            return None;
        }
        let (path, pending) = dir.live.pop_first().or_else(|| dir.bulk.pop_first())?;
        Some(self.send_path(session, number, path, pending, now))
    }

    /// Looks at a path and sends what stands there.
    fn send_path(
        &mut self,
        session: &mut Session,
        number: usize,
        path: RelPath,
        pending: Pending,
        now: Mono,
    ) -> Next {
        let busy_with_it = session
            .large
            .as_ref()
            .is_some_and(|large| large.dir == number && large.path == path);
        let tree = &mut self.trees[number];
        let dir = &mut session.dirs[number];
        if busy_with_it {
            dir.again_soon(path, pending, now);
            return Next::Busy;
        }
        let looked = match tree.place.enter() {
            Ok(root) => look(&root, &path),
            Err(error) => {
                tree.stop_at_root(&error);
                return Next::Busy;
            }
        };
        match looked {
            Err(error) => {
                dir.trouble = tree.about(&path, &error);
                tracing::warn!("{}", dir.trouble);
                dir.again_later(path, pending, now);
            }
            Ok(Look::Changing) => dir.again_soon(path, pending, now),
            Ok(Look::Absent) => {
                if tree.knows(&path) {
                    let change = tree.gone(&path, now);
                    dir.changed(&change, false);
                    dir.live.remove(&path);
                    for other in self.sessions.values_mut() {
                        other.dirs[number].changed(&change, false);
                    }
                }
                dir.delete_later(path, pending, now);
            }
            Ok(Look::Large) => dir.large.push_back((path, pending)),
            Ok(Look::Whole(whole)) => {
                self.learn(number, &path, Known::from(&*whole), now);
                let directory = whole.version.is_directory();
                let question = dir.sending(number as u16, &path, directory);
                let next = send_whole(session, number, path, pending, *whole);
                // After the directory itself, so that there is one to list.
                session.out.extend(question);
                return next;
            }
        }
        Next::Busy
    }

    /// What was just read is what stands there. The other sinks hear of it here, because the
    /// event that will come finds nothing new any more.
    fn learn(&mut self, number: usize, path: &RelPath, known: Known, now: Mono) {
        let tree = &mut self.trees[number];
        if known.kind != Kind::Directory {
            tree.remove_below(path);
        }
        let before = tree.disk.insert(path.clone(), known);
        if before.and_then(|before| before.version) == known.version {
            return;
        }
        let change = Change {
            path: path.clone(),
            since: now,
            old: None,
            emptied: false,
        };
        for other in self.sessions.values_mut() {
            other.dirs[number].changed(&change, false);
        }
    }

    fn next_large(&mut self, session: &mut Session, now: Mono) -> Option<Next> {
        let Some(mut large) = session.large.take() else {
            return self.begin_large(session, now);
        };
        let tree = &mut self.trees[large.dir];
        let waited = now.since(large.pending.since);
        let step = match tree.place.enter() {
            Ok(root) => large.step(&root, waited).map(|step| {
                // Gone or replaced while it was read: its own event tells what is there now.
                let found = root.find(&large.path).ok().flatten();
                let here = found.is_some_and(|found| large.is(&found));
                if here || !matches!(step, Step::Done { .. }) {
                    step
                } else {
                    Step::Changed
                }
            }),
            Err(error) => {
                tree.stop_at_root(&error);
                return Some(Next::Busy);
            }
        };
        match step {
            Ok(Step::Send(message)) => {
                session.large = Some(large);
                Some(Next::Send(message))
            }
            Ok(Step::Busy) => {
                session.large = Some(large);
                Some(Next::Busy)
            }
            Ok(Step::Wait) => {
                session.large = Some(large);
                None
            }
            Ok(Step::Done {
                version,
                sig,
                doubt,
                xattrs,
            }) => {
                let known = Known {
                    version: Some(version),
                    kind: Kind::File,
                    sig,
                    doubt,
                };
                self.learn(large.dir, &large.path, known, now);
                session.dirs[large.dir].sending(large.dir as u16, &large.path, false);
                let sent = Sent::Put {
                    path: large.path,
                    version,
                    sig: (!doubt).then_some(sig),
                };
                let seq = session.number(large.dir, sent, large.pending);
                Some(Next::Send(Down::End {
                    seq,
                    transfer: large.transfer,
                    version,
                    xattrs,
                }))
            }
            Ok(Step::Changed) => {
                let dir = &mut session.dirs[large.dir];
                dir.again_soon(large.path, large.pending, now);
                Some(Next::Send(Down::Cancel {
                    transfer: large.transfer,
                }))
            }
            Err(error) => {
                let dir = &mut session.dirs[large.dir];
                dir.trouble = tree.about(&large.path, &error);
                dir.again_later(large.path, large.pending, now);
                Some(Next::Send(Down::Cancel {
                    transfer: large.transfer,
                }))
            }
        }
    }

    fn begin_large(&mut self, session: &mut Session, now: Mono) -> Option<Next> {
        let number = (0..self.trees.len()).find(|n| !session.dirs[*n].large.is_empty())?;
        let (path, pending) = session.dirs[number].large.pop_front()?;
        session.transfers += 1;
        let transfer = session.transfers;
        let tree = &mut self.trees[number];
        let begun = match tree.place.enter() {
            Ok(root) => Outgoing::begin(&root, number, path.clone(), pending.clone(), transfer),
            Err(error) => {
                tree.stop_at_root(&error);
                return Some(Next::Busy);
            }
        };
        match begun {
            Ok(Some(large)) => {
                session.large = Some(large);
                Some(Next::Send(Down::Begin {
                    transfer,
                    dir: number as u16,
                    path,
                }))
            }
            // It is no large file any more: look again.
            Ok(None) | Err(_) => {
                session.dirs[number].again_soon(path, pending, now);
                Some(Next::Busy)
            }
        }
    }

    /// What comes after everything else: deletions, then the mark.
    fn next_last(&mut self, session: &mut Session, number: usize, now: Mono) -> Option<Next> {
        let dir = &mut session.dirs[number];
        if !matches!(dir.phase, Phase::Live) {
            return None;
        }
        if let Some((path, pending)) = dir.due_delete(now, self.draining) {
            let tree = &self.trees[number];
            let mut place = tree.place.clone();
            let found = place.enter().map(|root| root.find(&path));
            if !matches!(found, Ok(Ok(None))) && !self.only_other_kind(number, &path) {
                // It came back meanwhile, or cannot be told: look at it once more.
                dir.live.insert(path, pending);
                return Some(Next::Busy);
            }
            dir.deleting(&path);
            let seq = session.number(number, Sent::Delete { path: path.clone() }, pending);
            return Some(Next::Send(Down::Delete {
                seq,
                dir: number as u16,
                path,
            }));
        }
        let large_here = session.large.as_ref().is_some_and(|l| l.dir == number);
        let nothing_left = dir.bulk.is_empty()
            && dir.deletes.is_empty()
            && dir.retry.is_empty()
            && dir.large.is_empty()
            && !dir.is_asking()
            && !large_here;
        if dir.mark == Mark::No && nothing_left {
            dir.mark = Mark::Sent;
            let pending = Pending {
                since: now,
                old: None,
                whole: false,
                attempts: 0,
            };
            let seq = session.number(number, Sent::Mark, pending);
            return Some(Next::Send(Down::InSync {
                seq,
                dir: number as u16,
            }));
        }
        None
    }

    /// Something stands at the path that is not synchronised: for the sink it is gone.
    fn only_other_kind(&self, number: usize, path: &RelPath) -> bool {
        let mut place = self.trees[number].place.clone();
        place
            .enter()
            .ok()
            .and_then(|root| root.find(path).ok().flatten())
            .is_some_and(|found| found.kind.is_none())
    }

    /// Takes what a sink says.
    pub(crate) fn take(&mut self, id: SessionId, message: Up, now: Mono) -> Result<(), Broken> {
        let Some(mut session) = self.sessions.remove(&id) else {
            return Ok(());
        };
        let taken = self.take_of(&mut session, message, now);
        self.sessions.insert(id, session);
        if self.draining && !self.drained {
            self.drained = self.is_drained();
        }
        taken
    }

    fn take_of(&mut self, session: &mut Session, message: Up, now: Mono) -> Result<(), Broken> {
        match message {
            Up::Hello(_) => Err(Broken("a second hello")),
            Up::Ping => Ok(()),
            Up::Listing {
                dir,
                path,
                entries,
                last,
            } => {
                let number = usize::from(dir);
                let tree = self.trees.get(number).ok_or(Broken("no such directory"))?;
                let state = &mut session.dirs[number];
                let questions = state.listing(dir, tree, path, entries, last, now);
                session.out.extend(questions);
                Ok(())
            }
            Up::Base { transfer, segments } => {
                if let Some(large) = session.large.as_mut().filter(|l| l.transfer == transfer) {
                    large.base(segments);
                }
                Ok(())
            }
            Up::Signature {
                transfer,
                segment,
                hash,
                signature,
            } => {
                if let Some(large) = session.large.as_mut().filter(|l| l.transfer == transfer) {
                    large.signature(segment, hash, signature);
                }
                Ok(())
            }
            Up::Ack { upto, problems } => self.acknowledged(session, upto, problems, now),
            Up::Local { dir, path } => {
                let state = session
                    .dirs
                    .get_mut(usize::from(dir))
                    .ok_or(Broken("no such directory"))?;
                state.want(path, now);
                Ok(())
            }
        }
    }

    fn acknowledged(
        &mut self,
        session: &mut Session,
        upto: u64,
        problems: Vec<(u64, Problem)>,
        now: Mono,
    ) -> Result<(), Broken> {
        if upto > session.seq {
            return Err(Broken("it acknowledges what was never sent"));
        }
        let problems: BTreeMap<u64, Problem> = problems.into_iter().collect();
        let mut notes: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
        let mut marked = Vec::new();
        while let Some(flying) = session.inflight.pop_front_if(|i| i.seq <= upto) {
            let number = flying.dir;
            match (problems.get(&flying.seq), flying.sent) {
                (None, Sent::Put { path, version, sig }) => {
                    if self.everybody_has(session, number, &path) {
                        let entry = Entry {
                            version,
                            sig,
                            before: None,
                        };
                        let notes = notes.entry(number).or_default();
                        notes.push(Record::Put(path, entry));
                    }
                }
                (None, Sent::Delete { path }) => {
                    if self.everybody_has(session, number, &path) {
                        notes.entry(number).or_default().push(Record::Remove(path));
                    }
                }
                (None, Sent::Mark) => {
                    session.dirs[number].mark = Mark::Done;
                    marked.push(number);
                }
                (Some(_), Sent::Mark) => session.dirs[number].mark = Mark::No,
                (Some(problem), Sent::Put { path, .. } | Sent::Delete { path }) => {
                    let dir = &mut session.dirs[number];
                    let pending = Pending {
                        old: None,
                        whole: true,
                        ..flying.pending
                    };
                    match problem {
                        Problem::NeedContent => {
                            dir.live.entry(path).or_insert(pending);
                        }
                        Problem::Failed(text) => {
                            dir.trouble = format!("{}: {text}", session.node);
                            tracing::warn!("{}", dir.trouble);
                            dir.again_later(path, pending, now);
                        }
                    }
                }
            }
        }
        for (number, records) in notes {
            self.note(number, records);
        }
        for number in marked {
            self.adopt(session, number);
        }
        for dir in session.dirs.iter_mut().filter(|dir| dir.retry.is_empty()) {
            dir.trouble.clear();
        }
        Ok(())
    }

    /// Whether every other server has what stands at a path, `session`'s included.
    fn everybody_has(&self, session: &Session, number: usize, path: &RelPath) -> bool {
        self.others.iter().all(|name| {
            *name == session.node
                || self.sessions.values().any(|other| {
                    other.node == *name
                        && !other.lacks(number, path)
                        && !other.inflight.iter().any(|i| {
                            matches!(&i.sent, Sent::Put { path: p, .. } | Sent::Delete { path: p } if p == path)
                        })
                })
        })
    }

    fn note(&mut self, number: usize, records: Vec<Record>) {
        let tree = &mut self.trees[number];
        let noted = tree
            .place
            .enter()
            .map_err(|e| e.to_string())
            .and_then(|root| tree.store.note(&root, records).map_err(|e| e.to_string()));
        if let Err(error) = noted {
            // Only the memory suffers: later too much is kept, not too little.
            tracing::warn!("{}: its index: {error}", tree.place.path.display());
        }
    }

    /// A sink has everything: what stands here and is not on its way is common.
    fn adopt(&mut self, session: &Session, number: usize) {
        let everybody = self.others.iter().all(|name| {
            *name == session.node
                || self
                    .sessions
                    .values()
                    .any(|s| s.node == *name && s.dirs[number].mark == Mark::Done)
        });
        let tree = &mut self.trees[number];
        tree.behind_since = None;
        tree.missed.clear();
        if !everybody {
            return;
        }
        let flying: std::collections::BTreeSet<&RelPath> = session
            .inflight
            .iter()
            .filter(|i| i.dir == number)
            .filter_map(|i| match &i.sent {
                Sent::Put { path, .. } | Sent::Delete { path } => Some(path),
                Sent::Mark => None,
            })
            .collect();
        let settled = |path: &RelPath| !session.lacks(number, path) && !flying.contains(path);
        let mut records = vec![Record::Header(Header {
            stage: Stage::Whole,
            with: self.others.clone(),
            ..tree.store.index.header.clone()
        })];
        for (path, known) in &tree.disk {
            let Some(version) = known.version.filter(|_| settled(path)) else {
                continue;
            };
            let entry = Entry {
                version,
                sig: (!known.doubt).then_some(known.sig),
                before: None,
            };
            if tree.store.index.entries.get(path) != Some(&entry) {
                records.push(Record::Put(path.clone(), entry));
            }
        }
        for path in tree.store.index.entries.keys() {
            if !tree.disk.contains_key(path) && settled(path) {
                records.push(Record::Remove(path.clone()));
            }
        }
        self.note(number, records);
    }

    /// Seals: what changed up to now is sent, and then it is said.
    pub(crate) fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        for dir in 0..self.trees.len() {
            self.seal(dir);
        }
        self.drained = self.is_drained();
    }

    fn seal(&mut self, number: usize) {
        if !self.draining {
            return;
        }
        self.seals += 1;
        let tree = &mut self.trees[number];
        tree.seal = Some((self.seals, false));
        if let Err(error) = self.watch.mark(&tree.place.path, self.seals) {
            // Without a mark, a look at everything is as good.
            tracing::warn!("{}: no seal: {error}", tree.place.path.display());
            tree.look_again();
            tree.seal = Some((self.seals, true));
        }
    }

    fn is_drained(&self) -> bool {
        if self.trees.is_empty() {
            return true;
        }
        let sealed = self.trees.iter().all(|tree| {
            tree.error.is_empty()
                && tree.seal.is_some_and(|(_, reached)| reached)
                && tree.settling.is_empty()
                && !tree.is_visiting()
        });
        sealed
            && !self.sessions.is_empty()
            && self
                .sessions
                .values()
                .all(|session| (0..self.trees.len()).all(|dir| session.is_in_sync(dir)))
    }
}

/// Sends a directory, a symlink or a small file, or only its attributes, or nothing.
fn send_whole(
    session: &mut Session,
    number: usize,
    path: RelPath,
    pending: Pending,
    whole: Whole,
) -> Next {
    let Whole {
        version,
        sig,
        doubt,
        content,
        xattrs,
    } = whole;
    let old: Option<Version> = pending.old.filter(|_| !pending.whole);
    if old == Some(version) {
        return Next::Busy;
    }
    let attributes_only =
        !version.is_directory() && old.is_some_and(|old| old.same_content(&version));
    let sent = Sent::Put {
        path: path.clone(),
        version,
        sig: (!doubt).then_some(sig),
    };
    let seq = session.number(number, sent, pending);
    let dir = number as u16;
    Next::Send(if attributes_only {
        Down::Meta {
            seq,
            dir,
            path,
            version,
            xattrs,
        }
    } else {
        Down::Put {
            seq,
            dir,
            path,
            version,
            content,
            xattrs,
        }
    })
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
