//! Real-time priority for those who measure and for those who do faults, where it is allowed.

use nix::libc;

/// As the daemons under test have it.
const PRIORITY: i32 = 20;

/// Whether a thread of this process may run at real-time priority. Tries it on a thread of its own.
#[must_use]
pub(crate) fn may_be_realtime() -> bool {
    std::thread::spawn(go_realtime).join().unwrap_or(false)
}

/// Asks for real-time priority for the calling thread; `false` where it is not allowed.
pub(crate) fn go_realtime() -> bool {
    set_policy(libc::SCHED_FIFO, PRIORITY)
}

/// As long as it lives, the thread that made it has real-time priority where that is allowed: what is
/// meant to happen at one moment does not wait for a time slice in the middle.
pub(crate) struct Urgent {
    /// The thread had it before.
    nested: bool,
}

impl Urgent {
    pub(crate) fn begin() -> Self {
        let nested = policy() & !libc::SCHED_RESET_ON_FORK == libc::SCHED_FIFO;
        if !nested {
            // Programs that are started meanwhile do not inherit it.
            set_policy(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, PRIORITY);
        }
        Self { nested }
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if !self.nested {
            set_policy(libc::SCHED_OTHER, 0);
        }
    }
}

#[expect(unsafe_code, reason = "nix has no sched_getscheduler")]
fn policy() -> i32 {
    // SAFETY: takes a number and gives one; 0 is the calling thread.
    unsafe { libc::sched_getscheduler(0) }
}

#[expect(unsafe_code, reason = "nix has no sched_setscheduler")]
fn set_policy(policy: i32, priority: i32) -> bool {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the pointer is to a live value; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}
