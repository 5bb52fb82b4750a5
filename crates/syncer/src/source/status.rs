//! What the sending side reports.

use haarb_model::{Data, DirectoryReport, DirectoryState, Epoch, Mono, ReserveName, SyncReserve};

use super::Source;

impl Source {
    /// Everything there is to say about the reserve.
    pub(crate) fn report(&self, reserve: &ReserveName, now: Mono) -> SyncReserve {
        SyncReserve {
            reserve: reserve.clone(),
            epoch: Epoch(self.epoch),
            // What the source has is what the reserve's data are.
            data: Data::Current,
            drained: self.drained,
            directories: (0..self.trees.len())
                .map(|number| self.directory(number, now))
                .collect(),
            conflicts: self.conflicts,
        }
    }

    fn directory(&self, number: usize, now: Mono) -> DirectoryReport {
        let tree = &self.trees[number];
        let sessions = || self.sessions.values();
        let pending = match sessions().map(|s| s.unacknowledged(number)).max() {
            Some(pending) => pending + tree.settling.len(),
            None => tree.missed.len().max(tree.settling.len()),
        };
        let oldest = sessions()
            .filter_map(|session| session.oldest(number))
            .chain(tree.behind_since)
            .chain(tree.settling.oldest())
            .min();
        let error = self.directory_error(number);
        let stopped = !tree.error.is_empty() || self.outranked.is_some();
        let in_sync =
            sessions().all(|session| session.is_in_sync(number)) && tree.guard.held().is_none();
        let state = if stopped {
            DirectoryState::Error
        } else if self.sessions.is_empty() {
            DirectoryState::WaitingForPeer
        } else if in_sync && tree.settling.is_empty() && !tree.is_stamping() {
            DirectoryState::InSync
        } else {
            DirectoryState::Syncing
        };
        DirectoryReport {
            path: tree.place.path.display().to_string(),
            state,
            lag_ms: oldest.map_or(0, |oldest| now.since(oldest).as_millis()),
            pending_files: pending as u64,
            held_deletions: tree.guard.held().map_or(0, |held| held.missing),
            failing: sessions().map(|s| s.failing(number)).max().unwrap_or(0),
            error,
        }
    }

    /// Where everything that waits is, for a test that failed.
    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for (number, tree) in self.trees.iter().enumerate() {
            text += &format!("visited {}, settling {:?}\n", tree.visited, tree.settling);
            for session in self.sessions.values() {
                let large = session.large.as_ref().map(|large| &large.path);
                let flying = &session.inflight;
                text += &format!("large {large:?}, flying {flying:?}\n");
                text += &session.dirs[number].describe();
            }
        }
        text
    }

    fn directory_error(&self, number: usize) -> String {
        let tree = &self.trees[number];
        if let Some(epoch) = self.outranked {
            return format!(
                "a sink has seen epoch {epoch}, this source has {}: nothing is sent",
                self.epoch
            );
        }
        let theirs = self.sessions.values().map(|s| &s.dirs[number]);
        let mut said = vec![tree.error.clone(), tree.held_text(), tree.unwatched.clone()];
        for dir in theirs {
            said.push(dir.hello.error.clone());
            said.push(dir.trouble.clone());
        }
        said.retain(|text| !text.is_empty());
        said.into_iter().next().unwrap_or_default()
    }
}
