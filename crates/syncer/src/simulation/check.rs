//! What must hold after every step of a standby: what it shows is whole, what it replaced was known
//! or is kept, what it acknowledged is there.
//!
//! It looks at the disk and at what was sent, and asks neither side. The one thing to know: what
//! was acknowledged in one step is judged together, by the last of it for each path.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::World;
use super::tree::contents;
use crate::message::Up;
use crate::path::RelPath;

impl World {
    pub(super) fn check_replaced(&mut self, standby: usize, before: &BTreeMap<PathBuf, Vec<u8>>) {
        let root = self.roots[standby].path();
        let after = contents(root);
        for (path, content) in &after {
            let known = self.had.iter().any(|had| had.contains(content));
            assert!(known, "{path:?} on the standby never stood anywhere: torn");
        }
        let still: BTreeSet<&Vec<u8>> = after.values().collect();
        let kept: BTreeSet<Vec<u8>> = contents(&root.join(".haarb/conflicts"))
            .into_values()
            .collect();
        for (path, content) in before {
            if still.contains(content) {
                continue;
            }
            let source_knew = self.had[self.active].contains(content);
            assert!(
                source_knew || kept.contains(content),
                "{path:?} was replaced, the source never had it, and it is not among the conflicts"
            );
            self.needless += usize::from(source_knew && kept.contains(content));
        }
    }

    pub(super) fn check_acknowledged(&mut self, answers: &[Up]) {
        let root = self.roots[1 - self.active].path();
        // All acknowledgements of a step together: what stands there now is what the last of
        // them is about.
        let mut last: BTreeMap<RelPath, Option<crate::version::Hash>> = BTreeMap::new();
        for answer in answers {
            let Up::Ack { upto, problems } = answer else {
                continue;
            };
            let later = self.sent.split_off(&(upto + 1));
            let acked = std::mem::replace(&mut self.sent, later);
            for (seq, (path, hash)) in acked {
                if problems.iter().any(|(failed, _)| *failed == seq) {
                    continue;
                }
                last.retain(|other, _| !other.is_below(&path));
                let mut above = path.parent();
                while let Some(parent) = above {
                    last.remove(&parent);
                    above = parent.parent();
                }
                last.insert(path, hash);
            }
        }
        for (path, hash) in last {
            let Some(hash) = hash else {
                continue;
            };
            let at = root.join(crate::root::os(path.as_bytes()));
            let content = match at.read_link() {
                Ok(target) => std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str()).to_vec(),
                Err(_) => std::fs::read(&at).unwrap_or_default(),
            };
            assert_eq!(
                *blake3::hash(&content).as_bytes(),
                hash,
                "{path:?} was acknowledged and is not there"
            );
        }
    }
}
