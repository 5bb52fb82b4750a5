//! Whether so many files vanish from a directory that somebody should be asked before they vanish
//! from the standbys, too.
//!
//! No I/O; time is an argument. Counted is what is left over: a renamed or replaced tree loses
//! nothing. The one thing to know: while many files are vanishing deletions wait until that pauses, so
//! that the question comes before most of them are gone.

use std::collections::VecDeque;

use haarb_config::DeletionLimit;
use haarb_model::{Mono, Span};

/// What vanishes within this time is judged together.
const WINDOW: Span = Span::from_secs(300);
/// The window moves in steps of this length.
const STEP: Span = Span::from_secs(10);

/// Deletions wait from this part of the limit on.
const SUSPICIOUS: u64 = 10;
/// Until nothing has vanished for so long: a removal that goes on takes some microseconds for a
/// file, and this much only where a disk stalls.
const PAUSE: Span = Span::from_millis(200);
/// But no longer than this: what takes so long is judged while it is carried out.
const WAIT_MOST: Span = Span::from_secs(60);

/// What becomes of deletions at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// They are sent.
    Open,
    /// They wait for a moment: many files are vanishing.
    Wait,
    /// They wait for a person.
    Held,
}

/// What is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// So many files are missing, of so many that there were.
    pub(crate) missing: u64,
    pub(crate) of: u64,
}

/// Counts the files of one directory.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    limit: DeletionLimit,
    /// The most files there were in each step of the window; empty: nothing was counted yet.
    steps: VecDeque<(Mono, u64)>,
    files: u64,
    /// When a file vanished last.
    fell_at: Mono,
    /// Since when deletions wait.
    waiting_since: Option<Mono>,
    held: Option<Held>,
    draining: bool,
}

impl Guard {
    pub(crate) fn new(limit: DeletionLimit) -> Self {
        Self {
            limit,
            steps: VecDeque::new(),
            files: 0,
            fell_at: Mono::ZERO,
            waiting_since: None,
            held: None,
            draining: false,
        }
    }

    /// Begins: the standbys have so many files as far as is known, and so many are here.
    pub(crate) fn begin(&mut self, there: u64, here: u64, now: Mono) {
        self.steps.clear();
        self.steps.push_back((now, there.max(here)));
        self.files = here;
        self.fell_at = now;
        self.waiting_since = None;
        self.held = None;
        self.judge(now);
    }

    /// So many files are here now. `draining`: nobody removes any more, so nothing waits for a
    /// pause. Says whether deletions are held back from now on.
    pub(crate) fn count(&mut self, files: u64, draining: bool, now: Mono) -> bool {
        if self.steps.is_empty() {
            return false;
        }
        let before = self.held;
        self.draining = draining;
        if files < self.files {
            self.fell_at = now;
        }
        self.files = files;
        match self.steps.back_mut() {
            Some((begun, most)) if now < *begun + STEP => *most = (*most).max(files),
            _ => self.steps.push_back((now, files)),
        }
        while self.steps.len() > 1
            && let Some((begun, _)) = self.steps.front()
            && *begun + WINDOW <= now
        {
            self.steps.pop_front();
        }
        self.judge(now);
        self.held.is_some() && before.is_none()
    }

    fn judge(&mut self, now: Mono) {
        let before = self.steps.iter().map(|(_, most)| *most).max();
        let before = before.unwrap_or(self.files);
        if self.held.is_some() {
            return;
        }
        let lost = before.saturating_sub(self.files);
        if self.limit.of(before).is_some_and(|most| lost > most) {
            self.held = Some(Held {
                missing: lost,
                of: before,
            });
            self.waiting_since = None;
        } else if lost > self.suspicious(before)
            && now < self.fell_at + PAUSE
            && !self.draining
            && self
                .waiting_since
                .is_none_or(|since| now < since + WAIT_MOST)
        {
            self.waiting_since.get_or_insert(now);
        } else if now >= self.fell_at + PAUSE {
            self.waiting_since = None;
        }
    }

