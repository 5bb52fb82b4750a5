//! The receiving side at work: one thread that connects, applies and acknowledges, one that
//! reads ahead.
//!
//! The sink connects to the source, because it is the one that is told whom to follow; the
//! source serves whoever proves to have the key. Every network is tried in turn, those on which
//! the source is heard and the last good one first; a network on which it is not heard any more
//! is left at once for one on which it is, where a channel stands ready. The one thing to know: when the duty ends the fence is closed first, so nothing
//! changes here any more, even if this thread hangs in a disk for minutes.

mod ready;

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use haarb_model::{
    Data, DirectoryReport, DirectoryState, Epoch, NetworkName, NodeName, ReserveName, SyncReserve,
};

use crate::Replicated;
use crate::board::Board;
use crate::channel::ChannelError;
use crate::counters::{Counters, LOWER_EPOCH, MALFORMED};
use crate::fence::Fence;
use crate::link::Link;
use crate::message::{Down, Up};
use crate::paths::Paths;
use crate::priority;
use crate::settings::Settings;
use crate::signal::Signal;
use crate::sink::{Sink, SinkError};
use ready::{Ready, dial};

/// Messages that are read ahead while the disk works: with the largest, some 16 MiB. A full
/// queue stops the reading and thereby, through TCP, the source.
const READ_AHEAD: usize = 16;

/// Between two rounds over all networks: short at first, because a source that has just taken
/// over needs a moment; then longer.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// Between two looks whether a directory that is in error can be received again. It begins anew then,
/// and looks at everything.
const MEND_FIRST: Duration = Duration::from_secs(1);
const MEND_LONGEST: Duration = Duration::from_secs(60);

/// How long one network may take to answer before the next is tried.
const CONNECT_WITHIN: Duration = Duration::from_millis(300);

/// While nothing arrives the state is posted so often; it shows since when nothing did.
const POST_EVERY: Duration = Duration::from_millis(200);

/// Who is followed and what is known of it from before.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    pub(crate) source: NodeName,
    pub(crate) epoch: u64,
    /// How good each directory was when the same source was followed last.
    pub(crate) data: Vec<Data>,
    /// Over which networks it is heard.
    pub(crate) paths: Arc<Paths>,
}

/// The receiving side of one reserve, running.
pub(crate) struct Following {
    fence: Fence,
    stop: AtomicBool,
    end: Signal,
    source: NodeName,
    networks: Vec<NetworkName>,
    paths: Arc<Paths>,
    /// The open link and the network it uses.
    link: Mutex<Option<(usize, Arc<Link>)>>,
    /// Channels on other networks.
    ready: Mutex<Vec<Ready>>,
    /// The source has welcomed us, and channels are wanted.
    connected: AtomicBool,
    wanted: Signal,
}

/// What the thread works with.
struct Worker {
    shared: Arc<Following>,
    settings: Arc<Settings>,
    reserve: ReserveName,
    source: NodeName,
    sink: Sink,
    board: Board,
    counters: Arc<Counters>,
    remember: Box<dyn FnMut(u64) + Send>,
    /// The network that worked last.
    way: usize,
    connected: bool,
    lost_at: Instant,
    posted_at: Option<Instant>,
    refusal: String,
    retry: Retry,
}

/// When a directory that is in error is tried again.
struct Retry {
    at: Instant,
    wait: Duration,
}

impl Retry {
    fn new() -> Self {
        Self {
            at: Instant::now() + MEND_FIRST,
            wait: MEND_FIRST,
        }
    }

    /// Whether it is time to try; then the next time is later.
    fn is_due(&mut self) -> bool {
        let due = Instant::now() >= self.at;
        if due {
            self.wait = (self.wait * 2).min(MEND_LONGEST);
            self.at = Instant::now() + self.wait;
        }
        due
    }
}

