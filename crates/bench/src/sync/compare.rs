//! Whether two trees are equal: everything that a replica must carry, name by name.
//!
//! Reads both completely. The one thing to know: what it finds is words, one for each kind of loss, so that
//! a benchmark can say what is missing and not only that something is.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{lgetxattr, llistxattr};

use super::tree::{self, Entry};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Kind, mode, owner, content, extended attributes; times of everything but directories.
    Usual,
    /// Also times of directories, hard links, holes and device numbers.
    Everything,
}

/// What differs, and for each kind of loss the first path that has it and how many do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences(BTreeMap<&'static str, (PathBuf, usize)>);

impl Differences {
    fn add(&mut self, what: &'static str, path: &Path) {
        let found = (self.0.entry(what)).or_insert_with(|| (path.to_owned(), 0));
        found.1 += 1;
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kinds of loss.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// In a few words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let one = |(what, (path, count)): (&&str, &(PathBuf, usize))| {
            format!("{what}: {count} (first: {})", path.display())
        };
        self.0.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

/// How the second tree differs from the first.
///
/// # Errors
/// When one cannot be read. What vanishes meanwhile counts as a difference.
pub fn compare(source: &Path, sink: &Path, depth: Depth) -> io::Result<Differences> {
    let mut found = Differences::default();
    let (ours, theirs) = (tree::entries(source)?, tree::entries(sink)?);
    let names = |all: &[Entry]| -> BTreeMap<PathBuf, ()> {
        all.iter().map(|entry| (entry.path.clone(), ())).collect()
    };
    let (our_names, their_names) = (names(&ours), names(&theirs));
    for path in their_names
        .keys()
        .filter(|path| !our_names.contains_key(*path))
    {
        found.add("not deleted", path);
    }
    let mut links = BTreeMap::new();
    for path in our_names.keys() {
        if !their_names.contains_key(path) {
            found.add("missing", path);
            continue;
        }
        let (one, other) = (source.join(path), sink.join(path));
        let (Ok(a), Ok(b)) = (fs::symlink_metadata(&one), fs::symlink_metadata(&other)) else {
            found.add("vanished", path);
            continue;
        };
        compare_one(&mut found, path, (&one, &a), (&other, &b), depth)?;
        if depth == Depth::Everything && a.is_file() && a.nlink() > 1 {
            // Every name of one file on the source has to be a name of one file on the sink.
            let known = links
                .entry((a.dev(), a.ino()))
                .or_insert((b.dev(), b.ino()));
            if *known != (b.dev(), b.ino()) {
                found.add("hard link", path);
            }
        }
    }
    Ok(found)
}

fn compare_one(
    found: &mut Differences,
    path: &Path,
    (one, a): (&Path, &Metadata),
    (other, b): (&Path, &Metadata),
    depth: Depth,
) -> io::Result<()> {
    if a.file_type() != b.file_type() {
        found.add("kind", path);
        return Ok(());
    }
    if a.mode() != b.mode() {
        found.add("mode", path);
    }
    if (a.uid(), a.gid()) != (b.uid(), b.gid()) {
        found.add("owner", path);
    }
    let deep = depth == Depth::Everything;
    if (deep || !a.is_dir()) && (a.mtime(), a.mtime_nsec()) != (b.mtime(), b.mtime_nsec()) {
        let coarse = a.mtime() == b.mtime();
        found.add(
            match (a.is_dir(), coarse) {
                (true, _) => "time of a directory",
                (false, true) => "fraction of a second",
                (false, false) => "time",
            },
            path,
        );
    }
    let kind = a.file_type();
    if kind.is_file() && !same_content(one, other)? {
        found.add("content", path);
    }
    if kind.is_symlink() && fs::read_link(one)? != fs::read_link(other)? {
        found.add("target", path);
    }
    if deep && (kind.is_char_device() || kind.is_block_device()) && a.rdev() != b.rdev() {
        found.add("device number", path);
    }
    // A file of which less than half is on the disk has holes; the copy may have as much, and a block.
    let holes = a.is_file() && a.blocks() * 512 * 2 < a.size();
    if deep && holes && b.blocks() * 512 * 2 >= b.size() {
        found.add("holes", path);
    }
    if !kind.is_symlink() {
        let (a, b) = (attributes(one)?, attributes(other)?);
        for name in a.keys().chain(b.keys()) {
            if a.get(name) != b.get(name) {
                found.add(attribute_kind(name), path);
            }
        }
    }
    Ok(())
}

fn attribute_kind(name: &[u8]) -> &'static str {
    match name {
        b"security.capability" => "file capability",
        name if name.starts_with(b"system.posix_acl") => "ACL",
        _ => "extended attribute",
    }
}

