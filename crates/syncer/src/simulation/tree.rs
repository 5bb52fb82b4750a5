//! Random changes to a real directory, and what stands in one.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use haarb_config::Excludes;

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

/// Everything about one entry that a replica must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    kind: char,
    mode: u32,
    owner: (u32, u32),
    /// Nanoseconds; 0 for fifos and devices, where it is not kept.
    mtime_ns: i64,
    /// Of a device.
    number: u64,
    length: usize,
    content: blake3::Hash,
    attribute: Option<Vec<u8>>,
    /// All names of the file.
    names: Vec<PathBuf>,
    /// It has holes of some size.
    sparse: bool,
}

pub(super) type Snapshot = BTreeMap<PathBuf, Entry>;

/// The attribute that is changed at random.
const ATTRIBUTE: &str = "user.haarb";

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

/// All of a replicated directory but what is left out of it.
pub(super) fn snapshot(root: &Path, exclude: &Excludes) -> Snapshot {
    let mut paths = walk(root, true);
    paths.retain(|path| {
        let below = path.strip_prefix(root).unwrap();
        !exclude.excludes(below, is_directory(path))
    });
    let mut names: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    for path in &paths {
        let name = path.strip_prefix(root).unwrap().to_owned();
        let ino = path.symlink_metadata().unwrap().ino();
        names.entry(ino).or_default().push(name);
    }
    let describe = |path: PathBuf| {
        let entry = describe(&path, &names);
        (path.strip_prefix(root).unwrap().to_owned(), entry)
    };
    paths.into_iter().map(describe).collect()
}

fn describe(path: &Path, names: &BTreeMap<u64, Vec<PathBuf>>) -> Entry {
    let meta = path.symlink_metadata().unwrap();
    let kind = meta.file_type();
    let letter = match kind {
        _ if kind.is_dir() => 'd',
        _ if kind.is_symlink() => 'l',
        _ if kind.is_file() => 'f',
        _ if kind.is_fifo() => 'p',
        _ if kind.is_char_device() => 'c',
        _ => 'b',
    };
    let content = content(path).unwrap_or_default();
    let mut value = vec![0; 256];
    let attribute = rustix::fs::lgetxattr(path, ATTRIBUTE, &mut value[..]).ok();
    Entry {
        kind: letter,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        mtime_ns: match letter {
            'd' | 'l' | 'f' => meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
            _ => 0,
        },
        number: meta.rdev(),
        length: content.len(),
        content: blake3::hash(&content),
        attribute: attribute.map(|length| value[..length].to_vec()),
        names: match letter {
            'f' => names[&meta.ino()].clone(),
            _ => Vec::new(),
        },
        sparse: letter == 'f' && meta.blocks() * 512 + HOLE / 2 < meta.len(),
    }
}

/// The bytes of a file or the target of a symlink.
fn content(path: &Path) -> Option<Vec<u8>> {
    let meta = path.symlink_metadata().unwrap();
    if meta.is_symlink() {
        Some(path.read_link().unwrap().as_os_str().as_bytes().to_vec())
    } else if meta.is_file() {
        Some(std::fs::read(path).unwrap())
    } else {
        None
    }
}

/// The contents of files and targets of symlinks below a directory.
pub(super) fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walk(root, true)
        .into_iter()
        .filter_map(|path| {
            let content = content(&path)?;
            Some((path, content))
        })
        .collect()
}

/// The other names of a file, relative to the root.
pub(super) fn other_names(root: &Path, path: &Path) -> Vec<PathBuf> {
    let ino = |path: &Path| path.symlink_metadata().ok().map(|meta| meta.ino());
    let own = ino(&root.join(path));
    let all = walk(root, true).into_iter();
    let others = all.filter(|other| own.is_some() && ino(other) == own);
    let others = others.map(|other| other.strip_prefix(root).unwrap().to_owned());
    others.filter(|other| other != path).collect()
}

/// Gives everything that a user wrote just now a time of its world.
pub(super) fn set_times(root: &Path, at_ns: i64) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
    let at = Timespec {
        tv_sec: at_ns / 1_000_000_000,
        tv_nsec: at_ns % 1_000_000_000,
    };
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: at,
    };
    for path in walk(root, true) {
        if path.symlink_metadata().unwrap().mtime() > at.tv_sec + 100_000_000 {
            utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
    }
}

