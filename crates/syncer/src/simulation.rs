//! Two servers in one thread: random changes, cuts, crashes and role changes from a seed, then
//! quiet. The link and the events are queues that this test moves; the directories are real.
//!
//! Checked all along: what the sink shows is whole and stood on some server; what it replaces
//! was known to the source or is among the conflicts; what it acknowledges is there. At the end
//! both trees are equal. `HAARB_SYNC_SEED=n` replays one world, `HAARB_SYNC_SEEDS=n` plays more,
//! from `HAARB_SYNC_FIRST` on.
//!
//! A world replays exactly: one thread moves everything, the clocks belong to the world, and users'
//! files get its time. What stays outside are the kernel's change times, of which only equality
//! is looked at (they differ whenever a file was looked at in between, which
//! [`tree::wait_for_stamp`] sees to on older kernels), and which inode numbers a file system uses
//! again: tmpfs none, so worlds live there by default. `HAARB_SYNC_ON=/some/disk` plays them
//! elsewhere, where a seed may meet another fate each time. Real inotify and real threads are
//! tested in `tests/loopback` and in the lab, and do not replay.

mod check;
mod outline;
mod sides;
mod tests;
mod tree;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use haarb_config::{DeletionLimit, Excludes};
use haarb_model::{Mono, Span};

use crate::Replicated;
use crate::fence::Fence;
use crate::path::RelPath;
use crate::settle::Hint;
use crate::sink::Sink;
use crate::source::{SessionId, Source};
use crate::wall::Wall;
pub(crate) use tree::wait_for_stamp;
use tree::{Random, Snapshot, contents, other_names, random_change, set_times, snapshot};
use watch::FakeWatch;

/// A wall clock by which every stamp is in doubt, and one by which none is.
const EARLY: i64 = 1;
const LATE: i64 = i64::MAX / 2;

/// When users of the worlds write, nanoseconds since 1970: long before anything is now.
const USERS_TIME: i64 = 1_000_000_000_000_000_000;

struct World {
    random: Random,
    roots: [tempfile::TempDir; 2],
    active: usize,
    epoch: u64,
    now: Mono,
    wall: Wall,
    source: Option<Source>,
    watch: FakeWatch,
    sink: Option<Sink>,
    fence: Fence,
    session: Option<SessionId>,
    down: VecDeque<Vec<u8>>,
    up: VecDeque<Vec<u8>>,
    /// Contents that ever stood on each server.
    had: [BTreeSet<Vec<u8>>; 2],
    /// What is on its way: number -> path and content hash (`None`: deletion).
    sent: BTreeMap<u64, (RelPath, Option<crate::version::Hash>)>,
    needless: usize,
    /// What is left out of both trees.
    exclude: Excludes,
    deletion_limit: DeletionLimit,
    traced: bool,
    /// Of everything that happened.
    history: blake3::Hasher,
}

