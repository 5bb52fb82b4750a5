//! A large file that arrives in pieces, built on what is already here.
//!
//! The pieces go to `.haarb/tmp/part-<path>`; when the link breaks, that file stays and the
//! next transfer of the path builds on it, so that nothing that arrived is sent again. The one
//! thing to know: pieces prove nothing; the whole is checked with BLAKE3 before it goes live.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use fast_rsync::{Signature, SignatureOptions, apply_limited};
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::message::{Piece, SEGMENT, Up};
use crate::path::RelPath;
use crate::root::Root;
use crate::version::{Hash, Version};

/// Blocks of a signature: 12 bytes are sent for each of them.
const SIGNATURE: SignatureOptions = SignatureOptions {
    block_size: 4096,
    crypto_hash_size: 8,
};

/// One arriving file.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) dir: u16,
    pub(crate) path: RelPath,
    pub(crate) name: String,
    tmp: OwnedFd,
    file: File,
    written: u64,
    /// Blocks of zeros are not written, so that they become holes.
    sparse: bool,
    hasher: blake3::Hasher,
    base: Base,
    failed: Option<String>,
}

/// What the sink already has: what arrived of an earlier attempt, and the old file.
#[derive(Debug, Default)]
struct Base {
    earlier: Option<(File, u64)>,
    old: Option<(File, u64)>,
}

fn names(path: &RelPath) -> (String, String) {
    let id = blake3::hash(path.as_bytes()).to_hex();
    (format!("part-{}", &id[..32]), format!("base-{}", &id[..32]))
}

/// Whether a file in the temporary place may be kept for a later attempt.
pub(crate) fn may_be_kept(name: &[u8]) -> bool {
    name.starts_with(b"part-") || name.starts_with(b"base-")
}

