//! Logging that never holds up a daemon, and its last words.
//!
//! Everything goes to standard error by way of [`Voice`]. A panic does too: the standard hook
//! writes from the thread that panicked, and where nobody reads, that thread would stand still
//! for ever with all that it holds.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::Voice;

/// How long a daemon that panicked waits for the reader of its last words: well below a lease.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(100);
/// As Rust's own.
const PANICKED: i32 = 101;

/// Starts logging, filtered by `HAARB_LOG` (default `info`).
pub(crate) fn start(voice: &Voice) {
    let filter = EnvFilter::try_from_env("HAARB_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A second start in one process (tests) keeps the first logger.
    let _ = logger(voice.clone(), filter).try_init();
}

fn logger(voice: Voice, filter: EnvFilter) -> impl Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || voice.clone())
        .with_target(false)
        .with_ansi(false)
        .finish()
}

/// From now on a panic, in whichever thread or task, ends the process with status 101.
///
/// Half a daemon is worse than none: a task that died alone would leave one that looks alive and
/// does not do its work. One that has ended is started again at once, and what it held is bound
/// to a lease. Nothing is unwound: what a process holds must survive its SIGKILL anyway.
pub(crate) fn die_of_panics(name: String, voice: &Voice) {
    let voice = voice.clone();
    std::panic::set_hook(Box::new(move |info| {
        voice.say(last_words(&name, info));
        voice.finish(LAST_WORDS_WITHIN);
        std::process::exit(PANICKED);
    }));
}

fn last_words(name: &str, info: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let backtrace = Backtrace::capture();
    let trace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    format!(
        "{name}: thread {thread} {info}\n{name}: this is a bug; the daemon ends and is started again{trace}"
    )
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Read as _;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::voice::QUEUE_LINES;

    /// Many more lines than the queue and the pipe have room for; what follows happens only if
    /// none of them was waited for.
    fn talk(to: File) -> u32 {
        let (done, told) = mpsc::channel();
        std::thread::spawn(move || {
            let voice = Voice::start_into("haarb-x", to);
            let subscriber = logger(voice, EnvFilter::new("info"));
            tracing::subscriber::with_default(subscriber, || {
                for number in 0..4 * QUEUE_LINES as u32 {
                    tracing::info!("a line that nobody reads, number {number}");
                }
            });
            let _ = done.send(4 * QUEUE_LINES as u32);
        });
        let patience = Duration::from_secs(60);
        told.recv_timeout(patience).expect("it never waits")
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let writer = std::os::fd::OwnedFd::from(writer);
        assert!(talk(writer.into()) > 0);
        // It was the pipe that stood still: it is full.
        let mut some = [0; 4096];
        assert_eq!(reader.read(&mut some).expect("lines"), some.len());
    }

    #[test]
    fn a_full_disk_holds_nobody_up() {
        let full = OpenOptions::new().write(true).open("/dev/full");
        assert!(talk(full.expect("every Linux has it")) > 0);
    }
}
