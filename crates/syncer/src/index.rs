//! What both servers are known to have had in common, per path: the memory that tells an old
//! version from a divergent one.
//!
//! No I/O: [`crate::journal`] keeps it on the disk. The one thing to know: it may be behind or
//! lost altogether at any time; then more is moved aside than needed, and nothing is lost.

use std::collections::BTreeMap;

use crate::codec::{Bytes, Malformed, put_bytes, put_option, put_path, put_sig, put_version};
use crate::decide::Base;
use crate::path::RelPath;
use crate::version::{Hash, Sig, Version};

/// How far a replica ever came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Neither sent nor received.
    #[default]
    Fresh,
    /// A first transfer began and has not ended.
    Filling,
    /// It was whole once, or it is the original.
    Whole,
}

/// What holds for the whole directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// Names the history. Made once by the first source, taken over by every sink; zeros: none.
    pub(crate) lineage: [u8; 16],
    pub(crate) stage: Stage,
    /// The servers with which the entries are common.
    pub(crate) with: Vec<String>,
}

/// One path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The version last acknowledged between the two servers.
    pub(crate) version: Version,
    /// How our copy of that version was last seen on our disk; `None`: read it again.
    pub(crate) sig: Option<Sig>,
    /// The content before, while a crash could have left either.
    pub(crate) before: Option<Hash>,
}

impl Entry {
    pub(crate) fn base(&self) -> Base {
        Base {
            version: Some(self.version),
            before: self.before,
        }
    }
}

/// One change of the index, as the journal stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Header(Header),
    Put(RelPath, Entry),
    /// The path and everything below.
    Remove(RelPath),
    /// A directory and everything below: from, to.
    Move(RelPath, RelPath),
    /// Nothing is known to be common any more.
    Forget,
}

/// All that is known to be common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) header: Header,
    pub(crate) entries: BTreeMap<RelPath, Entry>,
}

impl Index {
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::Header(header) => self.header = header,
            Record::Put(path, entry) => {
                if !entry.version.is_directory() {
                    self.remove_below(&path);
                }
                self.entries.insert(path, entry);
            }
            Record::Remove(path) => {
                self.remove_below(&path);
                self.entries.remove(&path);
            }
            Record::Move(from, to) => self.rename(&from, &to),
            Record::Forget => self.entries.clear(),
        }
    }

    fn rename(&mut self, from: &RelPath, to: &RelPath) {
        self.remove_below(to);
        let below = crate::compare::below(&self.entries, from);
        let mut moved: Vec<RelPath> = below.map(|(path, _)| path.clone()).collect();
        moved.push(from.clone());
        for path in moved {
            if let (Some(entry), Some(to)) = (self.entries.remove(&path), path.moved(from, to)) {
                self.entries.insert(to, entry);
            }
        }
    }

    fn remove_below(&mut self, path: &RelPath) {
        let below: Vec<RelPath> = crate::compare::below(&self.entries, path)
            .map(|(path, _)| path.clone())
            .collect();
        for path in below {
            self.entries.remove(&path);
        }
    }

    pub(crate) fn base(&self, path: &RelPath) -> Base {
        self.entries.get(path).map(Entry::base).unwrap_or_default()
    }

    /// Every record that makes an empty index into this one.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
        std::iter::once(Record::Header(self.header.clone())).chain(
            self.entries
                .iter()
                .map(|(path, entry)| Record::Put(path.clone(), entry.clone())),
        )
    }
}

/// First bytes of a journal.
pub(crate) const MAGIC: &[u8; 8] = b"haarbix1";

/// Bytes of checksum in front of each record.
const CHECK: usize = 8;

impl Record {
    /// `length, checksum, payload`: a torn tail is recognised.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(160);
        match self {
            Self::Header(header) => {
                payload.push(1);
                payload.extend_from_slice(&header.lineage);
                payload.push(match header.stage {
                    Stage::Fresh => 0,
                    Stage::Filling => 1,
                    Stage::Whole => 2,
                });
                payload.extend_from_slice(&(header.with.len() as u32).to_le_bytes());
                for name in &header.with {
                    put_bytes(&mut payload, name.as_bytes());
                }
            }
            Self::Put(path, entry) => {
                payload.push(2);
                put_path(&mut payload, path);
                put_version(&mut payload, &entry.version);
                put_option(&mut payload, entry.sig.as_ref(), put_sig);
                put_option(&mut payload, entry.before.as_ref(), |out, hash| {
                    out.extend_from_slice(hash);
                });
            }
            Self::Remove(path) => {
                payload.push(3);
                put_path(&mut payload, path);
            }
            Self::Forget => payload.push(4),
            Self::Move(from, to) => {
                payload.push(5);
                put_path(&mut payload, from);
                put_path(&mut payload, to);
            }
        }
        out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&blake3::hash(&payload).as_bytes()[..CHECK]);
        out.extend_from_slice(&payload);
    }

    /// The next whole record, or `None` where the bytes end or are damaged.
    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        let length = bytes.u32().ok()? as usize;
        let check = bytes.take(CHECK).ok()?;
        let payload = bytes.take(length).ok()?;
        if blake3::hash(payload).as_bytes()[..CHECK] != *check {
            return None;
        }
        Self::parse(payload).ok()
    }

    fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(payload);
        let record = match b.u8()? {
            1 => Self::Header(Header {
                lineage: b.lineage()?,
                stage: match b.u8()? {
                    0 => Stage::Fresh,
                    1 => Stage::Filling,
                    2 => Stage::Whole,
                    _ => return Err(Malformed("unknown stage")),
                },
                with: b.list(Bytes::text)?,
            }),
            2 => Self::Put(
                b.entry_path()?,
                Entry {
                    version: b.version()?,
                    sig: b.option(Bytes::sig)?,
                    before: b.option(Bytes::hash)?,
                },
            ),
            3 => Self::Remove(b.path()?),
            4 => Self::Forget,
            5 => Self::Move(b.entry_path()?, b.entry_path()?),
            _ => return Err(Malformed("unknown record")),
        };
        b.end(record)
    }
}

/// An index from the bytes of its journal, how many records it had, and how many bytes of it
/// are whole. Damage ends the reading: what follows is forgotten.
pub(crate) fn replay(bytes: &[u8]) -> (Index, u64, usize) {
    let mut index = Index::default();
    let mut records = 0;
    let Some(mut rest) = bytes.strip_prefix(MAGIC).map(Bytes) else {
        return (index, 0, 0);
    };
    let mut whole = MAGIC.len();
    while let Some(record) = Record::read(&mut rest) {
        index.apply(record);
        records += 1;
        whole = bytes.len() - rest.0.len();
    }
    (index, records, whole)
}

#[cfg(test)]
mod tests;
