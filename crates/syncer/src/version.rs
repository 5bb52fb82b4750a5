//! What a file is at one moment: the part that both servers compare, and the part by which
//! one server recognises its own copy without reading it.
//!
//! No I/O. The one thing to know: whole seconds and sizes are never trusted; a copy counts as
//! unread only while size, both nanosecond times and inode are the same.

/// Content as BLAKE3 sees it.
pub(crate) type Hash = [u8; 32];

/// What stands under a name. Sockets are not synchronised: one is worth nothing without the
/// process that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    CharDevice,
    BlockDevice,
}

impl Kind {
    /// A fifo or a device: a name for something that is not stored.
    pub(crate) fn is_node(self) -> bool {
        matches!(self, Self::Fifo | Self::CharDevice | Self::BlockDevice)
    }
}

/// One version of one entry, the same on every server that has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) kind: Kind,
    /// Permission bits, `07777`.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Nanoseconds since 1970; 0 for fifos and devices, where it only says when something last
    /// went through.
    pub(crate) mtime_ns: i64,
    /// Bytes; 0 for directories.
    pub(crate) size: u64,
    /// Of the content of a file, the target of a symlink, the number of a device; zeros for
    /// directories.
    pub(crate) hash: Hash,
    /// Digest of the extended attributes; zeros if there are none.
    pub(crate) xattrs: [u8; 16],
}

impl Version {
    /// Whether the same bytes stand in both; attributes may differ.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.kind == other.kind && self.size == other.size && self.hash == other.hash
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} {:o} {}:{} {} bytes, mtime {}, {:02x}{:02x}{:02x}{:02x}",
            self.kind,
            self.mode,
            self.uid,
            self.gid,
            self.size,
            self.mtime_ns,
            self.hash[0],
            self.hash[1],
            self.hash[2],
            self.hash[3]
        )
    }
}

/// How one server recognises a copy that it has read before (inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sig {
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
    /// Changes with every write and attribute change, and cannot be set back by a program.
    pub(crate) ctime_ns: i64,
}

/// A change this close before a reading may share its time stamp with the next change:
/// kernels before 6.13 stamp with the tick, at most 10 ms (CONFIG_HZ=100).
const STAMP_DOUBT_NS: i64 = 20_000_000;

impl Sig {
    /// What leads to the same file and is equal to no reading of it.
    pub(crate) fn unproven(self) -> Self {
        Self {
            ctime_ns: i64::MIN,
            ..self
        }
    }

    /// Whether another change could have carried the same time stamp as this reading, taken at
    /// `now_ns` (wall clock, nanoseconds). Such a signature proves nothing later.
    pub(crate) fn in_doubt(&self, now_ns: i64) -> bool {
        now_ns.saturating_sub(self.ctime_ns) < STAMP_DOUBT_NS
    }
}

/// Digest of extended attributes, sorted by name; zeros for none.
pub(crate) fn xattrs_digest(xattrs: &[(Vec<u8>, Vec<u8>)]) -> [u8; 16] {
    if xattrs.is_empty() {
        return [0; 16];
    }
    let mut hasher = blake3::Hasher::new();
    for (name, value) in xattrs {
        for part in [name, value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_this_moment_proves_nothing() {
        let sig = |ctime_ns| Sig {
            ino: 1,
            size: 1,
            mtime_ns: 0,
            ctime_ns,
        };
        let now = 1_000_000_000_000;
        assert!(sig(now).in_doubt(now));
        assert!(sig(now - STAMP_DOUBT_NS + 1).in_doubt(now));
        assert!(!sig(now - STAMP_DOUBT_NS).in_doubt(now));
        // The clock was set back: the stamp lies ahead, so nothing can be said.
        assert!(sig(now + 5_000_000_000).in_doubt(now));
    }

    #[test]
    fn attributes_cannot_be_shifted_between_name_and_value() {
        let one = xattrs_digest(&[(b"user.a".to_vec(), b"bc".to_vec())]);
        let other = xattrs_digest(&[(b"user.ab".to_vec(), b"c".to_vec())]);
        assert_ne!(one, other);
        assert_eq!(xattrs_digest(&[]), [0; 16]);
    }
}
