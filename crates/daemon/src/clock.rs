//! The one clock that decisions and leases use.

use haarb_model::Mono;
use nix::time::{ClockId, clock_gettime};

/// Now, on `CLOCK_BOOTTIME` (clock_gettime(2)): goes on during suspend, never steps.
#[must_use]
pub fn now() -> Mono {
    // The call cannot fail for a clock that the kernel has had since 2.6.39; a reading of
    // zero would make every lease look fresh, so the far end is the safe answer.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Mono::FAR, |time| {
        let micros =
            time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_nsec().unsigned_abs() / 1000;
        Mono::from_micros(micros)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward() {
        let first = now();
        assert!(first > Mono::ZERO);
        assert!(now() >= first);
    }
}
