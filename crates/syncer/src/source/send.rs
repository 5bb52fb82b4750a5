//! What a session sends next: questions, changes, large files, deletions, the mark.
//!
//! The order is the point: changes before what the comparison found, everything before the
//! deletions, and the mark when nothing is left.

use haarb_model::{Mono, Span};

use super::disk::Known;
use super::large::{Outgoing, Step};
use super::link::{Link, is_renamed, send_link};
use super::session::{Mark, Pending, Phase, Sent, Session};
use super::tree::{Change, Until};
use super::{INFLIGHT_MAX, Next, SessionId, Source, would_empty};
use crate::message::Down;
use crate::path::RelPath;
use crate::read::{Look, Whole, look};
use crate::version::{Kind, Version};

/// A file that is never found at rest is sent as it is found, once a second.
const PATIENCE: Span = Span::from_secs(1);

/// Files that were read and wait for a mark: at most 16 MiB.
const UNPROVEN_MAX: usize = 64;

impl Source {
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
            let proven = self.next_proven(session, dir, now);
            if let Some(next) = proven.or_else(|| self.next_small(session, dir, now)) {
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
        if !matches!(dir.phase, Phase::Live) || dir.doubting() >= UNPROVEN_MAX {
            return None;
        }
        let (path, pending) = dir.pop_live().or_else(|| dir.bulk.pop_first())?;
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
        if busy_with_it {
            session.dirs[number].again_soon(path, pending, now);
            return Next::Busy;
        }
        let (path, pending) = match self.send_as_link(session, number, path, pending, false, now) {
            Ok(next) => return next,
            Err(other) => other,
        };
        let tree = &mut self.trees[number];
        let dir = &mut session.dirs[number];
        let looked = match tree.place.enter() {
            Ok(root) => match root.find(&path) {
                // For the sink it is gone. What it leaves out itself, it keeps.
                Ok(found) if found.is_some() && tree.excludes(&path, found) => Ok(Look::Absent),
                _ => look(&root, &path),
            },
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
            Ok(Look::Large) => dir.queue_large(path, pending),
            Ok(Look::Whole(whole)) => {
                let fresh = whole.version.kind == Kind::File
                    && !is_renamed(dir, &path, &pending, &whole)
                    && !appended(&pending, &whole)
                    && now < pending.since + PATIENCE
                    && !self.draining;
                let suspect = tree.is_open(&path) || tree.is_suspect(&path, &whole, pending.old);
                if fresh && suspect {
                    dir.again_soon(path, pending, now);
                    return Next::Busy;
                }
                if fresh
                    && whole.doubt
                    && let Some(mark) = self.prove(number)
                {
                    session.dirs[number].doubt(path, mark, pending, whole);
                    return Next::Busy;
                }
                return self.send_read(session, number, path, pending, *whole, now);
            }
        }
        Next::Busy
    }

    /// Sends what was read.
    fn send_read(
        &mut self,
        session: &mut Session,
        number: usize,
        path: RelPath,
        pending: Pending,
        whole: Whole,
        now: Mono,
    ) -> Next {
        let (path, pending) = match self.send_as_link(session, number, path, pending, true, now) {
            Ok(next) => return next,
            Err(other) => other,
        };
        self.learn(number, &path, Known::from(&whole), now);
        if let Some(link) = self.renamed(session, number, &path, &pending, &whole) {
            return Next::Send(link);
        }
        let directory = whole.version.is_directory();
        let question = session.dirs[number].sending(number as u16, &path, directory);
        let (sent, ino) = (path.clone(), whole.sig.ino);
        let next = send_whole(session, number, path, pending, whole);
        if matches!(next, Next::Send(Down::Put { .. })) {
            self.link_others(session, number, &sent, ino, now);
        }
        // After the directory itself, so that there is one to list.
        session.out.extend(question);
        next
    }

    /// A file that was changed a moment ago may be open again, with the event of that still on
    /// its way: it was read half written. After a mark that is made now, that event is here.
    /// Returns the number that the mark must exceed; `None`: without a watch there are none.
    fn prove(&mut self, number: usize) -> Option<u64> {
        let tree = &mut self.trees[number];
        if tree.making > tree.marked {
            // The one on its way was made before the file was read. Another one is made when
            // it has arrived, for all that wait by then.
            return Some(tree.making);
        }
        self.mark(number).map(|mark| mark - 1)
    }

    fn mark(&mut self, number: usize) -> Option<u64> {
        self.seals += 1;
        let tree = &mut self.trees[number];
        self.watch.mark(&tree.place.path, self.seals).ok()?;
        tree.making = self.seals;
        Some(self.seals)
    }

    /// Files that were read before the last mark that arrived, and of which no event came
    /// since, stood as their writers left them.
    fn next_proven(&mut self, session: &mut Session, number: usize, now: Mono) -> Option<Next> {
        let tree = &mut self.trees[number];
        let (marked, on_its_way) = (tree.marked, tree.making > tree.marked);
        let dir = &mut session.dirs[number];
        let Some((path, pending, whole)) = dir.proven(marked) else {
            if !on_its_way && dir.doubting() > 0 {
                // They were read after the last mark was made: the next one is for them.
                self.mark(number);
            }
            return None;
        };
        if tree.settling.has(&path) {
            dir.again_soon(path, pending, now);
            return Some(Next::Busy);
        }
        Some(self.send_read(session, number, path, pending, *whole, now))
    }

