//! Standard error without waiting: lines go to a thread of their own, and when nobody reads
//! them they are dropped and counted, so that a full pipe holds up neither `haarb run` nor,
//! through it, a daemon.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// Lines that may wait for a slow reader.
const QUEUE_LINES: usize = 4096;
/// How long the end waits for the reader.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);

/// One of many speakers.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    lines: SyncSender<Said>,
    dropped: Arc<AtomicU64>,
}

enum Said {
    Line(String),
    /// Everything before it is written; tells so.
    Flush(Sender<()>),
}

impl Voice {
    pub(super) fn start() -> Self {
        let (lines, queue) = sync_channel(QUEUE_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        std::thread::spawn(move || write(&queue, &counter));
        Self { lines, dropped }
    }

    pub(super) fn say(&self, line: String) {
        if self.lines.try_send(Said::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits a moment until everything is written.
    pub(super) fn finish(&self) {
        let (done, written) = channel();
        if self.lines.try_send(Said::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_WITHIN);
        }
    }
}

fn write(queue: &Receiver<Said>, dropped: &AtomicU64) {
    for said in queue {
        let mut err = std::io::stderr().lock();
        let missed = dropped.swap(0, Ordering::Relaxed);
        if missed > 0 {
            let _ = writeln!(err, "haarb: {missed} lines were dropped: nobody read them");
        }
        match said {
            Said::Line(line) => {
                let _ = writeln!(err, "{line}");
            }
            Said::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}
