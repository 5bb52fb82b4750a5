//! Standard error without waiting: what is said goes through a bounded queue to a thread of its
//! own. When nobody reads, lines are dropped and counted, and the count is told to the next
//! reader; no daemon ever waits for a full pipe, not even when it dies.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// Lines that may wait for a slow reader: some seconds of a bad day, below 1 MiB.
pub(crate) const QUEUE_LINES: usize = 4096;

/// One of many speakers.
#[derive(Clone, Debug)]
pub struct Voice {
    lines: SyncSender<Said>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Said {
    /// Whole lines, each with its end.
    Text(Vec<u8>),
    /// Everything before it is written; tells so.
    Flush(Sender<()>),
}

impl Voice {
    /// Starts the thread that writes to standard error. `name` stands in front of what the voice
    /// says of itself.
    #[must_use]
    pub fn start(name: &str) -> Self {
        Self::start_into(name, io::stderr())
    }

    pub(crate) fn start_into(name: &str, out: impl io::Write + Send + 'static) -> Self {
        let (lines, queue) = sync_channel(QUEUE_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let (counter, name) = (Arc::clone(&dropped), name.to_owned());
        // Without a thread everything is dropped and counted.
        let _ = std::thread::Builder::new()
            .name("voice".into())
            .spawn(move || write(&queue, out, &counter, &name));
        Self { lines, dropped }
    }

    /// Says a line. Never waits.
    pub fn say(&self, mut line: String) {
        line.push('\n');
        self.put(line.into_bytes());
    }

    fn put(&self, text: Vec<u8>) {
        if self.lines.try_send(Said::Text(text)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written, at most for so long.
    pub fn finish(&self, within: Duration) {
        let (done, written) = channel();
        if self.lines.try_send(Said::Flush(done)).is_ok() {
            let _ = written.recv_timeout(within);
        }
    }
}

/// For a log: each call is one text of whole lines.
impl io::Write for Voice {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.put(text.to_vec());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(queue: &Receiver<Said>, mut out: impl io::Write, dropped: &AtomicU64, name: &str) {
    for said in queue {
        // A reader that went away is as good as one that does not read.
        let missed = dropped.swap(0, Ordering::Relaxed);
        if missed > 0 {
            let _ = writeln!(out, "{name}: {missed} lines were dropped: nobody read them");
        }
        match said {
            Said::Text(text) => {
                let _ = out.write_all(&text);
            }
            Said::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_no_time_and_hears_how_many() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let voice = Voice::start_into("haarb-x", writer);
        // The pipe holds 64 KiB, the queue its lines; a third as much again is too much.
        let line = "x".repeat(1023);
        let said = 64 + QUEUE_LINES + 2000;
        for _ in 0..said {
            voice.say(line.clone());
        }
        let before = Instant::now();
        voice.finish(Duration::from_millis(50));
        assert!(before.elapsed() < Duration::from_secs(5), "bounded");
        let dropped = voice.dropped.load(Ordering::Relaxed);
        assert!(dropped > 0, "more was said than fits anywhere");

        let mut lines = BufReader::new(reader).lines();
        let told = format!("haarb-x: {dropped} lines were dropped: nobody read them");
        assert!(
            lines.any(|read| read.expect("text") == told),
            "the next reader hears of it"
        );
        // Everything that was queued follows; with the voice its thread ends, and the pipe.
        drop(voice);
        let rest = lines.count() as u64;
        assert!(rest >= said as u64 - dropped - 128, "{rest} lines followed");
    }

    #[test]
    fn what_was_said_is_written_when_it_finishes() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let voice = Voice::start_into("haarb-x", writer);
        voice.say("one".into());
        voice.say("two".into());
        voice.finish(Duration::from_secs(10));
        drop(voice);
        let lines: Vec<String> = BufReader::new(reader)
            .lines()
            .map_while(Result::ok)
            .collect();
        assert_eq!(lines, ["one", "two"]);
    }
}