    /// What was just read is what stands there. The other sinks hear of it here, because the
    /// event that will come finds nothing new any more.
    pub(super) fn learn(&mut self, number: usize, path: &RelPath, mut known: Known, now: Mono) {
        let tree = &mut self.trees[number];
        if let Some(before) = tree.disk.get(path).copied() {
            known.told_ns = before.told_ns;
            known.open = before.open;
            if before.sig.ino != known.sig.ino {
                tree.look_at_others(path, now);
            }
        }
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
            anew: before.is_none_or(|before| before.sig.ino != known.sig.ino),
            vanished: Vec::new(),
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
                    doubt,
                    ..Known::read(version, sig)
                };
                self.learn(large.dir, &large.path, known, now);
                let dir = &mut session.dirs[large.dir];
                if let Some(to) = large.renamed_from {
                    if dir.vanished.content(&version, &large.path) != Some(&to) {
                        // Only its size and time are the same, or it is not there any more.
                        dir.vanished.forget_one(&to);
                        dir.at_once(large.path, large.pending);
                        return Some(Next::Busy);
                    }
                    dir.send_anew(&to);
                    dir.vanished.forget_one(&to);
                    dir.sending(large.dir as u16, &large.path, false);
                    let link = Link {
                        path: large.path,
                        to,
                        moved: true,
                        version,
                        sig: (!doubt).then_some(sig),
                        xattrs,
                    };
                    let message = send_link(session, large.dir, link, large.pending);
                    return Some(Next::Send(message));
                }
                dir.sending(large.dir as u16, &large.path, false);
                self.link_others(session, large.dir, &large.path, sig.ino, now);
                let sent = Sent::Put {
                    path: large.path,
                    version,
                    sig: (!doubt).then_some(sig),
                    to: None,
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
        let (path, pending) = session.dirs[number].large.pop_first()?;
        let (path, pending) = match self.send_as_link(session, number, path, pending, true, now) {
            Ok(next) => return Some(next),
            Err(other) => other,
        };
        session.transfers += 1;
        let transfer = session.transfers;
        let tree = &mut self.trees[number];
        let vanished = &session.dirs[number].vanished;
        let begun = match tree.place.enter() {
            Ok(root) => Outgoing::begin(&root, number, path.clone(), pending.clone(), transfer)
                .map(|large| large.map(|large| large.perhaps_renamed(vanished))),
            Err(error) => {
                tree.stop_at_root(&error);
                return Some(Next::Busy);
            }
        };
        match begun {
            // Being rewritten at this moment: its events will tell when that is over.
            Ok(Some(large))
                if !large.grows()
                    && large.renamed_from.is_none()
                    && (large.doubt || tree.is_open(&path))
                    && now < large.pending.since + PATIENCE =>
            {
                session.dirs[number].again_soon(path, pending, now);
                Some(Next::Busy)
            }
            Ok(Some(large)) => {
                let sparse = large.sparse;
                let silent = large.renamed_from.is_some();
                session.large = Some(large);
                if silent {
                    return Some(Next::Busy);
                }
                Some(Next::Send(Down::Begin {
                    transfer,
                    dir: number as u16,
                    path,
                    sparse,
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
        // What is being looked through may be what was renamed.
        let visiting = self.trees[number].is_visiting();
        if !visiting && let Some((path, pending)) = dir.due_delete(now, self.draining) {
            let tree = &self.trees[number];
            let mut place = tree.place.clone();
            let found = place.enter().map(|root| root.find(&path));
            if !matches!(found, Ok(Ok(None))) && !self.only_other_kind(number, &path) {
                // It came back meanwhile, or cannot be told: look at it once more.
                dir.at_once(path, pending);
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
            && dir.doubting() == 0
            && !dir.is_asking()
            && !large_here;
        if dir.mark == Mark::No && nothing_left {
            dir.mark = Mark::Sent;
            let seq = session.number(number, Sent::Mark, Pending::since(now));
            return Some(Next::Send(Down::InSync {
                seq,
                dir: number as u16,
            }));
        }
        None
    }

    /// Something stands at the path that is not synchronised, or left out: for the sink it is gone.
    fn only_other_kind(&self, number: usize, path: &RelPath) -> bool {
        let mut place = self.trees[number].place.clone();
        place
            .enter()
            .ok()
            .and_then(|root| root.find(path).ok().flatten())
            .is_some_and(|found| {
                found.kind.is_none() || self.trees[number].excludes(path, Some(found))
            })
    }
}

/// Whether a small file only grew: what the sink has of it is its beginning.
fn appended(pending: &Pending, whole: &Whole) -> bool {
    let old = pending.old.filter(|old| old.kind == Kind::File);
    let begins_with = |old: Version| {
        let length = usize::try_from(old.size).ok()?;
        let beginning = whole.content.get(..length)?;
        Some(*blake3::hash(beginning).as_bytes() == old.hash)
    };
    old.and_then(begins_with).unwrap_or(false)
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
        sparse,
        xattrs,
        names: _,
    } = whole;
    let old: Option<Version> = pending.old.filter(|_| !pending.whole && !pending.anew);
    if old == Some(version) {
        return Next::Busy;
    }
    let attributes_only = matches!(version.kind, Kind::File | Kind::Symlink)
        && old.is_some_and(|old| old.same_content(&version));
    let sent = Sent::Put {
        path: path.clone(),
        version,
        sig: (!doubt).then_some(sig),
        to: None,
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
            sparse,
            xattrs,
        }
    })
}
