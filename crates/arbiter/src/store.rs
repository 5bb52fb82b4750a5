//! What should survive a restart: the epochs. Written behind by a thread; losing it is safe,
//! because a server without a disk learns the epoch from its neighbours.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use haarb_decision::{Record, RecordReserve};
use haarb_model::{Epoch, NodeName, ReserveName};
use serde::{Deserialize, Serialize};

/// Writes the newest record to disk, never holding up its caller.
#[derive(Debug)]
pub struct Store {
    place: Arc<Place>,
}

/// Where one record waits for the disk. A newer one takes the place of the one that waits, so
/// that a disk that stands still costs the memory of one record, however long.
#[derive(Debug, Default)]
struct Place {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    newest: Option<Vec<u8>>,
    /// Records that never reached the disk, because a newer one came before it was ready.
    passed_over: u64,
    /// Nobody saves any more.
    ended: bool,
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("record.json")
}

/// Reads the record of an earlier run. Missing: an empty one. Unreadable: an empty one, and
/// the reason in the log; the file is kept aside for a person.
#[must_use]
pub fn load(state_dir: &Path) -> Record {
    let path = file(state_dir);
    let read = std::fs::read(&path).and_then(|bytes| {
        decode(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    });
    match read {
        Ok(record) => record,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
        Err(error) => {
            tracing::warn!(
                "{}: {error}; starting without it, the epoch is learnt from the neighbours",
                path.display()
            );
            let _ = std::fs::rename(&path, path.with_extension("json.unreadable"));
            Record::default()
        }
    }
}

impl Store {
    /// Starts the writing thread.
    #[must_use]
    pub fn open(state_dir: &Path) -> Self {
        let path = file(state_dir);
        let place = Arc::new(Place::default());
        let theirs = Arc::clone(&place);
        let spawned = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || write_behind(&path, &theirs, replace));
        if let Err(error) = spawned {
            tracing::error!("the epoch is not written to disk: no thread ({error})");
        }
        Self { place }
    }

    /// Hands over a record to be written. Never waits for the disk.
    pub fn save(&self, record: &Record) {
        self.place.put(encode(record));
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.place.lock().ended = true;
        self.place.changed.notify_one();
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock is held by either side only while one pointer is exchanged.
    fn put(&self, bytes: Vec<u8>) {
        let mut waiting = self.lock();
        let older = waiting.newest.replace(bytes);
        waiting.passed_over += u64::from(older.is_some());
        drop(waiting);
        self.changed.notify_one();
        drop(older);
    }

    /// Waits for the next record; `None` once nobody saves any more and nothing waits.
    fn take(&self) -> Option<(Vec<u8>, u64)> {
        let nothing = |waiting: &mut Waiting| waiting.newest.is_none() && !waiting.ended;
        let mut waiting = self
            .changed
            .wait_while(self.lock(), nothing)
            .unwrap_or_else(PoisonError::into_inner);
        let passed_over = std::mem::take(&mut waiting.passed_over);
        Some((waiting.newest.take()?, passed_over))
    }
}

/// Writes what waits until nobody saves any more. Trouble is said when it begins and when it
/// has ended, not with every record.
fn write_behind(path: &Path, place: &Place, mut write: impl FnMut(&Path, &[u8]) -> io::Result<()>) {
    let (mut failing, mut missed) = (false, 0);
    while let Some((bytes, passed_over)) = place.take() {
        missed += passed_over;
        match write(path, &bytes) {
            Ok(()) if failing => {
                tracing::info!(
                    "{}: written again; {missed} older record(s) never were",
                    path.display()
                );
                (failing, missed) = (false, 0);
            }
            Ok(()) => missed = 0,
            Err(error) => {
                missed += 1;
                if !failing {
                    tracing::warn!("{}: {error}; the epoch is in memory only", path.display());
                    failing = true;
                }
            }
        }
    }
}

/// Replaces a file so that a power cut leaves the old or the new one, whole.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("json.new");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => std::fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// The record as it is stored: names as text, so that the file can be read by a person.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    maintenance: bool,
    left: Vec<String>,
    reserves: Vec<StoredReserve>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredReserve {
    name: String,
    epoch: u64,
    own: u64,
    operator: Option<String>,
    failed: bool,
}

fn encode(record: &Record) -> Vec<u8> {
    let Record {
        reserves,
        left,
        maintenance,
    } = record;
    let stored = Stored {
        maintenance: *maintenance,
        left: left.iter().map(ToString::to_string).collect(),
        reserves: reserves
            .iter()
            .map(|(name, part)| store_reserve(name, part))
            .collect(),
    };
    // Text and numbers always have a JSON form.
    serde_json::to_vec_pretty(&stored).unwrap_or_default()
}

fn store_reserve(name: &ReserveName, part: &RecordReserve) -> StoredReserve {
    let RecordReserve {
        epoch,
        own,
        operator,
        failed,
    } = part;
    StoredReserve {
        name: name.to_string(),
        epoch: epoch.0,
        own: own.0,
        operator: operator.clone(),
        failed: *failed,
    }
}

fn decode(bytes: &[u8]) -> Result<Record, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let mut record = Record {
        maintenance: stored.maintenance,
        ..Record::default()
    };
    for name in stored.left {
        record
            .left
            .insert(NodeName::new(&name).map_err(|e| e.to_string())?);
    }
    for part in stored.reserves {
        let name = ReserveName::new(&part.name).map_err(|e| e.to_string())?;
        let StoredReserve {
            name: _,
            epoch,
            own,
            operator,
            failed,
        } = part;
        let part = RecordReserve {
            epoch: Epoch(epoch),
            own: Epoch(own),
            operator,
            failed,
        };
        record.reserves.insert(name, part);
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let part = RecordReserve {
            epoch: Epoch(7),
            own: Epoch(6),
            operator: Some("haarb demote".into()),
            failed: true,
        };
        let mut record = Record {
            maintenance: true,
            ..Record::default()
        };
        record.left.insert(NodeName::new("beta").expect("a name"));
        record
            .reserves
            .insert(ReserveName::new("sip").expect("a name"), part);
        record
    }

    #[test]
    fn a_record_survives_the_disk() {
        let directory = tempfile::tempdir().expect("a directory");
        replace(&file(directory.path()), &encode(&record())).expect("a file");
        assert_eq!(load(directory.path()), record());
    }

    #[test]
    fn a_disk_that_stands_still_keeps_one_record_waiting_the_newest() {
        let place = Arc::new(Place::default());
        let theirs = Arc::clone(&place);
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let disk = std::thread::spawn(move || {
            let mut written = Vec::new();
            write_behind(Path::new("record.json"), &theirs, |_, bytes| {
                begun.send(()).expect("a test that listens");
                wait.recv().expect("a disk that goes on at last");
                written.push(bytes.to_vec());
                Ok(())
            });
            written
        });
        place.put(vec![0]);
        has_begun.recv().expect("the disk has taken the first");
        for number in 1..=200 {
            place.put(vec![number]);
        }
        assert_eq!(place.lock().newest, Some(vec![200]));
        assert_eq!(place.lock().passed_over, 199);
        place.lock().ended = true;
        go_on.send(()).expect("the disk waits");
        go_on.send(()).expect("the disk waits");
        assert_eq!(disk.join().expect("no panic"), [vec![0], vec![200]]);
    }

    #[test]
    fn an_unreadable_record_is_kept_aside_and_counts_as_none() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(file(directory.path()), b"{\"maintenance\": tru").expect("a file");
        assert_eq!(load(directory.path()), Record::default());
        assert!(directory.path().join("record.json.unreadable").exists());
        assert_eq!(load(directory.path()), Record::default());
    }
}