const NAMES: [&str; 2] = ["alpha", "beta"];

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            roots: [new_root(), new_root()],
            active: 0,
            epoch: 1,
            now: Mono::from_micros(1_000_000),
            wall: Wall::standing(LATE),
            source: None,
            watch: FakeWatch::default(),
            sink: None,
            fence: Fence::open(),
            session: None,
            down: VecDeque::new(),
            up: VecDeque::new(),
            had: Default::default(),
            sent: BTreeMap::new(),
            needless: 0,
            exclude: excludes(seed),
            // In one world of three a few deletions are many.
            deletion_limit: match seed % 3 {
                2 => DeletionLimit::Files(2),
                _ => DeletionLimit::default(),
            },
            traced: number("HAARB_SYNC_SEED").is_some(),
            history: blake3::Hasher::new(),
        }
    }

    fn directory(&self, server: usize) -> Vec<Replicated> {
        vec![Replicated {
            name: b"/srv/data".to_vec(),
            at: self.roots[server].path().into(),
            exclude: self.exclude.clone(),
            deletion_limit: self.deletion_limit,
            scrub_rate: haarb_config::ScrubRate::default(),
        }]
    }

    /// What happens, shown where one world is replayed.
    fn trace(&mut self, what: &str) {
        self.history.update(what.as_bytes());
        if self.traced {
            println!("{what}");
        }
    }

    fn cut(&mut self) {
        self.down.clear();
        self.up.clear();
        self.sent.clear();
        if let (Some(source), Some(id)) = (&mut self.source, self.session.take()) {
            source.disconnect(id, self.now);
        }
    }

    fn connect(&mut self) {
        if self.session.is_some() {
            return;
        }
        let (Some(source), Some(sink)) = (&mut self.source, &mut self.sink) else {
            return;
        };
        let hello = sink.hello(|| true);
        match source.connect(hello) {
            Ok((id, welcome)) => {
                self.session = Some(id);
                self.down.push_back(welcome.encode());
            }
            Err(refusal) => panic!("refused: {refusal:?}"),
        }
        self.note_had(0);
        self.note_had(1);
    }

    fn note_had(&mut self, server: usize) {
        let found = contents(self.roots[server].path());
        self.had[server].extend(found.into_values());
    }

    /// A user changes something.
    fn change(&mut self, server: usize) {
        let root = self.roots[server].path().to_owned();
        let touched = random_change(&mut self.random, &root);
        set_times(&root, USERS_TIME + self.now.as_micros() as i64 * 1000);
        wait_for_stamp(&root);
        self.trace(&format!("change on {}: {touched:?}", NAMES[server]));
        if server == self.active && self.source.is_some() {
            for (path, hint) in touched {
                self.watch.tell(&root, &path, hint);
                // What is left out is not watched, or may be gone before it is looked at: that
                // other names of the file change with it is no part of what is tested.
                if self.exclude.excludes(&path, false) {
                    for other in other_names(&root, &path) {
                        self.watch.tell(&root, &other, Hint::Other);
                    }
                }
            }
        }
        self.note_had(server);
    }

    /// The active one dies or gives up; the standby takes over with what it has.
    fn fail_over(&mut self) {
        self.cut();
        self.source = None;
        self.sink = None;
        self.active = 1 - self.active;
        self.epoch += 1;
    }

    fn wait(&mut self, most_ms: u64) {
        let micros = self.random.below(most_ms * 1000 + 1);
        self.now += Span::from_micros(micros);
    }

    /// From now on stamps are in doubt, or not.
    fn turn_wall(&mut self) {
        let late = self.random.below(2) == 0;
        self.wall.set(if late { LATE } else { EARLY });
    }

    fn step(&mut self) {
        self.turn_wall();
        if self.source.is_none() {
            self.start_source();
        }
        if self.sink.is_none() {
            let steps = (self.random.below(4) == 0).then(|| self.random.below(60) as u32);
            self.start_sink(steps);
        }
        match self.random.below(100) {
            0..30 => self.change(self.active),
            30..33 => self.change_standby(),
            33..55 => self.step_source(),
            55..80 => self.step_sink(),
            80..90 => self.wait(20),
            90..95 => self.connect(),
            95 | 96 => self.cut(),
            97 => {
                self.cut();
                self.source = None;
            }
            98 => {
                self.cut();
                self.sink = None;
            }
            _ => self.fail_over(),
        }
    }

    fn change_standby(&mut self) {
        if self.random.below(3) == 0 {
            self.change(1 - self.active);
        }
    }

    /// No more faults: everything is sent.
    fn settle(&mut self) {
        self.cut();
        self.sink = None;
        if self.source.is_none() {
            self.start_source();
        }
        self.start_sink(None);
        for _ in 0..20_000 {
            self.now += Span::from_millis(2);
            self.turn_wall();
            self.connect();
            self.step_source();
            self.step_sink();
            let error = &self.report().directories[0].error;
            if error.contains("is empty here") {
                // The operator says that it is meant so.
                std::fs::write(self.roots[self.active].path().join("meant"), b"").unwrap();
            }
            if self.report().directories[0].held_deletions > 0 {
                self.confirm_deletions();
            }
            if self
                .session
                .is_some_and(|id| !self.source.as_ref().unwrap().is_connected(id))
            {
                self.cut();
            }
            if self.is_in_sync() {
                return;
            }
        }
        panic!(
            "never in sync: {:?}\n{}",
            self.report(),
            self.source.as_ref().unwrap().describe()
        );
    }

    /// The operator says that the deletions that are held back are meant so.
    fn confirm_deletions(&self) {
        let place = self.roots[self.active].path().join(".haarb");
        // A crash may have come before the question.
        let _ = std::fs::rename(place.join("held"), place.join("confirmed"));
    }

    fn report(&self) -> haarb_model::SyncReserve {
        let name = haarb_model::ReserveName::new("reserve").unwrap();
        self.source.as_ref().unwrap().report(&name, self.now)
    }

    fn is_in_sync(&self) -> bool {
        let report = self.report();
        let directory = &report.directories[0];
        directory.state == haarb_model::DirectoryState::InSync
            && self.watch.events.lock().unwrap().is_empty()
    }

    fn trees(&self) -> [Snapshot; 2] {
        [0, 1].map(|server| snapshot(self.roots[server].path(), &self.exclude))
    }
}

/// Where a world's directory lies; see above.
pub(crate) fn new_root() -> tempfile::TempDir {
    let shared = Path::new("/dev/shm");
    match std::env::var_os("HAARB_SYNC_ON") {
        Some(disk) => tempfile::tempdir_in(disk).unwrap(),
        None if shared.is_dir() => tempfile::tempdir_in(shared).unwrap(),
        None => tempfile::tempdir().unwrap(),
    }
}

/// In one world of four something is left out.
fn excludes(seed: u64) -> Excludes {
    let patterns: &[&str] = match seed % 4 {
        3 => &["d d", "/b/", "c/*", "!c/a"],
        _ => &[],
    };
    let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
    Excludes::new(&patterns).unwrap()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
