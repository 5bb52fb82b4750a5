//! The hardware watchdog: resets a server whose services cannot be stopped past their right to run.
//!
//! Fed at the end of the supervisor's turns, nowhere else, so that feeding proves that the
//! supervisor works. It decides nothing: who may hold what is told to it. The one thing to know:
//! opening the device starts its clock, and only a clean end writes the `V` that stops it
//! (Documentation/watchdog/watchdog-api.rst, "Magic Close feature").

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use haarb_config as config;
use haarb_model::{Mono, Span};

/// Between two attempts to open a device that cannot be opened.
const OPEN_AGAIN_AFTER: Span = Span::from_secs(5);
/// Feedings within one time-out.
const FEEDINGS: u64 = 10;
/// What feeds it: anything but the byte of the magic close.
const FEED: &[u8] = b".";
/// The magic close: the device's clock stops when it is closed after this.
const MAGIC_CLOSE: &[u8] = b"V";

nix::ioctl_readwrite!(wdioc_settimeout, b'W', 6, libc::c_int);

/// A watchdog that is used.
#[derive(Debug)]
pub struct Watchdog {
    device: PathBuf,
    timeout: Span,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not open; why, and when to try again.
    Closed { why: String, again_at: Mono },
    /// Its clock runs.
    Open {
        file: File,
        fed_at: Mono,
        /// Why it is not fed; empty: it is.
        starved: String,
    },
}

impl Watchdog {
    /// Opens the device, which starts its clock. One that cannot be opened is tried again.
    #[must_use]
    pub fn new(now: Mono, config: &config::Watchdog) -> Self {
        let mut watchdog = Self {
            device: config.device.clone(),
            timeout: config.timeout,
            state: State::Closed {
                why: String::new(),
                again_at: now,
            },
        };
        watchdog.open(now);
        watchdog
    }

    fn open(&mut self, now: Mono) {
        // Not blocking: a pipe without a reader must not hold up the services.
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&self.device);
        let path = self.device.display();
        self.state = match opened {
            Ok(file) => {
                match set_timeout(&file, self.timeout) {
                    Ok(granted) => {
                        tracing::info!("{path} resets this server {granted} after it was last fed")
                    }
                    Err(error) => tracing::warn!(
                        "{path} keeps its own time-out instead of {} ({error})",
                        self.timeout
                    ),
                }
                State::Open {
                    file,
                    fed_at: Mono::ZERO,
                    starved: String::new(),
                }
            }
            Err(error) => {
                let why = format!("cannot open {path}: {error}");
                if !matches!(&self.state, State::Closed { why: said, .. } if *said == why) {
                    tracing::error!("no hardware watchdog: {why}; services are stopped without it");
                }
                State::Closed {
                    why,
                    again_at: now + OPEN_AGAIN_AFTER,
                }
            }
        };
    }

    /// Feeds it if it is due, unless something may not run that does: `overstays` says what.
    pub fn tend(&mut self, now: Mono, overstays: Option<&str>) {
        if matches!(self.state, State::Closed { again_at, .. } if again_at <= now) {
            self.open(now);
        }
        let device = self.device.display().to_string();
        let every = self.feeds_every();
        let State::Open {
            file,
            fed_at,
            starved,
        } = &mut self.state
        else {
            return;
        };
        let why = overstays.unwrap_or_default();
        if *starved != why {
            match why {
                "" => tracing::warn!("{device} is fed again: what should not run has stopped"),
                why => tracing::error!(
                    "{device} is not fed any more: {why}; it will reset this server"
                ),
            }
            why.clone_into(starved);
        }
        if starved.is_empty() && (*fed_at == Mono::ZERO || now.since(*fed_at) >= every) {
            match file.write_all(FEED) {
                Ok(()) => *fed_at = now,
                Err(error) => {
                    let why = format!("cannot feed {device}: {error}");
                    tracing::error!("{why}; trying to open it anew");
                    self.state = State::Closed {
                        why,
                        again_at: now + OPEN_AGAIN_AFTER,
                    };
                }
            }
        }
    }

    fn feeds_every(&self) -> Span {
        self.timeout.part(FEEDINGS)
    }

    /// When [`Watchdog::tend`] must be called next.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        match &self.state {
            State::Closed { again_at, .. } => *again_at,
            State::Open { starved, .. } if !starved.is_empty() => Mono::FAR,
            State::Open { fed_at, .. } => *fed_at + self.feeds_every(),
        }
    }

    /// Ends it well: its clock stops, unless it is starving, which nothing but the end of the
    /// reason may end.
    pub fn close(mut self) {
        if let State::Open { file, starved, .. } = &mut self.state
            && starved.is_empty()
            && let Err(error) = file.write_all(MAGIC_CLOSE)
        {
            let device = self.device.display();
            tracing::error!("cannot stop the clock of {device}: {error}; it may reset this server");
        }
    }

    /// Its state, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let device = self.device.display();
        match &self.state {
            State::Closed { why, .. } => format!("NOT WORKING: {why}"),
            State::Open { starved, .. } if !starved.is_empty() => {
                format!("NOT FED, {device} resets this server: {starved}")
            }
            State::Open { .. } => format!("{device} fed, time-out {}", self.timeout),
        }
    }
}

/// Sets the time-out and returns the one that the device grants.
fn set_timeout(file: &File, timeout: Span) -> io::Result<Span> {
    let seconds = timeout.as_micros() / 1_000_000;
    let mut seconds = libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX);
    // SAFETY: the descriptor is open, and the kernel reads and writes one int at the pointer, which
    // lives until the call returns.
    #[expect(unsafe_code, reason = "there is no safe wrapper for this ioctl")]
    unsafe {
        wdioc_settimeout(file.as_raw_fd(), &raw mut seconds)?;
    }
    Ok(Span::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests;
