//! Real-time priority and locked memory for the daemons on the failover path.
//!
//! Both are asked for, not demanded: an ordinary user, a container or the lab may not have
//! them, and then the daemon says so and goes on.

use nix::sys::mman::{MlockAllFlags, mlockall};

/// The priority of the daemons on the failover path among real-time tasks (1 to 99,
/// sched(7)): above ordinary work, below the kernel's own threads at 50.
const PRIORITY: i32 = 20;

/// What the kernel granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealTime {
    /// Runs under `SCHED_FIFO`.
    pub scheduled: bool,
    /// Its pages cannot be swapped out.
    pub locked: bool,
}

/// Asks for `SCHED_FIFO` and locked memory, and logs what was not granted.
pub fn prepare() -> RealTime {
    let locked = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE);
    let scheduled = schedule_fifo();
    if let Err(error) = &locked {
        tracing::info!("memory is not locked ({error}): a swapped-out page can delay a failover");
    }
    if let Err(error) = &scheduled {
        tracing::info!("no real-time priority ({error}): a loaded CPU can delay a failover");
    }
    RealTime {
        scheduled: scheduled.is_ok(),
        locked: locked.is_ok(),
    }
}

/// Asks for `SCHED_FIFO` alone, for a process that forks on the failover path: locked memory
/// makes every fork slower. Says nothing; whether it was granted is returned.
pub fn schedule() -> bool {
    schedule_fifo().is_ok()
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
    nix::errno::Errno::result(result).map(drop)
}
