//! The index on the disk: `.haarb/index`, appended to, rewritten when it has grown.
//!
//! It lies inside the replicated directory, so that it is there exactly when the directory's
//! file system is. The one thing to know: order matters, durability hardly: a note that is
//! lost makes haarb keep too much, never too little.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{self, Mode, OFlags};

use crate::index::{Header, Index, MAGIC, Record, replay};
use crate::root::{Root, sync_directory};

const NAME: &str = "index";
const NEW_NAME: &str = "index.new";

/// Rewritten when it holds this many records per entry, and some more so that a small index
/// is left alone. The cost of a rewrite is thereby a fraction of that of the appending.
const RECORDS_PER_ENTRY: u64 = 4;
const RECORDS_SPARE: u64 = 4096;

/// A directory's index, in memory and on the disk.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) index: Index,
    records: u64,
    bytes: u64,
}

impl Store {
    /// What the disk has; damage at the end is cut off, and a journal that is not one is
    /// started anew.
    pub(crate) fn load(root: &Root) -> io::Result<Self> {
        let at = root.private(&[])?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: File = fs::openat(&at, NAME, flags, Mode::RUSR | Mode::WUSR)?.into();
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut &file, &mut bytes)?;
        let (index, records, whole) = replay(&bytes);
        if whole < bytes.len() {
            tracing::warn!(
                "the index of a replica is damaged after {records} records: what followed counts as unknown"
            );
            file.set_len(whole as u64)?;
        }
        Ok(Self {
            index,
            records,
            bytes: whole as u64,
        })
    }

    /// Writes records to the journal, and leaves the index in memory as it is. Returns what is to be
    /// made durable, if that matters.
    pub(crate) fn write(&mut self, root: &Root, records: &[Record]) -> io::Result<Option<File>> {
        if records.is_empty() {
            return Ok(None);
        }
        let at = root.private(&[])?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: File = fs::openat(&at, NAME, flags, Mode::RUSR | Mode::WUSR)?.into();
        if file.metadata()?.len() < self.bytes {
            // Somebody removed it: what is in memory is all there is.
            self.rewrite(root)?;
            return self.write(root, records);
        }
        let mut out = Vec::with_capacity(records.len() * 160);
        if self.bytes == 0 {
            out.extend_from_slice(MAGIC);
        }
        for record in records {
            record.write(&mut out);
        }
        // At its place and not at the end: half a record of a full disk is written over.
        file.write_all_at(&out, self.bytes)?;
        self.bytes += out.len() as u64;
        self.records += records.len() as u64;
        Ok(Some(file))
    }

    /// Writes records to the journal and takes them into the index.
    pub(crate) fn note(&mut self, root: &Root, records: Vec<Record>) -> io::Result<()> {
        self.write(root, &records)?;
        self.take(records);
        self.compact(root)
    }

    /// Writes records that the index in memory already has.
    pub(crate) fn append(&mut self, root: &Root, records: &[Record]) -> io::Result<()> {
        self.write(root, records)?;
        self.compact(root)
    }

    fn compact(&mut self, root: &Root) -> io::Result<()> {
        if self.records > self.index.entries.len() as u64 * RECORDS_PER_ENTRY + RECORDS_SPARE {
            self.rewrite(root)?;
        }
        Ok(())
    }

    /// Takes records into the index in memory.
    pub(crate) fn take(&mut self, records: Vec<Record>) {
        for record in records {
            self.index.apply(record);
        }
    }

    pub(crate) fn note_header(&mut self, root: &Root, header: Header) -> io::Result<()> {
        if self.index.header == header {
            return Ok(());
        }
        self.note(root, vec![Record::Header(header)])
    }

    fn rewrite(&mut self, root: &Root) -> io::Result<()> {
        let at = root.private(&[])?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: File = fs::openat(&at, NEW_NAME, flags, Mode::RUSR | Mode::WUSR)?.into();
        let mut out = MAGIC.to_vec();
        let mut records = 0;
        for record in self.index.records() {
            record.write(&mut out);
            records += 1;
        }
        file.write_all_at(&out, 0)?;
        fs::fdatasync(&file)?;
        fs::renameat(&at, NEW_NAME, &at, NAME)?;
        sync_directory(&at)?;
        self.records = records;
        self.bytes = out.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Entry, Stage};
    use crate::path::RelPath;
    use crate::root::Place;
    use crate::version::{Kind, Version};

    fn put(name: &str, seed: u8) -> Record {
        let version = Version {
            kind: Kind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime_ns: 0,
            size: 0,
            hash: [seed; 32],
            xattrs: [0; 16],
        };
        let entry = Entry {
            version,
            sig: None,
            before: None,
        };
        Record::Put(RelPath::parse(name.as_bytes()).unwrap(), entry)
    }

    #[test]
    fn it_is_there_after_a_restart_and_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let root = Place::new(dir.path().into()).enter().unwrap();
        let mut store = Store::load(&root).unwrap();
        let header = Header {
            stage: Stage::Whole,
            ..Header::default()
        };
        store.note_header(&root, header).unwrap();
        for round in 0..10_000u32 {
            store
                .note(&root, vec![put("one", round as u8), put("two", 7)])
                .unwrap();
        }
        let file = dir.path().join(".haarb/index");
        assert!(file.metadata().unwrap().len() < 5000 * 160);
        let again = Store::load(&root).unwrap();
        assert_eq!(again.index, store.index);
        assert_eq!(again.bytes, store.bytes);
    }

    #[test]
    fn a_damaged_or_missing_journal_is_survived() {
        let dir = tempfile::tempdir().unwrap();
        let root = Place::new(dir.path().into()).enter().unwrap();
        let file = dir.path().join(".haarb/index");
        let mut store = Store::load(&root).unwrap();
        store.note(&root, vec![put("one", 1)]).unwrap();
        let first = std::fs::read(&file).unwrap().len();
        store.note(&root, vec![put("two", 2)]).unwrap();
        // Torn in the second record: the first stays, and appending goes on behind it.
        let torn = &std::fs::read(&file).unwrap()[..first + 20];
        std::fs::write(&file, torn).unwrap();
        let mut store = Store::load(&root).unwrap();
        assert_eq!(store.index.entries.len(), 1);
        store.note(&root, vec![put("three", 3)]).unwrap();
        assert_eq!(Store::load(&root).unwrap().index.entries.len(), 2);
        // Removed under a running syncer: written anew as a whole.
        std::fs::remove_file(&file).unwrap();
        store.note(&root, vec![put("four", 4)]).unwrap();
        assert_eq!(Store::load(&root).unwrap().index.entries.len(), 3);
        // Not an index at all.
        std::fs::write(&file, b"something else entirely").unwrap();
        assert!(Store::load(&root).unwrap().index.entries.is_empty());
    }
}