/// Those extended attributes that belong to the data and not to the machine.
fn attributes(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0_u8; 64 * 1024];
    let length = match llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let mut all = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0) {
        let ours = name.starts_with(b"user.")
            || name.starts_with(b"system.posix_acl")
            || name == b"security.capability";
        if ours {
            let mut value = vec![0_u8; 64 * 1024];
            let length = lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..])?;
            value.truncate(length);
            all.insert(name.to_vec(), value);
        }
    }
    Ok(all)
}

/// Whether two files have the same bytes.
///
/// # Errors
/// When one cannot be read.
pub fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; 1 << 18], vec![0; 1 << 18]);
    loop {
        let length = one.read(&mut a)?;
        if length == 0 {
            return Ok(other.read(&mut b)? == 0);
        }
        match other.read_exact(&mut b[..length]) {
            Ok(()) if a[..length] == b[..length] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn kinds(source: &Path, sink: &Path, depth: Depth) -> Vec<&'static str> {
        let found = compare(source, sink, depth).expect("both are there");
        found.kinds().collect()
    }

    #[test]
    fn every_kind_of_loss_is_named() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (one.path(), other.path());
        for dir in [a, b] {
            fs::create_dir(dir.join("dir")).unwrap();
            fs::write(dir.join("file"), "content").unwrap();
            fs::write(dir.join("linked"), "x").unwrap();
            symlink("one", dir.join("symlink")).unwrap();
            File::create(dir.join("sparse"))
                .unwrap()
                .set_len(1 << 20)
                .unwrap();
            // The same times on both sides.
            for name in ["file", "linked", "sparse", "dir"] {
                let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1000, 7);
                File::open(dir.join(name))
                    .unwrap()
                    .set_modified(time)
                    .unwrap();
            }
            let mut time = rustix::fs::Timestamps {
                last_access: rustix::fs::Timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                },
                last_modification: rustix::fs::Timespec {
                    tv_sec: 1,
                    tv_nsec: 5,
                },
            };
            time.last_access.tv_nsec = 1;
            let at = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(rustix::fs::CWD, dir.join("symlink"), &time, at).unwrap();
        }
        assert!(kinds(a, b, Depth::Usual).is_empty());
        assert!(kinds(a, b, Depth::Everything).is_empty());

        fs::hard_link(a.join("linked"), a.join("again")).unwrap();
        fs::copy(b.join("linked"), b.join("again")).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1000, 7);
        File::open(b.join("again"))
            .unwrap()
            .set_modified(time)
            .unwrap();
        assert!(kinds(a, b, Depth::Usual).is_empty());
        assert_eq!(kinds(a, b, Depth::Everything), ["hard link"]);

        fs::write(b.join("sparse"), vec![0; 1 << 20]).unwrap();
        fs::write(b.join("file"), "CONTENT").unwrap();
        fs::set_permissions(b.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(b.join("more"), "").unwrap();
        fs::remove_dir(b.join("dir")).unwrap();
        fs::remove_file(b.join("symlink")).unwrap();
        fs::write(b.join("symlink"), "one").unwrap();
        let found = kinds(a, b, Depth::Everything);
        for kind in [
            "content",
            "hard link",
            "holes",
            "kind",
            "missing",
            "mode",
            "not deleted",
            "time",
        ] {
            assert!(found.contains(&kind), "{kind} in {found:?}");
        }
    }
}
