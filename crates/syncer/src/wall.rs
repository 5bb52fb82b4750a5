//! The wall clock, to be compared with the time stamps of files only.
//!
//! It is handed down with every entered root, so that a test can have one of its own: whether a
//! stamp is in doubt then follows from the test's seed and not from the machine's load. The one
//! thing to know: nothing is timed with it; that is what [`haarb_model::Mono`] is for.

#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine's clock, or a test's. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wall {
    #[cfg(test)]
    set: Option<Arc<AtomicI64>>,
}

impl Wall {
    /// A clock that stands until it is set.
    #[cfg(test)]
    pub(crate) fn standing(at_ns: i64) -> Self {
        Self {
            set: Some(Arc::new(AtomicI64::new(at_ns))),
        }
    }

    /// Sets a clock that was made by [`Wall::standing`].
    #[cfg(test)]
    pub(crate) fn set(&self, at_ns: i64) {
        if let Some(set) = &self.set {
            set.store(at_ns, Ordering::SeqCst);
        }
    }

    /// Nanoseconds since 1970; 0 before that.
    pub(crate) fn now_ns(&self) -> i64 {
        #[cfg(test)]
        if let Some(set) = &self.set {
            return set.load(Ordering::SeqCst);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }
}
