//! Reading a file so that what is read stood there at one moment.
//!
//! The one thing to know: a file is looked at before and after the reading, and where both
//! looks could share a time stamp it is read twice. What changed in between is not sent.

use std::fs::File;
use std::io::{self, Read};

use crate::attributes::read_xattrs;
use crate::message::{SEGMENT, Xattrs};
use crate::path::RelPath;
use crate::root::{Found, Root};
use crate::version::{Kind, Sig, Version, xattrs_digest};

/// Files up to this size travel in one message.
pub(crate) const SMALL_BYTES_MAX: u64 = 256 * 1024;

/// How often a small file is read anew at once when it changes under the reading.
const TRIES: usize = 4;

/// What a look at a path found.
#[derive(Debug)]
pub(crate) enum Look {
    /// Nothing, or nothing that is synchronised.
    Absent,
    /// Anything but a large file, whole.
    Whole(Box<Whole>),
    /// A file too large for one message; its content was not read.
    Large,
    /// It changes faster than it can be read.
    Changing,
}

/// One version with everything that belongs to it.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) version: Version,
    pub(crate) sig: Sig,
    /// How many names it has.
    pub(crate) names: u64,
    /// Whether a later change could hide behind the same signature.
    pub(crate) doubt: bool,
    pub(crate) content: Vec<u8>,
    /// It has holes.
    pub(crate) sparse: bool,
    pub(crate) xattrs: Xattrs,
}

/// Looks at a path and reads what is small.
pub(crate) fn look(root: &Root, path: &RelPath) -> io::Result<Look> {
    let Some(found) = root.find(path)? else {
        return Ok(Look::Absent);
    };
    match found.kind {
        None => Ok(Look::Absent),
        Some(Kind::Symlink) => look_at_link(root, path, &found),
        Some(kind @ (Kind::Fifo | Kind::CharDevice | Kind::BlockDevice)) => {
            // Never opened: that may wait for somebody, or make the device do something.
            let content = found.node_content();
            let hash = *blake3::hash(&content).as_bytes();
            Ok(whole(root, &found, kind, hash, content, Xattrs::new()))
        }
        Some(Kind::Directory) => look_at_directory(root, path),
        Some(Kind::File) if found.sig.size > SMALL_BYTES_MAX => Ok(Look::Large),
        Some(Kind::File) => look_at_small(root, path),
    }
}

fn look_at_link(root: &Root, path: &RelPath, found: &Found) -> io::Result<Look> {
    let Some(content) = gone_is_none(root.read_link(path))? else {
        return Ok(Look::Changing);
    };
    if root.find(path)?.map(|now| now.sig) != Some(found.sig) {
        return Ok(Look::Changing);
    }
    let hash = *blake3::hash(&content).as_bytes();
    Ok(whole(
        root,
        found,
        Kind::Symlink,
        hash,
        content,
        Xattrs::new(),
    ))
}

fn look_at_directory(root: &Root, path: &RelPath) -> io::Result<Look> {
    // `O_PATH` gives no attributes: open it for real, through its own safe way.
    let Some(at) = gone_is_none(root.walk(path).map_err(io::Error::from))? else {
        return Ok(Look::Changing);
    };
    let flags =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let open = rustix::fs::openat(&at, ".", flags, rustix::fs::Mode::empty())?;
    let found = root.find_open(&open)?;
    if found.kind.is_none() {
        return Ok(Look::Absent);
    }
    let xattrs = read_xattrs(&open)?;
    Ok(whole(
        root,
        &found,
        Kind::Directory,
        [0; 32],
        Vec::new(),
        xattrs,
    ))
}

fn look_at_small(root: &Root, path: &RelPath) -> io::Result<Look> {
    for _ in 0..TRIES {
        let Some(mut file) = gone_is_none(root.open_file(path))? else {
            return Ok(Look::Changing);
        };
        let before = root.find_open(&file)?;
        match before.kind {
            Some(Kind::File) if before.sig.size > SMALL_BYTES_MAX => {
                return Ok(Look::Large);
            }
            Some(Kind::File) => {}
            _ => continue,
        }
        let sparse = Root::has_holes(&file, before.sig.size);
        let content = read_up_to(&mut file, before.sig.size)?;
        let xattrs = read_xattrs(&file)?;
        let same_again = !before.sig.in_doubt(root.wall.now_ns()) || {
            io::Seek::rewind(&mut file)?;
            read_up_to(&mut file, before.sig.size)? == content
        };
        let after = root.find_open(&file)?;
        if same_again && after == before && content.len() as u64 == before.sig.size {
            let hash = *blake3::hash(&content).as_bytes();
            return Ok(
                match whole(root, &before, Kind::File, hash, content, xattrs) {
                    Look::Whole(whole) => Look::Whole(Box::new(Whole { sparse, ..*whole })),
                    look => look,
                },
            );
        }
    }
    Ok(Look::Changing)
}

fn read_up_to(file: &mut File, size: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(size as usize + 1);
    // One byte more, so that growth is seen.
    file.take(size + 1).read_to_end(&mut content)?;
    Ok(content)
}

fn whole(
    root: &Root,
    found: &Found,
    kind: Kind,
    hash: [u8; 32],
    content: Vec<u8>,
    xattrs: Xattrs,
) -> Look {
    Look::Whole(Box::new(Whole {
        version: found.version(kind, hash, xattrs_digest(&xattrs)),
        sig: found.sig,
        names: found.names,
        doubt: found.sig.in_doubt(root.wall.now_ns()),
        content,
        sparse: false,
        xattrs,
    }))
}

/// What vanished or changed its kind between two calls is not an error.
fn gone_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENXIO | libc::EINVAL)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The version that stands on the disk, read to the end, with its signature and whether that
/// is in doubt; `None`: nothing, or nothing that is synchronised. What keeps changing is an
/// error: nobody may take it for absent.
pub(crate) fn version_on_disk(
    root: &Root,
    path: &RelPath,
) -> io::Result<Option<(Version, Sig, bool)>> {
    match look(root, path)? {
        Look::Absent => Ok(None),
        Look::Changing => Err(changing()),
        Look::Whole(whole) => Ok(Some((whole.version, whole.sig, whole.doubt))),
        Look::Large => hash_large(root, path),
    }
}

fn changing() -> io::Error {
    io::Error::other("it changes faster than it can be read")
}

fn hash_large(root: &Root, path: &RelPath) -> io::Result<Option<(Version, Sig, bool)>> {
    for _ in 0..TRIES {
        let Some(mut file) = gone_is_none(root.open_file(path))? else {
            continue;
        };
        let before = root.find_open(&file)?;
        if before.kind != Some(Kind::File) {
            continue;
        }
        let doubt = before.sig.in_doubt(root.wall.now_ns());
        let xattrs = read_xattrs(&file)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; SEGMENT];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
        if root.find_open(&file)? == before {
            let hash = *hasher.finalize().as_bytes();
            let version = before.version(Kind::File, hash, xattrs_digest(&xattrs));
            return Ok(Some((version, before.sig, doubt)));
        }
    }
    Err(changing())
}
