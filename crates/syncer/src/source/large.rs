//! A large file on its way out, one piece at a time.
//!
//! It is read once; where the sink has a segment of its own, only the difference is sent. The
//! one thing to know: when it changed while it was read, reading goes on to its present end and
//! all of it is read once more. If that is the same (a log that grew), then the file stood so
//! at the moment between the two readings, whatever is appended meanwhile.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use fast_rsync::{Signature, diff};
use haarb_model::{Mono, Span};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::attributes::read_xattrs;
use crate::message::{Down, Piece, SEGMENT, Xattrs};
use crate::path::RelPath;
use crate::root::{Found, Root};
use crate::sink::SUMS_MAX;
use crate::version::{Hash, Kind, Sig, Version, xattrs_digest};

use super::session::Pending;
use super::vanished::Vanished;

/// After this time without a moment of rest a large file is sent as it was read.
const PATIENCE: Span = Span::from_secs(1);

/// A file that grows is read as a whole each time: so fast on average at most, which is a small part
/// of what a processor reads and hashes.
const READ_BYTES_PER_US: u64 = 200;

/// A large file on its way.
pub(crate) struct Outgoing {
    pub(crate) dir: usize,
    pub(crate) path: RelPath,
    pub(crate) pending: Pending,
    pub(crate) transfer: u64,
    file: File,
    /// Where the sink may have it under a name that is gone here. Then it is only read, to see
    /// whether that is so.
    pub(crate) renamed_from: Option<RelPath>,
    /// It seems to have grown at its end. Then it is only read, to see whether that is so.
    pub(crate) grown: Option<Grown>,
    /// It has holes.
    pub(crate) sparse: bool,
    before: Found,
    /// A change right after the beginning could carry the same time stamp: its event is
    /// believed, whatever the stamps say.
    pub(crate) doubt: bool,
    xattrs: Xattrs,
    /// On how many segments of the sink it can build; `None`: not answered yet.
    base: Option<u64>,
    sums: BTreeMap<u64, (Hash, Vec<u8>)>,
    asked: u64,
    next: u64,
    read: u64,
    hasher: blake3::Hasher,
    again: Option<Again>,
}

/// What the sink has of a file that grew, and what follows.
pub(crate) struct Grown {
    pub(crate) old: Version,
    pub(crate) tail: Vec<u8>,
}

/// The second reading of a file that changed during the first.
struct Again {
    read: u64,
    hasher: blake3::Hasher,
}

/// What comes next of a large file.
pub(crate) enum Step {
    Send(Down),
    /// Something was done, nothing is to be sent: go on.
    Busy,
    /// The sink has to answer first.
    Wait,
    /// All of it was sent: this ends it.
    Done {
        version: Version,
        sig: Sig,
        doubt: bool,
        xattrs: Xattrs,
    },
    /// It changed while it was read: to be tried anew.
    Changed,
    /// It did not only grow at its end: to be sent as any other.
    Differs,
}

impl Outgoing {
    pub(crate) fn begin(
        root: &Root,
        dir: usize,
        path: RelPath,
        pending: Pending,
        transfer: u64,
    ) -> io::Result<Option<Self>> {
        let file = root.open_file(&path)?;
        let before = root.find_open(&file)?;
        if before.kind != Some(Kind::File) {
            return Ok(None);
        }
        let xattrs = read_xattrs(&file)?;
        Ok(Some(Self {
            renamed_from: None,
            grown: None,
            sparse: Root::has_holes(&file, before.sig.size),
            dir,
            path,
            pending,
            transfer,
            file,
            doubt: before.sig.in_doubt(root.wall.now_ns()),
            before,
            xattrs,
            base: None,
            sums: BTreeMap::new(),
            asked: 0,
            next: 0,
            read: 0,
            hasher: blake3::Hasher::new(),
            again: None,
        }))
    }

    /// Looks whether the sink may have this file under a name that is gone here.
    pub(crate) fn perhaps_renamed(mut self, vanished: &Vanished) -> Self {
        let sig = self.before.sig;
        if !self.pending.whole && self.before.names == 1 {
            self.renamed_from = vanished.stamp(sig.size, sig.mtime_ns, &self.path).cloned();
            self.base = self.renamed_from.as_ref().map(|_| 0);
        }
        self
    }

    /// Looks whether what the sink has is its beginning.
    pub(crate) fn perhaps_grown(mut self) -> Self {
        let pending = &self.pending;
        let old = pending.old.filter(|old| {
            let more = self.before.sig.size.saturating_sub(old.size);
            old.kind == Kind::File && old.size > 0 && more > 0 && more <= SEGMENT as u64
        });
        let plain = !pending.whole && !pending.anew && !self.sparse && self.before.names == 1;
        if let Some(old) = old.filter(|_| plain && self.renamed_from.is_none()) {
            self.base = Some(0);
            self.grown = Some(Grown {
                old,
                tail: Vec::new(),
            });
        }
        self
    }

