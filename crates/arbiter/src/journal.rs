//! The event log: what happened, for `haarb events` and `haarb why`.
//!
//! Kept in memory, written behind by a thread as one JSON object a line. A disk that is full,
//! slow or missing costs lines on disk, never time: the failover path does not wait here.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use haarb_api::v1;
use haarb_model::{Event, NodeName, Role};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Events kept in memory: weeks of a healthy cluster, an hour of a very sick one.
const KEPT: usize = 10_000;
/// Events that may wait for the disk.
const WAITING: usize = 1024;
/// A log file of this size is put aside as `events.jsonl.1` at the next start.
const ROTATE_BYTES: u64 = 16 << 20;
/// How far back a start reads an existing log.
const READ_BACK_BYTES: u64 = 4 << 20;

/// One event as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts the events of this server.
    pub seq: u64,
    /// Wall-clock time in microseconds since 1970, for people.
    pub at_unix_us: u64,
    /// This server.
    pub node: String,
    /// How loud.
    pub severity: String,
    /// The rule.
    pub rule: String,
    /// The reserve; empty if none is concerned.
    pub reserve: String,
    /// Role before; empty if none.
    pub from: String,
    /// Role after.
    pub to: String,
    /// The epoch in force after it.
    pub epoch: u64,
    /// What happened, what was done, what to look at.
    pub why: String,
    /// The facts that were seen.
    pub evidence: Vec<(String, String)>,
}

impl From<Entry> for v1::EventRecord {
    fn from(entry: Entry) -> Self {
        let Entry {
            seq,
            at_unix_us,
            node,
            severity,
            rule,
            reserve,
            from,
            to,
            epoch,
            why,
            evidence,
        } = entry;
        let evidence = evidence
            .into_iter()
            .map(|(name, value)| v1::Evidence { name, value })
            .collect();
        Self {
            seq,
            at_unix_us,
            node,
            severity,
            rule,
            reserve,
            from,
            to,
            epoch,
            why,
            evidence,
        }
    }
}

/// The log of this server. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    node: NodeName,
    kept: Arc<Mutex<VecDeque<Entry>>>,
    live: broadcast::Sender<Entry>,
    disk: SyncSender<Entry>,
    /// Events that found the queue to the disk full.
    turned_away: Arc<AtomicU64>,
}

impl Journal {
    /// Opens the log of a server. What cannot be read or written is said in the daemon's log
    /// and leaves the log in memory alone.
    #[must_use]
    pub fn open(state_dir: &Path, node: NodeName) -> Self {
        let path = state_dir.join("events.jsonl");
        let kept = read_back(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!("{}: earlier events cannot be read: {error}", path.display());
            }
            VecDeque::new()
        });
        let (disk, waiting) = sync_channel::<Entry>(WAITING);
        let torn = ends_amid_a_line(&path);
        let turned_away = Arc::new(AtomicU64::new(0));
        let theirs = Arc::clone(&turned_away);
        let spawned = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                let mut writer = Writer {
                    path,
                    file: None,
                    torn,
                    lost: 0,
                    turned_away: theirs,
                };
                for entry in waiting {
                    writer.write(&entry);
                }
            });
        if let Err(error) = spawned {
            tracing::error!("events are not written to disk: no thread ({error})");
        }
        let (live, _) = broadcast::channel(WAITING);
        Self {
            node,
            kept: Arc::new(Mutex::new(kept)),
            live,
            disk,
            turned_away,
        }
    }

    /// Notes an event. Never waits.
    pub fn note(&self, event: Event) {
        let Event {
            severity,
            rule,
            reserve,
            from,
            to,
            epoch,
            why,
            evidence,
        } = event;
        let role = |role: Option<Role>| role.map(Role::as_str).unwrap_or_default().to_owned();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = Entry {
            seq: kept.back().map_or(1, |last| last.seq + 1),
            at_unix_us: wall_clock_us(),
            node: self.node.to_string(),
            severity: severity.as_str().into(),
            rule: rule.into(),
            reserve: reserve.map(|r| r.to_string()).unwrap_or_default(),
            from: role(from),
            to: role(to),
            epoch: epoch.0,
            why,
            evidence: evidence
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
        };
        tracing::info!(
            "{} {} {} {}->{} epoch {}: {}",
            entry.severity,
            entry.rule,
            entry.reserve,
            entry.from,
            entry.to,
            entry.epoch,
            entry.why
        );
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(entry.clone());
        drop(kept);
        if let Err(TrySendError::Full(_)) = self.disk.try_send(entry.clone()) {
            let before = self.turned_away.fetch_add(1, Ordering::Relaxed);
            // Said when it begins; how many there were is said when the disk goes on.
            if before == 0 {
                tracing::warn!(
                    "the disk does not keep up: events from {} on stay in memory only",
                    entry.seq
                );
            }
        }
        // Nobody follows: fine.
        let _ = self.live.send(entry);
    }

    /// The kept events since a moment, and the stream of those to come.
    #[must_use]
    pub fn since(&self, unix_ms: u64) -> (Vec<Entry>, broadcast::Receiver<Entry>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        let from = unix_ms.saturating_mul(1000);
        (
            kept.iter()
                .filter(|e| e.at_unix_us >= from)
                .cloned()
                .collect(),
            live,
        )
    }

    /// The last change of role of one reserve, or of every reserve.
    #[must_use]
    pub fn last_changes(&self, reserve: &str) -> Vec<Entry> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last: Vec<Entry> = Vec::new();
        for entry in kept
            .iter()
            .rev()
            .filter(|e| e.from != e.to && !e.reserve.is_empty())
        {
            let asked = reserve.is_empty() || entry.reserve == reserve;
            if asked && !last.iter().any(|l| l.reserve == entry.reserve) {
                last.push(entry.clone());
            }
        }
        last.sort_by(|a, b| a.reserve.cmp(&b.reserve));
        last
    }
}

