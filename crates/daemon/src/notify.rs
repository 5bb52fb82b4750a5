//! What the service manager is told: that the daemon is ready, and that its loop turns.
//!
//! The protocol is one datagram (sd_notify(3)). Nothing here ever waits: a manager that stands
//! still must not stop a failover. The one thing to know: [`turn`] is called where a loop begins a
//! turn and nowhere else, so that a loop which hangs is started again, however well its timers run.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Of the time that the manager allows: signs per watchdog period.
const SIGNS: u32 = 4;

static MANAGER: OnceLock<Option<Manager>> = OnceLock::new();

/// The way to the manager, and when it was last told that the loop turns.
#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    period: Option<Duration>,
    last: Mutex<Option<Instant>>,
}

/// Begins to speak to the manager that started this process, if one did (`NOTIFY_SOCKET`).
/// Without it, everything else here does nothing.
pub(crate) fn start() {
    MANAGER.get_or_init(|| {
        let address = std::env::var_os("NOTIFY_SOCKET")?;
        let period = period(
            std::env::var("WATCHDOG_USEC").ok().as_deref(),
            std::env::var("WATCHDOG_PID").ok().as_deref(),
            std::process::id(),
        );
        match connect(address.as_bytes()) {
            Ok(socket) => Some(Manager {
                socket,
                period,
                last: Mutex::default(),
            }),
            Err(error) => {
                tracing::warn!("the service manager cannot be told that this daemon runs: {error}");
                None
            }
        }
    });
}

/// Whether a service manager started this process, and starts it again when it ends.
pub(crate) fn is_managed() -> bool {
    matches!(MANAGER.get(), Some(Some(_)))
}

/// A turn of the daemon's loop begins. The first one says that the daemon is ready.
pub fn turn() {
    if let Some(Some(manager)) = MANAGER.get() {
        manager.turn(Instant::now());
    }
}

/// The longest time between two turns of a loop that the manager's watchdog allows, with room to
/// spare; `None` where nobody watches.
#[must_use]
pub fn turn_within() -> Option<Duration> {
    MANAGER.get()?.as_ref()?.sign_every()
}

impl Manager {
    fn sign_every(&self) -> Option<Duration> {
        self.period.map(|period| period / SIGNS)
    }

    fn turn(&self, now: Instant) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let message: &[u8] = match (*last, self.sign_every()) {
            (None, _) => b"READY=1\nWATCHDOG=1",
            (Some(then), Some(every)) if now.duration_since(then) >= every => b"WATCHDOG=1",
            _ => return,
        };
        // A manager whose queue is full hears the next one.
        if self.socket.send(message).is_ok() {
            *last = Some(now);
        }
    }
}

/// The watchdog's period, where it is meant for this process (sd_watchdog_enabled(3)).
fn period(usec: Option<&str>, pid: Option<&str>, me: u32) -> Option<Duration> {
    let for_us = pid.is_none_or(|pid| pid.parse() == Ok(me));
    let usec: u64 = usec?.parse().ok()?;
    (for_us && usec > 0).then(|| Duration::from_micros(usec))
}

fn connect(address: &[u8]) -> io::Result<UnixDatagram> {
    let address = match address.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(address)))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(period: Option<Duration>) -> (Manager, UnixDatagram) {
        let (socket, other) = UnixDatagram::pair().expect("a pair of sockets");
        socket.set_nonblocking(true).expect("a setting");
        other.set_nonblocking(true).expect("a setting");
        let last = Mutex::default();
        (
            Manager {
                socket,
                period,
                last,
            },
            other,
        )
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn the_first_turn_is_ready_and_later_ones_are_told_four_times_a_period() {
        let (manager, other) = manager(Some(Duration::from_secs(8)));
        let start = Instant::now();
        let mut told = Vec::new();
        for second in 0..8 {
            manager.turn(start + Duration::from_secs(second));
            told.push(heard(&other));
        }
        let sign = "WATCHDOG=1";
        assert_eq!(
            told,
            ["READY=1\nWATCHDOG=1", "", sign, "", sign, "", sign, ""]
        );
    }

    #[test]
    fn without_a_watchdog_only_ready_is_told() {
        let (manager, other) = manager(None);
        let start = Instant::now();
        manager.turn(start);
        manager.turn(start + Duration::from_secs(3600));
        assert_eq!(heard(&other), "READY=1\nWATCHDOG=1");
        assert_eq!(heard(&other), "");
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nobody_up() {
        let (manager, other) = manager(Some(Duration::from_secs(4)));
        let start = Instant::now();
        for second in 0..100_000 {
            manager.turn(start + Duration::from_secs(second));
        }
        assert_eq!(heard(&other), "READY=1\nWATCHDOG=1");
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let ten = Some(Duration::from_secs(10));
        assert_eq!(period(Some("10000000"), None, 7), ten);
        assert_eq!(period(Some("10000000"), Some("7"), 7), ten);
        assert_eq!(period(Some("10000000"), Some("8"), 7), None);
        assert_eq!(period(Some("0"), None, 7), None);
        assert_eq!(period(Some("soon"), None, 7), None);
        assert_eq!(period(None, Some("7"), 7), None);
    }
}
