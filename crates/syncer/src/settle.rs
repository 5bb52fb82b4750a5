//! When a changed file is looked at: soon, but not in the middle of being written.
//!
//! No I/O; time is an argument. A file that is closed is looked at after a moment in which
//! further events join it. One that is open for writing is looked at when it rests, and then
//! only if it grew at its end (a log); otherwise it is waited for, because between truncating
//! and writing it is nothing anybody wants to have. The one thing to know: nothing waits
//! longer than [`LONGEST`].

use std::collections::BTreeMap;

use haarb_model::{Mono, Span};

use crate::path::RelPath;

/// Events of one change come within this time of each other (measured: 58 us p50, below 1 ms
/// p99).
const WINDOW: Span = Span::from_micros(500);
/// An open file rests when it was not written to for so long.
const REST: Span = Span::from_millis(4);
/// A file that is written to without rest is looked at this long after its first change.
const NO_REST: Span = Span::from_millis(15);
/// Between two looks at a file that stays open: what is written to it meanwhile goes together.
const PACE: Span = Span::from_millis(20);
/// "At least once a second", with time left for the way to the other side.
pub(crate) const LONGEST: Span = Span::from_millis(500);

/// What an event says about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Its content is being changed, or it was created.
    Written,
    /// It was closed after writing.
    Closed,
    /// It came, went, was renamed, or its attributes changed.
    Other,
}

#[derive(Clone, Copy, Debug)]
struct Dirty {
    first: Mono,
    last: Mono,
    /// No look before this time while it is open.
    not_before: Mono,
    /// Wall clock at the last event, nanoseconds.
    told_ns: i64,
    open: bool,
    /// It was looked at and found to be in the middle of something.
    held: bool,
    /// Held only because nothing is new: the next event ends that.
    quiet: bool,
}

impl Dirty {
    fn due(&self) -> Mono {
        let longest = self.first + LONGEST;
        let wanted = match (self.open, self.held) {
            (false, _) => self.last + WINDOW,
            (true, false) => (self.last + REST)
                .min(self.first + NO_REST)
                .max(self.not_before),
            (true, true) => longest,
        };
        wanted.min(longest)
    }
}

/// The paths that changed and were not looked at since.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    dirty: BTreeMap<RelPath, Dirty>,
    /// When open files were looked at, less than [`PACE`] ago.
    looked: BTreeMap<RelPath, Mono>,
}

/// A path whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ripe {
    pub(crate) path: RelPath,
    /// Since when it is different.
    pub(crate) since: Mono,
    /// Wall clock when its last event was told, nanoseconds.
    pub(crate) told_ns: i64,
    /// It is open for writing, as far as its events tell.
    pub(crate) open: bool,
    /// It waited as long as it may: no more [`Settling::hold`].
    pub(crate) overdue: bool,
}

impl Settling {
    /// Takes an event that was told at `told_ns` (wall clock) and is taken `now`.
    pub(crate) fn note(&mut self, path: RelPath, hint: Hint, now: Mono, told_ns: i64) {
        let looked = self.looked.get(&path);
        let not_before = looked.map_or(Mono::ZERO, |looked| *looked + PACE);
        let dirty = self.dirty.entry(path).or_insert(Dirty {
            first: now,
            last: now,
            not_before,
            told_ns,
            open: false,
            held: false,
            quiet: false,
        });
        if dirty.quiet {
            (dirty.held, dirty.quiet, dirty.first) = (false, false, now);
            dirty.not_before = not_before;
        }
        dirty.last = now;
        dirty.told_ns = told_ns;
        match hint {
            Hint::Written => dirty.open = true,
            Hint::Closed => dirty.open = false,
            Hint::Other => {}
        }
    }

    /// Takes what is due. `all` takes everything, as it is.
    pub(crate) fn ripe(&mut self, now: Mono, all: bool) -> Vec<Ripe> {
        let mut ripe = Vec::new();
        self.looked.retain(|_, looked| now < *looked + PACE);
        let looked = &mut self.looked;
        self.dirty.retain(|path, dirty| {
            let due = all || dirty.due() <= now;
            if due && dirty.open {
                looked.insert(path.clone(), now);
            }
            if due {
                ripe.push(Ripe {
                    path: path.clone(),
                    since: dirty.first,
                    told_ns: dirty.told_ns,
                    open: dirty.open && !all,
                    overdue: now >= dirty.first + LONGEST,
                });
            }
            !due
        });
        ripe
    }

    /// Puts back what turned out to be in the middle of something: it waits for its end. `quiet`:
    /// what stands there is what was read last; it waits for the next event.
    pub(crate) fn hold(&mut self, ripe: Ripe, quiet: bool, now: Mono) {
        self.dirty.entry(ripe.path).or_insert(Dirty {
            first: ripe.since,
            last: now,
            not_before: Mono::ZERO,
            told_ns: ripe.told_ns,
            open: true,
            held: true,
            quiet,
        });
    }

    /// Whether there are events for a path that were not looked at.
    pub(crate) fn has(&self, path: &RelPath) -> bool {
        self.dirty.contains_key(path)
    }

    /// Whether a path is known to be open for writing.
    pub(crate) fn is_open(&self, path: &RelPath) -> bool {
        self.dirty.get(path).is_some_and(|dirty| dirty.open)
    }

    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.dirty.values().map(Dirty::due).min()
    }

    pub(crate) fn oldest(&self) -> Option<Mono> {
        self.dirty.values().map(|dirty| dirty.first).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.dirty.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.dirty.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.dirty.clear();
        self.looked.clear();
    }
}

#[cfg(test)]
mod tests;