    /// Reading all of a file because a little was added to it pays only now and then.
    pub(crate) fn not_before(&self) -> Mono {
        let read = match &self.grown {
            Some(_) => Span::from_micros(self.before.sig.size / READ_BYTES_PER_US),
            None => Span::ZERO,
        };
        self.pending.since + read.min(PATIENCE)
    }

    /// A piece to send, or nothing where it is only read.
    fn send(&self, piece: Piece) -> Step {
        if self.renamed_from.is_some() || self.grown.is_some() {
            return Step::Busy;
        }
        Step::Send(Down::Part {
            transfer: self.transfer,
            piece,
        })
    }

    /// Whether this is still the file that is being read.
    pub(crate) fn is(&self, found: &Found) -> bool {
        found.sig.ino == self.before.sig.ino
    }

    /// Whether it is longer than what the sink has: being written at its end, not rewritten.
    pub(crate) fn grows(&self) -> bool {
        let old = self.pending.old.map_or(u64::MAX, |old| old.size);
        self.before.sig.size > old
    }

    /// The sink's answer to the beginning.
    pub(crate) fn base(&mut self, segments: u64) {
        let ours = self.before.sig.size.div_ceil(SEGMENT as u64);
        let usable = if self.pending.whole { 0 } else { segments };
        self.base = Some(usable.min(ours));
    }

    pub(crate) fn signature(&mut self, segment: u64, hash: Hash, signature: Vec<u8>) {
        // Only what was asked for is kept.
        if segment >= self.next && segment < self.asked {
            self.sums.insert(segment, (hash, signature));
        }
    }

    /// The next step. `waited`: how long the change waits already.
    pub(crate) fn step(&mut self, root: &Root, waited: Span) -> io::Result<Step> {
        if let Some(again) = &mut self.again {
            if again.read < self.before.sig.size {
                return self.read_again();
            }
            return self.conclude(root, waited);
        }
        let Some(base) = self.base else {
            return Ok(Step::Wait);
        };
        if self.asked < base && self.asked < self.next + u64::from(SUMS_MAX) / 2 {
            let count = (base - self.asked).min(u64::from(SUMS_MAX) / 2);
            let first = self.asked;
            self.asked += count;
            return Ok(Step::Send(Down::Sums {
                transfer: self.transfer,
                first,
                count: count as u32,
            }));
        }
        if self.read >= self.before.sig.size {
            return self.conclude(root, waited);
        }
        if let Some(length) = self.hole() {
            return Ok(self.skip_hole(length));
        }
        let aligned = self.read.is_multiple_of(SEGMENT as u64);
        if aligned && self.next < base && !self.sums.contains_key(&self.next) {
            return Ok(Step::Wait);
        }
        self.read_piece(aligned)
    }

    /// How long the hole is that fills the next segment; `None`: it has data.
    fn hole(&self) -> Option<u32> {
        let length = (self.before.sig.size - self.read).min(SEGMENT as u64);
        let whole = self.sparse
            && match seek(&self.file, SeekFrom::Data(self.read)) {
                Ok(data) => data >= self.read + length,
                // Nothing but a hole up to the end. A file that was cut shorter meanwhile is
                // found out at the end.
                Err(Errno::NXIO) => true,
                Err(_) => false,
            };
        whole.then_some(length as u32)
    }

    fn skip_hole(&mut self, length: u32) -> Step {
        self.hasher.update(&vec![0; length as usize]);
        self.read += u64::from(length);
        self.sums.remove(&self.next);
        self.next += 1;
        self.send(Piece::Hole { length })
    }

    fn read_piece(&mut self, aligned: bool) -> io::Result<Step> {
        let bytes = self.read_segment(self.read)?;
        if bytes.is_empty() {
            // It became shorter: nothing of this reading stands any more.
            return Ok(Step::Changed);
        }
        self.hasher.update(&bytes);
        self.read += bytes.len() as u64;
        if let Some(grown) = &mut self.grown {
            if self.read == grown.old.size {
                let same = *self.hasher.finalize().as_bytes() == grown.old.hash;
                return Ok(if same { Step::Busy } else { Step::Differs });
            }
            if self.read > grown.old.size {
                grown.tail.extend(bytes);
            }
            let fits = grown.tail.len() <= SEGMENT;
            return Ok(if fits { Step::Busy } else { Step::Differs });
        }
        let segment = self.next;
        self.next += 1;
        // Behind an end that moved while it was read, pieces and segments do not meet.
        let sums = self.sums.remove(&segment).filter(|_| aligned);
        let piece = match sums {
            Some((hash, _)) if hash == *blake3::hash(&bytes).as_bytes() => Piece::Copy { segment },
            Some((_, signature)) => difference(segment, signature, bytes),
            None => Piece::Data(bytes),
        };
        Ok(self.send(piece))
    }