    fn suspicious(&self, files: u64) -> u64 {
        self.limit
            .of(files)
            .map_or(u64::MAX, |most| most / SUSPICIOUS)
    }

    /// What becomes of deletions now.
    pub(crate) fn gate(&self, now: Mono) -> Gate {
        match self.waiting_since {
            _ if self.held.is_some() => Gate::Held,
            Some(since) if !self.draining && now < since + WAIT_MOST => Gate::Wait,
            _ => Gate::Open,
        }
    }

    /// What is held back.
    pub(crate) fn held(&self) -> Option<Held> {
        self.held
    }

    /// While deletions are held back: so many of the files that the standbys have are missing, as
    /// far as that is known; others may have come. Says whether that ends it.
    pub(crate) fn missing(&mut self, missing: u64, now: Mono) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        held.missing = missing.max(held.of.saturating_sub(self.files));
        let (missing, of) = (held.missing, held.of);
        // Not as soon as few enough are missing: whoever brings them back has not finished.
        let over = missing <= self.suspicious(of);
        if over {
            self.begin(0, self.files, now);
        }
        over
    }

    /// A person says that it is meant so. What vanishes from now on is judged anew.
    pub(crate) fn confirm(&mut self, now: Mono) {
        self.begin(0, self.files, now);
    }

    /// When [`Guard::count`] is to be called although nothing changed.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.waiting_since.map(|_| self.fell_at + PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::ZERO + Span::from_millis(millis)
    }

    fn guard(limit: DeletionLimit, files: u64) -> Guard {
        let mut guard = Guard::new(limit);
        guard.begin(0, files, at(0));
        assert_eq!(guard.gate(at(0)), Gate::Open);
        guard
    }

    fn held(missing: u64, of: u64) -> Option<Held> {
        Some(Held { missing, of })
    }

    const HALF: DeletionLimit = DeletionLimit::Percent(50);

    /// A removal that goes on, one file in every `micros`.
    fn remove(guard: &mut Guard, files: std::ops::Range<u64>, micros: u64) -> (u64, Mono) {
        let mut passed = 0;
        let mut now = guard.fell_at;
        for files in files.rev() {
            now += Span::from_micros(micros);
            guard.count(files, false, now);
            passed += u64::from(guard.gate(now) == Gate::Open);
        }
        (passed, now)
    }

    #[test]
    fn a_fast_removal_of_most_files_is_held_when_a_twentieth_is_gone() {
        let mut guard = guard(HALF, 10_000);
        let (passed, now) = remove(&mut guard, 0..10_000, 20);
        assert_eq!(guard.gate(now), Gate::Held);
        assert_eq!(guard.held(), held(5_001, 10_000));
        assert_eq!(passed, 500, "so many were deleted before it was noticed");
        // It does not end by waiting.
        assert_eq!(guard.gate(now + WINDOW.times(9)), Gate::Held);
        guard.count(0, false, now + WINDOW.times(9));
        assert_eq!(guard.gate(now + WINDOW.times(9)), Gate::Held);
    }

    #[test]
    fn fewer_than_the_limit_wait_for_a_pause_only() {
        let mut guard = guard(HALF, 10_000);
        let (_, now) = remove(&mut guard, 6_000..10_000, 20);
        assert_eq!(guard.gate(now), Gate::Wait);
        assert_eq!(guard.deadline(), Some(now + PAUSE));
        guard.count(6_000, false, now + PAUSE);
        assert_eq!(guard.gate(now + PAUSE), Gate::Open);
        // The rest goes after a rest of a second: together they are too many.
        let later = now + Span::from_secs(1);
        guard.count(4_999, false, later);
        assert_eq!(guard.gate(later), Gate::Held);
    }

    #[test]
    fn after_the_window_it_begins_anew() {
        let mut guard = guard(HALF, 10_000);
        guard.count(6_000, false, at(1_000));
        for second in 2..400 {
            guard.count(6_000, false, at(second * 1_000));
        }
        guard.count(4_000, false, at(400_000));
        guard.count(4_000, false, at(401_000));
        assert_eq!(guard.gate(at(401_000)), Gate::Open);
    }

    #[test]
    fn what_is_slow_and_never_pauses_does_not_wait_for_ever() {
        let mut guard = guard(HALF, 100_000);
        // A tenth in twenty seconds, then on and on: 500 a second.
        let (passed, _) = remove(&mut guard, 51_000..100_000, 2_000);
        assert!(passed > 5_000, "{passed}");
        // And is held when it comes to more than half all the same.
        let (_, now) = remove(&mut guard, 49_000..51_000, 2_000);
        assert_eq!(guard.gate(now), Gate::Held);
    }

    #[test]
    fn what_comes_back_ends_it_and_a_part_of_it_does_not() {
        let mut guard = guard(HALF, 10_000);
        guard.count(1_000, false, at(1_000));
        assert_eq!(guard.held(), held(9_000, 10_000));
        guard.count(9_000, false, at(2_000));
        assert!(!guard.missing(1_000, at(2_000)));
        assert_eq!(guard.gate(at(2_000)), Gate::Held);
        guard.count(9_600, false, at(3_000));
        assert!(guard.missing(400, at(3_000)), "it is over");
        assert_eq!(guard.gate(at(3_000)), Gate::Open);
    }

    #[test]
    fn other_files_do_not_make_up_for_those_that_are_missing() {
        let mut guard = guard(HALF, 10_000);
        guard.count(1_000, false, at(1_000));
        guard.count(11_000, false, at(9_000));
        assert!(!guard.missing(9_000, at(9_000)));
        assert_eq!(guard.held(), held(9_000, 10_000));
    }

    #[test]
    fn a_person_confirms_these_and_not_the_next_ones() {
        let mut guard = guard(HALF, 10_000);
        guard.count(3_000, false, at(1_000));
        guard.confirm(at(2_000));
        assert_eq!(guard.gate(at(2_000)), Gate::Open);
        guard.count(1_400, false, at(3_000));
        assert_eq!(guard.held(), held(1_600, 3_000));
    }

    #[test]
    fn files_that_are_missing_at_the_beginning_count() {
        let mut guard = Guard::new(HALF);
        guard.begin(5_000, 2_000, at(0));
        assert_eq!(guard.held(), held(3_000, 5_000));
        guard.begin(5_000, 4_000, at(0));
        assert_eq!(guard.held(), None);
    }

    #[test]
    fn small_directories_a_number_and_none() {
        let lose = |limit, from, to| {
            let mut guard = guard(limit, from);
            guard.count(to, false, at(1));
            guard.gate(at(1))
        };
        assert_eq!(lose(HALF, 999, 0), Gate::Open);
        assert_eq!(lose(HALF, 1000, 500), Gate::Wait);
        assert_eq!(lose(HALF, 1000, 499), Gate::Held);
        assert_eq!(lose(DeletionLimit::Files(5), 40, 35), Gate::Wait);
        assert_eq!(lose(DeletionLimit::Files(5), 40, 34), Gate::Held);
        assert_eq!(
            lose(DeletionLimit::Files(5), 1_000_000, 999_994),
            Gate::Held
        );
        assert_eq!(lose(DeletionLimit::None, 1_000_000, 0), Gate::Open);
    }

    #[test]
    fn a_seal_waits_for_no_pause() {
        let mut guard = guard(HALF, 10_000);
        guard.count(6_000, false, at(1));
        assert_eq!(guard.gate(at(1)), Gate::Wait);
        guard.count(6_000, true, at(1));
        assert_eq!(guard.gate(at(1)), Gate::Open);
        guard.count(600, true, at(2));
        assert_eq!(guard.gate(at(2)), Gate::Held);
    }
}
