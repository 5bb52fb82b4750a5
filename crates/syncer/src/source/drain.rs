//! Sealing: the services are stopped, what is left is sent, and then the source says so.
//!
//! A mark in the stream of events tells that every change before it was seen; there is no scan
//! and no waiting for a file to rest.

use super::Source;

impl Source {
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

    pub(super) fn seal(&mut self, number: usize) {
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

    pub(super) fn is_drained(&self) -> bool {
        if self.trees.is_empty() {
            return true;
        }
        let sealed = self.trees.iter().all(|tree| {
            tree.error.is_empty()
                && tree.seal.is_some_and(|(_, reached)| reached)
                && tree.settling.is_empty()
                && !tree.is_stamping()
                && !tree.is_visiting()
        });
        sealed
            && !self.sessions.is_empty()
            && self.sessions.values().all(|session| {
                // What is held back is not carried out by a hand-over: the other server has the
                // files, goes on with them and sends them back.
                let held = |dir: usize| self.trees[dir].guard.held().is_some();
                (0..self.trees.len()).all(|dir| {
                    session.is_in_sync(dir) || (held(dir) && session.lacks_deletions_only(dir))
                })
            })
    }
}
