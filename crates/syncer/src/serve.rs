//! The sending side at work: one thread that keeps the view of the disk, two per sink.
//!
//! ```text
//! notify's thread -> inbox -> hub thread --\
//!                                           [Source]  <- reader thread <- socket
//!                          sender thread --/                (one per sink)
//!                             -> socket
//! ```
//!
//! All of them work on one [`Source`] behind a lock that is held for one file or one chunk.
//! The one thing to know: nobody holds the lock while writing to a socket.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use haarb_daemon::clock::now;
use haarb_model::ReserveName;

use crate::Replicated;
use crate::board::Board;
use crate::channel::{ChannelError, Opener};
use crate::counters::{Counters, ESCAPE, MALFORMED, NOT_OURS, OVERSIZED};
use crate::link::Link;
use crate::message::{Down, Hello, SHORT, Up};
use crate::priority;
use crate::signal::Signal;
use crate::sink::count_conflicts;
use crate::source::{Next, SessionId, Source, Watch};
use crate::watch::{Inbox, Inotify, Unwatched};

/// The state is posted at least this often while numbers move.
const POST_EVERY: Duration = Duration::from_millis(100);

/// So many bytes of short messages go together: they are read and encrypted within a millisecond.
const TOGETHER_MAX: usize = 64 * 1024;

/// The hub looks up at least this often, whatever happens.
const LOOK_UP: Duration = Duration::from_secs(5);

/// The sending side of one reserve, running.
pub(crate) struct Serving {
    pub(crate) reserve: ReserveName,
    source: Mutex<Source>,
    inbox: Arc<Inbox>,
    /// Something for the hub: events, answers.
    hub: Arc<Signal>,
    /// Something for the senders.
    work: Signal,
    links: Mutex<Vec<Arc<Link>>>,
    stop: AtomicBool,
    board: Board,
    counters: Arc<Counters>,
}

