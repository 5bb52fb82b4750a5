//! C11: a directory that holds everything, and which of it is lost.

use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, PermissionsExt as _, chown, symlink},
    },
    path::Path,
    time::{Duration, SystemTime},
};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::{XattrFlags, setxattr};

use super::{
    Outcomes, Taken, Task,
    compare::{Depth, Differences, compare},
    look,
};
use crate::sync::stage::{RunError, Stage};

/// How long a replica has for these few files; what is not there then counts as lost.
const LIMIT: Duration = Duration::from_secs(15);

/// C11. What is lost is what is counted, and no failed run.
pub(super) fn lost(stage: &mut Stage<'_>, _task: &Task<'_>) -> Result<Outcomes, RunError> {
    make(&stage.source().join("all"))?;
    fs::write(stage.source().join("small"), "here")?;
    stage.start_first()?;
    let taken = Taken::start(stage)?;
    stage.start()?;
    stage.settle()?;
    let mut found = Differences::default();
    let same = || {
        let compared = compare(&stage.source(), &stage.sink(), Depth::Everything);
        // What comes and goes while it is read is looked at again.
        compared.is_ok_and(|differences| {
            found = differences;
            found.is_empty()
        })
    };
    look::until(LIMIT, same);
    let mut run = taken.finish(stage, vec![found.kinds().count() as f64])?;
    run.note = found.in_words();
    Ok(vec![("C11", run)])
}

/// Makes one of everything.
fn make(dir: &Path) -> io::Result<()> {
    let in_dir = |name: &[u8]| dir.join(OsStr::from_bytes(name));
    fs::create_dir_all(dir)?;
    for name in [
        &b"plain"[..],
        b"not-\xff\xfe-utf8",
        b"new\nline",
        b" blanks and \"quotes\" ",
        &[b'n'; 255],
    ] {
        fs::write(in_dir(name), name)?;
    }
    fs::write(in_dir(b"empty"), "")?;
    File::create(in_dir(b"setuid"))?.set_permissions(Permissions::from_mode(0o4755))?;
    fs::write(in_dir(b"owned"), "by somebody else")?;
    chown(in_dir(b"owned"), Some(12345), Some(54321))?;
    fs::write(in_dir(b"linked"), "two names")?;
    fs::hard_link(in_dir(b"linked"), in_dir(b"linked again"))?;
    symlink("/nowhere/absolute", in_dir(b"link out"))?;
    symlink("../all/plain", in_dir(b"link in"))?;
    let sparse = File::create(in_dir(b"sparse"))?;
    sparse.set_len(64 << 20)?;
    sparse.write_all_at(b"in the middle", 32 << 20)?;
    attributes(dir)?;
    special(dir)?;
    fs::create_dir_all(in_dir(b"directory/deep/deeper"))?;
    fs::set_permissions(in_dir(b"directory"), Permissions::from_mode(0o2750))?;
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for name in [&b"plain"[..], b"directory/deep"] {
        File::open(in_dir(name))?.set_modified(old)?;
    }
    Ok(())
}

fn attributes(dir: &Path) -> io::Result<()> {
    let file = |name: &str| {
        let path = dir.join(name);
        fs::write(&path, name).map(|()| path)
    };
    setxattr(
        file("with-attribute")?,
        "user.colour",
        b"red\0blue",
        XattrFlags::empty(),
    )?;
    // POSIX ACL, version 2: rw- for the owner and user 12345, r-- for group, mask rw-, nothing for others.
    let none = u32::MAX;
    let entries = [
        (1_u16, 6_u16, none),
        (2, 6, 12345),
        (4, 4, none),
        (16, 6, none),
        (32, 0, none),
    ];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    setxattr(
        file("with-acl")?,
        "system.posix_acl_access",
        &acl,
        XattrFlags::empty(),
    )?;
    // cap_net_raw (bit 13) permitted and effective, revision 2.
    let words = [0x0200_0001_u32, 1 << 13, 0, 0, 0];
    let capability: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let path = file("with-capability")?;
    Ok(setxattr(
        path,
        "security.capability",
        &capability,
        XattrFlags::empty(),
    )?)
}

fn special(dir: &Path) -> io::Result<()> {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    mknod(&dir.join("fifo"), SFlag::S_IFIFO, mode, 0)?;
    // Only root of the machine may make devices.
    match mknod(&dir.join("null"), SFlag::S_IFCHR, mode, makedev(1, 3)) {
        Ok(()) | Err(nix::errno::Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