impl Following {
    /// Starts to follow. `remember` is told every epoch that is higher than those before.
    pub(crate) fn start(
        settings: &Arc<Settings>,
        reserve: ReserveName,
        directories: &[Replicated],
        followed: Followed,
        board: Board,
        counters: Arc<Counters>,
        remember: Box<dyn FnMut(u64) + Send>,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<Vec<Data>>)> {
        let fence = Fence::open();
        let shared = Arc::new(Self {
            fence: fence.clone(),
            stop: AtomicBool::new(false),
            end: Signal::default(),
            source: followed.source.clone(),
            networks: settings.networks.clone(),
            paths: Arc::clone(&followed.paths),
            link: Mutex::new(None),
            ready: Mutex::new(Vec::new()),
            connected: AtomicBool::new(false),
            wanted: Signal::default(),
        });
        if settings.networks.len() > 1 {
            let (shared, settings) = (Arc::clone(&shared), Arc::clone(settings));
            let counters = Arc::clone(&counters);
            thread::Builder::new()
                .name("sync-ready".into())
                .spawn(move || {
                    priority::lower();
                    shared.keep_ready(&settings, &counters);
                })?;
        }
        let (me, source) = (settings.me.as_str(), followed.source.as_str());
        let epoch = followed.epoch;
        let mut sink = Sink::new(reserve.as_str(), me, source, epoch, directories, fence);
        for (tree, data) in sink.trees.iter_mut().zip(followed.data) {
            tree.data = data;
        }
        let mut worker = Worker {
            shared: Arc::clone(&shared),
            settings: Arc::clone(settings),
            reserve,
            source: followed.source,
            sink,
            board,
            counters,
            remember,
            way: 0,
            connected: false,
            lost_at: Instant::now(),
            posted_at: None,
            refusal: String::new(),
            retry: Retry::new(),
        };
        let thread = thread::Builder::new()
            .name("sync-sink".into())
            .spawn(move || {
                priority::lower();
                worker.run();
                worker.sink.trees.iter().map(|tree| tree.data).collect()
            })?;
        Ok((shared, thread))
    }

    /// From here on nothing changes any more.
    pub(crate) fn stop(&self) {
        self.fence.close();
        self.stop.store(true, Ordering::SeqCst);
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, link)) = &*link {
            link.close();
        }
        drop(link);
        self.close_ready();
        self.end.notify();
        self.wanted.notify();
    }

    fn lock_ready(&self) -> MutexGuard<'_, Vec<Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The arbiter has said anew over which networks the others are heard.
    pub(crate) fn reconsider(&self) {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((way, link)) = &*link
            && let Some(network) = self.networks.get(*way)
            && self.paths.is_elsewhere(&self.source, network)
            && !link.is_closed()
        {
            tracing::info!(
                "{} is not heard on {network} any more: taking another network",
                self.source
            );
            // The next session makes ready what it lacks.
            self.connected.store(false, Ordering::SeqCst);
            link.close();
        }
        self.end.notify();
        self.wanted.notify();
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// Why a session was not, or is no more.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("the path broke")]
    Lost,
    #[error("a directory that was in error is there again")]
    Mended,
}

impl Worker {
    fn run(&mut self) {
        self.post();
        let mut wait = RETRY_FIRST;
        while !self.shared.is_stopped() {
            let seen = self.shared.end.seen();
            let opened = self.open().map_err(Ended::from);
            let ended = opened.and_then(|ready| self.session(&ready));
            let lost = self.connected && matches!(ended, Err(Ended::Lost));
            if let Err(ended) = ended {
                if self.connected {
                    wait = RETRY_FIRST;
                }
                self.ended(&ended);
            }
            self.connected = false;
            self.shared.connected.store(false, Ordering::SeqCst);
            self.post();
            // One that is ready is taken at once.
            let at_once = lost && self.shared.has_ready();
            if !self.shared.is_stopped() && !at_once {
                self.shared.end.wait(seen, wait);
                wait = (wait * 2).min(RETRY_LONGEST);
            }
        }
    }

    fn ended(&mut self, ended: &Ended) {
        if self.shared.is_stopped() {
            return;
        }
        self.refusal = match ended {
            Ended::Sink(error) => error.to_string(),
            Ended::Channel(_) | Ended::Lost | Ended::Mended => String::new(),
        };
        match ended {
            Ended::Sink(SinkError::LowerEpoch { .. }) => self.counters.count(LOWER_EPOCH, ended),
            Ended::Sink(SinkError::Protocol(_)) => self.counters.count(MALFORMED, ended),
            _ => {}
        }
        if self.connected {
            tracing::info!(
                "{}: contact with {} lost: {ended}",
                self.reserve,
                self.source
            );
        } else {
            tracing::debug!("{}: {}: {ended}", self.reserve, self.source);
        }
    }

