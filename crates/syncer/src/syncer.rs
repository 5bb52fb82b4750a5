//! All reserves of one server: each has a worker that turns what the arbiter says into
//! sending, receiving or neither.
//!
//! The one thing to know: [`Syncer::hold`] never waits. What ends a duty on the receiving side
//! (the fence) is done before it returns; what takes time is done by the worker.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use haarb_model::{
    Data, DirectoryReport, DirectoryState, Epoch, NodeName, ReserveDuties, ReserveName, SyncDuty,
    SyncReport, SyncReserve,
};
use tokio::sync::watch;

use crate::board::Board;
use crate::counters::Counters;
use crate::follow::{Followed, Following};
use crate::listen::{Door, Sources};
use crate::paths::{Heard, Paths};
use crate::serve::Serving;
use crate::settings::Settings;
use crate::sink::{Sink, count_conflicts};
use crate::{Replicated, fence::Fence};

/// The replicas of one server.
pub struct Syncer {
    workers: BTreeMap<ReserveName, Handle>,
    reports: watch::Receiver<SyncReport>,
    counters: Arc<Counters>,
    paths: Arc<Paths>,
    door: Door,
    /// Where sinks can connect.
    listening: Vec<std::net::SocketAddr>,
}

struct Handle {
    duties: Sender<Order>,
    /// What was said last, and the receiving side that has to end before anything else.
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    wanted: Option<(SyncDuty, Epoch)>,
    following: Option<Arc<Following>>,
}

enum Order {
    Hold(SyncDuty, Epoch),
    Stop,
}

/// Why a syncer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address of this server cannot be listened on.
    #[error(
        "{address}: sinks cannot be waited for there ({source}); is another haarb-syncer running? the port is `sync-port` in the configuration"
    )]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The kernel has no thread left for us.
    #[error("no thread: {0}")]
    Thread(#[from] io::Error),
}

