//! What a comparison with a sink needs of a directory: content that is not known yet is read, then
//! it is told by digests and lists.
//!
//! It sends nothing. The one thing to know: what could not be read is equal to nothing.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::Tree;
use crate::compare::{Link, Listed, children, digests};
use crate::path::RelPath;
use crate::read::version_on_disk;
use crate::source::disk::Known;
use crate::version::{Hash, Version};

impl Tree {
    /// Reads one entry whose content is not known. `false`: there is none left.
    pub(crate) fn read_one_unknown(&mut self, from: &mut Option<RelPath>) -> bool {
        let start = from.clone().unwrap_or_else(RelPath::root);
        let next = self
            .disk
            .range((Bound::Excluded(start), Bound::Unbounded))
            .find(|(_, known)| known.version.is_none())
            .map(|(path, _)| path.clone());
        let Some(path) = next else {
            return false;
        };
        // Each is tried once: what cannot be read now is found when it is to be sent.
        *from = Some(path.clone());
        let Ok(root) = self.place.enter() else {
            return false;
        };
        match version_on_disk(&root, &path) {
            Ok(Some((version, sig, doubt))) => {
                let known = Known {
                    doubt,
                    ..Known::read(version, sig)
                };
                self.disk.insert(path, known);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!("{}", self.about(&path, &error)),
        }
        true
    }

    /// The digest of every directory. What could not be read counts as different.
    pub(crate) fn digests(&self) -> BTreeMap<RelPath, Hash> {
        let versions: Vec<(&RelPath, Version, Link)> = self
            .disk
            .iter()
            .map(|(path, known)| {
                let version = known.version.unwrap_or(unread(known));
                (path, version, self.disk.link(known))
            })
            .collect();
        digests(
            versions
                .iter()
                .map(|(path, version, link)| (*path, version, *link)),
        )
    }

    pub(crate) fn listing(&self, dir: &RelPath, digests: &BTreeMap<RelPath, Hash>) -> Vec<Listed> {
        children(&self.disk, dir)
            .map(|(path, known)| Listed {
                name: path.name().to_vec(),
                version: known.version.unwrap_or(unread(known)),
                link: self.disk.link(known),
                digest: digests.get(path).copied().unwrap_or_default(),
            })
            .collect()
    }
}

/// Stands for content that is not known: equal to nothing.
fn unread(known: &Known) -> Version {
    Version {
        kind: known.kind,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime_ns: i64::MIN,
        size: known.sig.size,
        hash: [0xff; 32],
        xattrs: [0xff; 16],
    }
}
