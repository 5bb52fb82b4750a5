//! The one gate before every visible change on the receiving side.
//!
//! It closes for good when a duty ends, so that a change that was received before never lands
//! after a service has started here. In tests it closes by itself after a number of passes:
//! that is a crash at a chosen point.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Open until closed; clones share one state.
#[derive(Clone)]
pub(crate) struct Fence {
    left: Arc<AtomicI64>,
    /// What somebody else does at every step.
    #[cfg(test)]
    disturb: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// The fence is closed: stop here, change nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the duty has ended")]
pub(crate) struct Closed;

impl Fence {
    pub(crate) fn open() -> Self {
        Self::with(i64::MAX)
    }

    fn with(steps: i64) -> Self {
        Self {
            left: Arc::new(AtomicI64::new(steps)),
            #[cfg(test)]
            disturb: None,
        }
    }

    /// One that lets only so many steps through.
    #[cfg(test)]
    pub(crate) fn after(steps: u32) -> Self {
        Self::with(i64::from(steps))
    }

    /// One at which somebody else gets a word in before each step.
    #[cfg(test)]
    pub(crate) fn disturbed(disturb: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            disturb: Some(Arc::new(disturb)),
            ..Self::open()
        }
    }

    pub(crate) fn close(&self) {
        self.left.store(0, Ordering::SeqCst);
    }

    /// To be asked directly before each step that another program could see.
    pub(crate) fn pass(&self) -> Result<(), Closed> {
        #[cfg(test)]
        if let Some(disturb) = &self.disturb {
            disturb();
        }
        // Never wraps: a program of 2^63 steps does not end in this universe's lifetime, and
        // a closed fence is counted down no further than one step per call.
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            Ok(())
        } else {
            self.left.store(0, Ordering::SeqCst);
            Err(Closed)
        }
    }
}
