//! Comparing two trees without sending either: every directory has a digest of all that is
//! below it, and only directories whose digests differ are listed.
//!
//! No I/O. The one thing to know: equal digests mean that every path, attribute and byte of
//! content below is equal, so a directory of a million files costs one comparison.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::codec::put_version;
use crate::path::RelPath;
use crate::version::{Hash, Version};

/// Names the names of one file: the beginning of the digest of the first of them; zeros for a
/// file that has one name only.
pub(crate) type Link = [u8; 8];

/// The link of all names of a file of which this is the first.
pub(crate) fn link_of(first: &RelPath) -> Link {
    let mut link = Link::default();
    link.copy_from_slice(&blake3::hash(first.as_bytes()).as_bytes()[..8]);
    link
}

/// One line of a directory's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: Vec<u8>,
    pub(crate) version: Version,
    /// With which other names it belongs together.
    pub(crate) link: Link,
    /// Of everything below; zeros for what is not a directory.
    pub(crate) digest: Hash,
}

/// The digest of every directory, the root included, from all entries in their order.
pub(crate) fn digests<'a>(
    entries: impl Iterator<Item = (&'a RelPath, &'a Version, Link)>,
) -> BTreeMap<RelPath, Hash> {
    let mut done = BTreeMap::new();
    let mut open: Vec<(RelPath, blake3::Hasher)> = vec![(RelPath::root(), blake3::Hasher::new())];
    for (path, version, link) in entries {
        close_until(&mut open, &mut done, Some(path));
        if let Some((_, hasher)) = open.last_mut() {
            note(hasher, path.name(), version, link);
        }
        if version.is_directory() {
            open.push((path.clone(), blake3::Hasher::new()));
        }
    }
    close_until(&mut open, &mut done, None);
    done
}

/// Finishes the open directories that do not hold `next`, feeding each into its parent.
fn close_until(
    open: &mut Vec<(RelPath, blake3::Hasher)>,
    done: &mut BTreeMap<RelPath, Hash>,
    next: Option<&RelPath>,
) {
    while let Some((dir, _)) = open.last() {
        if next.is_some_and(|path| path.is_below(dir)) {
            return;
        }
        let Some((dir, hasher)) = open.pop() else {
            return;
        };
        let digest = *hasher.finalize().as_bytes();
        if let Some((_, parent)) = open.last_mut() {
            parent.update(&digest);
        }
        done.insert(dir, digest);
    }
}

fn note(hasher: &mut blake3::Hasher, name: &[u8], version: &Version, link: Link) {
    let mut line = Vec::with_capacity(name.len() + 96);
    line.extend_from_slice(&(name.len() as u32).to_le_bytes());
    line.extend_from_slice(name);
    put_version(&mut line, version);
    line.extend_from_slice(&link);
    hasher.update(&line);
}

/// The entries directly in `dir`, in order, of a map of a whole tree.
pub(crate) fn children<'a, T>(
    tree: &'a BTreeMap<RelPath, T>,
    dir: &RelPath,
) -> impl Iterator<Item = (&'a RelPath, &'a T)> {
    let end = if dir.is_root() {
        Bound::Unbounded
    } else {
        Bound::Excluded(dir.after_subtree())
    };
    let mut from = Bound::Excluded(dir.clone());
    let depth = dir.names().count() + 1;
    std::iter::from_fn(move || {
        loop {
            let (path, value) = tree.range((from.clone(), end.clone())).next()?;
            from = Bound::Included(path.after_subtree());
            // An entry whose directory is not in the map is nobody's child.
            if path.names().count() == depth {
                return Some((path, value));
            }
        }
    })
}

/// Everything below `dir`, `dir` itself not.
pub(crate) fn below<'a, T>(
    tree: &'a BTreeMap<RelPath, T>,
    dir: &RelPath,
) -> impl Iterator<Item = (&'a RelPath, &'a T)> {
    let end = if dir.is_root() {
        Bound::Unbounded
    } else {
        Bound::Excluded(dir.after_subtree())
    };
    tree.range((Bound::Excluded(dir.clone()), end))
}

/// What to do about one name after two listings of a directory were laid side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// The other side lacks it or has something else there: look at it, and if ours is a
    /// directory, at everything below it.
    Ours(Vec<u8>),
    /// Only the other side has it.
    Theirs(Vec<u8>),
    /// Both have the directory, and something below differs: list it.
    Below(Vec<u8>),
}

/// Lays two listings of one directory, each sorted by name, side by side.
pub(crate) fn differences(ours: &[Listed], theirs: &[Listed]) -> Vec<Difference> {
    let theirs: BTreeMap<&[u8], &Listed> = theirs.iter().map(|l| (&l.name[..], l)).collect();
    let mut found = Vec::new();
    for mine in ours {
        let Some(other) = theirs.get(&mine.name[..]) else {
            found.push(Difference::Ours(mine.name.clone()));
            continue;
        };
        let both_directories = mine.version.is_directory() && other.version.is_directory();
        if mine.version != other.version || mine.link != other.link {
            found.push(Difference::Ours(mine.name.clone()));
        }
        if both_directories && mine.digest != other.digest {
            found.push(Difference::Below(mine.name.clone()));
        }
    }
    let known: std::collections::BTreeSet<&[u8]> = ours.iter().map(|l| &l.name[..]).collect();
    for (name, _) in theirs.iter().filter(|(name, _)| !known.contains(*name)) {
        found.push(Difference::Theirs(name.to_vec()));
    }
    found
}

#[cfg(test)]
mod tests;
