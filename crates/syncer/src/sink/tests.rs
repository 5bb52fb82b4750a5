//! One sink and what its source says, word by word: nothing that only this server has is lost,
//! neither to what fails nor to somebody who changes the same files in the same moment.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::message::{Growth, NewName};
use crate::path::RelPath;
use crate::version::{Kind, Version};

struct Scene {
    dir: tempfile::TempDir,
    sink: Sink,
    seq: u64,
    answers: Vec<Up>,
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn file(content: &[u8]) -> Version {
    Version {
        kind: Kind::File,
        mode: 0o644,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime_ns: 1_000_000_000_000_000_000,
        size: content.len() as u64,
        hash: *blake3::hash(content).as_bytes(),
        xattrs: [0; 16],
    }
}

impl Scene {
    fn new(fence: Fence, files: &[(&str, &str)]) -> Self {
        let dir = crate::simulation::new_root();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let replicated = Replicated {
            name: b"/srv".to_vec(),
            at: dir.path().into(),
            exclude: Default::default(),
            deletion_limit: Default::default(),
            scrub_rate: Default::default(),
        };
        let sink = Sink::new("reserve", "beta", "alpha", 1, &[replicated], fence);
        let mut scene = Self {
            dir,
            sink,
            seq: 0,
            answers: Vec::new(),
        };
        scene.begin();
        scene
    }

    fn begin(&mut self) {
        self.sink.hello(|| true);
        self.seq = 0;
        self.sink.take(Down::welcome_by_alpha()).unwrap();
    }

    fn say(&mut self, message: impl FnOnce(u64) -> Down) {
        self.seq += 1;
        self.sink.take(message(self.seq)).unwrap();
    }

    fn flush(&mut self) -> Vec<(u64, Problem)> {
        self.sink.flush().unwrap();
        self.answers = self.sink.answers();
        let problems = |up: &Up| match up {
            Up::Ack { problems, .. } => problems.clone(),
            _ => Vec::new(),
        };
        self.answers.iter().flat_map(problems).collect()
    }

    fn put(&mut self, name: &str, content: &str) {
        self.say(|seq| Down::Put {
            seq,
            dir: 0,
            path: path(name),
            version: file(content.as_bytes()),
            content: content.into(),
            sparse: false,
            xattrs: Vec::new(),
        });
    }