impl Serving {
    pub(crate) fn start(
        reserve: ReserveName,
        me: &str,
        epoch: u64,
        others: Vec<String>,
        directories: &[Replicated],
        board: Board,
        counters: Arc<Counters>,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let inbox = Arc::new(Inbox::default());
        let hub = Arc::new(Signal::default());
        let roots: Vec<PathBuf> = directories.iter().map(|dir| dir.at.clone()).collect();
        let watch: Box<dyn Watch> = match Inotify::new(roots, Arc::clone(&inbox), Arc::clone(&hub))
        {
            Ok(watch) => Box::new(watch),
            Err(error) => Box::new(Unwatched(error)),
        };
        let mut source = Source::new(me, epoch, others, directories, watch);
        source.conflicts = directories.iter().map(|dir| count_conflicts(&dir.at)).sum();
        let serving = Arc::new(Self {
            reserve,
            source: Mutex::new(source),
            inbox,
            hub,
            work: Signal::default(),
            links: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
            board,
            counters,
        });
        let hub = Arc::clone(&serving);
        let thread = thread::Builder::new()
            .name("sync-source".into())
            .spawn(move || hub.run_hub())?;
        Ok((serving, thread))
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        // A thread that panicked in the middle of it: the directories themselves are the
        // truth, and the next comparison finds them.
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_hub(&self) {
        priority::lower();
        while !self.stop.load(Ordering::SeqCst) {
            let seen = self.hub.seen();
            let events = self.inbox.take();
            let time = now();
            let (busy, deadline, report, quiet) = {
                let mut source = self.source();
                source.events(events, time);
                let busy = source.tick(time);
                let report = source.report(&self.reserve, time);
                let quiet = report.directories.iter().all(|d| d.pending_files == 0);
                (busy, source.deadline(time), report, quiet)
            };
            self.work.notify();
            self.board.post(report);
            if busy {
                continue;
            }
            let most = if quiet { LOOK_UP } else { POST_EVERY };
            let wait = deadline.map_or(most, |at| at.since(time).to_duration().min(most));
            self.hub.wait(seen, wait);
        }
    }

    /// Seals: what changed up to now is sent and then reported as drained.
    pub(crate) fn drain(&self) {
        self.source().drain();
        self.hub.notify();
    }

    /// Ends all sessions and the hub.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        for link in self.links().drain(..) {
            link.close();
        }
        self.hub.notify();
        self.work.notify();
    }

    fn links(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one sink that has introduced itself, until the link ends.
    pub(crate) fn serve(self: &Arc<Self>, link: &Arc<Link>, mut opener: Opener, hello: Hello) {
        let node = hello.node.clone();
        let connected = self.source().connect(hello);
        self.hub.notify();
        let (id, welcome) = match connected {
            Ok((id, welcome)) => (id, welcome),
            Err(why) => {
                tracing::info!("{}: {node} is refused: {why:?}", self.reserve);
                let epoch = self.source().epoch;
                let _ = link.send(&Down::Refuse { why, epoch }.encode());
                link.close();
                return;
            }
        };
        {
            let mut links = self.links();
            links.retain(|link| !link.is_closed());
            links.push(Arc::clone(link));
        }
        tracing::info!("{}: {node} is connected", self.reserve);
        let sender = {
            let (serving, link) = (Arc::clone(self), Arc::clone(link));
            let welcome = welcome.encode();
            thread::Builder::new()
                .name("sync-send".into())
                .spawn(move || serving.send_to(id, &link, &welcome))
        };
        let reason = match &sender {
            Ok(_) => self.read_from(id, link, &mut opener),
            Err(error) => format!("no thread: {error}"),
        };
        link.close();
        self.source().disconnect(id, now());
        self.work.notify();
        self.hub.notify();
        if let Ok(sender) = sender {
            let _ = sender.join();
        }
        tracing::info!("{}: {node} is gone: {reason}", self.reserve);
    }

    fn read_from(&self, id: SessionId, link: &Link, opener: &mut Opener) -> String {
        loop {
            let message = match receive(opener, &self.counters) {
                Ok(bytes) => match Up::decode(&bytes) {
                    Ok(message) => message,
                    Err(error) => {
                        count_malformed(&self.counters, &error);
                        return error.to_string();
                    }
                },
                Err(error) => return error.to_string(),
            };
            if link.is_closed() || self.stop.load(Ordering::SeqCst) {
                return "the duty has ended".into();
            }
            if message == Up::Ping {
                continue;
            }
            if let Err(broken) = self.source().take(id, message, now()) {
                self.counters.count(MALFORMED, &broken);
                return broken.to_string();
            }
            self.work.notify();
            self.hub.notify();
        }
    }

    fn send_to(&self, id: SessionId, link: &Link, welcome: &[u8]) {
        priority::lower();
        if link.send(welcome).is_err() {
            return;
        }
        // Short messages go together: a line of a log is smaller than what a message costs.
        let mut short = Vec::new();
        let mut bytes = 0;
        loop {
            let seen = self.work.seen();
            let (next, connected) = {
                let mut source = self.source();
                (source.next(id, now()), source.is_connected(id))
            };
            if !connected || link.is_closed() || self.stop.load(Ordering::SeqCst) {
                link.close();
                return;
            }
            let message = match &next {
                Next::Send(message) => Some(message.encode()),
                Next::Busy | Next::Idle => None,
            };
            let message = match message {
                Some(message) if message.len() <= SHORT => {
                    bytes += message.len();
                    short.push(message);
                    None
                }
                other => other,
            };
            let more = matches!(next, Next::Send(_)) && message.is_none() && bytes < TOGETHER_MAX;
            if !more && !short.is_empty() {
                bytes = 0;
                if send_together(link, &mut short).is_err() {
                    return;
                }
            }
            if let Some(message) = message
                && link.send(&message).is_err()
            {
                return;
            }
            if matches!(next, Next::Idle) {
                self.work.wait(seen, LOOK_UP);
            }
        }
    }
}

/// Sends what was collected, as one message where it is several.
fn send_together(link: &Link, short: &mut Vec<Vec<u8>>) -> Result<(), ChannelError> {
    let messages = std::mem::take(short);
    match &messages[..] {
        [one] => link.send(one),
        _ => link.send(&Down::together(&messages)),
    }
}

/// Waits for a message, and counts what is no message of ours.
pub(crate) fn receive(opener: &mut Opener, counters: &Counters) -> Result<Vec<u8>, ChannelError> {
    opener.receive().inspect_err(|error| match error {
        ChannelError::NotOurs => counters.count(NOT_OURS, error),
        ChannelError::Oversized(_) => counters.count(OVERSIZED, error),
        ChannelError::Io(_) | ChannelError::Setup(_) => {}
    })
}

pub(crate) fn count_malformed(counters: &Counters, error: &crate::codec::Malformed) {
    let reason = if error.0 == crate::codec::ESCAPE {
        ESCAPE
    } else {
        MALFORMED
    };
    counters.count(reason, error);
}

/// Who the other end of a connection is, for the log.
pub(crate) fn peer(stream: &TcpStream) -> String {
    stream
        .peer_addr()
        .map_or_else(|_| "somebody".into(), |address| address.to_string())
}
