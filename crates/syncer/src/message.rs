//! What two syncers say to each other, version 6.
//!
//! A session belongs to one reserve. `Up` goes from the sink to the source, `Down` from the
//! source to the sink:
//!
//! ```text
//! sink                                              source
//!   Hello  who, epoch, digest per directory   ->
//!          <-  Welcome epoch, lineages, excludes  or   Refuse why
//!          <-  List dir                             where digests differ
//!   Listing                                   ->
//!          <-  Put / Append / Meta / Link / Rename / Delete / Begin..End   each with the next number
//!   Ack up to a number, what failed           ->    durable on the sink's disk
//!          <-  Held dir                             deletions that wait for a person
//!          <-  InSync dir                           all of it was sent
//!          <-> Ping                                 so that a dead path is seen
//! ```
//!
//! No I/O. The one thing to know: parsing is total and a path is checked while it is parsed.

mod encode;

use crate::compare::Listed;
use crate::path::RelPath;
use crate::version::{Hash, Kind, Version};

/// Version of the protocol. Another one is refused; two versions at once come with the first
/// release that has a second one.
pub(crate) const PROTOCOL: u16 = 6;

/// Longest message. The longest we send is one segment of a large file with its frame.
pub(crate) const MESSAGE_BYTES_MAX: usize = SEGMENT + 256 * 1024;

/// Large files travel and are compared in pieces of this size.
pub(crate) const SEGMENT: usize = 1024 * 1024;

/// Extended attributes of one entry: names and values, sorted by name.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// One directory as the sink has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirHello {
    /// Its absolute path; both servers have the same configuration.
    pub(crate) path: Vec<u8>,
    /// Whose history it follows; zeros: none.
    pub(crate) lineage: [u8; 16],
    /// How many entries it has.
    pub(crate) entries: u64,
    /// Digest of all of it.
    pub(crate) digest: Hash,
    /// Why it cannot be received; empty if it can.
    pub(crate) error: String,
}

/// The sink's first message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) protocol: u16,
    pub(crate) reserve: String,
    pub(crate) node: String,
    /// The highest epoch that the sink has seen.
    pub(crate) epoch: u64,
    pub(crate) directories: Vec<DirHello>,
}

/// From the sink to the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Up {
    Hello(Hello),
    Ping,
    /// A part of the listing of a directory.
    Listing {
        dir: u16,
        path: RelPath,
        entries: Vec<Listed>,
        last: bool,
    },
    /// A transfer can build on so many segments that the sink has.
    Base {
        transfer: u64,
        segments: u64,
    },
    /// One of these segments.
    Signature {
        transfer: u64,
        segment: u64,
        hash: Hash,
        signature: Vec<u8>,
    },
    /// Everything up to this number is durable, or failed as listed.
    Ack {
        upto: u64,
        problems: Vec<(u64, Problem)>,
    },
    /// The sink found a change of its own, or could not keep what it had: send it again.
    Local {
        dir: u16,
        path: RelPath,
    },
}

/// Why one operation was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The sink does not have the content that the operation builds on.
    NeedContent,
    /// The text of an error.
    Failed(String),
}

/// One directory as the source has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirWelcome {
    pub(crate) lineage: [u8; 16],
    /// Why it is not sent; empty if it is.
    pub(crate) error: String,
    /// What is left out of it, on both sides.
    pub(crate) exclude: Vec<String>,
}

/// Why a source does not serve a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It speaks another version of the protocol.
    Protocol,
    /// It is not the source of this reserve, or does not know it.
    NotSource,
    /// Its epoch is lower than the sink's.
    LowerEpoch,
    /// The directories of the reserve differ between the two configurations.
    Directories,
}

/// One more name of a file that the sink has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewName {
    /// Under which name it has the file.
    pub(crate) to: RelPath,
    /// It was renamed: the other name will go or get another file. Only for a file that has
    /// no third name.
    pub(crate) moved: bool,
    pub(crate) version: Version,
    pub(crate) xattrs: Xattrs,
}

