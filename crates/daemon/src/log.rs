//! Logging that never holds up a daemon: lines go through a bounded queue to a thread of
//! their own. When standard error stands still, lines are dropped, not waited for.

use std::io::Write;

use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Lines that may wait for a slow reader: some seconds of a bad day, below 1 MiB.
const QUEUE_LINES: usize = 4096;

/// Starts logging to standard error, filtered by `HAARB_LOG` (default `info`). The guard
/// writes out what waits when it is dropped.
pub(crate) fn start() -> WorkerGuard {
    let filter = EnvFilter::try_from_env("HAARB_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let (subscriber, guard) = logger(std::io::stderr(), filter);
    // A second start in one process (tests) keeps the first logger.
    let _ = subscriber.try_init();
    guard
}

fn logger(
    to: impl Write + Send + 'static,
    filter: EnvFilter,
) -> (impl Subscriber + Send + Sync, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE_LINES)
        .lossy(true)
        .finish(to);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false)
        .with_ansi(false)
        .finish();
    (subscriber, guard)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Read as _;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Many more lines than the queue and the pipe have room for; what follows happens only if
    /// none of them was waited for.
    fn talk(to: File) -> u32 {
        let (done, told) = mpsc::channel();
        std::thread::spawn(move || {
            let (subscriber, guard) = logger(to, EnvFilter::new("info"));
            tracing::subscriber::with_default(subscriber, || {
                for number in 0..4 * QUEUE_LINES as u32 {
                    tracing::info!("a line that nobody reads, number {number}");
                }
            });
            let _ = done.send(4 * QUEUE_LINES as u32);
            // Its end waits for a reader, but not for ever; not what is tested here.
            std::mem::forget(guard);
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
