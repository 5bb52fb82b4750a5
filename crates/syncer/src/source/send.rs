//! What a session sends next: questions, changes, large files, deletions, the mark.
//!
//! The order is the point: changes before what the comparison found, everything before the
//! deletions, and the mark when nothing is left.

mod large;
mod path;
mod prove;

use haarb_model::{Mono, Span};

use super::guard::Gate;
use super::session::{Mark, Pending, Phase, Sent, Session};
use super::tree::Until;
use super::{INFLIGHT_MAX, Next, SessionId, Source, would_empty};
use crate::message::Down;
use crate::path::RelPath;

/// A file that is never found at rest is sent as it is found, once a second.
const PATIENCE: Span = Span::from_secs(1);

/// Files that were read and wait for a mark: at most 16 MiB.
const UNPROVEN_MAX: usize = 64;

/// Bytes of paths in one message about deletions that are held back.
const HELD_BYTES: usize = 256 * 1024;

/// What the sink must not take for common, although nothing else is sent.
fn held<'a>(dir: u16, paths: impl Iterator<Item = &'a RelPath>) -> Vec<Down> {
    let mut messages = Vec::new();
    let (mut part, mut bytes) = (Vec::new(), 0);
    for path in paths {
        bytes += path.as_bytes().len() + 4;
        part.push(path.clone());
        if bytes >= HELD_BYTES {
            let paths = std::mem::take(&mut part);
            messages.push(Down::Held { dir, paths });
            bytes = 0;
        }
    }
    if !part.is_empty() {
        messages.push(Down::Held { dir, paths: part });
    }
    messages
}

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

    /// What comes after everything else: deletions, then the mark.
    fn next_last(&mut self, session: &mut Session, number: usize, now: Mono) -> Option<Next> {
        let dir = &mut session.dirs[number];
        if !matches!(dir.phase, Phase::Live) {
            return None;
        }
        // What is being looked through may be what was renamed.
        let visiting = self.trees[number].is_visiting();
        let gate = self.trees[number].gate(self.draining, now);
        let deletes = gate == Gate::Open && !visiting;
        if deletes && let Some((path, pending)) = dir.due_delete(now, self.draining) {
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
            && (dir.deletes.is_empty() || gate == Gate::Held)
            && dir.retry.is_empty()
            && dir.large.is_empty()
            && dir.doubting() == 0
            && !dir.is_asking()
            && !large_here;
        if dir.mark == Mark::No && nothing_left {
            dir.mark = Mark::Sent;
            let held = held(number as u16, dir.deletes.keys());
            session.out.extend(held);
            let seq = session.number(number, Sent::Mark, Pending::since(now));
            session.out.push_back(Down::InSync {
                seq,
                dir: number as u16,
            });
            return Some(Next::Busy);
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
