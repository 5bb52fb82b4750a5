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

mod tree;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use haarb_config::Excludes;
use haarb_model::{Mono, Span};

use crate::Replicated;
use crate::fence::Fence;
use crate::message::{Down, Up};
use crate::path::RelPath;
use crate::settle::Hint;
use crate::sink::{Sink, SinkError};
use crate::source::{Next, SessionId, Source, Watch, WatchEvent};
use crate::version::Kind;
use crate::wall::Wall;
use tree::{
    Random, Snapshot, contents, other_names, random_change, set_times, snapshot, wait_for_stamp,
};

/// A wall clock by which every stamp is in doubt, and one by which none is.
const EARLY: i64 = 1;
const LATE: i64 = i64::MAX / 2;

/// When users of the worlds write, nanoseconds since 1970: long before anything is now.
const USERS_TIME: i64 = 1_000_000_000_000_000_000;

/// Watches like inotify: a directory that is not watched tells nothing.
#[derive(Clone, Default)]
struct FakeWatch {
    watched: Arc<Mutex<BTreeSet<PathBuf>>>,
    events: Arc<Mutex<VecDeque<WatchEvent>>>,
    wall: Wall,
}

impl Watch for FakeWatch {
    fn watch(&mut self, dir: &Path) -> Result<(), String> {
        self.watched.lock().unwrap().insert(dir.into());
        Ok(())
    }

    fn mark(&mut self, _root: &Path, number: u64) -> Result<(), String> {
        let event = WatchEvent::Marked { dir: 0, number };
        self.events.lock().unwrap().push_back(event);
        Ok(())
    }
}

