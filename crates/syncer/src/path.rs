//! Paths inside a replicated directory: bytes, relative, unable to leave it by their form.
//!
//! Nothing here touches a file system. The one thing to know: the order puts a directory
//! directly before everything in it, so that a subtree is one range of a sorted map.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Haarb's own place in the root of every replicated directory; never synchronised.
pub(crate) const PRIVATE: &[u8] = b".haarb";

/// Longest path that is accepted, in bytes. Beyond `PATH_MAX`, because a tree can be deeper
/// than what one system call takes; bounded, because it arrives from a network.
pub(crate) const PATH_BYTES_MAX: usize = 32 * 1024;

/// Longest name of one entry, in bytes (`NAME_MAX`, limits.h).
const NAME_BYTES_MAX: usize = 255;

/// A relative path without `.`, `..`, empty parts, or NUL. Empty: the root itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct RelPath(Arc<[u8]>);

/// Why bytes are not a path inside a replicated directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPath {
    #[error("it is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    #[error("a name in it is empty, longer than {NAME_BYTES_MAX} bytes, or holds a NUL byte")]
    BadName,
    #[error("it is absolute or uses `.` or `..`")]
    Leaves,
    #[error("it is inside haarb's own place")]
    Private,
}

impl RelPath {
    /// The replicated directory itself.
    pub(crate) fn root() -> Self {
        Self(Arc::default())
    }

    /// Checks bytes from outside. Empty bytes are the root.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BadPath> {
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(BadPath::TooLong);
        }
        if bytes.first() == Some(&b'/') {
            return Err(BadPath::Leaves);
        }
        for name in bytes.split(|byte| *byte == b'/') {
            check_name(name)?;
        }
        if bytes.split(|byte| *byte == b'/').next() == Some(PRIVATE) {
            return Err(BadPath::Private);
        }
        Ok(Self(bytes.into()))
    }

    /// As paths of the file system are written.
    pub(crate) fn as_path(&self) -> &std::path::Path {
        std::path::Path::new(crate::root::os(self.as_bytes()))
    }

    /// An entry of this directory.
    pub(crate) fn join(&self, name: &[u8]) -> Result<Self, BadPath> {
        check_name(name)?;
        if self.is_root() && name == PRIVATE {
            return Err(BadPath::Private);
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        if !self.is_root() {
            bytes.extend_from_slice(&self.0);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if bytes.len() > PATH_BYTES_MAX {
            return Err(BadPath::TooLong);
        }
        Ok(Self(bytes.into()))
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The names from the root down.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
    }

    /// The last name; empty for the root.
    pub(crate) fn name(&self) -> &[u8] {
        self.0
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default()
    }

    /// The directory that holds it; `None` for the root.
    pub(crate) fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// Whether it lies below `directory`, at any depth. Nothing lies below itself.
    pub(crate) fn is_below(&self, directory: &Self) -> bool {
        if directory.is_root() {
            return !self.is_root();
        }
        self.0.len() > directory.0.len()
            && self.0.starts_with(&directory.0)
            && self.0[directory.0.len()] == b'/'
    }

    /// What this path below `from` is called when `from` is called `to`; `None`: it is not below, or
    /// the new path is too long.
    pub(crate) fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        if self == from {
            return Some(to.clone());
        }
        if from.is_root() || to.is_root() || !self.is_below(from) {
            return None;
        }
        let bytes = [&to.0[..], &self.0[from.0.len()..]].concat();
        (bytes.len() <= PATH_BYTES_MAX).then(|| Self(bytes.into()))
    }

    /// The first key that sorts after this path and everything below it. Only a bound for
    /// ranges: it is not a path.
    pub(crate) fn after_subtree(&self) -> Self {
        let mut bytes = self.0.to_vec();
        bytes.push(1);
        Self(bytes.into())
    }

    /// For people: UTF-8 as it is, other bytes and control characters escaped.
    pub(crate) fn show(&self) -> Cow<'_, str> {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(char::is_control) => Cow::Borrowed(text),
            _ => Cow::Owned(self.0.escape_ascii().to_string()),
        }
    }
}

fn check_name(name: &[u8]) -> Result<(), BadPath> {
    match name {
        b"." | b".." => Err(BadPath::Leaves),
        name if name.is_empty()
            || name.len() > NAME_BYTES_MAX
            || name.contains(&0)
            || name.contains(&b'/') =>
        {
            Err(BadPath::BadName)
        }
        _ => Ok(()),
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A separator sorts before every byte that a name can hold.
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

#[cfg(test)]
mod tests;
