//! Random changes to a real directory, and what stands in one.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::settle::Hint;

/// SplitMix64: small, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// Kind, mode, mtime (0 for directories), length and hash of the content or target.
pub(super) type Snapshot = BTreeMap<PathBuf, (char, u32, i64, usize, blake3::Hash)>;

fn walk(root: &Path, skip_private: bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut to_visit = vec![root.to_owned()];
    while let Some(dir) = to_visit.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if skip_private && entry.file_name() == ".haarb" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                to_visit.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// All of a replicated directory.
pub(super) fn snapshot(root: &Path) -> Snapshot {
    let describe = |path: PathBuf| {
        let meta = path.symlink_metadata().unwrap();
        let mtime = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
        let (kind, mode, mtime, content) = if meta.is_dir() {
            ('d', meta.mode() & 0o7777, 0, Vec::new())
        } else if meta.is_symlink() {
            let target = path.read_link().unwrap();
            ('l', 0, mtime, target.as_os_str().as_bytes().to_vec())
        } else {
            let content = std::fs::read(&path).unwrap();
            ('f', meta.mode() & 0o7777, mtime, content)
        };
        let entry = (kind, mode, mtime, content.len(), blake3::hash(&content));
        (path.strip_prefix(root).unwrap().to_owned(), entry)
    };
    walk(root, true).into_iter().map(describe).collect()
}

/// The contents of files and targets of symlinks below a directory.
pub(super) fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walk(root, true)
        .into_iter()
        .filter_map(|path| {
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                None
            } else if meta.is_symlink() {
                let target = path.read_link().unwrap();
                Some((path, target.as_os_str().as_bytes().to_vec()))
            } else {
                let content = std::fs::read(&path).unwrap();
                Some((path, content))
            }
        })
        .collect()
}

fn pick(random: &mut Random, root: &Path, wanted: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let all: Vec<_> = walk(root, true).into_iter().filter(|p| wanted(p)).collect();
    let at = random.below(all.len() as u64) as usize;
    all.get(at).cloned()
}

fn is_plain(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_file())
}

/// A name that may or may not be taken, in a directory that is there.
fn new_path(random: &mut Random, root: &Path) -> PathBuf {
    let parent = match random.below(3) {
        0 => pick(random, root, |p| p.is_dir() && !p.is_symlink()),
        _ => None,
    };
    let name = ["a", "b", "c", "d d", "e\n"][random.below(5) as usize];
    parent.unwrap_or_else(|| root.to_owned()).join(name)
}

fn new_content(random: &mut Random) -> Vec<u8> {
    let length = match random.below(20) {
        0 => 300_000 + random.below(1_500_000),
        1 => 0,
        _ => 8 + random.below(2000),
    };
    let mut content = random
        .next()
        .to_le_bytes()
        .repeat((length as usize).div_ceil(8));
    // No two contents are equal, so that each can be followed; all empty files are.
    for block in content.chunks_mut(4096) {
        let unique = random.next().to_le_bytes();
        block.iter_mut().zip(unique).for_each(|(b, u)| *b = u);
    }
    content
}

/// One change by a user; returns the paths that the kernel tells of, relative to the root.
pub(super) fn random_change(random: &mut Random, root: &Path) -> Vec<(PathBuf, Hint)> {
    let mut touched = Vec::new();
    let mut tell = |path: &Path, hint| {
        touched.push((path.strip_prefix(root).unwrap().to_owned(), hint));
    };
    match random.below(12) {
        0..4 => {
            let path = new_path(random, root);
            if !path.is_dir() && !path.is_symlink() {
                std::fs::write(&path, new_content(random)).unwrap();
                tell(&path, Hint::Written);
                tell(&path, Hint::Closed);
            }
        }
        4 => {
            if let Some(path) = pick(random, root, is_plain) {
                let mut content = std::fs::read(&path).unwrap();
                content.extend(new_content(random));
                std::fs::write(&path, content).unwrap();
                tell(&path, Hint::Written);
            }
        }
        5 => {
            let path = new_path(random, root);
            if std::fs::create_dir(&path).is_ok() {
                tell(&path, Hint::Other);
            }
        }
        6 => {
            if let Some(path) = pick(random, root, |p| !p.is_dir() || p.is_symlink()) {
                std::fs::remove_file(&path).unwrap();
                tell(&path, Hint::Other);
            }
        }
        7 if random.below(3) == 0 => {
            if let Some(path) = pick(random, root, |p| p.is_dir() && !p.is_symlink()) {
                for below in walk(&path, false).into_iter().rev() {
                    tell(&below, Hint::Other);
                }
                std::fs::remove_dir_all(&path).unwrap();
                tell(&path, Hint::Other);
            }
        }
        7 | 8 => {
            let to = new_path(random, root);
            if let Some(from) = pick(random, root, |_| true)
                && std::fs::rename(&from, &to).is_ok()
            {
                tell(&from, Hint::Other);
                tell(&to, Hint::Other);
            }
        }
        9 => {
            let path = new_path(random, root);
            let target = format!("target-{}", random.next());
            if symlink(target, &path).is_ok() {
                tell(&path, Hint::Written);
            }
        }
        10 => {
            if let Some(path) = pick(random, root, |p| !p.is_symlink()) {
                let mode = [0o600, 0o644, 0o755, 0o700][random.below(4) as usize];
                let mode = if path.is_dir() { mode | 0o700 } else { mode };
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
                tell(&path, Hint::Other);
            }
        }
        _ => {
            // The same size and the same whole second: what loops of rsync never see.
            if let Some(path) = pick(random, root, is_plain) {
                let old = path.metadata().unwrap().modified().unwrap();
                let mut content = std::fs::read(&path).unwrap();
                content
                    .iter_mut()
                    .for_each(|byte| *byte = byte.wrapping_add(1));
                std::fs::write(&path, content).unwrap();
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                file.set_modified(old).unwrap();
                tell(&path, Hint::Written);
                tell(&path, Hint::Closed);
            }
        }
    }
    touched
}
