//! What was refused, counted by reason: strangers, replays, escapes, oversized messages.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Refusals since the start. Each is also a line in the log.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<BTreeMap<&'static str, u64>>);

impl Counters {
    /// Counts one, and logs the first, tenth, hundredth... of its kind: a stranger that
    /// hammers must not fill the log.
    pub(crate) fn count(&self, reason: &'static str, about: &dyn std::fmt::Display) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(reason).or_default();
        *count += 1;
        let (digits, count) = (count.ilog10(), *count);
        if count == 10u64.pow(digits) {
            tracing::warn!("refused, {reason} ({count} so far): {about}");
        }
    }

    pub(crate) fn get(&self) -> BTreeMap<&'static str, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

pub(crate) const NOT_OURS: &str = "wrong key or replay";
pub(crate) const OVERSIZED: &str = "oversized message";
pub(crate) const ESCAPE: &str = "path that leaves its directory";
pub(crate) const MALFORMED: &str = "malformed message";
pub(crate) const LOWER_EPOCH: &str = "lower epoch";
pub(crate) const CROWD: &str = "too many connections at once";