/// Comes back when a change made now gets another change time than one made before. Linux 6.13 and
/// later see to that themselves (multigrain time stamps, where the file system has them).
pub(crate) fn wait_for_stamp(root: &Path) {
    let probe = root.join(".haarb-probe");
    let stamp = || {
        std::fs::write(&probe, b"").unwrap();
        let meta = probe.metadata().unwrap();
        (meta.ctime(), meta.ctime_nsec())
    };
    let first = stamp();
    while stamp() == first {
        std::thread::yield_now();
    }
    std::fs::remove_file(&probe).unwrap();
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
    let long = [b'x'; 255];
    let names: [&[u8]; 7] = [b"a", b"b", b"c", b"d d", b"e\n", b"not \xff UTF-8", &long];
    let name = names[random.below(names.len() as u64) as usize];
    let parent = parent.unwrap_or_else(|| root.to_owned());
    let path = parent.join(crate::root::os(name));
    // Deeper than one call of this test can reach: elsewhere.
    if path.as_os_str().len() < 3000 {
        path
    } else {
        root.join("a")
    }
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

/// Adds to the end of a file, as logs do.
fn append(random: &mut Random, path: &Path) {
    let mut file = std::fs::File::options().append(true).open(path).unwrap();
    let new = new_content(random);
    std::io::Write::write_all(&mut file, &new).unwrap();
    // No two contents are equal.
    let unique = random.next().to_le_bytes();
    std::io::Write::write_all(&mut file, &unique).unwrap();
}

/// Bytes of a hole, and about as many of data around it.
const HOLE: u64 = 128 * 1024;

fn write_sparse(random: &mut Random, path: &Path) {
    let file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(random.below(2) == 0)
        .open(path)
        .unwrap();
    let mut at = HOLE * random.below(2);
    for _ in 0..random.below(3) {
        file.write_all_at(&new_content(random), at).unwrap();
        at += HOLE * (1 + random.below(3));
    }
    // The last of it is a hole at times.
    let end = at.max(file.metadata().unwrap().len());
    file.set_len(end + HOLE * random.below(2) + 1).unwrap();
    // No two contents are equal.
    file.write_all_at(&random.next().to_le_bytes(), HOLE * 2)
        .unwrap();
}

/// A fifo, or a device where this user may make one. Says whether it was made.
fn make_node(random: &mut Random, path: &Path) -> bool {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let kinds = [
        FileType::Fifo,
        FileType::CharacterDevice,
        FileType::BlockDevice,
    ];
    let kind = kinds[random.below(3) as usize];
    let number = match kind {
        FileType::Fifo => 0,
        _ => makedev(1, random.below(300) as u32),
    };
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), number).is_ok()
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

/// One change by a user; returns the paths that the kernel tells of, relative to the root.
pub(super) fn random_change(random: &mut Random, root: &Path) -> Vec<(PathBuf, Hint)> {
    let mut touched = Vec::new();
    let mut tell = |path: &Path, hint| {
        touched.push((path.strip_prefix(root).unwrap().to_owned(), hint));
    };
    match random.below(18) {
        0..4 => {
            let path = new_path(random, root);
            if is_plain(&path) || path.symlink_metadata().is_err() {
                std::fs::write(&path, new_content(random)).unwrap();
                tell(&path, Hint::Written);
                tell(&path, Hint::Closed);
            }
        }
        4 => {
            if let Some(path) = pick(random, root, is_plain) {
                match random.below(4) {
                    // Rewritten, longer than before.
                    0 => {
                        let mut content = std::fs::read(&path).unwrap();
                        content.extend(new_content(random));
                        std::fs::write(&path, content).unwrap();
                    }
                    // Longer, and changed before its end.
                    1 => {
                        let file = std::fs::File::options().write(true).open(&path).unwrap();
                        let end = file.metadata().unwrap().len();
                        file.write_all_at(&new_content(random), end).unwrap();
                        file.write_all_at(&random.next().to_le_bytes(), random.below(end + 1))
                            .unwrap();
                    }
                    _ => append(random, &path),
                }
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
        11 | 12 => {
            // Another name; at times for a file that has some already.
            let path = new_path(random, root);
            if let Some(file) = pick(random, root, is_plain)
                && std::fs::hard_link(file, &path).is_ok()
            {
                tell(&path, Hint::Written);
            }
        }
        13 => {
            let path = new_path(random, root);
            if is_plain(&path) || path.symlink_metadata().is_err() {
                write_sparse(random, &path);
                tell(&path, Hint::Written);
                tell(&path, Hint::Closed);
            }
        }
        14 => {
            let path = new_path(random, root);
            if make_node(random, &path) {
                tell(&path, Hint::Written);
            }
        }
        15 => {
            if let Some(path) = pick(random, root, |p| is_plain(p) || is_directory(p)) {
                let value = random.next().to_le_bytes();
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::setxattr(&path, ATTRIBUTE, &value, flags).unwrap();
                tell(&path, Hint::Other);
            }
        }
        16 if rustix::process::geteuid().is_root() => {
            if let Some(path) = pick(random, root, |_| true) {
                let id = 1000 + random.below(3) as u32;
                std::os::unix::fs::lchown(&path, Some(id), Some(id + 1)).unwrap();
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