impl FakeWatch {
    /// A change of `path` (relative to `root`) as the kernel would tell it.
    fn tell(&self, root: &Path, path: &Path, hint: Hint) {
        let absolute = root.join(path);
        let mut watched = self.watched.lock().unwrap();
        if !absolute.is_dir() {
            // A directory that went or moved is not watched under its old name any more.
            watched.retain(|dir| !dir.starts_with(&absolute));
        }
        if watched.contains(absolute.parent().unwrap()) {
            let path = RelPath::parse(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
            self.events.lock().unwrap().push_back(WatchEvent::Hint {
                dir: 0,
                path: path.unwrap(),
                hint,
                told_ns: self.wall.now_ns(),
            });
        }
    }
}

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
            traced: number("HAARB_SYNC_SEED").is_some(),
            history: blake3::Hasher::new(),
        }
    }

    fn directory(&self, server: usize) -> Vec<Replicated> {
        vec![Replicated {
            name: b"/srv/data".to_vec(),
            at: self.roots[server].path().into(),
            exclude: self.exclude.clone(),
        }]
    }

    /// What happens, shown where one world is replayed.
    fn trace(&mut self, what: &str) {
        self.history.update(what.as_bytes());
        if self.traced {
            println!("{what}");
        }
    }

    fn start_source(&mut self) {
        self.trace(&format!("source on {}", NAMES[self.active]));
        self.watch = FakeWatch {
            wall: self.wall.clone(),
            ..FakeWatch::default()
        };
        let other = vec![NAMES[1 - self.active].to_owned()];
        let mut source = Source::new(
            NAMES[self.active],
            self.epoch,
            other,
            &self.directory(self.active),
            Box::new(self.watch.clone()),
        );
        source.set_wall(&self.wall);
        self.source = Some(source);
    }

    fn start_sink(&mut self, steps: Option<u32>) {
        self.fence = steps.map_or_else(Fence::open, Fence::after);
        let standby = 1 - self.active;
        let mut sink = Sink::new(
            "reserve",
            NAMES[standby],
            NAMES[self.active],
            self.epoch,
            &self.directory(standby),
            self.fence.clone(),
        );
        sink.set_wall(&self.wall);
        self.sink = Some(sink);
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

    fn step_source(&mut self) {
        let events: Vec<_> = self.watch.events.lock().unwrap().drain(..).collect();
        let Some(source) = &mut self.source else {
            return;
        };
        source.events(events, self.now);
        source.tick(self.now);
        let Some(id) = self.session else {
            return;
        };
        for _ in 0..self.random.below(8) {
            match source.next(id, self.now) {
                Next::Send(message) => {
                    match &message {
                        Down::Put {
                            seq, path, version, ..
                        }
                        | Down::Meta {
                            seq, path, version, ..
                        } => {
                            let stored = matches!(version.kind, Kind::File | Kind::Symlink);
                            let hash = stored.then_some(version.hash);
                            self.sent.insert(*seq, (path.clone(), hash));
                        }
                        Down::Link {
                            seq, path, version, ..
                        } => {
                            self.sent.insert(*seq, (path.clone(), Some(version.hash)));
                        }
                        Down::Delete { seq, path, .. } => {
                            self.sent.insert(*seq, (path.clone(), None));
                        }
                        _ => {}
                    }
                    let line = format!("down: {}", outline(&message));
                    self.history.update(line.as_bytes());
                    if self.traced {
                        println!("{line}");
                    }
                    self.down.push_back(message.encode());
                }
                Next::Busy => {}
                Next::Idle => break,
            }
        }
        for _ in 0..self.random.below(8) {
            let Some(message) = self.up.pop_front() else {
                break;
            };
            let message = Up::decode(&message).unwrap();
            source.take(id, message, self.now).unwrap();
        }
    }

    /// The sink works, under the eye of the invariants. Returns false when it crashed.
    fn step_sink(&mut self) {
        let standby = 1 - self.active;
        let root = self.roots[standby].path().to_owned();
        let before = contents(&root);
        let Some(sink) = &mut self.sink else {
            return;
        };
        let mut result = Ok(());
        for _ in 0..self.random.below(8) {
            let Some(message) = self.down.pop_front() else {
                break;
            };
            result = sink.take(Down::decode(&message).unwrap());
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() && self.random.below(2) == 0 {
            result = sink.flush();
            if result.is_ok() && self.random.below(2) == 0 {
                sink.look_around(std::time::Duration::ZERO);
            }
        }
        let answers = sink.answers();
        for answer in &answers {
            let line = format!("up: {}", outline_up(answer));
            self.history.update(line.as_bytes());
            if self.traced {
                println!("{line}");
            }
        }
        self.check_replaced(standby, &before);
        match result {
            // The link was cut: what was received is still done, and nobody hears of it.
            Ok(()) if self.session.is_none() => {}
            Ok(()) => {
                self.check_acknowledged(&answers);
                self.up.extend(answers.iter().map(Up::encode));
            }
            Err(SinkError::Closed(_)) => {
                // It crashed: nothing of it is left but the disk.
                self.sink = None;
                self.cut();
            }
            Err(error) => panic!("{error}"),
        }
        self.note_had(standby);
    }

    fn check_replaced(&mut self, standby: usize, before: &BTreeMap<PathBuf, Vec<u8>>) {
        let root = self.roots[standby].path();
        let after = contents(root);
        for (path, content) in &after {
            let known = self.had.iter().any(|had| had.contains(content));
            assert!(known, "{path:?} on the standby never stood anywhere: torn");
        }
        let still: BTreeSet<&Vec<u8>> = after.values().collect();
        let kept: BTreeSet<Vec<u8>> = contents(&root.join(".haarb/conflicts"))
            .into_values()
            .collect();
        for (path, content) in before {
            if still.contains(content) {
                continue;
            }
            let source_knew = self.had[self.active].contains(content);
            assert!(
                source_knew || kept.contains(content),
                "{path:?} was replaced, the source never had it, and it is not among the conflicts"
            );
            self.needless += usize::from(source_knew && kept.contains(content));
        }
    }

    fn check_acknowledged(&mut self, answers: &[Up]) {
        let root = self.roots[1 - self.active].path();
        // All acknowledgements of a step together: what stands there now is what the last of
        // them is about.
        let mut last: BTreeMap<RelPath, Option<crate::version::Hash>> = BTreeMap::new();
        for answer in answers {
            let Up::Ack { upto, problems } = answer else {
                continue;
            };
            let later = self.sent.split_off(&(upto + 1));
            let acked = std::mem::replace(&mut self.sent, later);
            for (seq, (path, hash)) in acked {
                if problems.iter().any(|(failed, _)| *failed == seq) {
                    continue;
                }
                last.retain(|other, _| !other.is_below(&path));
                let mut above = path.parent();
                while let Some(parent) = above {
                    last.remove(&parent);
                    above = parent.parent();
                }
                last.insert(path, hash);
            }
        }
        for (path, hash) in last {
            let Some(hash) = hash else {
                continue;
            };
            let at = root.join(crate::root::os(path.as_bytes()));
            let content = match at.read_link() {
                Ok(target) => std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str()).to_vec(),
                Err(_) => std::fs::read(&at).unwrap_or_default(),
            };
            assert_eq!(
                *blake3::hash(&content).as_bytes(),
                hash,
                "{path:?} was acknowledged and is not there"
            );
        }
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

/// A message without its content.
fn outline(message: &Down) -> String {
    let what = match message {
        Down::Put { path, version, .. } => format!("put {path:?} {version:?}"),
        Down::Part { .. } => "part".into(),
        Down::Welcome { .. } => "welcome".into(),
        message => format!("{message:?}"),
    };
    outlined(&what)
}

/// An answer without what differs from run to run.
fn outline_up(message: &Up) -> String {
    match message {
        Up::Listing { path, entries, .. } => {
            let names: Vec<_> = entries.iter().map(|entry| &entry.name).collect();
            format!("listing of {path:?}: {names:?}")
        }
        Up::Ack { upto, problems } => {
            let failed: Vec<_> = problems.iter().map(|(seq, _)| seq).collect();
            format!("ack up to {upto}, failed: {failed:?}")
        }
        message => format!("{message:?}"),
    }
}

/// A line without the names and times that are others in each run.
fn outlined(line: &str) -> String {
    let mut parts = line.split("mtime ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (time, rest) = part.split_once(',').unwrap_or((part, ""));
        let users = time
            .parse()
            .is_ok_and(|time: i64| time < USERS_TIME / 2 * 3);
        out += if users { time } else { "now" };
        out += rest;
    }
    out
}

fn play(seed: u64) -> usize {
    play_out(seed).0
}

/// Plays a world and returns how much was kept needlessly, and the digest of what happened.
fn play_out(seed: u64) -> (usize, blake3::Hash) {
    let mut world = World::new(seed);
    let rounds = 60 + world.random.below(300);
    for _ in 0..rounds {
        world.step();
    }
    world.settle();
    let [alpha, beta] = world.trees();
    let paths: BTreeSet<&PathBuf> = alpha.keys().chain(beta.keys()).collect();
    let differing: Vec<_> = paths
        .into_iter()
        .filter(|path| alpha.get(*path) != beta.get(*path))
        .map(|path| (path, alpha.get(path), beta.get(path)))
        .collect();
    assert!(differing.is_empty(), "{differing:#?}");
    (world.needless, world.history.finalize())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_worlds_converge_and_lose_nothing() {
    if let Some(seed) = number("HAARB_SYNC_SEED") {
        println!("needless conflicts: {}", play(seed));
        return;
    }
    let mut needless = 0;
    let first = number("HAARB_SYNC_FIRST").unwrap_or(0);
    for seed in first..first + number("HAARB_SYNC_SEEDS").unwrap_or(100) {
        let played = std::panic::catch_unwind(|| play(seed));
        match played {
            Ok(count) => needless += count,
            Err(_) => panic!("replay with HAARB_SYNC_SEED={seed}"),
        }
    }
    println!("needless conflicts: {needless}");
}

#[test]
fn a_world_plays_the_same_way_again() {
    if std::env::var_os("HAARB_SYNC_ON").is_some() {
        return;
    }
    for seed in 0..8 {
        assert_eq!(play_out(seed), play_out(seed), "seed {seed}");
    }
}

/// A drain with a sink in sync needs no disk scan and less than a second; the roles then change
/// without a transfer.
#[test]
fn after_a_drain_the_roles_change_without_a_transfer() {
    let mut world = World::new(1);
    for _ in 0..20 {
        world.change(0);
    }
    world.start_source();
    world.settle();
    world.change(0);
    world.change(0);
    let source = world.source.as_mut().unwrap();
    source.drain();
    for _ in 0..1000 {
        // What was not finished at once is tried again after milliseconds.
        world.now += Span::from_millis(1);
        world.step_source();
        world.step_sink();
        if world.report().drained {
            break;
        }
    }
    assert!(world.report().drained, "{:?}", world.report());
    let [alpha, beta] = world.trees();
    assert_eq!(alpha, beta);
    world.fail_over();
    world.start_source();
    world.start_sink(None);
    let mut sent = 0;
    for _ in 0..2000 {
        world.now += Span::from_millis(2);
        world.connect();
        world.step_source();
        sent += world.sent.len();
        world.step_sink();
        if world.is_in_sync() {
            break;
        }
    }
    assert!(world.is_in_sync());
    assert_eq!(sent, 0);
    assert_eq!(world.sink.as_ref().unwrap().trees[0].conflicts, 0);
}

/// What the active one had not handed over when it died is kept when it comes back.
#[test]
fn unacknowledged_versions_of_a_returning_active_are_kept() {
    let mut world = World::new(2);
    let write = |world: &mut World, server: usize, name: &str, text: &str| {
        std::fs::write(world.roots[server].path().join(name), text).unwrap();
        world.note_had(server);
    };
    write(&mut world, 0, "common", "one");
    write(&mut world, 0, "changed", "one");
    world.start_source();
    world.settle();
    write(&mut world, 0, "changed", "only on alpha");
    write(&mut world, 0, "new", "only on alpha too");
    world.fail_over();
    write(&mut world, 1, "common", "two");
    world.start_source();
    world.settle();
    let [alpha, beta] = world.trees();
    assert_eq!(alpha, beta);
    let conflicts = contents(&world.roots[0].path().join(".haarb/conflicts"));
    let kept: BTreeSet<_> = conflicts
        .iter()
        .filter(|(path, _)| path.extension().is_none_or(|e| e != "jsonl"))
        .map(|(path, content)| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, String::from_utf8(content.clone()).unwrap())
        })
        .collect();
    assert_eq!(
        kept,
        [("changed", "only on alpha"), ("new", "only on alpha too")]
            .map(|(n, t)| (n.to_owned(), t.to_owned()))
            .into()
    );
    assert_eq!(world.sink.as_ref().unwrap().trees[0].conflicts, 2);
}

/// Renames as one user does them, told together; what was sent until both sides are equal.
fn after_renames(
    wall: i64,
    files: &[(&str, usize)],
    renames: &[(&str, &str)],
    new: &[&str],
) -> Vec<Down> {
    let mut world = World::new(8);
    let root = world.roots[0].path().to_owned();
    for (number, (name, size)) in files.iter().enumerate() {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, [number as u8 + 1].repeat(*size)).unwrap();
    }
    world.start_source();
    world.settle();
    world.wall.set(wall);
    for (from, to) in renames {
        std::fs::rename(root.join(from), root.join(to)).unwrap();
        for name in [from, to] {
            world.watch.tell(&root, Path::new(name), Hint::Other);
        }
    }
    for name in new {
        std::fs::write(root.join(name), name).unwrap();
        for hint in [Hint::Written, Hint::Closed] {
            world.watch.tell(&root, Path::new(name), hint);
        }
    }
    world.note_had(0);
    let mut sent = Vec::new();
    for _ in 0..5000 {
        world.now += Span::from_millis(1);
        world.step_source();
        let all = world.down.iter();
        sent.extend(all.map(|message| Down::decode(message).unwrap()));
        while !world.down.is_empty() {
            world.step_sink();
        }
        world.step_sink();
        if !sent.is_empty() && world.is_in_sync() {
            break;
        }
    }
    let [alpha, beta] = world.trees();
    assert_eq!(alpha, beta);
    assert_eq!(world.sink.unwrap().trees[0].conflicts, 0);
    sent
}

