//! One path whose turn has come: what stands there is read, and sent as briefly as the sink can use it.
//!
//! Large files only go on to their own place from here. The one thing to know: what was read is what is
//! known from then on, and the other sinks hear of it here.

use haarb_model::Mono;

use super::PATIENCE;
use crate::compare::below;
use crate::message::{Down, Growth};
use crate::path::RelPath;
use crate::read::{Look, Whole, look};
use crate::source::disk::Known;
use crate::source::guard::Gate;
use crate::source::link::is_renamed;
use crate::source::session::{Pending, Sent, Session};
use crate::source::tree::Change;
use crate::source::{Next, Source};
use crate::version::{Kind, Version};

impl Source {
    /// Looks at a path and sends what stands there.
    pub(super) fn send_path(
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
        if self.would_clear(number, &path, now) {
            // As good as a deletion of all that was in it.
            session.dirs[number].delete_later(path, pending, now);
            return Next::Busy;
        }
        let (path, pending) = match self.send_as_link(session, number, path, pending, false, now) {
            Ok(next) => return next,
            Err(other) => other,
        };
        let tree = &mut self.trees[number];
        let dir = &mut session.dirs[number];
        let Some(root) = tree.enter() else {
            return Next::Busy;
        };
        let looked = match root.find(&path) {
            // For the sink it is gone. What it leaves out itself, it keeps.
            Ok(found) if found.is_some() && tree.excludes(&path, found) => Ok(Look::Absent),
            _ => look(&root, &path),
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
                let grown = appended(&pending, &whole);
                let fresh = whole.version.kind == Kind::File
                    && !is_renamed(dir, &path, &pending, &whole)
                    && !grown
                    && pending.old != Some(whole.version)
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
                return self.send_read(session, number, path, pending, *whole, grown, now);
            }
        }
        Next::Busy
    }

    /// Whether deletions wait, and the sink would remove a directory for what stands at a path.
    fn would_clear(&mut self, number: usize, path: &RelPath, now: Mono) -> bool {
        let tree = &mut self.trees[number];
        if tree.gate(self.draining, now) == Gate::Open
            || below(&tree.store.index.entries, path).next().is_none()
        {
            return false;
        }
        let found = tree.enter().and_then(|root| root.find(path).ok().flatten());
        found.is_some_and(|found| found.kind != Some(Kind::Directory))
    }

    /// Sends what was read. `grown`: it begins with what the sink is noted to have.
    #[expect(clippy::too_many_arguments, reason = "each says something else")]
    pub(super) fn send_read(
        &mut self,
        session: &mut Session,
        number: usize,
        path: RelPath,
        pending: Pending,
        whole: Whole,
        grown: bool,
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
        let next = send_whole(session, number, path, pending, whole, grown);
        if matches!(next, Next::Send(Down::Put { .. })) {
            self.link_others(session, number, &sent, ino, now);
        }
        // After the directory itself, so that there is one to list.
        session.out.extend(question);
        next
    }

    /// What was just read is what stands there. The other sinks hear of it here, because the
    /// event that will come finds nothing new any more.
    pub(in crate::source) fn learn(
        &mut self,
        number: usize,
        path: &RelPath,
        mut known: Known,
        now: Mono,
    ) {
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
            renamed: None,
        };
        for other in self.sessions.values_mut() {
            other.dirs[number].changed(&change, false);
        }
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

/// Sends a directory, a symlink or a small file, or only its new end or its attributes, or nothing.
fn send_whole(
    session: &mut Session,
    number: usize,
    path: RelPath,
    pending: Pending,
    whole: Whole,
    grown: bool,
) -> Next {
    let Whole {
        version,
        sig,
        doubt,
        content,
        sparse,
        xattrs,
        names,
    } = whole;
    let old: Option<Version> = pending.old.filter(|_| !pending.whole && !pending.anew);
    if old == Some(version) {
        return Next::Busy;
    }
    let attributes_only = matches!(version.kind, Kind::File | Kind::Symlink)
        && old.is_some_and(|old| old.same_content(&version));
    // A file with several names, or with holes, is more than its bytes.
    let beginning = old.filter(|_| grown && names == 1 && !sparse);
    let sent = Sent::Put {
        path: path.clone(),
        version,
        sig: (!doubt).then_some(sig),
        to: None,
    };
    let seq = session.number(number, sent, pending);
    let dir = number as u16;
    if let Some(old) = beginning.filter(|old| Growth::suffices(old, &version)) {
        let from = usize::try_from(old.size).unwrap_or(usize::MAX);
        let tail = content.get(from..).unwrap_or_default().to_vec();
        return Next::Send(Down::Append {
            seq,
            dir,
            path,
            growth: Growth::new(&old, &version, tail),
        });
    }
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
