//! The large file whose turn it is: begun, sent piece by piece, ended or given up.
//!
//! What a piece is, [`Outgoing`] knows. The one thing to know: a file that became another one while it
//! was read is called off, and looked at anew.

use haarb_model::Mono;

use super::PATIENCE;
use crate::message::{Down, Growth, NewName};
use crate::source::disk::Known;
use crate::source::large::{Grown, Outgoing, Step};
use crate::source::link::{Link, send_link};
use crate::source::session::{Pending, Sent, Session};
use crate::source::{Next, Source};

impl Source {
    pub(super) fn next_large(&mut self, session: &mut Session, now: Mono) -> Option<Next> {
        let Some(mut large) = session.large.take() else {
            return self.begin_large(session, now);
        };
        let tree = &mut self.trees[large.dir];
        let waited = now.since(large.pending.since);
        let Some(root) = tree.enter() else {
            return Some(Next::Busy);
        };
        let step = large.step(&root, waited).map(|step| {
            // Gone or replaced while it was read: its own event tells what is there now.
            let found = root.find(&large.path).ok().flatten();
            let here = found.is_some_and(|found| large.is(&found));
            if here || !matches!(step, Step::Done { .. }) {
                step
            } else {
                Step::Changed
            }
        });
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
                let short = large.grown.as_ref();
                if short.is_some_and(|grown| !Growth::suffices(&grown.old, &version)) {
                    // Its attributes changed, too.
                    let pending = Pending {
                        old: None,
                        ..large.pending
                    };
                    dir.at_once(large.path, pending);
                    return Some(Next::Busy);
                }
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
                        name: NewName {
                            to,
                            moved: true,
                            version,
                            xattrs,
                        },
                        sig: (!doubt).then_some(sig),
                    };
                    let message = send_link(session, large.dir, link, large.pending);
                    return Some(Next::Send(message));
                }
                dir.sending(large.dir as u16, &large.path, false);
                self.link_others(session, large.dir, &large.path, sig.ino, now);
                let sent = Sent::Put {
                    path: large.path.clone(),
                    version,
                    sig: (!doubt).then_some(sig),
                    to: None,
                };
                let seq = session.number(large.dir, sent, large.pending);
                if let Some(Grown { old, tail }) = large.grown {
                    return Some(Next::Send(Down::Append {
                        seq,
                        dir: large.dir as u16,
                        path: large.path,
                        growth: Growth::new(&old, &version, tail),
                    }));
                }
                Some(Next::Send(Down::End {
                    seq,
                    transfer: large.transfer,
                    version,
                    xattrs,
                }))
            }
            Ok(Step::Differs) => {
                let pending = Pending {
                    old: None,
                    ..large.pending
                };
                session.dirs[large.dir].at_once(large.path, pending);
                Some(Next::Busy)
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
        let Some(root) = tree.enter() else {
            return Some(Next::Busy);
        };
        let begun = Outgoing::begin(&root, number, path.clone(), pending.clone(), transfer)
            .map(|large| large.map(|large| large.perhaps_renamed(vanished).perhaps_grown()));
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
            Ok(Some(large)) if now < large.not_before() && !self.draining => {
                session.dirs[number].again_at(path, pending, large.not_before());
                Some(Next::Busy)
            }
            Ok(Some(large)) => {
                let sparse = large.sparse;
                let silent = large.renamed_from.is_some() || large.grown.is_some();
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
}
