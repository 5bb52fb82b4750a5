//! Replication is background work: it gives way to services and to the failover path.

/// Niceness of every thread that reads, hashes or sends (setpriority(2)).
const NICE: i32 = 5;

/// Lowers the priority of the calling thread, for the processor and the disk. What the kernel
/// does not grant is left as it is.
pub(crate) fn lower() {
    // On Linux this is the calling thread's alone (setpriority(2), "C library/kernel
    // differences"). Never raised again, so a failure only means that it was lower already.
    let _ = rustix::process::setpriority_process(None, NICE);
    lower_io();
}

/// Best effort, lowest level: not the idle class, which a busy disk would starve for good.
fn lower_io() {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_BE: libc::c_int = 2;
    const IOPRIO_CLASS_SHIFT: libc::c_int = 13;
    const LOWEST: libc::c_int = 7;
    let priority = (IOPRIO_CLASS_BE << IOPRIO_CLASS_SHIFT) | LOWEST;
    // SAFETY: ioprio_set(2) takes three integers and touches no memory; 0 is this thread.
    #[expect(unsafe_code, reason = "no safe wrapper of ioprio_set is at hand")]
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
    if result != 0 {
        tracing::debug!("the disk priority stays as it is");
    }
}