/// How many files were sent as links, and how many as content.
fn costs(sent: &[Down]) -> (usize, usize) {
    let is_link = |message: &&Down| matches!(message, Down::Link { moved: true, .. });
    let is_content = |message: &&Down| match message {
        Down::Put { version, .. } => version.kind == Kind::File,
        message => matches!(message, Down::Part { .. }),
    };
    let count = |is: &dyn Fn(&&Down) -> bool| sent.iter().filter(is).count();
    (count(&is_link), count(&is_content))
}

#[test]
fn what_is_renamed_is_not_sent_again() {
    // Looked at at once, and by a source that comes late.
    for wall in [EARLY, LATE] {
        let directory = [("from/below/a", 5000), ("from/below/b", 3), ("from/c", 9)];
        let sent = after_renames(wall, &directory, &[("from", "to")], &[]);
        assert_eq!(costs(&sent), (3, 0));
        let large = [("a/large", 3_000_000), ("b/other", 5)];
        let sent = after_renames(wall, &large, &[("a/large", "b/large")], &[]);
        assert_eq!(costs(&sent), (1, 0));
        // As logs are rotated: the old name has another file at once.
        let logs = [("log", 4000), ("log.1", 5000)];
        let renames = [("log.1", "log.2"), ("log", "log.1")];
        let sent = after_renames(wall, &logs, &renames, &["log"]);
        assert_eq!(costs(&sent), (2, 1));
    }
}