fn open_sized(tmp: &OwnedFd, name: &str) -> io::Result<Option<(File, u64)>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat(tmp, name, flags, Mode::empty()) {
        Ok(fd) => {
            let file = File::from(fd);
            let size = file.metadata()?.len();
            Ok(Some((file, size)))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

impl Transfer {
    pub(crate) fn begin(root: &Root, dir: u16, path: RelPath, sparse: bool) -> io::Result<Self> {
        let tmp = root.private(&[b"tmp"])?;
        let (part, base) = names(&path);
        // Of two broken attempts the one that came further is built on.
        let size = |name: &str| fs::statat(&tmp, name, AtFlags::empty()).map_or(0, |s| s.st_size);
        if size(&part) > size(&base) {
            fs::renameat(&tmp, part.as_str(), &tmp, base.as_str())?;
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&tmp, part.as_str(), flags, Mode::RUSR | Mode::WUSR)?.into();
        let old = match root.find(&path)? {
            Some(found) if found.kind == Some(crate::version::Kind::File) => {
                let file = root.open_file(&path)?;
                Some((file, found.sig.size))
            }
            _ => None,
        };
        Ok(Self {
            dir,
            path,
            base: Base {
                earlier: open_sized(&tmp, &base)?,
                old,
            },
            name: part,
            tmp,
            file,
            written: 0,
            sparse,
            hasher: blake3::Hasher::new(),
            failed: None,
        })
    }

    /// On how many segments the source can build.
    pub(crate) fn segments(&self) -> u64 {
        self.base.size().div_ceil(SEGMENT as u64)
    }

    /// Describes one of the segments.
    pub(crate) fn signature(&self, transfer: u64, segment: u64) -> io::Result<Up> {
        let bytes = self.base.segment(segment)?;
        Ok(Up::Signature {
            transfer,
            segment,
            hash: *blake3::hash(&bytes).as_bytes(),
            signature: Signature::calculate(&bytes, SIGNATURE).into_serialized(),
        })
    }

    /// Adds a piece. A failure is kept and told at the end.
    pub(crate) fn add(&mut self, piece: Piece) {
        if self.failed.is_none()
            && let Err(error) = self.try_add(piece)
        {
            self.failed = Some(error.to_string());
            // On a full disk what was written of it is room that other files need.
            let _ = self.file.set_len(0);
        }
    }

    fn try_add(&mut self, piece: Piece) -> io::Result<()> {
        let bytes = match piece {
            Piece::Hole { length } if length as usize > SEGMENT => {
                return Err(io::Error::other("a hole is longer than a segment"));
            }
            Piece::Hole { length } => vec![0; length as usize],
            Piece::Data(bytes) => bytes,
            Piece::Copy { segment } => self.base.segment(segment)?,
            Piece::Delta { segment, delta } => {
                let base = self.base.segment(segment)?;
                let mut out = Vec::with_capacity(SEGMENT);
                apply_limited(&base, &delta, &mut out, SEGMENT)
                    .map_err(|e| io::Error::other(format!("a delta does not fit: {e}")))?;
                out
            }
        };
        if self.sparse {
            write_sparse(&self.file, self.written, &bytes)?;
        } else {
            self.file.write_all_at(&bytes, self.written)?;
        }
        self.hasher.update(&bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// The finished temporary file, if it is what it should be.
    pub(crate) fn finish(self, version: &Version) -> Result<(File, String), Unfinished> {
        let found: Hash = *self.hasher.finalize().as_bytes();
        let _ = fs::unlinkat(&self.tmp, names(&self.path).1, AtFlags::empty());
        if let Some(error) = self.failed {
            let _ = fs::unlinkat(&self.tmp, self.name.as_str(), AtFlags::empty());
            return Err(Unfinished::Failed(error));
        }
        if found != version.hash || self.written != version.size {
            // What it was built on is not what it was thought to be.
            let _ = fs::unlinkat(&self.tmp, self.name.as_str(), AtFlags::empty());
            return Err(Unfinished::Differs);
        }
        // A hole at the end was not written.
        if self.sparse
            && let Err(error) = self.file.set_len(version.size)
        {
            return Err(Unfinished::Failed(error.to_string()));
        }
        Ok((self.file, self.name))
    }
}

/// What file systems store as one piece, or not at all.
const BLOCK: usize = 4096;

/// Writes bytes to a part of a file that was never written, blocks of zeros left out: they stay
/// holes. The caller sets the length where the file ends in one.
pub(crate) fn write_sparse(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    let is_hole = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let mut start = 0;
    let mut from = 0;
    // Blocks of the file, whatever the offset of these bytes in it.
    let mut end = BLOCK - (at % BLOCK as u64) as usize;
    while from < bytes.len() {
        end = end.min(bytes.len());
        if is_hole(&bytes[from..end]) {
            file.write_all_at(&bytes[start..from], at + start as u64)?;
            start = end;
        }
        from = end;
        end += BLOCK;
    }
    file.write_all_at(&bytes[start..], at + start as u64)
}

/// Why a large file did not become whole.
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// The content is not that of the version: to be sent whole.
    Differs,
    Failed(String),
}

impl Base {
    fn size(&self) -> u64 {
        let earlier = self.earlier.as_ref().map_or(0, |(_, size)| *size);
        earlier.max(self.old.as_ref().map_or(0, |(_, size)| *size))
    }

    /// A segment comes from the earlier attempt where that has all of it.
    fn segment(&self, segment: u64) -> io::Result<Vec<u8>> {
        let start = segment
            .checked_mul(SEGMENT as u64)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let end = start.saturating_add(SEGMENT as u64);
        let covers = |source: &&(File, u64)| end <= source.1;
        let reaches = |source: &&(File, u64)| start < source.1;
        let earlier = self.earlier.as_ref();
        let old = self.old.as_ref();
        let Some((file, size)) = earlier
            .filter(covers)
            .or(old.filter(reaches))
            .or(earlier.filter(reaches))
        else {
            return Err(io::Error::other("there is no such segment here"));
        };
        let mut bytes = vec![0; (size - start).min(SEGMENT as u64) as usize];
        file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }
}