    /// A connection over the first network that gives one.
    fn connect(&mut self) -> std::io::Result<TcpStream> {
        let ways = self.settings.ways(&self.source);
        let mut last = std::io::Error::other("it has no address in the configuration");
        let order = self
            .shared
            .paths
            .order(&self.source, &self.settings.networks, self.way);
        for number in order.into_iter().filter(|&number| number < ways.len()) {
            if self.shared.is_stopped() {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            match dial(ways[number].0, ways[number].1) {
                Ok(stream) => {
                    self.way = number;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A channel that is ready, or a new one over the first network that gives one.
    fn open(&mut self) -> Result<Ready, ChannelError> {
        if let Some(ready) = self.shared.take_ready(self.way) {
            self.way = ready.way + 1;
            return Ok(ready);
        }
        let stream = self.connect()?;
        // The next try takes another network, unless this one turns out well.
        let way = self.way;
        self.way += 1;
        Ready::open(way, stream, &self.settings, &self.counters)
    }

    fn session(&mut self, ready: &Ready) -> Result<(), Ended> {
        self.shared
            .link
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace((ready.way, Arc::clone(&ready.link)));
        let result = self.talk(&ready.link, &ready.incoming);
        ready.link.close();
        result
    }

    fn talk(&mut self, link: &Arc<Link>, incoming: &Receiver<Vec<Down>>) -> Result<(), Ended> {
        let shared = Arc::clone(&self.shared);
        let go_on = || !shared.is_stopped() && !link.is_closed();
        let hello = self.sink.hello(go_on);
        if !go_on() {
            return Err(Ended::Lost);
        }
        link.send(&Up::Hello(hello).encode())?;
        loop {
            let messages = match incoming.try_recv() {
                Ok(messages) => messages,
                Err(TryRecvError::Disconnected) => return Err(Ended::Lost),
                Err(TryRecvError::Empty) => {
                    // A pause: what is here becomes visible and is acknowledged.
                    self.sink.flush()?;
                    self.answer(link)?;
                    match incoming.recv_timeout(POST_EVERY) {
                        Ok(messages) => messages,
                        Err(RecvTimeoutError::Timeout) => {
                            if self.is_mended() {
                                return Err(Ended::Mended);
                            }
                            if self.sink.look_around(self.settings.look_around) {
                                self.answer(link)?;
                            }
                            self.post();
                            continue;
                        }
                        Err(RecvTimeoutError::Disconnected) => return Err(Ended::Lost),
                    }
                }
            };
            for message in messages {
                if self.shared.is_stopped() {
                    return Ok(());
                }
                let epoch = self.sink.epoch;
                let welcome = matches!(message, Down::Welcome { .. });
                self.sink.take(message)?;
                if welcome {
                    self.welcomed(epoch);
                }
                self.answer(link)?;
            }
        }
    }

    fn welcomed(&mut self, epoch_before: u64) {
        self.connected = true;
        self.shared.connected.store(true, Ordering::SeqCst);
        self.shared.wanted.notify();
        self.refusal.clear();
        // This network works: it is the first to be tried again.
        self.way = self.way.wrapping_sub(1);
        if self.sink.epoch > epoch_before {
            (self.remember)(self.sink.epoch);
        }
        tracing::info!(
            "{}: following {} under epoch {}",
            self.reserve,
            self.source,
            self.sink.epoch
        );
        self.post();
    }

    fn answer(&mut self, link: &Link) -> Result<(), Ended> {
        let answers = self.sink.answers();
        let acknowledged = answers
            .iter()
            .any(|answer| matches!(answer, Up::Ack { .. }));
        for answer in answers {
            link.send(&answer.encode())?;
        }
        if acknowledged {
            self.lost_at = Instant::now();
            if self.posted_at.is_none_or(|at| at.elapsed() >= POST_EVERY) || self.is_news() {
                self.post();
            }
        }
        Ok(())
    }

    /// Whether a directory that was in error may be received now.
    fn is_mended(&mut self) -> bool {
        if self.sink.trees.iter().all(|tree| tree.error.is_empty()) {
            self.retry = Retry::new();
            return false;
        }
        let due = self.retry.is_due();
        let mut trees = self.sink.trees.iter_mut();
        due && trees.any(crate::sink::Tree::may_start_again)
    }

    /// Something changed that must not wait for the next regular posting.
    fn is_news(&self) -> bool {
        self.sink.trees.iter().any(|tree| tree.is_news())
    }

    fn post(&mut self) {
        self.posted_at = Some(Instant::now());
        let silent_ms = if self.connected {
            self.lost_at = Instant::now();
            0
        } else {
            // Shown in steps, so that a standby without a source does not report for ever.
            self.lost_at.elapsed().as_secs() * 1000
        };
        let mut directories = Vec::new();
        for tree in &mut self.sink.trees {
            tree.told();
            let error = [&tree.error, &tree.trouble, &self.refusal]
                .into_iter()
                .find(|text| !text.is_empty());
            let state = match (tree.error.is_empty(), self.connected) {
                (false, _) => DirectoryState::Error,
                (true, true) => DirectoryState::Receiving,
                (true, false) => DirectoryState::WaitingForSource,
            };
            directories.push(DirectoryReport {
                path: tree.place.path.display().to_string(),
                state,
                lag_ms: silent_ms,
                pending_files: 0,
                held_deletions: 0,
                failing: tree.failing(),
                error: error.cloned().unwrap_or_default(),
            });
        }
        let data = self.sink.trees.iter().map(|tree| tree.data).max();
        self.board.post(SyncReserve {
            reserve: self.reserve.clone(),
            epoch: Epoch(self.sink.epoch),
            data: data.unwrap_or(Data::Current),
            drained: false,
            directories,
            conflicts: self.sink.trees.iter().map(|tree| tree.conflicts).sum(),
        });
    }
}

#[cfg(test)]
mod tests;
