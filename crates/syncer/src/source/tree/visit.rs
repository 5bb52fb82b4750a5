//! Going through the directories: each is watched, and what is in it is compared with what is known.
//!
//! It reads no content. The one thing to know: first the watch, then the look, so that what comes in
//! between is seen twice and not missed.

use std::io;
use std::path::PathBuf;

use haarb_model::Mono;

use super::{Change, Tree, Watch};
use crate::compare::children;
use crate::path::RelPath;
use crate::root::Root;
use crate::version::Kind;

/// How many entries are looked at in one step, so that nothing else waits for long.
const VISIT_ENTRIES: usize = 500;

impl Tree {
    /// Whether there are directories that wait to be looked at.
    pub(crate) fn is_visiting(&self) -> bool {
        !self.to_visit.is_empty()
    }

    /// Everything may have changed.
    pub(crate) fn look_again(&mut self) {
        if self.error.is_empty() {
            self.to_visit.clear();
            self.to_visit.push_back(RelPath::root());
        }
    }

    /// Looks at some of the directories that wait for it. Returns what turned out to differ.
    pub(crate) fn visit(&mut self, watch: &mut dyn Watch, now: Mono) -> Vec<Change> {
        let Some(root) = self.enter() else {
            return Vec::new();
        };
        let mut changes = Vec::new();
        let mut entries = 0;
        while entries < VISIT_ENTRIES
            && let Some(dir) = self.to_visit.pop_front()
        {
            match self.visit_one(&root, &dir, watch, now, &mut changes) {
                Ok(count) => entries += count + 1,
                // It is gone again; whoever removed it left an event.
                Err(error) if !dir.is_root() && gone(&error) => {}
                Err(error) => tracing::warn!("{}", self.about(&dir, &error)),
            }
        }
        if self.to_visit.is_empty() {
            self.visited = true;
        }
        changes
    }

    fn visit_one(
        &mut self,
        root: &Root,
        dir: &RelPath,
        watch: &mut dyn Watch,
        now: Mono,
        changes: &mut Vec<Change>,
    ) -> io::Result<usize> {
        // First the watch, then the look: what comes in between is seen twice, not missed.
        if let Err(error) = watch.watch(&self.absolute(dir))
            && root.walk(dir).is_ok()
        {
            self.unwatched = error;
        }
        let names = root.names(dir)?;
        let known: Vec<RelPath> = children(&self.disk, dir)
            .map(|(path, _)| path.clone())
            .collect();
        for path in known {
            if names
                .binary_search_by(|name| name[..].cmp(path.name()))
                .is_err()
            {
                changes.push(self.gone(&path, now));
            }
        }
        self.stamp(dir, now);
        let at = root.walk(dir)?;
        for name in &names {
            let Ok(path) = dir.join(name) else {
                tracing::warn!("{}: its path is too long to be sent", self.about(dir, &""));
                continue;
            };
            let found = root.find_at(&at, name)?;
            let directory = found.is_some_and(|found| found.kind == Some(Kind::Directory));
            if self.exclude.excludes_entry(path.as_path(), directory) {
                // A pattern with `/` at its end may match only since this is a directory.
                self.look_at(&path, None, now, changes);
                continue;
            }
            self.look_at(&path, found, now, changes);
            if directory {
                self.to_visit.push_back(path);
            }
        }
        Ok(names.len())
    }

    fn absolute(&self, path: &RelPath) -> PathBuf {
        if path.is_root() {
            self.place.path.clone()
        } else {
            self.place.path.join(crate::root::os(path.as_bytes()))
        }
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
    )
}
