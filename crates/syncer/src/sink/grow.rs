//! Files that grow at their end: only the new end arrives, and still a whole version takes the name.
//!
//! Of such a file there are two copies in turn: the one under the name, and a spare one in the
//! temporary place that is one version behind. The spare one gets what it lacks, is made durable
//! and exchanged with the other, which is the spare one of the next time. The one thing to know: a
//! spare copy is used only if it is certainly what it was when it came out; otherwise a new one is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::fs::{self, AtFlags, Mode, OFlags};

use super::apply::{Apply, Op, OpError, Staged};
use crate::attributes::{self, read_xattrs};
use crate::fence::Closed;
use crate::message::{Growth, Problem, check_of};
use crate::path::RelPath;
use crate::root::{Found, Root};
use crate::version::{Hash, Kind, Sig, Version, xattrs_digest};

/// A file that did not grow for so long has no spare copy any more.
const UNUSED: Duration = Duration::from_secs(60);

/// So many files have spare copies at once; 2 KiB of memory for each.
const SPARES_MAX: usize = 1024;

/// Bytes that are copied at once.
const CHUNK: usize = 256 * 1024;

/// The spare copies of one directory.
#[derive(Debug, Default)]
pub(crate) struct Spares(BTreeMap<RelPath, Spare>);

/// A copy in the temporary place, and what it lacks of the version under the name.
#[derive(Debug)]
struct Spare {
    sig: Sig,
    /// The version under the name, which begins with it.
    version: Hash,
    /// Over all of that version.
    hasher: Box<blake3::Hasher>,
    used: Instant,
}

fn name_of(path: &RelPath) -> String {
    format!("grow-{}", &blake3::hash(path.as_bytes()).to_hex()[..32])
}

impl Spares {
    /// How they are called in the temporary place.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.0.keys().map(name_of).collect()
    }

    /// Removes those that were not used for long.
    pub(super) fn grow_old(&mut self, root: &Root) {
        let old = |spare: &Spare| spare.used.elapsed() >= UNUSED;
        if !self.0.values().any(old) {
            return;
        }
        let Ok(tmp) = root.private(&[b"tmp"]) else {
            return;
        };
        self.0.retain(|path, spare| {
            let old = old(spare);
            if old {
                // What stays is swept away later.
                let _ = fs::unlinkat(&tmp, name_of(path), AtFlags::empty());
            }
            !old
        });
    }

    /// Of what was below a path, which has another name now. Their files are swept away.
    pub(super) fn forget(&mut self, path: &RelPath) {
        self.0.retain(|other, _| !other.is_below(path));
    }

    /// Whether some were not used for long.
    pub(super) fn any_old(&self) -> bool {
        self.0.values().any(|spare| spare.used.elapsed() >= UNUSED)
    }
}

