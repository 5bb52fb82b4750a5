//! Real inotify: what is told, and that a mark comes last.

use std::time::{Duration, Instant};

use super::*;

struct Watched {
    dir: tempfile::TempDir,
    inbox: Arc<Inbox>,
    wake: Arc<Signal>,
    watch: Inotify,
}

impl Watched {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (inbox, wake) = (Arc::new(Inbox::default()), Arc::new(Signal::default()));
        let roots = vec![dir.path().to_owned()];
        let mut watch = Inotify::new(roots, Arc::clone(&inbox), Arc::clone(&wake)).unwrap();
        watch.watch(dir.path()).unwrap();
        Self {
            dir,
            inbox,
            wake,
            watch,
        }
    }

    /// Everything that is told up to a mark made now. Equal neighbours count once: whether the
    /// inbox could coalesce them depends on when it was emptied.
    fn told(&mut self, number: u64) -> Vec<(String, Hint)> {
        self.watch.mark(self.dir.path(), number).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        let mut told = Vec::new();
        loop {
            let seen = self.wake.seen();
            for event in self.inbox.take() {
                match event {
                    WatchEvent::Marked { number: n, .. } if n == number => {
                        told.dedup();
                        return told;
                    }
                    WatchEvent::Hint { path, hint, .. } => {
                        told.push((path.show().into_owned(), hint));
                    }
                    WatchEvent::Marked { .. } => {}
                    WatchEvent::Lost => panic!("events were lost"),
                }
            }
            assert!(Instant::now() < end, "no mark; told so far: {told:?}");
            self.wake.wait(seen, Duration::from_secs(1));
        }
    }
}

#[test]
fn a_mark_comes_after_everything_before_it() {
    let mut watched = Watched::new();
    let root = watched.dir.path().to_owned();
    std::fs::write(root.join("file"), b"x").unwrap();
    std::fs::rename(root.join("file"), root.join("other")).unwrap();
    std::fs::remove_file(root.join("other")).unwrap();
    std::fs::create_dir(root.join("dir")).unwrap();
    let told = watched.told(1);
    use Hint::*;
    let expected = [
        ("file", Written),
        ("file", Closed),
        ("file", Other),
        ("other", Other),
        ("dir", Other),
    ];
    let expected: Vec<_> = expected.map(|(n, h)| (n.to_owned(), h)).into();
    assert_eq!(told, expected);
    assert!(watched.told(2).is_empty(), "our own place tells nothing");
}

#[test]
fn a_moved_directory_is_watched_again_under_its_new_name() {
    let mut watched = Watched::new();
    let root = watched.dir.path().to_owned();
    std::fs::create_dir(root.join("one")).unwrap();
    watched.watch.watch(&root.join("one")).unwrap();
    std::fs::rename(root.join("one"), root.join("two")).unwrap();
    watched.told(1);
    watched.watch.watch(&root.join("two")).unwrap();
    std::fs::write(root.join("two/f"), b"").unwrap();
    let told = watched.told(2);
    assert!(
        told.contains(&("two/f".into(), Hint::Closed)),
        "told: {told:?}"
    );
}

#[test]
fn a_mark_comes_also_after_our_own_place_was_removed() {
    let mut watched = Watched::new();
    watched.told(1);
    std::fs::remove_dir_all(watched.dir.path().join(".haarb")).unwrap();
    watched.told(2);
}
