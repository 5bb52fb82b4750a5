//! Waiting for a state of a directory by looking at it.
//!
//! A list is gone through once: what was found is not looked at again, so that a look costs one `stat`,
//! however many files there are. After a look in vain there is a pause of at least [`PAUSE`] and of twenty
//! times what the look cost: looking takes at most a twentieth of a core, and what it did take is returned.

use std::{
    thread,
    time::{Duration, Instant},
};

use haarb_lab::clock::Stamp;

/// The shortest pause between two looks; a state is seen this late at worst.
pub const PAUSE: Duration = Duration::from_micros(200);

/// What a wait came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// When the last of it was seen.
    pub at: Stamp,
    /// Time spent looking.
    pub looking: Duration,
}

/// Waits until `is_so` held once for each of `all`, in their order. `None`: not within `limit`.
pub fn until_each<T>(all: &[T], limit: Duration, is_so: impl Fn(&T) -> bool) -> Option<Seen> {
    let mut rest = all.iter();
    let mut next = rest.next();
    until(limit, || {
        while let Some(entry) = next {
            if !is_so(entry) {
                return false;
            }
            next = rest.next();
        }
        true
    })
}

/// Waits until `is_so`. `None`: not within `limit`.
pub fn until(limit: Duration, mut is_so: impl FnMut() -> bool) -> Option<Seen> {
    let began = Instant::now();
    let mut looking = Duration::ZERO;
    loop {
        let look = Instant::now();
        let so = is_so();
        let cost = look.elapsed();
        looking += cost;
        if so {
            return Some(Seen {
                at: Stamp::now(),
                looking,
            });
        }
        if began.elapsed() >= limit {
            return None;
        }
        thread::sleep(PAUSE.max((20 * cost).min(Duration::from_millis(50))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn each_is_asked_until_it_holds_and_never_again() {
        let asked = Cell::new(0);
        let seen = until_each(&[1, 2, 3], Duration::from_secs(5), |number| {
            asked.set(asked.get() + 1);
            *number != 2 || asked.get() > 4
        });
        assert!(seen.is_some());
        assert_eq!(asked.get(), 6, "1, 2 in vain three times, 2, 3");
        assert_eq!(until(Duration::from_millis(1), || false), None);
    }
}
