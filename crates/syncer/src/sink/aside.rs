//! The place for versions that nobody else has: `.haarb/conflicts/<epoch>-<time>/<path>`, with
//! a line about each in `.haarb/conflicts/<epoch>-<time>.jsonl`.
//!
//! The one thing to know: a version goes there by rename, so it costs no space and no time,
//! and its bytes are never touched.

use std::io;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde_json::json;

use crate::path::{PRIVATE, RelPath};
use crate::root::{Found, Root, os, sync_directory};
use crate::wall::Wall;

const CONFLICTS: &[u8] = b"conflicts";

/// How many places with one stamp are tried before it is given up: a version can be set aside
/// again under the same path only as often as it diverges within one session.
const PLACES_MAX: u32 = 10_000;

/// Names one session's place: epoch and wall clock, for people.
pub(crate) fn stamp(epoch: u64, wall: &Wall) -> String {
    let now = time(wall);
    format!("{epoch}-{}", now.strftime("%Y%m%dT%H%M%S%.3fZ"))
}

fn time(wall: &Wall) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(wall.now_ns().into()).unwrap_or_default()
}

/// Moves what stands at `name` of `parent`, which is or was at `path`, aside. Durable when it
/// returns.
pub(crate) fn set_aside(
    root: &Root,
    stamp: &str,
    path: &RelPath,
    (parent, name): (&OwnedFd, &[u8]),
    found: &Found,
    why: &str,
) -> io::Result<()> {
    for number in 1..=PLACES_MAX {
        let place = match number {
            1 => stamp.to_owned(),
            _ => format!("{stamp}~{number}"),
        };
        let Some(target) = open_place(root, &place, path)? else {
            continue;
        };
        match move_to((parent, name), (&target, path.name())) {
            Ok(()) => {
                sync_directory(&target)?;
                // The version is safe; a full disk may keep its line from being written.
                if let Err(error) = note(root, &place, path, found, why) {
                    tracing::warn!("no record of the next line: {error}");
                }
                tracing::warn!(
                    "moved aside: {} ({why}): .haarb/conflicts/{place}/{}",
                    path.show(),
                    path.show()
                );
                return Ok(());
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::other(
        "there is no room in the place for conflicts",
    ))
}

/// The directory for a path in a place; `None` where a file stands in the way.
fn open_place(root: &Root, place: &str, path: &RelPath) -> io::Result<Option<OwnedFd>> {
    let mut names: Vec<&[u8]> = vec![CONFLICTS, place.as_bytes()];
    let parent = path.parent().unwrap_or_else(RelPath::root);
    names.extend(parent.names());
    match root.private(&names) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

fn move_to(from: (&OwnedFd, &[u8]), to: (&OwnedFd, &[u8])) -> rustix::io::Result<()> {
    let ((parent, name), (target, new)) = ((from.0, os(from.1)), (to.0, os(to.1)));
    match fs::renameat_with(parent, name, target, new, RenameFlags::NOREPLACE) {
        // A file system that does not know the flag: look first. Nobody else writes here.
        Err(Errno::INVAL | Errno::NOSYS) => {
            match fs::statat(target, new, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(_) => fs::renameat(parent, name, target, new),
            }
        }
        result => result,
    }
}

fn note(root: &Root, place: &str, path: &RelPath, found: &Found, why: &str) -> io::Result<()> {
    let line = json!({
        "path": path.show(),
        "why": why,
        "kind": found.kind.map(|kind| format!("{kind:?}")),
        "size": found.sig.size,
        "mtime_ns": found.sig.mtime_ns,
        "mode": format!("{:04o}", found.mode),
        "uid": found.uid,
        "gid": found.gid,
        "time": time(&root.wall).to_string(),
    });
    let at = root.private(&[CONFLICTS])?;
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = format!("{place}.jsonl");
    let file = fs::openat(&at, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
    std::fs::File::from(file).write_all(format!("{line}\n").as_bytes())
}

/// How many versions are there.
pub(crate) fn count(root: &Path) -> u64 {
    let mut count = 0;
    let conflicts = root.join(os(PRIVATE)).join(os(CONFLICTS));
    let mut to_visit: Vec<_> = directories(&conflicts).collect();
    while let Some(dir) = to_visit.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => to_visit.push(entry.path()),
                _ => count += 1,
            }
        }
    }
    count
}

fn directories(dir: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}
