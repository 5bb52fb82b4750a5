//! Time in the lab: nanoseconds of `CLOCK_BOOTTIME`, shared by every process of the lab.
//!
//! All servers, the client and the observers run on one kernel, so one clock dates everything and no
//! two stamps need reconciling. Never wall-clock time: the clock of the machine may be set while a
//! drill runs. The one place where wall-clock time enters is [`WallOffset`], because kernel receive
//! timestamps exist only in that form; they are converted at once.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// A moment, in nanoseconds of `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The present moment.
    #[must_use]
    pub fn now() -> Self {
        Self(read(ClockId::CLOCK_BOOTTIME))
    }

    /// Milliseconds from `earlier` to `self`; negative when `earlier` is in fact later.
    #[must_use]
    pub fn ms_since(self, earlier: Self) -> f64 {
        let ns = i128::from(self.0) - i128::from(earlier.0);
        ns as f64 / 1e6
    }

    /// The time from `earlier` to `self`, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self` moved on by `by`.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// `self` moved back by `by`.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// How far the wall clock is ahead of `CLOCK_BOOTTIME`, read at one moment.
///
/// Good for stamps that are at most a few milliseconds old; read it again for the next batch, so that
/// setting the wall clock can spoil one batch at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallOffset(i128);

impl WallOffset {
    pub(crate) fn read() -> Self {
        let boot = read(ClockId::CLOCK_BOOTTIME);
        let wall = read(ClockId::CLOCK_REALTIME);
        Self(i128::from(wall) - i128::from(boot))
    }

    /// Converts nanoseconds of the wall clock into a [`Stamp`].
    pub(crate) fn to_stamp(self, wall_ns: u64) -> Stamp {
        Stamp(u64::try_from(i128::from(wall_ns) - self.0).unwrap_or(0))
    }
}

/// Reads a clock of the kernel. The clocks used here always exist (Linux 2.6.39), so a failure would
/// mean that the kernel refuses system calls altogether; zero then shows at once in every result.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
            + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}
