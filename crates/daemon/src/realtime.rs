//! Real-time priority and locked memory for the daemons on the failover path.
//!
//! Both are asked for, not demanded: an ordinary user, a container or the lab may not have
//! them, and then the daemon says so, in its log and in `haarb status`, and goes on.

use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};

/// The priority of the daemons on the failover path among real-time tasks (1 to 99,
/// sched(7)): above ordinary work, below the kernel's own threads at 50.
const PRIORITY: i32 = 20;

/// What this process was granted, once it has asked.
static GRANTED: OnceLock<RealTime> = OnceLock::new();

/// What the kernel granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealTime {
    /// Runs under `SCHED_FIFO`.
    pub scheduled: bool,
    /// Its pages cannot be swapped out.
    pub locked: bool,
    /// What was refused, why, and what to do; empty if nothing was.
    pub problem: String,
}

/// Asks for `SCHED_FIFO` and locked memory, and logs what was not granted.
pub fn prepare() -> &'static RealTime {
    GRANTED.get_or_init(|| {
        let granted = RealTime::from(schedule_fifo(), lock_memory());
        if !granted.problem.is_empty() {
            tracing::info!("{}", granted.problem);
        }
        granted
    })
}

/// What this process was granted; `None` where it has not asked.
#[must_use]
pub fn granted() -> Option<&'static RealTime> {
    GRANTED.get()
}

/// Asks for `SCHED_FIFO` alone, for a process that forks on the failover path: locked memory
/// makes every fork slower. Says nothing; whether it was granted is returned.
pub fn schedule() -> bool {
    schedule_fifo().is_ok()
}

impl RealTime {
    fn from(scheduled: nix::Result<()>, locked: nix::Result<()>) -> Self {
        let mut problems = Vec::new();
        if let Err(error) = scheduled {
            problems.push(format!(
                "no real-time priority ({}): a loaded CPU can delay a failover; {}",
                error.desc(),
                "grant CAP_SYS_NICE or LimitRTPRIO=20"
            ));
        }
        if let Err(error) = locked {
            problems.push(format!(
                "memory is not locked ({}): a swapped-out page can delay a failover; {}",
                error.desc(),
                "grant CAP_IPC_LOCK or LimitMEMLOCK=infinity"
            ));
        }
        Self {
            scheduled: scheduled.is_ok(),
            locked: locked.is_ok(),
            problem: problems.join("; "),
        }
    }
}

/// Reads in and locks the program and all that it has now, so that no takeover waits for a page
/// of code that was never used before. What comes later (stacks of threads, the heap) is locked
/// page by page as it is touched: otherwise every thread would hold its whole stack.
fn lock_memory() -> nix::Result<()> {
    mlockall(MlockAllFlags::MCL_CURRENT)?;
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    match mlockall(MlockAllFlags::MCL_FUTURE | on_fault) {
        // A kernel before 4.4 does not know the flag.
        Err(Errno::EINVAL) => mlockall(MlockAllFlags::MCL_FUTURE),
        other => other,
    }
}

fn schedule_fifo() -> nix::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: PRIORITY,
    };
    // SAFETY: the call reads one initialised struct that outlives it; pid 0 is this thread.
    // SCHED_RESET_ON_FORK keeps children (services, commands) at normal priority.
    #[expect(unsafe_code, reason = "nix has no sched_setscheduler")]
    let result = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_said_with_its_reason() {
        let both = RealTime::from(Err(Errno::EPERM), Err(Errno::ENOMEM));
        assert!(!both.scheduled && !both.locked);
        for word in ["real-time", "not permitted", "not locked", "LimitMEMLOCK"] {
            assert!(both.problem.contains(word), "{word}: {}", both.problem);
        }
        let none = RealTime::from(Ok(()), Ok(()));
        assert!(none.scheduled && none.locked && none.problem.is_empty());
    }
}
