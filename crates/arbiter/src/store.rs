//! What should survive a restart: the epochs. Written behind by a thread; losing it is safe,
//! because a server without a disk learns the epoch from its neighbours.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};

use haarb_decision::{Record, RecordReserve};
use haarb_model::{Epoch, NodeName, ReserveName};
use serde::{Deserialize, Serialize};

/// Writes the newest record to disk, never holding up its caller.
#[derive(Debug)]
pub struct Store {
    newest: Sender<Vec<u8>>,
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
        let (newest, waiting) = channel::<Vec<u8>>();
        let path = file(state_dir);
        let spawned = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                while let Ok(mut bytes) = waiting.recv() {
                    // Only the newest counts.
                    while let Ok(newer) = waiting.try_recv() {
                        bytes = newer;
                    }
                    if let Err(error) = replace(&path, &bytes) {
                        tracing::warn!("{}: {error}; the epoch is in memory only", path.display());
                    }
                }
            });
        if let Err(error) = spawned {
            tracing::error!("the epoch is not written to disk: no thread ({error})");
        }
        Self { newest }
    }

    /// Hands over a record to be written. Never waits.
    pub fn save(&self, record: &Record) {
        let _ = self.newest.send(encode(record));
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
    fn an_unreadable_record_is_kept_aside_and_counts_as_none() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(file(directory.path()), b"{\"maintenance\": tru").expect("a file");
        assert_eq!(load(directory.path()), Record::default());
        assert!(directory.path().join("record.json.unreadable").exists());
        assert_eq!(load(directory.path()), Record::default());
    }
}
