//! An alarm at an absolute moment of [`crate::clock`], exact to the kernel's timer slack.
//!
//! tokio's own timers round up to the next millisecond and know nothing of suspend; on the
//! failover path a timerfd costs the same and does neither (timerfd_create(2)).

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};

use haarb_model::Mono;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An alarm that is set to one moment at a time.
#[derive(Debug)]
pub struct Alarm {
    fd: AsyncFd<Pollable>,
    at: Option<Mono>,
}

/// nix's timer names its descriptor by `AsFd`, tokio asks for `AsRawFd`.
#[derive(Debug)]
struct Pollable(TimerFd);

impl AsRawFd for Pollable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    /// An alarm that is not set. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The kernel has no more descriptors.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        Ok(Self {
            fd: register(Pollable(timer))?,
            at: None,
        })
    }

    /// Sets it to ring once at `at`; a moment in the past rings at once.
    ///
    /// # Errors
    /// The kernel refuses the time: it does not for any moment within centuries.
    pub fn set(&mut self, at: Mono) -> io::Result<()> {
        if self.at == Some(at) {
            return Ok(());
        }
        // A zero would disarm the timer (timerfd_settime(2)); FAR would overflow its seconds.
        let micros = at.as_micros().clamp(1, i64::MAX.unsigned_abs() / 1000);
        let time = TimeSpec::from_duration(std::time::Duration::from_micros(micros));
        self.fd.get_ref().0.set(
            Expiration::OneShot(time),
            TimerSetTimeFlags::TFD_TIMER_ABSTIME,
        )?;
        self.at = Some(at);
        Ok(())
    }

    /// Waits until it rings. Cancel-safe; never returns while it is not set.
    pub async fn rings(&mut self) {
        loop {
            let Ok(mut guard) = self.fd.readable().await else {
                // The runtime is going down: nothing will ring any more.
                return std::future::pending().await;
            };
            let mut expirations = [0_u8; 8];
            let read = guard.try_io(|fd| {
                nix::unistd::read(&fd.get_ref().0, &mut expirations).map_err(io::Error::from)
            });
            if matches!(read, Ok(Ok(_))) {
                // It rings once: nothing more is there to be read.
                guard.clear_ready();
                self.at = None;
                return;
            }
        }
    }
}

/// Registers a descriptor that `T` owns with tokio's reactor, for what arrives there. Room to
/// write is not waited for: the kernel would tell of it after each packet that has left.
///
/// # Errors
/// The reactor refuses it (epoll_ctl(2)): not pollable, or no memory.
pub fn register<T: AsRawFd>(owned: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `register_with_interest` asks that the descriptor stays open and the same as long as it is
    // registered. `owned` is moved into the AsyncFd, which deregisters before it drops it, and
    // the types used here (sockets, timers, pidfds) do not exchange their descriptor.
    #[expect(
        unsafe_code,
        reason = "tokio's registration trusts AsRawFd, see SAFETY"
    )]
    unsafe { AsyncFd::register_with_interest(owned, Interest::READABLE) }.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use haarb_model::Span;

    use super::*;
    use crate::clock;

    #[tokio::test(flavor = "current_thread")]
    async fn it_rings_at_its_moment_and_not_before() {
        let mut alarm = Alarm::new().expect("a timer");
        let at = clock::now() + Span::from_millis(20);
        alarm.set(at).expect("a moment");
        alarm.rings().await;
        assert!(clock::now() >= at);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_past_rings_at_once_and_the_far_end_never() {
        let mut alarm = Alarm::new().expect("a timer");
        alarm.set(Mono::FAR).expect("a moment");
        alarm.set(Mono::ZERO).expect("a moment");
        alarm.rings().await;
    }
}
