//! The one gate before every visible change on the receiving side.
//!
//! It closes for good when a duty ends, so that a change that was received before never lands
//! after a service has started here. In tests it closes by itself after a number of passes:
//! that is a crash at a chosen point.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Open until closed; clones share one state.
#[derive(Clone, Debug)]
pub(crate) struct Fence(Arc<AtomicI64>);

/// The fence is closed: stop here, change nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the duty has ended")]
pub(crate) struct Closed;

impl Fence {
    pub(crate) fn open() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MAX)))
    }

    /// One that lets only so many steps through.
    #[cfg(test)]
    pub(crate) fn after(steps: u32) -> Self {
        Self(Arc::new(AtomicI64::new(i64::from(steps))))
    }

    pub(crate) fn close(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// To be asked directly before each step that another program could see.
    pub(crate) fn pass(&self) -> Result<(), Closed> {
        // Never wraps: a program of 2^63 steps does not end in this universe's lifetime, and
        // a closed fence is counted down no further than one step per call.
        if self.0.fetch_sub(1, Ordering::SeqCst) > 0 {
            Ok(())
        } else {
            self.0.store(0, Ordering::SeqCst);
            Err(Closed)
        }
    }
}
