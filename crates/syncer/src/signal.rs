//! A bell that threads wait for: rung before or during the waiting, it is never missed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts its rings, so that a waiter sees one that came before it waited.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    rings: Mutex<u64>,
    bell: Condvar,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify(&self) {
        *self.lock() += 1;
        self.bell.notify_all();
    }

    /// The rings so far: read it before looking at what the signal is about.
    pub(crate) fn seen(&self) -> u64 {
        *self.lock()
    }

    /// Waits until it was rung after `seen`, at most for so long.
    pub(crate) fn wait(&self, seen: u64, most: Duration) {
        let end = Instant::now() + most;
        let mut rings = self.lock();
        while *rings == seen {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                return;
            };
            if left.is_zero() {
                return;
            }
            rings = self
                .bell
                .wait_timeout(rings, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
