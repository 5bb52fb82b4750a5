//! What a sink still has under names that are gone or taken here: a file that turns up under
//! another name with the same content was renamed, and need not be sent again.
//!
//! No I/O. The one thing to know: only content counts, so nothing is taken for renamed that
//! is not the same; whether the sink still has it, the sink says itself.

use std::collections::{BTreeMap, HashMap};

use crate::compare::below;
use crate::path::RelPath;
use crate::version::{Hash, Kind, Version};

/// So many are remembered; more files than these that are removed at once are not searched.
const MOST: usize = 200_000;

/// Files that a sink has where the source has something else.
#[derive(Debug, Default)]
pub(crate) struct Vanished {
    files: BTreeMap<RelPath, Version>,
    by_content: HashMap<Hash, RelPath>,
    /// By size and time, for files that are too large to be read just to find out.
    by_stamp: HashMap<(u64, i64), RelPath>,
}

impl Vanished {
    /// The sink has this version at a path where it does not belong any more.
    pub(crate) fn note(&mut self, path: &RelPath, version: &Version) {
        if version.kind != Kind::File || version.size == 0 || self.files.len() >= MOST {
            return;
        }
        // Nothing is found any more by what was noted of this path before.
        self.forget_one(path);
        self.by_content.insert(version.hash, path.clone());
        let stamp = (version.size, version.mtime_ns);
        self.by_stamp.insert(stamp, path.clone());
        self.files.insert(path.clone(), *version);
    }

    /// What the sink has at and below a path is about to be replaced or removed.
    pub(crate) fn forget(&mut self, path: &RelPath) {
        if self.files.is_empty() {
            return;
        }
        let below: Vec<RelPath> = below(&self.files, path).map(|(p, _)| p.clone()).collect();
        for path in below {
            self.forget_one(&path);
        }
        self.forget_one(path);
    }

    /// The same of the path alone.
    pub(crate) fn forget_one(&mut self, path: &RelPath) {
        let Some(version) = self.files.remove(path) else {
            return;
        };
        if self.by_content.get(&version.hash) == Some(path) {
            self.by_content.remove(&version.hash);
        }
        let stamp = (version.size, version.mtime_ns);
        if self.by_stamp.get(&stamp) == Some(path) {
            self.by_stamp.remove(&stamp);
        }
    }

    /// Whether the sink has a file at this path that may be needed under another name.
    pub(crate) fn has(&self, path: &RelPath) -> bool {
        self.files.contains_key(path)
    }

    /// Where the sink has the content of this version.
    pub(crate) fn content(&self, version: &Version, path: &RelPath) -> Option<&RelPath> {
        let found = self.by_content.get(&version.hash)?;
        let same = self.files.get(found)?.same_content(version);
        (same && found != path).then_some(found)
    }

    /// Where the sink has what may be this file, to be proved by reading it.
    pub(crate) fn stamp(&self, size: u64, mtime_ns: i64, path: &RelPath) -> Option<&RelPath> {
        let found = self.by_stamp.get(&(size, mtime_ns))?;
        (found != path).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_had_before_is_not_found_there_any_more() {
        let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
        let version = |content: u8| Version {
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_ns: i64::from(content),
            size: 7,
            hash: [content; 32],
            xattrs: [0; 16],
        };
        let (old, new, other) = (path("old"), path("new"), path("other"));
        let mut vanished = Vanished::default();
        vanished.note(&old, &version(1));
        vanished.note(&old, &version(2));
        assert_eq!(vanished.content(&version(1), &new), None);
        assert_eq!(vanished.stamp(7, 1, &new), None);
        assert_eq!(vanished.stamp(7, 2, &new), Some(&old));
        vanished.note(&other, &version(2));
        vanished.forget_one(&other);
        assert_eq!(vanished.stamp(7, 2, &new), None);
        vanished.forget_one(&old);
        assert!(vanished.by_stamp.is_empty() && vanished.by_content.is_empty());
    }
}
