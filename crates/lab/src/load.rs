//! Load on the machine that carries the lab: saturated processors, and memory that the kernel takes back.
//!
//! Both end when the value is dropped.

use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::{errno::Errno, libc, unistd::Pid};

/// Threads per processor that do nothing but count.
const PER_CPU: usize = 2;
/// How often memory is taken back.
const SQUEEZE_EVERY: Duration = Duration::from_millis(20);

/// A load that runs.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Saturates every processor at normal priority, twice over.
    ///
    /// # Errors
    /// When a thread is refused.
    pub fn processors() -> io::Result<Self> {
        let cpus = std::thread::available_parallelism().map_or(2, usize::from);
        let mut load = Self::none();
        for _ in 0..cpus * PER_CPU {
            load.spawn(|stop| {
                let mut count: u64 = 0;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..10_000 {
                        count = std::hint::black_box(count.wrapping_mul(3).wrapping_add(1));
                    }
                }
            })?;
        }
        Ok(load)
    }

    /// Takes back, again and again, every page of these processes that the kernel may take back under
    /// memory pressure: program text and data that are not locked must then be read in anew.
    ///
    /// # Errors
    /// `EPERM` where that is not allowed (it needs root), or when the thread is refused.
    pub fn memory_of(processes: Vec<Pid>) -> io::Result<Self> {
        // A process that ended meanwhile is no reason to give up; not being allowed is.
        let outcomes: Vec<io::Result<()>> = processes.iter().map(|pid| squeeze(*pid)).collect();
        if outcomes.iter().all(Result::is_err)
            && let Some(Err(error)) = outcomes.into_iter().next()
        {
            return Err(error);
        }
        let mut load = Self::none();
        load.spawn(move |stop| {
            while !stop.load(Ordering::Relaxed) {
                for pid in &processes {
                    let _ = squeeze(*pid);
                }
                std::thread::sleep(SQUEEZE_EVERY);
            }
        })?;
        Ok(load)
    }

    fn none() -> Self {
        Self {
            stop: Arc::default(),
            threads: Vec::new(),
        }
    }

    fn spawn(&mut self, body: impl FnOnce(&AtomicBool) + Send + 'static) -> io::Result<()> {
        let stop = Arc::clone(&self.stop);
        let thread = std::thread::Builder::new()
            .name("load".into())
            .spawn(move || body(&stop))?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Takes back what can be taken back of one process. Locked parts refuse, which is what locking is for.
fn squeeze(pid: Pid) -> io::Result<()> {
    let process = open_process(pid)?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut refused = None;
    for (start, end) in maps.lines().filter_map(range) {
        match page_out(&process, start, end - start) {
            // Locked or special mappings.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => refused = Some(errno),
        }
    }
    match refused {
        Some(Errno::EPERM) => Err(Errno::EPERM.into()),
        _ => Ok(()),
    }
}

/// The addresses in a line of `/proc/<pid>/maps`.
fn range(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    let hex = |text| usize::from_str_radix(text, 16).ok();
    Some((hex(start)?, hex(end)?))
}

#[expect(unsafe_code, reason = "nix has no pidfd_open")]
fn open_process(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed; the kernel returns a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = i32::try_from(Errno::result(fd)?).map_err(io::Error::other)?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[expect(unsafe_code, reason = "nix has no process_madvise")]
fn page_out(process: &OwnedFd, start: usize, length: usize) -> Result<(), Errno> {
    let part = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(start),
        iov_len: length,
    };
    // SAFETY: the pointer is to one live iovec; what it names belongs to the other process, whose
    // contents MADV_PAGEOUT does not change.
    let done = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            process.as_raw_fd(),
            &raw const part,
            1,
            libc::MADV_PAGEOUT,
            0,
        )
    };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_mapping_are_read() {
        let line = "7f00aa000000-7f00aa021000 rw-p 00000000 00:00 0 ";
        assert_eq!(range(line), Some((0x7f00_aa00_0000, 0x7f00_aa02_1000)));
        assert_eq!(range("nonsense"), None);
    }

    #[test]
    fn a_load_ends_when_it_is_dropped() {
        let load = Load::processors().expect("threads");
        let stop = Arc::clone(&load.stop);
        drop(load);
        assert_eq!(Arc::strong_count(&stop), 1, "no thread is left");
    }
}
