//! Bytes in and out: the few primitives from which messages and records are made.
//!
//! No I/O. The one thing to know: [`Bytes`] is total; whatever arrives, it answers with a
//! value or with [`Malformed`], and never allocates more than what it was given.

use crate::compare::Link;
use crate::path::RelPath;
use crate::version::{Hash, Kind, Sig, Version};

/// These bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_path(out: &mut Vec<u8>, path: &RelPath) {
    put_bytes(out, path.as_bytes());
}

pub(crate) fn put_version(out: &mut Vec<u8>, version: &Version) {
    let Version {
        kind,
        mode,
        uid,
        gid,
        mtime_ns,
        size,
        hash,
        xattrs,
    } = version;
    out.push(match kind {
        Kind::File => 0,
        Kind::Directory => 1,
        Kind::Symlink => 2,
        Kind::Fifo => 3,
        Kind::CharDevice => 4,
        Kind::BlockDevice => 5,
    });
    for number in [mode, uid, gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&mtime_ns.to_le_bytes());
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(hash);
    out.extend_from_slice(xattrs);
}

pub(crate) fn put_sig(out: &mut Vec<u8>, sig: &Sig) {
    out.extend_from_slice(&sig.ino.to_le_bytes());
    out.extend_from_slice(&sig.size.to_le_bytes());
    out.extend_from_slice(&sig.mtime_ns.to_le_bytes());
    out.extend_from_slice(&sig.ctime_ns.to_le_bytes());
}

/// An optional value: one byte that says whether it follows.
pub(crate) fn put_option<T>(
    out: &mut Vec<u8>,
    value: Option<&T>,
    put: impl FnOnce(&mut Vec<u8>, &T),
) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put(out, value);
        }
    }
}

/// What is left of bytes that are being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn hash(&mut self) -> Result<Hash, Malformed> {
        self.array()
    }

    pub(crate) fn lineage(&mut self) -> Result<[u8; 16], Malformed> {
        self.array()
    }

    pub(crate) fn link(&mut self) -> Result<Link, Malformed> {
        self.array()
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("neither yes nor no")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Malformed("text is not UTF-8"))
    }

    /// A path inside the directory, or its root.
    pub(crate) fn path(&mut self) -> Result<RelPath, Malformed> {
        RelPath::parse(self.bytes()?).map_err(|_| Malformed(ESCAPE))
    }

    /// A path inside the directory, not its root.
    pub(crate) fn entry_path(&mut self) -> Result<RelPath, Malformed> {
        match self.path()? {
            path if path.is_root() => Err(Malformed(ESCAPE)),
            path => Ok(path),
        }
    }

    /// So many items as the count in front says. Grows with what is really there, not with
    /// what the count claims.
    pub(crate) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            if self.0.is_empty() {
                return Err(Malformed("cut off"));
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(crate) fn option<T>(
        &mut self,
        item: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        self.bool()?.then(|| item(self)).transpose()
    }

    pub(crate) fn version(&mut self) -> Result<Version, Malformed> {
        let kind = match self.u8()? {
            0 => Kind::File,
            1 => Kind::Directory,
            2 => Kind::Symlink,
            3 => Kind::Fifo,
            4 => Kind::CharDevice,
            5 => Kind::BlockDevice,
            _ => return Err(Malformed("unknown kind of file")),
        };
        Ok(Version {
            kind,
            mode: self.u32()? & 0o7777,
            uid: self.u32()?,
            gid: self.u32()?,
            mtime_ns: self.i64()?,
            size: self.u64()?,
            hash: self.hash()?,
            xattrs: self.lineage()?,
        })
    }

    pub(crate) fn sig(&mut self) -> Result<Sig, Malformed> {
        Ok(Sig {
            ino: self.u64()?,
            size: self.u64()?,
            mtime_ns: self.i64()?,
            ctime_ns: self.i64()?,
        })
    }

    /// Nothing may be left over.
    pub(crate) fn end<T>(self, value: T) -> Result<T, Malformed> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(Malformed("longer than its content"))
        }
    }
}

/// The one malformation that is counted apart: a path that tries to leave its directory.
pub(crate) const ESCAPE: &str = "a path tries to leave the directory";
