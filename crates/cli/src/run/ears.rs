//! What the daemons say, passed on line by line with their names in front.
//!
//! On a thread of its own: `haarb run` has real-time priority, so that a dead daemon is back in
//! time, and a daemon or service that talks without end must not have it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use haarb_daemon::Voice;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;

/// A longer line is cut in two: memory has a bound.
const LINE_BYTES_MAX: usize = 8192;

/// The reader of all daemons.
pub(super) struct Ears {
    runtime: Handle,
    pipes: JoinSet<()>,
    voice: Voice,
}

impl Ears {
    /// Starts the thread. It has ordinary priority, whatever that of the caller is
    /// (`SCHED_RESET_ON_FORK`).
    ///
    /// # Errors
    /// No event loop or no thread.
    pub(super) fn start(voice: Voice) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("ears".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        Ok(Self {
            runtime: handle,
            pipes: JoinSet::new(),
            voice,
        })
    }

    /// Passes a stream on until its last writer has closed it.
    pub(super) fn pass_on(&mut self, stream: Option<OwnedFd>, name: &'static str) {
        // Forget those who died.
        while self.pipes.try_join_next().is_some() {}
        let entered = self.runtime.enter();
        let receiver = stream.map(Receiver::from_owned_fd);
        drop(entered);
        match receiver {
            Some(Ok(receiver)) => {
                let lines = lines(receiver, name, self.voice.clone());
                self.pipes.spawn_on(lines, &self.runtime);
            }
            Some(Err(e)) => self
                .voice
                .say(format!("haarb: the output of {name} cannot be read: {e}")),
            None => {}
        }
    }

    /// Waits a moment for the last words of the daemons. A service may hold on to the pipe.
    pub(super) async fn last_words(&mut self, within: Duration) {
        let heard = async { while self.pipes.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(within, heard).await;
    }
}

async fn lines(mut stream: Receiver, name: &'static str, voice: Voice) {
    let mut pending = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        for byte in chunk.iter().take(n) {
            if *byte == b'\n' || pending.len() >= LINE_BYTES_MAX {
                say(&mut pending, name, &voice);
            }
            if *byte != b'\n' {
                pending.push(*byte);
            }
        }
    }
    if !pending.is_empty() {
        say(&mut pending, name, &voice);
    }
}

/// Daemons that name themselves in their last words are not named twice.
fn say(line: &mut Vec<u8>, name: &str, voice: &Voice) {
    let text = String::from_utf8_lossy(line);
    let text = text
        .strip_prefix(name)
        .and_then(|t| t.strip_prefix(": "))
        .unwrap_or(&text);
    voice.say(format!("{name}: {text}"));
    line.clear();
}