    /// What the file has, and what it has got.
    fn append(&mut self, name: &str, old: &str, new: &str) {
        self.say(|seq| Down::Append {
            seq,
            dir: 0,
            path: path(name),
            growth: Growth::new(
                &file(old.as_bytes()),
                &file(format!("{old}{new}").as_bytes()),
                new.into(),
            ),
        });
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    fn ino(&self, name: &str) -> u64 {
        use std::os::unix::fs::MetadataExt;
        self.dir.path().join(name).metadata().unwrap().ino()
    }

    fn delete(&mut self, name: &str) {
        self.say(|seq| Down::Delete {
            seq,
            dir: 0,
            path: path(name),
        });
    }

    fn link(&mut self, name: &str, to: &str, content: &str) {
        self.say(|seq| Down::Link {
            seq,
            dir: 0,
            path: path(name),
            name: NewName {
                to: path(to),
                moved: true,
                version: file(content.as_bytes()),
                xattrs: Vec::new(),
            },
        });
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.say(|seq| Down::Rename {
            seq,
            dir: 0,
            from: path(from),
            path: path(to),
        });
    }

    /// A directory as the source describes it.
    fn make_directory(&mut self, name: &str) {
        let version = Version {
            kind: Kind::Directory,
            mode: 0o755,
            size: 0,
            hash: [0; 32],
            ..file(b"")
        };
        self.say(|seq| Down::Put {
            seq,
            dir: 0,
            path: path(name),
            version,
            content: Vec::new(),
            sparse: false,
            xattrs: Vec::new(),
        });
    }

    fn in_sync(&mut self) {
        self.say(|seq| Down::InSync { seq, dir: 0 });
    }

    /// All contents below the root, those set aside included.
    fn contents(&self) -> BTreeSet<String> {
        let mut to_visit = vec![self.dir.path().to_owned()];
        let mut found = BTreeSet::new();
        while let Some(dir) = to_visit.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let at: PathBuf = entry.unwrap().path();
                if at.ends_with(".haarb/tmp") {
                    continue;
                }
                if at.is_dir() {
                    to_visit.push(at);
                } else {
                    let bytes = std::fs::read(at).unwrap();
                    found.insert(String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
        found
    }
}

/// The source says that all was sent before it can know that something failed. What stands here
/// instead is the only copy of something.
#[test]
fn what_stands_where_something_failed_does_not_become_common() {
    let mut scene = Scene::new(Fence::open(), &[("file", "only here")]);
    scene.link("file", "nowhere", "theirs");
    scene.in_sync();
    let failed: Vec<u64> = scene.flush().iter().map(|(seq, _)| *seq).collect();
    assert_eq!(failed, [1, 2], "neither the file nor the mark");
    scene.put("file", "theirs");
    scene.in_sync();
    assert_eq!(scene.flush(), []);
    let found = scene.contents();
    assert!(found.contains("only here"), "{found:?}");
    assert!(found.contains("theirs"));
    assert_eq!(scene.sink.trees[0].conflicts, 1);
}

/// The same, told by the answers: the mark is not accepted.
#[test]
fn a_directory_of_which_something_failed_is_not_in_sync() {
    let mut scene = Scene::new(Fence::open(), &[]);
    scene.put("good", "content");
    scene.link("file", "nowhere", "theirs");
    scene.in_sync();
    let answers = scene.sink.answers();
    let Some(Up::Ack { upto: 3, problems }) = answers.last() else {
        panic!("{answers:?}");
    };
    let failed: Vec<u64> = problems.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(failed, [2, 3]);
    assert!(!scene.sink.trees[0].synced);
    scene.put("file", "theirs");
    scene.in_sync();
    assert!(scene.sink.trees[0].synced);
}

/// What a scan found below a directory that is gone since then is not what stands there.
#[test]
fn what_moved_away_after_the_scan_does_not_become_common() {
    for replaced in [false, true] {
        let mut scene = Scene::new(Fence::open(), &[]);
        let root = scene.dir.path().to_owned();
        std::fs::create_dir(root.join("dir")).unwrap();
        std::fs::write(root.join("dir/file"), "only here").unwrap();
        scene.begin();
        std::fs::rename(root.join("dir"), root.join("elsewhere")).unwrap();
        if replaced {
            scene.put("dir", "a file");
        } else {
            scene.delete("dir/file");
        }
        scene.in_sync();
        if replaced {
            std::fs::remove_file(root.join("dir")).unwrap();
        }
        std::fs::rename(root.join("elsewhere"), root.join("dir")).unwrap();
        scene.delete("dir");
        assert_eq!(scene.flush(), []);
        let found = scene.contents();
        assert!(found.contains("only here"), "{replaced}: {found:?}");
    }
}

/// Somebody rewrites, replaces, removes or makes a file before each step of the sink in turn:
/// what they wrote is under its name or set aside.
#[test]
fn what_is_changed_in_the_same_moment_is_kept() {
    type Change = fn(&Path);
    let changes: [Change; 3] = [
        |at| std::fs::write(at, "disturbed").unwrap(),
        |at| {
            let new = at.with_extension("new");
            std::fs::write(&new, "disturbed").unwrap();
            std::fs::rename(new, at).unwrap();
        },
        |at| {
            let _ = std::fs::remove_file(at);
            std::fs::write(at, "disturbed").unwrap();
        },
    ];
    let orders: [fn(&mut Scene); 4] = [
        |scene| scene.append("file", "first", " and more"),
        |scene| scene.put("file", "second"),
        |scene| scene.delete("file"),
        |scene| {
            scene.put("other", "second");
            scene.link("file", "other", "second");
        },
    ];
    let mut kept = 0;
    for change in changes {
        for order in orders {
            for step in 0..16 {
                let target = Arc::new(Mutex::new(None::<PathBuf>));
                let steps = Arc::new(AtomicUsize::new(0));
                let (at, count) = (Arc::clone(&target), Arc::clone(&steps));
                let fence = Fence::disturbed(move || {
                    if let Some(at) = &*at.lock().unwrap()
                        && count.fetch_add(1, Ordering::SeqCst) == step
                    {
                        change(at);
                    }
                });
                let mut scene = Scene::new(fence, &[]);
                scene.put("file", "first");
                scene.in_sync();
                assert_eq!(scene.flush(), []);
                *target.lock().unwrap() = Some(scene.dir.path().join("file"));
                order(&mut scene);
                scene.flush();
                *target.lock().unwrap() = None;
                let disturbed = steps.load(Ordering::SeqCst) > step;
                // Nor is it taken for what was sent when the next version comes.
                scene.put("file", "third");
                scene.flush();
                let found = scene.contents();
                assert_eq!(found.contains("disturbed"), disturbed, "{step}: {found:?}");
                kept += scene.sink.trees[0].conflicts;
            }
        }
    }
    assert!(kept > 0, "nobody came in between");
}

/// Two copies take turns, so that what stands under the name is whole and only new ends are written.
#[test]
fn a_file_that_grows_has_two_copies_in_turn() {
    let mut scene = Scene::new(Fence::open(), &[]);
    scene.put("log", "a");
    scene.in_sync();
    let (mut text, mut inodes) = ("a".to_owned(), vec![scene.ino("log")]);
    for new in ["b", "cc", "ddd"] {
        scene.append("log", &text, new);
        scene.in_sync();
        assert_eq!(scene.flush(), []);
        text += new;
        assert_eq!(scene.read("log"), text);
        inodes.push(scene.ino("log"));
    }
    assert_ne!(inodes[0], inodes[1]);
    assert_eq!(inodes[..2], inodes[2..]);
    // Replaced: what is one version behind is not its beginning any more.
    scene.put("log", "other");
    scene.append("log", "other", " end");
    scene.flush();
    assert_eq!(scene.read("log"), "other end");
    assert_eq!(scene.sink.trees[0].conflicts, 0);
}

#[test]
fn a_spare_copy_that_somebody_changed_is_not_used() {
    use std::io::Write;
    let mut scene = Scene::new(Fence::open(), &[]);
    scene.put("log", "first");
    scene.flush();
    let mut open = std::fs::File::options()
        .write(true)
        .open(scene.dir.path().join("log"))
        .unwrap();
    scene.append("log", "first", "1");
    scene.flush();
    // It is open here, and is the spare copy now.
    open.write_all(b"FIRST").unwrap();
    scene.append("log", "first1", "2");
    assert_eq!(scene.flush(), []);
    assert_eq!(scene.read("log"), "first12");
}

/// One answer for several numbers hides nothing of what comes after it in the batch.
#[test]
fn what_fails_beside_growth_is_told() {
    let mut scene = Scene::new(Fence::open(), &[]);
    scene.put("log", "first");
    scene.flush();
    scene.append("log", "other", "1");
    let mut torn = file(b"second");
    torn.size += 1;
    for name in ["one", "two"] {
        scene.say(|seq| Down::Put {
            seq,
            dir: 0,
            path: path(name),
            version: torn,
            content: b"second".into(),
            sparse: false,
            xattrs: Vec::new(),
        });
    }
    scene.append("log", "other1", "2");
    let failed: BTreeSet<u64> = scene.flush().iter().map(|(seq, _)| *seq).collect();
    assert_eq!(failed, [2, 3, 4, 5].into());
    let tree = &mut scene.sink.trees[0];
    assert_eq!(tree.failing(), 2);
    assert!(!tree.trouble.is_empty());
}

#[test]
fn growth_that_does_not_fit_asks_for_the_content() {
    let mut scene = Scene::new(Fence::open(), &[]);
    scene.put("log", "first");
    scene.flush();
    scene.append("log", "other", "1");
    scene.append("log", "other1", "2");
    let failed: Vec<_> = scene.flush();
    let need = Problem::NeedContent;
    assert_eq!(failed, [(2, need.clone()), (3, need.clone())]);
    std::fs::write(scene.dir.path().join("log"), "changed here").unwrap();
    scene.append("log", "first", "1");
    assert_eq!(scene.flush(), [(4, need)]);
    assert_eq!(scene.read("log"), "changed here");
}

/// Two of one batch are stored as one, and both are answered for.
#[test]
fn growth_upon_growth_is_one() {
    let mut scene = Scene::new(Fence::open(), &[]);
    scene.put("log", "a");
    scene.append("log", "a", "b");
    scene.append("log", "ab", "c");
    scene.append("log", "abc", "d");
    assert_eq!(scene.sink.staged[&0].len(), 1);
    assert_eq!(scene.flush(), []);
    assert!(matches!(
        scene.answers.last(),
        Some(Up::Ack { upto: 4, .. })
    ));
    assert_eq!(scene.read("log"), "abcd");
}

/// A directory is renamed at once if all that is in it is common, also where a time stamp does not
/// prove that; a change that hides behind a time that was set back is seen.
#[test]
fn a_directory_is_renamed_with_what_is_common_only() {
    let mut scene = Scene::new(Fence::open(), &[]);
    scene.make_directory("one");
    scene.put("one/file", "first");
    assert_eq!(scene.flush(), []);
    let touch = |scene: &Scene, name: &str, content: &[u8]| {
        crate::simulation::wait_for_stamp(scene.dir.path());
        let at = scene.dir.path().join(name);
        let file = std::fs::File::options().write(true).open(at).unwrap();
        let old = file.metadata().unwrap().modified().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, content, 0).unwrap();
        file.set_modified(old).unwrap();
    };
    touch(&scene, "one/file", b"first");
    scene.rename("one", "two");
    assert_eq!(scene.flush(), []);
    assert_eq!(scene.read("two/file"), "first");
    touch(&scene, "two/file", b"other");
    scene.rename("two", "three");
    let need = Problem::NeedContent;
    assert_eq!(scene.flush(), [(scene.seq, need)]);
    assert_eq!(scene.read("two/file"), "other");
}

/// Bytes change, and no time stamp tells: the file is found by its checksum, asked for again, and what
/// stands there is kept.
#[test]
fn what_a_disk_forgot_is_found_and_mended() {
    let mut scene = Scene::new(Fence::open(), &[]);
    let large = "y".repeat(300_000);
    for (name, content) in [
        ("good", "content"),
        ("large", large.as_str()),
        ("rotten", "as it was"),
    ] {
        scene.put(name, content);
    }
    scene.in_sync();
    assert_eq!(scene.flush(), []);
    let look = |scene: &mut Scene| {
        for _ in 0..50 {
            scene.sink.look_around(std::time::Duration::ZERO);
        }
        scene.sink.answers()
    };
    assert_eq!(look(&mut scene), [], "nothing is wrong");
    // No system call changes bytes without a stamp: the index is told the new one.
    std::fs::write(scene.dir.path().join("rotten"), "as it war").unwrap();
    let tree = &mut scene.sink.trees[0];
    let found = tree.place.enter().unwrap().find(&path("rotten")).unwrap();
    let entry = tree.store.index.entries.get_mut(&path("rotten")).unwrap();
    entry.sig = Some(found.unwrap().sig);
    assert_eq!(look(&mut scene), [], "a round a day");
    scene.sink.scrubs[0].0 = Scrub::default();
    let local = Up::Local {
        dir: 0,
        path: path("rotten"),
    };
    assert!(look(&mut scene).contains(&local));
    scene.put("rotten", "as it was");
    assert_eq!(scene.flush(), []);
    assert_eq!(scene.read("rotten"), "as it was");
    assert_eq!(scene.sink.trees[0].conflicts, 1);
    assert!(scene.contents().contains("as it war"));
    scene.sink.scrubs[0].0 = Scrub::default();
    assert_eq!(look(&mut scene), [], "it is whole again");
}