    /// One segment, or what there is of it below the size that the file had at first.
    fn read_segment(&self, start: u64) -> io::Result<Vec<u8>> {
        let length = (self.before.sig.size - start).min(SEGMENT as u64);
        // What the sink has and what follows are looked at apart.
        let border = self.grown.as_ref().map(|grown| grown.old.size);
        let border = border.filter(|border| *border > start);
        let length = border.map_or(length, |border| length.min(border - start)) as usize;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self
                .file
                .read_at(&mut bytes[filled..], start + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // All or nothing: a segment that ends early would shift those behind it.
        if filled < length {
            bytes.clear();
        }
        Ok(bytes)
    }

    fn read_again(&mut self) -> io::Result<Step> {
        let start = self.again.as_ref().map_or(0, |again| again.read);
        let bytes = self.read_segment(start)?;
        let Some(again) = self.again.as_mut().filter(|_| !bytes.is_empty()) else {
            return Ok(Step::Changed);
        };
        again.hasher.update(&bytes);
        again.read += bytes.len() as u64;
        Ok(Step::Busy)
    }

    /// It is another one than when it was opened: so are its attributes.
    fn stands(&mut self, now: Found) -> io::Result<()> {
        self.before = now;
        self.xattrs = read_xattrs(&self.file)?;
        Ok(())
    }

    /// Everything was read: did it stand still?
    fn conclude(&mut self, root: &Root, waited: Span) -> io::Result<Step> {
        let hash = *self.hasher.finalize().as_bytes();
        let after = root.find_open(&self.file)?;
        match &self.again {
            None if after == self.before => {}
            None if after.sig.size < self.read || after.kind != self.before.kind => {
                return Ok(Step::Changed);
            }
            None if after.sig.size > self.read => {
                self.stands(after)?;
                return Ok(Step::Busy);
            }
            None => {
                // This is the moment at which it stood so, if the second reading agrees.
                self.stands(after)?;
                self.again = Some(Again {
                    read: 0,
                    hasher: blake3::Hasher::new(),
                });
                return Ok(Step::Busy);
            }
            Some(again) if *again.hasher.finalize().as_bytes() == hash => {}
            Some(_) if waited < PATIENCE => return Ok(Step::Changed),
            Some(_) => tracing::warn!(
                "{}: is written to without rest; sent as it was read",
                self.path.show()
            ),
        }
        let holes = Root::has_holes(&self.file, self.before.sig.size);
        if holes != self.sparse && waited < PATIENCE {
            // The sink was told to store it another way.
            return Ok(Step::Changed);
        }
        let version = self
            .before
            .version(Kind::File, hash, xattrs_digest(&self.xattrs));
        Ok(Step::Done {
            version,
            sig: self.before.sig,
            doubt: self.doubt || self.again.is_some(),
            xattrs: std::mem::take(&mut self.xattrs),
        })
    }
}

/// The shortest way to say how `bytes` differ from a segment of the sink.
fn difference(segment: u64, signature: Vec<u8>, bytes: Vec<u8>) -> Piece {
    let Ok(signature) = Signature::deserialize(signature) else {
        return Piece::Data(bytes);
    };
    let mut delta = Vec::new();
    match diff(&signature.index(), &bytes, &mut delta) {
        Ok(()) if delta.len() < bytes.len() / 4 * 3 => Piece::Delta { segment, delta },
        _ => Piece::Data(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Place;
    use crate::version::xattrs_digest;

    /// The content is read on to its new end; the attributes are those of that moment, too.
    #[test]
    fn what_changes_while_it_is_read_is_sent_as_it_is_at_the_end() {
        let dir = crate::simulation::new_root();
        let at = dir.path().join("log");
        std::fs::write(&at, vec![1; 3 * SEGMENT]).unwrap();
        let root = Place::new(dir.path().into()).enter().unwrap();
        let path = RelPath::parse(b"log").unwrap();
        let pending = Pending::since(Mono::ZERO);
        let mut large = Outgoing::begin(&root, 0, path, pending, 1)
            .unwrap()
            .unwrap();
        large.base(0);
        large.step(&root, Span::from_millis(0)).unwrap();
        let mut file = File::options().append(true).open(&at).unwrap();
        io::Write::write_all(&mut file, b"more").unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(&file, "user.note", b"new", flags).unwrap();
        let (version, xattrs) = loop {
            match large.step(&root, Span::from_millis(0)).unwrap() {
                Step::Send(_) | Step::Busy => {}
                Step::Done {
                    version, xattrs, ..
                } => break (version, xattrs),
                Step::Wait | Step::Changed | Step::Differs => panic!("nobody changes it any more"),
            }
        };
        assert_eq!(version.size, 3 * SEGMENT as u64 + 4);
        assert_eq!(xattrs, [(b"user.note".to_vec(), b"new".to_vec())]);
        assert_eq!(version.xattrs, xattrs_digest(&xattrs));
    }
}