/// Microseconds since 1970. For people only.
#[must_use]
pub fn wall_clock_us() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default()
}

/// The end of an existing log. Lines that are not events (a torn last line after a power
/// cut) are passed over.
fn read_back(path: &Path) -> io::Result<VecDeque<Entry>> {
    let size = std::fs::metadata(path)?.len();
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(size.saturating_sub(READ_BACK_BYTES)))?;
    let mut kept = VecDeque::new();
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(entry) = serde_json::from_slice::<Entry>(&line?) {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(entry);
        }
    }
    if size > ROTATE_BYTES {
        std::fs::rename(path, path.with_extension("jsonl.1"))?;
    }
    Ok(kept)
}

/// Whether a power cut left the last line without its end.
fn ends_amid_a_line(path: &Path) -> bool {
    let last = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    // No file, or an empty one: nothing is torn.
    last().is_ok_and(|last| last != b'\n')
}

struct Writer {
    path: PathBuf,
    file: Option<File>,
    /// The last line on the disk may lack its end.
    torn: bool,
    /// Events that the disk refused since it last took one.
    lost: u64,
    turned_away: Arc<AtomicU64>,
}

impl Writer {
    fn write(&mut self, entry: &Entry) {
        match self.try_write(entry) {
            Ok(()) => {
                let missing = self.lost + self.turned_away.swap(0, Ordering::Relaxed);
                self.lost = 0;
                if missing > 0 {
                    tracing::info!(
                        "{}: written again; {missing} event(s) are not in it",
                        self.path.display()
                    );
                }
            }
            Err(error) => {
                self.file = None;
                self.torn = true;
                self.lost += 1;
                // Said once, then once in a while: a full disk must not fill a log elsewhere.
                if self.lost.is_power_of_two() {
                    tracing::warn!(
                        "{}: {error}; {} event(s) are in memory only",
                        self.path.display(),
                        self.lost
                    );
                }
            }
        }
    }

    fn try_write(&mut self, entry: &Entry) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&self.path)?,
            ),
        };
        // A full disk may have taken a part of a line: it must not swallow the next one.
        let mut line = if self.torn { vec![b'\n'] } else { Vec::new() };
        serde_json::to_writer(&mut line, entry)?;
        line.push(b'\n');
        file.write_all(&line)?;
        self.torn = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
