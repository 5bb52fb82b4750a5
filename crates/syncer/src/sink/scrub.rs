//! Reads everything on a standby again, slowly and for ever, and compares it with the checksum under
//! which it was received: a disk that forgot bytes left no time stamp.
//!
//! It changes nothing: the source is told and sends the file, and what stands there is moved aside. The
//! one thing to know: only a file that looks untouched since it was received is judged; all others are
//! the patrol's.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Bound;
use std::time::{Duration, Instant};

use rustix::fs::Advice;

use crate::index::{Entry, Record};
use crate::path::RelPath;
use crate::sink::tree::Tree;
use crate::version::{Hash, Kind, Sig};

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(24 * 3600);

/// What a step reads is the part of the rate since the last one, of so long at most.
const STEP_MOST: Duration = Duration::from_millis(200);

const BLOCK: usize = 64 * 1024;

/// Finding and opening a file counts as so many bytes, so that many small ones are bounded, too.
const FILE_COSTS: u64 = 4096;

/// How far a round came.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    /// Where the round is; `None`: between two of them.
    round: Option<Round>,
    stepped: Option<Instant>,
    /// Since when the next round is waited for, and for how long.
    waiting: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct Round {
    /// The last path that was begun.
    at: RelPath,
    file: Option<Reading>,
    files: u64,
    bytes: u64,
    damaged: u64,
}

/// A file of which a part was read.
#[derive(Debug)]
struct Reading {
    file: File,
    sig: Sig,
    hash: Hash,
    hasher: blake3::Hasher,
}

impl Scrub {
    /// One step at so many bytes a second; the first round begins `first` after this was asked
    /// first. Returns a path whose content is not what was received: it counts as unknown from then on.
    pub(crate) fn step(
        &mut self,
        tree: &mut Tree,
        rate: u64,
        first: Duration,
    ) -> io::Result<Option<RelPath>> {
        if rate == 0 {
            return Ok(None);
        }
        let now = Instant::now();
        let since = self.stepped.replace(now).map_or(STEP_MOST, |at| now - at);
        let millis = since.min(STEP_MOST).as_millis() as u64;
        let mut budget = rate.saturating_mul(millis) / 1000;
        let (since, pause) = *self.waiting.get_or_insert((now, first));
        if self.round.is_none() && now - since < pause {
            return Ok(None);
        }
        let round = self.round.get_or_insert_with(|| Round {
            at: RelPath::root(),
            file: None,
            files: 0,
            bytes: 0,
            damaged: 0,
        });
        while budget > 0 {
            if round.file.is_none() && !round.open_next(tree)? {
                round.tell(tree);
                self.round = None;
                self.waiting = Some((now, PAUSE));
                return Ok(None);
            }
            budget = budget.saturating_sub(FILE_COSTS);
            if round.read(&mut budget)? && round.is_damaged(tree)? {
                return Ok(Some(round.at.clone()));
            }
        }
        Ok(None)
    }
}

impl Round {
    /// Opens the next file that looks as it was received. `false`: there is none left.
    fn open_next(&mut self, tree: &mut Tree) -> io::Result<bool> {
        let root = tree.place.enter().map_err(io::Error::other)?;
        let after = (Bound::Excluded(self.at.clone()), Bound::Unbounded);
        for (path, entry) in tree.store.index.entries.range(after) {
            self.at.clone_from(path);
            let Some(sig) = entry.sig.filter(|_| entry.version.kind == Kind::File) else {
                continue;
            };
            let Ok(file) = root.open_file(path) else {
                continue;
            };
            if root.find_open(&file)?.sig != sig {
                continue;
            }
            // What is in memory says nothing about the disk.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
            self.files += 1;
            self.file = Some(Reading {
                file,
                sig,
                hash: entry.version.hash,
                hasher: blake3::Hasher::new(),
            });
            return Ok(true);
        }
        Ok(false)
    }

    /// Reads on. Says whether the file was read to its end.
    fn read(&mut self, budget: &mut u64) -> io::Result<bool> {
        let Some(reading) = &mut self.file else {
            return Ok(false);
        };
        let mut block = [0; BLOCK];
        loop {
            let count = match reading.file.read(&mut block) {
                Ok(0) => return Ok(true),
                Ok(count) => count,
                // A sector that cannot be read is damage as well.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    reading.hasher.update(b"unreadable");
                    return Ok(true);
                }
                Err(error) => {
                    self.file = None;
                    return Err(error);
                }
            };
            reading.hasher.update(&block[..count]);
            self.bytes += count as u64;
            *budget = budget.saturating_sub(count as u64);
            if *budget == 0 {
                return Ok(false);
            }
        }
    }

    /// Judges the file that was read. One that was touched meanwhile is not judged.
    fn is_damaged(&mut self, tree: &mut Tree) -> io::Result<bool> {
        let Some(reading) = self.file.take() else {
            return Ok(false);
        };
        let _ = rustix::fs::fadvise(&reading.file, 0, None, Advice::DontNeed);
        if *reading.hasher.finalize().as_bytes() == reading.hash {
            return Ok(false);
        }
        let root = tree.place.enter().map_err(io::Error::other)?;
        let found = root.find(&self.at)?;
        let entry = tree.store.index.entries.get(&self.at);
        let Some(entry) = entry.filter(|entry| {
            entry.sig == Some(reading.sig)
                && entry.version.hash == reading.hash
                && found.is_some_and(|found| found.sig == reading.sig)
        }) else {
            return Ok(false);
        };
        // Its stamp proves nothing any more: it is read before anything is put over it.
        let doubted = Entry {
            sig: None,
            ..entry.clone()
        };
        tree.store.take(vec![Record::Put(self.at.clone(), doubted)]);
        self.damaged += 1;
        tracing::error!(
            "{}",
            tree.about(
                &self.at,
                &"its content is not what was received, and its time stamp is: the disk or its memory may be failing; the source sends it again, what stands there is moved aside"
            )
        );
        Ok(true)
    }

    fn tell(&self, tree: &Tree) {
        tracing::info!(
            "{}: read again and compared: {} files, {} bytes, {} damaged",
            tree.place.path.display(),
            self.files,
            self.bytes,
            self.damaged
        );
    }
}
