//! Owner, mode, times and extended attributes of an open file, a fresh symlink or node.
//!
//! The one thing to know: the owner comes first, because a change of owner clears setuid bits
//! and file capabilities; the time comes last, because everything else may touch it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use crate::message::Xattrs;
use crate::root::os;
use crate::version::Version;

/// Most bytes of extended attributes of one entry that are synchronised: what Linux file
/// systems hold in one list (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`: 64 KiB each) with room.
const XATTR_BYTES_MAX: usize = 192 * 1024;

/// Which attributes travel: users' own, POSIX ACLs, file capabilities. Labels of security
/// modules belong to the machine, `trusted.` to the file system's own tools.
fn travels(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
}

/// The extended attributes that travel, sorted by name.
pub(crate) fn read_xattrs(file: impl AsFd) -> io::Result<Xattrs> {
    let mut list = vec![0; 1024];
    let names = loop {
        match fs::flistxattr(&file, &mut list[..]) {
            Ok(0) => return Ok(Xattrs::new()),
            Ok(length) => break &list[..length],
            Err(Errno::RANGE) if list.len() < XATTR_BYTES_MAX => list.resize(list.len() * 8, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Xattrs::new()),
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut xattrs = Xattrs::new();
    for name in names.split(|byte| *byte == 0).filter(|name| travels(name)) {
        if let Some(value) = read_xattr(&file, name)? {
            xattrs.push((name.to_vec(), value));
        }
    }
    xattrs.sort();
    let size: usize = xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
    if size > XATTR_BYTES_MAX {
        return Err(io::Error::other(format!(
            "has {size} bytes of extended attributes, more than the {XATTR_BYTES_MAX} that can be sent"
        )));
    }
    Ok(xattrs)
}

fn read_xattr(file: impl AsFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 64 * 1024];
    match fs::fgetxattr(&file, os(name), &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        // Removed since it was listed.
        Err(Errno::NODATA) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn write_xattrs(file: impl AsFd, wanted: &Xattrs) -> io::Result<()> {
    let present = read_xattrs(&file)?;
    for (name, _) in &present {
        if !wanted.iter().any(|(other, _)| other == name) {
            match fs::fremovexattr(&file, os(name)) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    for attribute in wanted.iter().filter(|a| travels(&a.0)) {
        if !present.contains(attribute) {
            fs::fsetxattr(&file, os(&attribute.0), &attribute.1, XattrFlags::empty())?;
        }
    }
    Ok(())
}

fn owner(version: &Version) -> (Option<Uid>, Option<Gid>) {
    // All ones means "leave it" to chown(2) and is no owner.
    let valid = |id: u32| (id != u32::MAX).then_some(id);
    (
        valid(version.uid).map(Uid::from_raw),
        valid(version.gid).map(Gid::from_raw),
    )
}

/// An ordinary user cannot give files away: then they stay its own.
fn unless_unprivileged(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => Ok(()),
        result => Ok(result?),
    }
}

fn times(version: &Version) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: version.mtime_ns.div_euclid(1_000_000_000),
            tv_nsec: version.mtime_ns.rem_euclid(1_000_000_000) as _,
        },
    }
}

/// Gives an open file or directory the attributes of a version.
pub(crate) fn apply(file: impl AsFd, version: &Version, xattrs: &Xattrs) -> io::Result<()> {
    let (uid, gid) = owner(version);
    unless_unprivileged(fs::fchown(&file, uid, gid))?;
    fs::fchmod(&file, Mode::from_raw_mode(version.mode))?;
    write_xattrs(&file, xattrs)?;
    Ok(fs::futimens(&file, &times(version))?)
}

/// Gives a symlink its owner and time; it has no mode and no attributes of its own.
pub(crate) fn apply_link(at: &OwnedFd, name: &[u8], version: &Version) -> io::Result<()> {
    let (uid, gid) = owner(version);
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    unless_unprivileged(fs::chownat(at, os(name), uid, gid, flags))?;
    fs::utimensat(at, os(name), &times(version), flags)?;
    Ok(())
}

/// Gives a fresh fifo or device its owner and mode. `at` must be a place where nobody else
/// could put something under that name.
pub(crate) fn apply_node(at: &OwnedFd, name: &[u8], version: &Version) -> io::Result<()> {
    let (uid, gid) = owner(version);
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    unless_unprivileged(fs::chownat(at, os(name), uid, gid, flags))?;
    let mode = Mode::from_raw_mode(version.mode);
    Ok(fs::chmodat(at, os(name), mode, AtFlags::empty())?)
}

/// Gives a directory, open as a place, its time back after its entries changed.
pub(crate) fn apply_time(at: &OwnedFd, version: &Version) -> io::Result<()> {
    Ok(fs::utimensat(at, ".", &times(version), AtFlags::empty())?)
}
