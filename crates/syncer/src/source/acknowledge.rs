//! What a sink says: answers to questions, acknowledgements, problems.

use std::collections::{BTreeMap, BTreeSet};

use haarb_model::Mono;

use super::session::{Mark, Pending, Sent, Session};
use super::{Broken, SessionId, Source};
use crate::index::{Entry, Header, Record, Stage};
use crate::message::{Problem, Up};
use crate::path::RelPath;
use crate::source::tree::Change;

impl Source {
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
        while let Some(flying) = session.acknowledged(upto) {
            let number = flying.dir;
            match (problems.get(&flying.seq), flying.sent) {
                (
                    None,
                    Sent::Put {
                        path, version, sig, ..
                    },
                ) => {
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
                (None, Sent::Rename { from, path }) => {
                    let notes = notes.entry(number).or_default();
                    notes.push(Record::Move(from, path));
                }
                (Some(_), Sent::Rename { from, path }) => {
                    let change = Change {
                        path,
                        since: flying.pending.since,
                        old: None,
                        emptied: false,
                        anew: true,
                        vanished: Vec::new(),
                        renamed: None,
                    };
                    for change in self.trees[number].each_renamed(&from, &change) {
                        session.dirs[number].changed(&change, false);
                    }
                }
                (None, Sent::Mark) => {
                    session.dirs[number].mark = Mark::Done;
                    marked.push(number);
                }
                (Some(_), Sent::Mark) => session.dirs[number].mark = Mark::No,
                (Some(problem), sent @ (Sent::Put { .. } | Sent::Delete { .. })) => {
                    let (path, to) = match sent {
                        Sent::Put { path, to, .. } => (path, to),
                        Sent::Delete { path } => (path, None),
                        Sent::Rename { .. } | Sent::Mark => continue,
                    };
                    let dir = &mut session.dirs[number];
                    let pending = Pending {
                        old: None,
                        whole: true,
                        ..flying.pending
                    };
                    match problem {
                        Problem::NeedContent => {
                            // The file that it should be another name of is not what it should be.
                            let known = to.filter(|to| self.trees[number].disk.contains_key(to));
                            if let Some(to) = known {
                                let mut pending = pending.clone();
                                pending.attempts = 0;
                                dir.at_once(to, pending);
                            }
                            dir.at_once(path, pending);
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
        session.forget_trouble();
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
        let flying: BTreeSet<&RelPath> = session
            .inflight
            .iter()
            .filter(|i| i.dir == number)
            .filter_map(|i| match &i.sent {
                Sent::Put { path, .. } | Sent::Delete { path } => Some(path),
                Sent::Rename { .. } | Sent::Mark => None,
            })
            .collect();
        let renames: Vec<_> = session
            .inflight
            .iter()
            .filter(|i| i.dir == number)
            .filter_map(|i| match &i.sent {
                Sent::Rename { from, path } => Some([from, path]),
                _ => None,
            })
            .flatten()
            .collect();
        let settled = |path: &RelPath| {
            let moves = |top: &&RelPath| path == *top || path.is_below(top);
            !session.lacks(number, path) && !flying.contains(path) && !renames.iter().any(moves)
        };
        let mut records = vec![Record::Header(Header {
            stage: Stage::Whole,
            with: self.others.clone(),
            ..tree.store.index.header.clone()
        })];
        for (path, known) in tree.disk.iter() {
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
            let held = session.is_to_be_deleted(number, path);
            if !tree.disk.contains_key(path) && settled(path) && !held {
                records.push(Record::Remove(path.clone()));
            }
        }
        self.note(number, records);
    }
}
