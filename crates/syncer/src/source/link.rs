//! Files that are not sent again: other names of a file that the sink has, and files that were
//! renamed.
//!
//! The one thing to know: the sink proves that it has what it is told to link; if it has not,
//! it says so, and the content follows.

use haarb_model::Mono;

use super::disk::Known;
use super::session::{Pending, Sent, Session, SessionDir};
use super::{Next, Source};
use crate::attributes::read_xattrs;
use crate::message::{Down, NewName, Xattrs};
use crate::path::RelPath;
use crate::read::Whole;
use crate::root::{Found, Root};
use crate::version::{Kind, Sig, Version, xattrs_digest};

/// Of a file with very many names, so many are tried: they come in their order, and the first
/// of them is sent first.
const NAMES_LOOKED_AT: usize = 64;

/// How the sink gets a file that has several names.
enum Way {
    /// Its content, as if it were alone.
    Content,
    /// Another name is on its way: after that.
    Wait,
    /// As another name of this file, and whether a later change of it could hide.
    Link(RelPath, Version, bool),
}

/// A link to send.
pub(super) struct Link {
    pub(super) path: RelPath,
    pub(super) name: NewName,
    /// How the version is recognised here; `None`: it is read again.
    pub(super) sig: Option<Sig>,
}

impl Source {
    /// Sends a path as another name of a file that the sink has. `Err` gives back what is to be
    /// sent some other way. `committed`: there is no more waiting for other names.
    pub(super) fn send_as_link(
        &mut self,
        session: &mut Session,
        number: usize,
        path: RelPath,
        pending: Pending,
        committed: bool,
        now: Mono,
    ) -> Result<Next, (RelPath, Pending)> {
        let Ok(root) = self.trees[number].place.enter() else {
            return Err((path, pending));
        };
        let found = match root.find(&path) {
            Ok(Some(found))
                if found.kind == Some(Kind::File)
                    && found.linked()
                    && !self.trees[number].excludes(&path, Some(found)) =>
            {
                found
            }
            _ => return Err((path, pending)),
        };
        let (to, version, doubt) = match self.way(session, number, &path, &found) {
            Way::Wait if !committed => {
                session.dirs[number].again_soon(path, pending, now);
                return Ok(Next::Busy);
            }
            Way::Content | Way::Wait => return Err((path, pending)),
            Way::Link(to, version, doubt) => (to, version, doubt),
        };
        let Some(xattrs) = xattrs_of(&root, &path, &found, &version) else {
            return Err((path, pending));
        };
        // What was written in the same tick of the clock left the same stamp: its event counts.
        let doubt = doubt || found.sig.in_doubt(root.wall.now_ns());
        let known = Known {
            doubt,
            ..Known::read(version, found.sig)
        };
        self.learn(number, &path, known, now);
        session.dirs[number].sending(number as u16, &path, false);
        let link = Link {
            path,
            name: NewName {
                to,
                moved: false,
                version,
                xattrs,
            },
            sig: (!doubt).then_some(found.sig),
        };
        Ok(Next::Send(send_link(session, number, link, pending)))
    }

    fn way(&self, session: &Session, number: usize, path: &RelPath, found: &Found) -> Way {
        let tree = &self.trees[number];
        let dir = &session.dirs[number];
        let mut wait = false;
        for other in tree.disk.others(found.sig.ino, path).take(NAMES_LOOKED_AT) {
            if session.lacks(number, other) {
                // The first name goes as content, the others after it, and after a large one
                // that is on its way. Nobody waits for one that failed.
                let retry = dir.retry.get(other);
                let failed = retry.is_some_and(|(_, pending)| pending.attempts > 0);
                let ahead = other < path || session.has_large(number, other);
                wait |= ahead && !failed;
                continue;
            }
            let known = tree.disk.get(other).filter(|known| known.is_same(found));
            if let Some((version, doubt)) = known.and_then(|k| Some((k.version?, k.doubt))) {
                return Way::Link(other.clone(), version, doubt);
            }
        }
        if wait { Way::Wait } else { Way::Content }
    }

    /// The content of a file was sent under one of its names: on the sink that is a file of its
    /// own until the others follow.
    pub(super) fn link_others(
        &self,
        session: &mut Session,
        number: usize,
        path: &RelPath,
        ino: u64,
        now: Mono,
    ) {
        let others = self.trees[number].disk.others(ino, path);
        let others: Vec<RelPath> = others
            .filter(|other| !session.lacks(number, other))
            .cloned()
            .collect();
        for other in others {
            let pending = Pending {
                anew: true,
                ..Pending::since(now)
            };
            session.dirs[number].at_once(other, pending);
        }
    }

    /// Sends what was read as the new name of a file that the sink has under a name that is
    /// gone. `None`: there is no such file.
    pub(super) fn renamed(
        &self,
        session: &mut Session,
        number: usize,
        path: &RelPath,
        pending: &Pending,
        whole: &Whole,
    ) -> Option<Down> {
        let dir = &mut session.dirs[number];
        if !is_renamed(dir, path, pending, whole) {
            return None;
        }
        let to = dir.vanished.content(&whole.version, path)?.clone();
        // What comes under the other name must not change this file, too.
        dir.send_anew(&to);
        // Nothing more is needed of it: what it is replaced by need not wait.
        dir.vanished.forget_one(&to);
        dir.sending(number as u16, path, false);
        let link = Link {
            path: path.clone(),
            name: NewName {
                to,
                moved: true,
                version: whole.version,
                xattrs: whole.xattrs.clone(),
            },
            sig: (!whole.doubt).then_some(whole.sig),
        };
        Some(send_link(session, number, link, pending.clone()))
    }
}

/// Whether the sink has what was read under a name that is gone here. Then it is known to be
/// whole: it stood so before.
pub(super) fn is_renamed(
    dir: &SessionDir,
    path: &RelPath,
    pending: &Pending,
    whole: &Whole,
) -> bool {
    !pending.whole && whole.names == 1 && dir.vanished.content(&whole.version, path).is_some()
}

pub(super) fn send_link(
    session: &mut Session,
    number: usize,
    link: Link,
    pending: Pending,
) -> Down {
    let sent = Sent::Put {
        path: link.path.clone(),
        version: link.name.version,
        sig: link.sig,
        to: Some(link.name.to.clone()),
    };
    let seq = session.number(number, sent, pending);
    Down::Link {
        seq,
        dir: number as u16,
        path: link.path,
        name: link.name,
    }
}

/// The extended attributes of a file, if it is still what was found and they are those of the
/// version.
fn xattrs_of(root: &Root, path: &RelPath, found: &Found, version: &Version) -> Option<Xattrs> {
    let file = root.open_file(path).ok()?;
    if root.find_open(&file).ok()? != *found {
        return None;
    }
    let xattrs = read_xattrs(&file).ok()?;
    (xattrs_digest(&xattrs) == version.xattrs).then_some(xattrs)
}
