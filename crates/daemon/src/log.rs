//! Logging that never holds up a daemon: lines go through a bounded queue to a thread of
//! their own. When standard error stands still, lines are dropped, not waited for.

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that may wait for a slow reader: some seconds of a bad day, below 1 MiB.
const QUEUE_LINES: usize = 4096;

/// Starts logging to standard error, filtered by `HAARB_LOG` (default `info`). The guard
/// writes out what waits when it is dropped.
pub(crate) fn start() -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE_LINES)
        .lossy(true)
        .finish(std::io::stderr());
    let filter = EnvFilter::try_from_env("HAARB_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false)
        .with_ansi(false);
    // A second start in one process (tests) keeps the first logger.
    let _ = subscriber.try_init();
    guard
}
