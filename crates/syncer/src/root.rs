//! The root of a replicated directory: every path below it is reached from here, one safe way.
//!
//! No call follows a symlink or leaves the directory: parents are opened with openat2(2)
//! `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, or name by name with `O_NOFOLLOW` where the kernel
//! or the length of the path does not allow that. The one thing to know: a root is entered
//! for one batch of work and let go, so that haarb never keeps a file system from being
//! unmounted, and notices when another one is mounted in its place.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::path::{PRIVATE, RelPath};
use crate::version::{Hash, Kind, Sig, Version};
use crate::wall::Wall;

/// `PATH_MAX` with a margin; longer paths are opened name by name.
const ONE_CALL_BYTES_MAX: usize = 3500;

const DIR_FLAGS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Where a replicated directory is, and which one it was when it was first entered.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) wall: Wall,
    identity: Option<(u64, u64)>,
}

/// Why a replicated directory cannot be entered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    #[error(
        "{0}: does not exist; create it, or mount what belongs there (haarb does not, so that an unmounted source never empties the replica)"
    )]
    Missing(PathBuf),
    #[error("{0}: is not a directory")]
    NotDirectory(PathBuf),
    #[error(
        "{0}: another directory or file system is in its place than before; put the right one back, or restart haarb-syncer if this is right"
    )]
    Exchanged(PathBuf),
    #[error("{path}: cannot be opened: {source}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Place {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            wall: Wall::default(),
            identity: None,
        }
    }

    /// Opens the directory; from the first time on, only the same one.
    pub(crate) fn enter(&mut self) -> Result<Root, RootError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(&self.path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => RootError::Missing(self.path.clone()),
            Errno::NOTDIR => RootError::NotDirectory(self.path.clone()),
            errno => self.open_error(errno),
        })?;
        let stat = fs::fstat(&fd).map_err(|errno| self.open_error(errno))?;
        let identity = (stat.st_dev, stat.st_ino);
        if *self.identity.get_or_insert(identity) != identity {
            return Err(RootError::Exchanged(self.path.clone()));
        }
        Ok(Root {
            fd,
            dev: stat.st_dev,
            wall: self.wall.clone(),
        })
    }

    fn open_error(&self, errno: Errno) -> RootError {
        RootError::Open {
            path: self.path.clone(),
            source: errno.into(),
        }
    }
}

/// An entered root.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    dev: u64,
    /// What the stamps of its files are compared with.
    pub(crate) wall: Wall,
}

/// What stands under a name, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// `None`: a kind that is not synchronised, or another file system.
    pub(crate) kind: Option<Kind>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// How many names lead to it.
    pub(crate) names: u64,
    /// Of a device: its number, major and minor.
    pub(crate) device: (u32, u32),
    pub(crate) sig: Sig,
}

impl Found {
    fn new(stat: &fs::Stat, dev: u64) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            _ if stat.st_dev != dev => None,
            FileType::RegularFile => Some(Kind::File),
            FileType::Directory => Some(Kind::Directory),
            FileType::Symlink => Some(Kind::Symlink),
            FileType::Fifo => Some(Kind::Fifo),
            FileType::CharacterDevice => Some(Kind::CharDevice),
            FileType::BlockDevice => Some(Kind::BlockDevice),
            _ => None,
        };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            names: stat.st_nlink,
            device: (fs::major(stat.st_rdev), fs::minor(stat.st_rdev)),
            sig: Sig {
                ino: stat.st_ino,
                size: stat.st_size.unsigned_abs(),
                mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
                ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
            },
        }
    }

    /// More than one name leads to it.
    pub(crate) fn linked(&self) -> bool {
        self.names > 1
    }

    /// By what a file is recognised from which a name was just taken, or to which one was given:
    /// that changes its change time.
    pub(crate) fn mark(&self) -> (Option<Kind>, u64, u64, i64) {
        (self.kind, self.sig.ino, self.sig.size, self.sig.mtime_ns)
    }

    /// Whether this may be a version that was just put here, as far as its attributes tell.
    pub(crate) fn may_be(&self, version: &Version) -> bool {
        self.kind == Some(version.kind)
            && match version.kind {
                Kind::File | Kind::Symlink => {
                    (self.sig.size, self.sig.mtime_ns) == (version.size, version.mtime_ns)
                }
                Kind::Directory | Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => true,
            }
    }

    /// What stands for the content of a fifo or device: the number of a device.
    pub(crate) fn node_content(&self) -> Vec<u8> {
        match self.kind {
            Some(Kind::CharDevice | Kind::BlockDevice) => {
                let (major, minor) = self.device;
                [major.to_le_bytes(), minor.to_le_bytes()].concat()
            }
            _ => Vec::new(),
        }
    }

    /// The version that this is, once its content is known.
    pub(crate) fn version(&self, kind: Kind, hash: Hash, xattrs: [u8; 16]) -> Version {
        Version {
            kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime_ns: if kind.is_node() { 0 } else { self.sig.mtime_ns },
            size: match kind {
                Kind::File | Kind::Symlink => self.sig.size,
                Kind::Directory | Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => {
                    self.node_content().len() as u64
                }
            },
            hash,
            xattrs,
        }
    }
}

