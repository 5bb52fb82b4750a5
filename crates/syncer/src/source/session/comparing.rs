//! Finding out what the sink lacks: questions about its directories, and what the answers show.
//!
//! It decides nothing about what is kept: the sink does. The one thing to know: before a directory
//! is live its digests say what need not be asked; after that they are old, and everything below is
//! asked for.

use std::collections::BTreeMap;

use haarb_model::Mono;

use super::{Comparing, Phase, SessionDir};
use crate::compare::{Difference, Link, Listed, below, differences};
use crate::message::Down;
use crate::path::RelPath;
use crate::source::tree::Tree;

impl SessionDir {
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
