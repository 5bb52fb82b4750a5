//! A watch that tells what inotify would, when the world lets it.
//!
//! The one thing to know: as with inotify, a directory that is not watched tells nothing, and what
//! was moved or removed is not watched under its old name any more.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::path::RelPath;
use crate::settle::Hint;
use crate::source::{Watch, WatchEvent};
use crate::wall::Wall;

/// Watches like inotify: a directory that is not watched tells nothing.
#[derive(Clone, Default)]
pub(super) struct FakeWatch {
    pub(super) watched: Arc<Mutex<BTreeSet<PathBuf>>>,
    pub(super) events: Arc<Mutex<VecDeque<WatchEvent>>>,
    pub(super) wall: Wall,
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
    pub(super) fn tell(&self, root: &Path, path: &Path, hint: Hint) {
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