/// Saturating: years before 1677 and after 2262 are all the same to us.
fn nanoseconds(seconds: i64, nanoseconds: u64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add_unsigned(nanoseconds)
}

/// `ENOENT` and its relatives: nothing is there, or its parent is not a directory any more.
fn absent(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

pub(crate) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

impl Root {
    /// Opens a directory below the root as a place for the calls ending in `at`.
    pub(crate) fn walk(&self, dir: &RelPath) -> rustix::io::Result<OwnedFd> {
        if dir.is_root() {
            return fs::openat(&self.fd, ".", DIR_FLAGS, Mode::empty());
        }
        if dir.as_bytes().len() <= ONE_CALL_BYTES_MAX {
            let resolve =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let path = Path::new(os(dir.as_bytes()));
            match fs::openat2(&self.fd, path, DIR_FLAGS, Mode::empty(), resolve) {
                // No such call here, or a rename crossed it: name by name.
                Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {}
                result => return result,
            }
        }
        self.walk_by_name(dir)
    }

    fn walk_by_name(&self, dir: &RelPath) -> rustix::io::Result<OwnedFd> {
        let mut at = fs::openat(&self.fd, ".", DIR_FLAGS, Mode::empty())?;
        for name in dir.names() {
            at = fs::openat(&at, os(name), DIR_FLAGS, Mode::empty())?;
        }
        Ok(at)
    }

    /// The directory that holds `path`.
    pub(crate) fn parent(&self, path: &RelPath) -> rustix::io::Result<OwnedFd> {
        self.walk(&path.parent().unwrap_or_else(RelPath::root))
    }

    /// What stands under a path; `None`: nothing.
    pub(crate) fn find(&self, path: &RelPath) -> io::Result<Option<Found>> {
        let found = self
            .parent(path)
            .and_then(|parent| self.find_at(&parent, path.name()));
        match found {
            Ok(found) => Ok(found),
            Err(errno) if absent(errno) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// What stands under a name of an open directory.
    pub(crate) fn find_at(
        &self,
        parent: &OwnedFd,
        name: &[u8],
    ) -> rustix::io::Result<Option<Found>> {
        match fs::statat(parent, os(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Found::new(&stat, self.dev))),
            Err(errno) if absent(errno) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn find_open(&self, file: impl AsFd) -> io::Result<Found> {
        Ok(Found::new(&fs::fstat(file)?, self.dev))
    }

    /// The names in a directory in their order, haarb's own place left out.
    pub(crate) fn names(&self, dir: &RelPath) -> io::Result<Vec<Vec<u8>>> {
        let at = self.walk(dir)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = fs::openat(&at, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&open)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let private = dir.is_root() && name == PRIVATE;
            if !private && name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens what must be a regular file, for reading.
    pub(crate) fn open_file(&self, path: &RelPath) -> io::Result<File> {
        // Not blocking: a fifo that took the file's place must not hold us up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let parent = self.parent(path)?;
        Ok(fs::openat(&parent, os(path.name()), flags, Mode::empty())?.into())
    }

    /// Whether a file has holes. Asked of the file system and not of the number of blocks, which
    /// says little where data wait to be written, are compressed, or lie in the inode.
    pub(crate) fn has_holes(file: &File, size: u64) -> bool {
        let hole = fs::seek(file, fs::SeekFrom::Hole(0));
        let rewound = fs::seek(file, fs::SeekFrom::Start(0));
        rewound.is_ok() && hole.is_ok_and(|at| at < size)
    }

    pub(crate) fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        let parent = self.parent(path)?;
        Ok(fs::readlinkat(&parent, os(path.name()), Vec::new())?.into_bytes())
    }

    /// A directory of haarb's own place, made if needed, for nobody else's eyes.
    pub(crate) fn private(&self, names: &[&[u8]]) -> io::Result<OwnedFd> {
        let mut at = fs::openat(&self.fd, ".", DIR_FLAGS, Mode::empty())?;
        for name in std::iter::once(&PRIVATE).chain(names) {
            match fs::mkdirat(&at, os(name), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            at = fs::openat(&at, os(name), DIR_FLAGS, Mode::empty())?;
        }
        Ok(at)
    }

    /// Makes everything that was written to this file system durable.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        Ok(fs::syncfs(&self.fd)?)
    }
}

/// Makes these files durable. All are set on their way to the disk first, so that the file system's
/// journal is written once for all of them and not for each.
pub(crate) fn sync_files(files: &[&File]) -> io::Result<()> {
    if files.len() > 1 {
        files.iter().for_each(|file| start_writing(file));
    }
    files.iter().try_for_each(|file| file.sync_all())
}

/// Begins to write what is in memory of a file. A file system that cannot do that loses nothing:
/// what follows waits for it.
fn start_writing(file: &File) {
    // SAFETY: sync_file_range(2) takes integers and touches no memory; the descriptor is open.
    #[expect(unsafe_code, reason = "no safe wrapper of sync_file_range is at hand")]
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_directory(at: &OwnedFd) -> io::Result<()> {
    // An `O_PATH` descriptor cannot be synced: open it for real.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = fs::openat(at, ".", flags, Mode::empty())?;
    Ok(fs::fsync(&open)?)
}

#[cfg(test)]
mod tests;