/// The kernel tells of a change under the name through which it was made. That name is gone
/// before anybody looks.
#[test]
fn a_change_through_a_name_that_is_gone_again_is_seen() {
    type Go = fn(&Path, &Path);
    let ways: [Go; 2] = [
        |gone, _| std::fs::remove_file(gone).unwrap(),
        |gone, other| std::fs::rename(other, gone).unwrap(),
    ];
    for go in ways {
        let mut world = World::new(4);
        let root = world.roots[0].path().to_owned();
        let [one, two, other] = ["one", "two", "other"].map(|name| root.join(name));
        std::fs::write(&one, "first").unwrap();
        std::fs::write(&other, "other").unwrap();
        std::fs::hard_link(&one, &two).unwrap();
        world.start_source();
        world.settle();
        std::fs::write(&two, "second").unwrap();
        go(&two, &other);
        world.note_had(0);
        for (name, hint) in [
            ("two", Hint::Written),
            ("two", Hint::Other),
            ("other", Hint::Other),
        ] {
            world.watch.tell(&root, Path::new(name), hint);
        }
        world.settle();
        let [alpha, beta] = world.trees();
        assert_eq!(alpha, beta);
    }
}

/// A new name and, through it, a change whose time was set back: nothing but the content and a
/// time stamp that a name more would leave as well tells of it.
#[test]
fn a_change_that_hides_behind_a_new_name_is_seen() {
    let mut world = World::new(4);
    let root = world.roots[0].path().to_owned();
    std::fs::write(root.join("one"), "first").unwrap();
    std::fs::hard_link(root.join("one"), root.join("two")).unwrap();
    // Read so late that its time stamp proves what was read.
    world.start_source();
    world.wall.set(LATE);
    world.settle();
    let old = root.join("one").metadata().unwrap().modified().unwrap();
    std::fs::hard_link(root.join("one"), root.join("three")).unwrap();
    let file = std::fs::File::options()
        .write(true)
        .open(root.join("three"))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"other", 0).unwrap();
    file.set_modified(old).unwrap();
    world.note_had(0);
    for hint in [Hint::Written, Hint::Closed] {
        world.watch.tell(&root, Path::new("three"), hint);
    }
    for _ in 0..5000 {
        world.now += Span::from_millis(1);
        world.step_source();
        world.step_sink();
        let [alpha, beta] = world.trees();
        if alpha == beta && world.is_in_sync() {
            return;
        }
    }
    panic!("{:#?}", world.trees());
}