impl Apply<'_> {
    /// Makes the complete temporary file for a file that grew; others are left as they are.
    pub(super) fn make_longer(&mut self, staged: &mut Staged) -> Result<(), Closed> {
        let Op::Append(growth) = &staged.op else {
            return Ok(());
        };
        self.fence.pass()?;
        staged.op = match self.longer(&staged.path, growth) {
            Ok((file, version, hasher)) => Op::File {
                file,
                name: name_of(&staged.path),
                version,
                grown: Some(Box::new(hasher)),
            },
            Err(OpError::Closed(closed)) => return Err(closed),
            Err(error) => {
                if let OpError::Io(error) = error {
                    tracing::debug!("{}", self.tree.about(&staged.path, &error));
                }
                // On a full disk the copy is room that other files need.
                if let Ok(tmp) = self.root.private(&[b"tmp"]) {
                    let _ = fs::unlinkat(&tmp, name_of(&staged.path), AtFlags::empty());
                }
                Op::Failed(Problem::NeedContent)
            }
        };
        Ok(())
    }

    fn longer(
        &mut self,
        path: &RelPath,
        growth: &Growth,
    ) -> Result<(File, Version, blake3::Hasher), OpError> {
        let spare = self.tree.spares.0.remove(path);
        let (old, found, base) = self.beginning(path, growth)?;
        let xattrs = read_xattrs(&old)?;
        let tmp = self.root.private(&[b"tmp"])?;
        let name = name_of(path);
        let spare = match spare.filter(|spare| spare.version == base.hash) {
            Some(spare) => {
                let there = self.root.find_at(&tmp, name.as_bytes())?;
                there
                    .is_some_and(|there| there.sig == spare.sig && !there.linked())
                    .then_some(spare)
            }
            None => None,
        };
        let (file, mut hasher) = match spare {
            Some(spare) => {
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file: File = fs::openat(&tmp, name.as_str(), flags, Mode::empty())?.into();
                copy(&old, &file, spare.sig.size, growth.from, |_| ())?;
                (file, *spare.hasher)
            }
            None => {
                let _ = fs::unlinkat(&tmp, name.as_str(), AtFlags::empty());
                // Never one that somebody may have open.
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let mode = Mode::RUSR | Mode::WUSR;
                let file: File = fs::openat(&tmp, name.as_str(), flags, mode)?.into();
                let mut hasher = blake3::Hasher::new();
                copy(&old, &file, 0, growth.from, |bytes| {
                    hasher.update(bytes);
                })?;
                (file, hasher)
            }
        };
        let unchanged = self.root.find_open(&old)? == found;
        let beginning = hasher.finalize() == base.hash && xattrs_digest(&xattrs) == base.xattrs;
        hasher.update(&growth.tail);
        let version = Version {
            mtime_ns: growth.mtime_ns,
            size: growth.from.saturating_add(growth.tail.len() as u64),
            hash: *hasher.finalize().as_bytes(),
            ..base
        };
        if !(unchanged && beginning && check_of(&version.hash) == growth.check) {
            return Err(OpError::NeedContent);
        }
        file.write_all_at(&growth.tail, growth.from)?;
        attributes::apply(&file, &version, &xattrs)?;
        Ok((file, version, hasher))
    }

    /// What stands under the name, if it is certainly what the growth begins with.
    fn beginning(
        &self,
        path: &RelPath,
        growth: &Growth,
    ) -> Result<(File, Found, Version), OpError> {
        let known = self.tree.store.index.entries.get(path);
        let known = known
            .filter(|known| (known.version.kind, known.version.size) == (Kind::File, growth.from));
        let known = known.ok_or(OpError::NeedContent)?;
        let old = self
            .root
            .open_file(path)
            .map_err(|_| OpError::NeedContent)?;
        let found = self.root.find_open(&old)?;
        if found.kind != Some(Kind::File) || known.sig != Some(found.sig) {
            return Err(OpError::NeedContent);
        }
        Ok((old, found, known.version))
    }

    /// What came out of the tree becomes the spare copy, if it is what was `judged` and there is
    /// room for it. Says whether it does.
    pub(super) fn keep_spare(
        &mut self,
        tmp: &OwnedFd,
        name: &str,
        path: &RelPath,
        judged: &Found,
        version: &Version,
        hasher: Box<blake3::Hasher>,
    ) -> Result<bool, OpError> {
        let Some(found) = self.root.find_at(tmp, name.as_bytes())? else {
            return Ok(false);
        };
        let spares = &mut self.tree.spares.0;
        let known = found.mark() == judged.mark() && found.kind == Some(Kind::File);
        if !known || found.linked() || spares.len() >= SPARES_MAX || !has_room(tmp, &found) {
            return Ok(false);
        }
        let spare = Spare {
            sig: found.sig,
            version: version.hash,
            hasher,
            used: Instant::now(),
        };
        spares.insert(path.clone(), spare);
        Ok(true)
    }
}

/// Whether what is free is more than what this takes.
fn has_room(tmp: &OwnedFd, found: &Found) -> bool {
    fs::fstatvfs(tmp).is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) > found.sig.size)
}

/// Copies the bytes from `start` up to `end` to the same place in another file.
fn copy(
    from: &File,
    to: &File,
    start: u64,
    end: u64,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK.min(end.saturating_sub(start) as usize)];
    let mut at = start;
    while at < end {
        let length = (end - at).min(CHUNK as u64) as usize;
        let bytes = &mut buffer[..length];
        from.read_exact_at(bytes, at)?;
        each(bytes);
        to.write_all_at(bytes, at)?;
        at += length as u64;
    }
    Ok(())
}