impl Syncer {
    /// Starts with no duty anywhere: neither sends nor accepts.
    ///
    /// # Errors
    /// [`StartError`]: an address is taken, or there are no threads.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let settings = Arc::new(settings);
        let counters = Arc::new(Counters::default());
        let sources = Arc::new(Sources::default());
        let paths = Arc::new(Paths::default());
        let door = Door::new(
            Arc::clone(&settings),
            Arc::clone(&sources),
            Arc::clone(&counters),
        );
        let replicates = settings.reserves.iter().any(|(_, dirs)| !dirs.is_empty());
        let mut listening = Vec::new();
        for address in settings.addresses.get(&settings.me).into_iter().flatten() {
            // Without a directory nobody has a reason to connect.
            if replicates {
                let bound = door.open(*address);
                listening.push(bound.map_err(|source| StartError::Listen {
                    address: *address,
                    source,
                })?);
            }
        }
        let first = settings.reserves.iter();
        let first = first.map(|(name, dirs)| idle(name, dirs, Epoch::default(), None));
        let (board, reports) = Board::new(first.collect());
        let mut workers = BTreeMap::new();
        for (reserve, directories) in &settings.reserves {
            let (duties, orders) = channel();
            let shared = Arc::new(Mutex::new(Shared::default()));
            let worker = Worker {
                settings: Arc::clone(&settings),
                reserve: reserve.clone(),
                directories: directories.clone(),
                board: board.clone(),
                counters: Arc::clone(&counters),
                sources: Arc::clone(&sources),
                paths: Arc::clone(&paths),
                shared: Arc::clone(&shared),
                role: Role::Off,
                known: Known::default(),
            };
            let thread = thread::Builder::new()
                .name("sync-worker".into())
                .spawn(move || worker.run(&orders))?;
            let handle = Handle {
                duties,
                shared,
                thread: Some(thread),
            };
            workers.insert(reserve.clone(), handle);
        }
        Ok(Self {
            workers,
            reports,
            counters,
            paths,
            door,
            listening,
        })
    }

    /// Holds what the arbiter says, from now on.
    pub fn hold(&self, duties: &[ReserveDuties]) {
        for duty in duties {
            let Some(handle) = self.workers.get(&duty.reserve) else {
                tracing::warn!("{}: no such reserve in the configuration", duty.reserve);
                continue;
            };
            handle.hold(duty.sync.clone(), duty.epoch);
        }
    }

    /// Notes over which networks the other servers are heard: a replica that is received over
    /// one that fell silent goes on over another at once.
    pub fn heard(&self, heard: &Heard) {
        if !self.paths.note(heard) {
            return;
        }
        for handle in self.workers.values() {
            if let Some(following) = &lock(&handle.shared).following {
                following.reconsider();
            }
        }
    }

    /// The state of all reserves, whenever it changes.
    #[must_use]
    pub fn reports(&self) -> watch::Receiver<SyncReport> {
        self.reports.clone()
    }

    /// What was refused since the start, by reason.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.counters.get()
    }

    /// The addresses at which sinks are waited for.
    #[must_use]
    pub fn listening(&self) -> &[std::net::SocketAddr] {
        &self.listening
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.door.close();
        for handle in self.workers.values() {
            handle.end();
        }
        for handle in self.workers.values_mut() {
            if let Some(thread) = handle.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl Handle {
    fn hold(&self, duty: SyncDuty, epoch: Epoch) {
        let wanted = Some((duty.clone(), epoch));
        let mut shared = lock(&self.shared);
        if shared.wanted == wanted {
            return;
        }
        shared.wanted = wanted;
        if let Some(following) = shared.following.take() {
            following.stop();
        }
        drop(shared);
        let _ = self.duties.send(Order::Hold(duty, epoch));
    }

    fn end(&self) {
        if let Some(following) = lock(&self.shared).following.take() {
            following.stop();
        }
        let _ = self.duties.send(Order::Stop);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a worker does at the moment.
enum Role {
    Off,
    Source {
        epoch: Epoch,
        serving: Arc<Serving>,
        hub: JoinHandle<()>,
    },
    Sink {
        source: NodeName,
        thread: JoinHandle<Vec<Data>>,
    },
}

/// What a worker remembers between roles.
#[derive(Default)]
struct Known {
    /// How good the replica was when it last did something.
    data: Option<Vec<Data>>,
    /// Whom it followed then; `None`: it was the source.
    followed: Option<NodeName>,
}

/// One reserve's worker.
struct Worker {
    settings: Arc<Settings>,
    reserve: ReserveName,
    directories: Vec<Replicated>,
    board: Board,
    counters: Arc<Counters>,
    sources: Arc<Sources>,
    paths: Arc<Paths>,
    shared: Arc<Mutex<Shared>>,
    role: Role,
    known: Known,
}

impl Worker {
    fn run(mut self, orders: &Receiver<Order>) {
        while let Ok(Order::Hold(duty, epoch)) = orders.recv() {
            if self.goes_on(&duty, epoch) {
                continue;
            }
            self.end_role();
            if let Err(error) = self.begin(&duty, epoch) {
                tracing::error!("{}: {error}: neither sent nor received", self.reserve);
                self.post_idle(epoch);
            }
        }
        self.end_role();
    }

    /// From source to drain under the same epoch there is nothing to start anew.
    fn goes_on(&self, duty: &SyncDuty, epoch: Epoch) -> bool {
        match (&self.role, duty) {
            (
                Role::Source {
                    epoch: e, serving, ..
                },
                SyncDuty::Drain,
            ) if *e == epoch => {
                serving.drain();
                true
            }
            _ => false,
        }
    }

    fn end_role(&mut self) {
        match std::mem::replace(&mut self.role, Role::Off) {
            Role::Off => {}
            Role::Source { serving, hub, .. } => {
                self.sources.remove(self.reserve.as_str());
                serving.stop();
                let _ = hub.join();
                self.known = Known {
                    data: Some(vec![Data::Current; self.directories.len()]),
                    followed: None,
                };
            }
            Role::Sink { source, thread } => {
                self.known = Known {
                    // A worker that panicked is one whose data nobody vouches for.
                    data: thread.join().ok(),
                    followed: Some(source),
                };
            }
        }
    }

    fn begin(&mut self, duty: &SyncDuty, epoch: Epoch) -> io::Result<()> {
        match duty {
            SyncDuty::Off => {
                self.post_idle(epoch);
                Ok(())
            }
            SyncDuty::Source | SyncDuty::Drain => {
                self.begin_source(epoch, *duty == SyncDuty::Drain)
            }
            SyncDuty::Sink(source) => self.begin_sink(source.clone(), epoch),
        }
    }

    fn begin_source(&mut self, epoch: Epoch, drain: bool) -> io::Result<()> {
        let (serving, hub) = Serving::start(
            self.reserve.clone(),
            self.settings.me.as_str(),
            epoch.0,
            self.settings.others(),
            &self.directories,
            self.board.clone(),
            Arc::clone(&self.counters),
        )?;
        if drain {
            serving.drain();
        }
        self.sources.insert(&serving);
        self.remember_epoch()(epoch.0);
        self.role = Role::Source {
            epoch,
            serving,
            hub,
        };
        Ok(())
    }

    fn begin_sink(&mut self, source: NodeName, epoch: Epoch) -> io::Result<()> {
        // The same source as before: what was current up to the loss of contact still is.
        let same = self.known.followed.as_ref() == Some(&source);
        let data = self.known.data.take().filter(|_| same);
        let followed = Followed {
            source: source.clone(),
            epoch: epoch.0.max(self.highest_epoch()),
            data: data.unwrap_or_default(),
            paths: Arc::clone(&self.paths),
        };
        let (following, thread) = Following::start(
            &self.settings,
            self.reserve.clone(),
            &self.directories,
            followed,
            self.board.clone(),
            Arc::clone(&self.counters),
            self.remember_epoch(),
        )?;
        self.role = Role::Sink {
            source: source.clone(),
            thread,
        };
        let mut shared = lock(&self.shared);
        let wanted =
            matches!(&shared.wanted, Some((SyncDuty::Sink(s), e)) if *s == source && *e == epoch);
        if wanted {
            shared.following = Some(following);
        } else {
            // Something else was said meanwhile, and this worker will hear it next.
            following.stop();
        }
        Ok(())
    }

    fn post_idle(&self, epoch: Epoch) {
        let data = self.known.data.as_deref();
        self.board
            .post(idle(&self.reserve, &self.directories, epoch, data));
    }

    fn epoch_file(&self) -> PathBuf {
        let name = format!("{}.epoch", self.reserve);
        self.settings.state_dir.join("syncer").join(name)
    }

    /// The highest epoch that was ever seen here, as far as the state directory knows.
    fn highest_epoch(&self) -> u64 {
        let text = std::fs::read_to_string(self.epoch_file()).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    fn remember_epoch(&self) -> Box<dyn FnMut(u64) + Send> {
        let file = self.epoch_file();
        let mut highest = self.highest_epoch();
        Box::new(move |epoch| {
            if epoch > highest {
                highest = epoch;
                if let Err(error) = write_epoch(&file, epoch) {
                    tracing::warn!("{}: the epoch is not remembered: {error}", file.display());
                }
            }
        })
    }
}

fn write_epoch(file: &std::path::Path, epoch: u64) -> io::Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{epoch}\n"))?;
    std::fs::File::open(&new)?.sync_all()?;
    std::fs::rename(&new, file)
}

/// The state of a reserve that is neither sent nor received. `data`: how good it was last;
/// `None`: it has not been looked at in this run.
fn idle(
    reserve: &ReserveName,
    directories: &[Replicated],
    epoch: Epoch,
    data: Option<&[Data]>,
) -> SyncReserve {
    let worst = match data {
        Some(data) => data.iter().max().copied(),
        None => {
            // Only what its index says of itself; nothing is scanned here.
            let sink = Sink::new("", "", "", 0, directories, Fence::open());
            sink.trees.iter().map(|tree| tree.data).max()
        }
    };
    let report = |dir: &Replicated| DirectoryReport {
        path: dir.at.display().to_string(),
        state: DirectoryState::Idle,
        lag_ms: 0,
        pending_files: 0,
        held_deletions: 0,
        failing: 0,
        error: String::new(),
    };
    SyncReserve {
        reserve: reserve.clone(),
        epoch,
        data: worst.unwrap_or(Data::Current),
        drained: false,
        directories: directories.iter().map(report).collect(),
        conflicts: directories.iter().map(|dir| count_conflicts(&dir.at)).sum(),
    }
}
