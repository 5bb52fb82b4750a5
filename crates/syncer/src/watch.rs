//! Changes as inotify tells them, through the crate `notify`.
//!
//! Every directory is watched by itself and by our own call: `notify`'s recursive mode adds a
//! watch for a new directory some time after it told of it, and what is created in between is
//! never told. The one thing to know: events are hints; whoever takes them looks at the disk.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Config, ErrorKind, Event, EventKind, INotifyWatcher, RecursiveMode, Watcher};
use rustix::fs::{self, AtFlags, Mode, OFlags};

use crate::path::{PRIVATE, RelPath};
use crate::root::{Place, os};
use crate::settle::Hint;
use crate::signal::Signal;
use crate::source::{Watch, WatchEvent};
use crate::wall::Wall;

/// Where marks are made, below the private place.
const SEAL: &[u8] = b"seal";

/// Events that wait to be taken. They are coalesced where that costs nothing; otherwise their
/// number is bounded by what the kernel's own queue lets through.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<Vec<WatchEvent>>);

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Vec<WatchEvent>> {
        // A thread that panicked while it pushed leaves a whole list.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: WatchEvent) {
        let mut events = self.lock();
        // A file that is written in many pieces gives as many equal events: the last counts.
        match (events.last_mut(), event) {
            (
                Some(WatchEvent::Hint {
                    dir: last_dir,
                    path: last_path,
                    hint: last_hint,
                    told_ns: last_told,
                }),
                WatchEvent::Hint {
                    dir,
                    path,
                    hint,
                    told_ns,
                },
            ) if *last_dir == dir && *last_path == path && *last_hint == hint => {
                *last_told = told_ns;
            }
            (_, event) => events.push(event),
        }
    }

    pub(crate) fn take(&self) -> Vec<WatchEvent> {
        std::mem::take(&mut *self.lock())
    }
}

/// A watch on the directories of a reserve.
pub(crate) struct Inotify {
    watcher: INotifyWatcher,
}

impl Inotify {
    /// Starts watching nothing. Events go to `inbox`, and `wake` is told.
    pub(crate) fn new(
        roots: Vec<PathBuf>,
        inbox: Arc<Inbox>,
        wake: Arc<Signal>,
    ) -> Result<Self, String> {
        let handler = move |event: notify::Result<Event>| {
            match event {
                Ok(event) => translate(&roots, &event, &mut |event| inbox.push(event)),
                Err(error) => {
                    tracing::warn!("inotify: {error}");
                    inbox.push(WatchEvent::Lost);
                }
            }
            wake.notify();
        };
        let watcher = INotifyWatcher::new(handler, Config::default())
            .map_err(|e| format!("changes cannot be watched: {}", explain(&e)))?;
        Ok(Self { watcher })
    }
}

fn explain(error: &notify::Error) -> String {
    match &error.kind {
        ErrorKind::MaxFilesWatch => {
            "the kernel's limit of watches is reached: raise fs.inotify.max_user_watches (one is needed per directory); until then the whole tree is looked at every two seconds"
                .into()
        }
        ErrorKind::Io(e) if e.raw_os_error() == Some(libc::EMFILE) => {
            "the kernel's limit of inotify instances is reached: raise fs.inotify.max_user_instances"
                .into()
        }
        _ => error.to_string(),
    }
}

impl Watch for Inotify {
    fn watch(&mut self, dir: &Path) -> Result<(), String> {
        self.watcher
            .watch(dir, RecursiveMode::NonRecursive)
            .map_err(|error| explain(&error))
    }

    fn mark(&mut self, root: &Path, number: u64) -> Result<(), String> {
        let place = Place::new(root.into()).enter().map_err(|e| e.to_string())?;
        let at = place.private(&[SEAL]).map_err(|e| e.to_string())?;
        // Each time: it may be another one than before.
        self.watch(&root.join(os(PRIVATE)).join(os(SEAL)))?;
        let name = number.to_string();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&at, name.as_str(), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| e.to_string())?;
        fs::unlinkat(&at, name.as_str(), AtFlags::empty()).map_err(|e| e.to_string())
    }
}

/// What is said when nothing can be watched at all: the tree is looked at again and again.
pub(crate) struct Unwatched(pub(crate) String);

impl Watch for Unwatched {
    fn watch(&mut self, _dir: &Path) -> Result<(), String> {
        Err(self.0.clone())
    }

    fn mark(&mut self, _root: &Path, _number: u64) -> Result<(), String> {
        Err(self.0.clone())
    }
}

fn hint_of(kind: &EventKind) -> Option<Hint> {
    match kind {
        EventKind::Create(CreateKind::Folder) => Some(Hint::Other),
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => Some(Hint::Written),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Hint::Closed),
        // Its two halves were told before.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => None,
        EventKind::Modify(_) | EventKind::Remove(_) => Some(Hint::Other),
        EventKind::Access(_) | EventKind::Any | EventKind::Other => None,
    }
}

fn translate(roots: &[PathBuf], event: &Event, push: &mut dyn FnMut(WatchEvent)) {
    if event.need_rescan() {
        push(WatchEvent::Lost);
        return;
    }
    let Some(hint) = hint_of(&event.kind) else {
        return;
    };
    let told_ns = Wall::default().now_ns();
    for path in &event.paths {
        let found = roots
            .iter()
            .enumerate()
            .find_map(|(dir, root)| Some((dir, path.strip_prefix(root).ok()?)));
        let Some((dir, below)) = found else {
            continue;
        };
        let bytes = below.as_os_str().as_bytes();
        if let Some(number) = mark_number(bytes) {
            push(WatchEvent::Marked { dir, number });
        } else if let Ok(path) = RelPath::parse(bytes) {
            push(WatchEvent::Hint {
                dir,
                path,
                hint,
                told_ns,
            });
        }
    }
}

fn mark_number(path: &[u8]) -> Option<u64> {
    let name = path
        .strip_prefix(PRIVATE)?
        .strip_prefix(b"/")?
        .strip_prefix(SEAL)?
        .strip_prefix(b"/")?;
    std::str::from_utf8(name).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