/// What makes a file out of its beginning, all that the sink has; its other attributes stay. Short,
/// because there may be one for every line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    /// The length of the beginning, bytes.
    pub(crate) from: u64,
    /// What follows.
    pub(crate) tail: Vec<u8>,
    pub(crate) mtime_ns: i64,
    /// Of the hash of the whole: so much that it can be told from another one.
    pub(crate) check: [u8; 8],
}

impl Growth {
    /// Makes a version out of the one that is its beginning.
    pub(crate) fn new(old: &Version, version: &Version, tail: Vec<u8>) -> Self {
        Self {
            from: old.size,
            tail,
            mtime_ns: version.mtime_ns,
            check: check_of(&version.hash),
        }
    }

    /// Whether this is all that makes one version out of the other.
    pub(crate) fn suffices(old: &Version, version: &Version) -> bool {
        let attributes = |v: &Version| (v.kind, v.mode, v.uid, v.gid, v.xattrs);
        version.kind == Kind::File
            && attributes(old) == attributes(version)
            && 0 < old.size
            && old.size < version.size
            && version.size - old.size <= SEGMENT as u64
    }
}

/// The part of a hash that [`Growth`] carries.
pub(crate) fn check_of(hash: &Hash) -> [u8; 8] {
    let mut check = [0; 8];
    check.copy_from_slice(&hash[..8]);
    check
}

/// A piece of a large file, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// These bytes.
    Data(Vec<u8>),
    /// The sink's own segment.
    Copy { segment: u64 },
    /// The sink's own segment, changed by this delta of `fast_rsync`.
    Delta { segment: u64, delta: Vec<u8> },
    /// So many zeros, which the source has as a hole.
    Hole { length: u32 },
}

/// Messages up to this size travel together.
pub(crate) const SHORT: usize = 16 * 1024;

/// From the source to the sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Down {
    Welcome {
        protocol: u16,
        node: String,
        epoch: u64,
        directories: Vec<DirWelcome>,
    },
    Refuse {
        why: Refusal,
        epoch: u64,
    },
    Ping,
    List {
        dir: u16,
        path: RelPath,
    },
    /// A directory, a symlink (content: its target), a device (content: its number), a fifo or a
    /// small file, whole.
    Put {
        seq: u64,
        dir: u16,
        path: RelPath,
        version: Version,
        content: Vec<u8>,
        /// Blocks of zeros are to be stored as holes.
        sparse: bool,
        xattrs: Xattrs,
    },
    /// A file that the sink has got longer, and is the same up to there.
    Append {
        seq: u64,
        dir: u16,
        path: RelPath,
        growth: Growth,
    },
    /// New attributes for content that the sink has.
    Meta {
        seq: u64,
        dir: u16,
        path: RelPath,
        version: Version,
        xattrs: Xattrs,
    },
    /// A file that the sink has under another name gets this name, too.
    Link {
        seq: u64,
        dir: u16,
        path: RelPath,
        name: NewName,
    },
    /// A directory of which the sink has all that is in it got another name.
    Rename {
        seq: u64,
        dir: u16,
        from: RelPath,
        path: RelPath,
    },
    /// Gone, with everything below.
    Delete {
        seq: u64,
        dir: u16,
        path: RelPath,
    },
    /// A large file begins.
    Begin {
        transfer: u64,
        dir: u16,
        path: RelPath,
        /// Blocks of zeros are to be stored as holes.
        sparse: bool,
    },
    /// Describe these segments of what you have.
    Sums {
        transfer: u64,
        first: u64,
        count: u32,
    },
    Part {
        transfer: u64,
        piece: Piece,
    },
    /// The large file is complete.
    End {
        seq: u64,
        transfer: u64,
        version: Version,
        xattrs: Xattrs,
    },
    /// It changed while it was read: forget it.
    Cancel {
        transfer: u64,
    },
    /// At and below these paths nothing stands here any more, and a person has to say that it is
    /// meant so: what the sink has there is not common.
    Held {
        dir: u16,
        paths: Vec<RelPath>,
    },
    /// Everything in this directory was sent.
    InSync {
        seq: u64,
        dir: u16,
    },
}

#[cfg(test)]
mod tests;
