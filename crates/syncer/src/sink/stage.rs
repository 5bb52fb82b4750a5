//! What was received waits here until a batch is made durable, visible and acknowledged.
//!
//! It replaces nothing itself: [`Apply`] does. The one thing to know: every number is acknowledged once
//! and in its order, with what failed named beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use rustix::fs::{self, AtFlags, Mode, OFlags};

use super::apply::{Apply, Op, Staged, failed};
use super::transfer::{may_be_kept, write_sparse};
use super::{Sink, SinkError};
use crate::attributes;
use crate::message::{Growth, Problem, Up, Xattrs};
use crate::path::RelPath;
use crate::root::{Root, os};
use crate::version::{Kind, Version};

/// A batch is made durable at the latest with this many operations or bytes, so that an
/// acknowledgement never waits long behind a stream that does not pause.
const BATCH_OPS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Sink {
    pub(super) fn count_seq(&mut self, seq: u64) -> Result<(), SinkError> {
        if seq != self.last_seq + 1 {
            return Err(SinkError::Protocol("a number is missing or came twice"));
        }
        self.last_seq = seq;
        Ok(())
    }

    pub(super) fn stage(
        &mut self,
        seq: u64,
        dir: u16,
        path: RelPath,
        op: Op,
        bytes: usize,
    ) -> Result<(), SinkError> {
        self.fence.pass()?;
        self.tree(dir)?;
        self.count_seq(seq)?;
        let also = Vec::new();
        self.staged.entry(dir).or_default().push(Staged {
            seq,
            also,
            path,
            op,
        });
        self.staged_ops += 1;
        self.staged_bytes += bytes;
        if self.staged_ops >= BATCH_OPS_MAX || self.staged_bytes >= BATCH_BYTES_MAX {
            return self.flush();
        }
        Ok(())
    }

    /// A file got longer. If it does so again before it is stored, both are one.
    pub(super) fn append(
        &mut self,
        seq: u64,
        dir: u16,
        path: RelPath,
        growth: Growth,
    ) -> Result<(), SinkError> {
        self.tree(dir)?;
        let batch = self
            .staged
            .get_mut(&dir)
            .map_or(&mut [][..], |b| &mut b[..]);
        let last = batch.iter_mut().rev().find(|staged| staged.path == path);
        match last {
            Some(Staged {
                seq: first,
                also,
                op: Op::Append(earlier),
                ..
            }) if earlier.from.checked_add(earlier.tail.len() as u64) == Some(growth.from) => {
                also.push(std::mem::replace(first, seq));
                let bytes = growth.tail.len();
                earlier.tail.extend(growth.tail);
                earlier.mtime_ns = growth.mtime_ns;
                earlier.check = growth.check;
                self.fence.pass()?;
                self.count_seq(seq)?;
                self.staged_bytes += bytes;
                if self.staged_bytes >= BATCH_BYTES_MAX {
                    return self.flush();
                }
                return Ok(());
            }
            // What it builds on is not stored yet.
            Some(_) => self.flush()?,
            None => {}
        }
        let bytes = growth.tail.len();
        self.stage(seq, dir, path, Op::Append(growth), bytes)
    }

    /// The operation for a whole message; a small file is written to its temporary place.
    pub(super) fn put(
        &mut self,
        dir: u16,
        version: Version,
        content: Vec<u8>,
        sparse: bool,
        xattrs: Xattrs,
    ) -> Op {
        let whole = version.is_directory()
            || (*blake3::hash(&content).as_bytes() == version.hash
                && content.len() as u64 == version.size);
        if !whole {
            return Op::Failed(Problem::Failed("its content is not what it says".into()));
        }
        match version.kind {
            Kind::Directory => Op::Directory { version, xattrs },
            Kind::Symlink => Op::Symlink {
                target: content,
                version,
            },
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => {
                Op::of_node(version, &content).unwrap_or_else(Op::Failed)
            }
            Kind::File => self
                .write_small(dir, &version, &content, sparse, &xattrs)
                .unwrap_or_else(|error| Op::Failed(Problem::Failed(error))),
        }
    }

    fn write_small(
        &mut self,
        dir: u16,
        version: &Version,
        content: &[u8],
        sparse: bool,
        xattrs: &Xattrs,
    ) -> Result<Op, String> {
        self.next_name += 1;
        let name = format!("new-{}", self.next_name);
        let Some(tree) = self.trees.get_mut(usize::from(dir)) else {
            return Err("no such directory".into());
        };
        let root = tree.place.enter().map_err(|e| e.to_string())?;
        let write = || -> io::Result<std::fs::File> {
            let tmp = root.private(&[b"tmp"])?;
            let flags = OFlags::WRONLY
                | OFlags::CREATE
                | OFlags::TRUNC
                | OFlags::NOFOLLOW
                | OFlags::CLOEXEC;
            let fd = fs::openat(&tmp, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
            let mut file = std::fs::File::from(fd);
            if sparse {
                write_sparse(&file, 0, content)?;
                file.set_len(content.len() as u64)?;
            } else {
                file.write_all(content)?;
            }
            attributes::apply(&file, version, xattrs)?;
            Ok(file)
        };
        let file = write().map_err(|error| {
            // On a full disk what was written of it is room that other files need.
            if let Ok(tmp) = root.private(&[b"tmp"]) {
                let _ = fs::unlinkat(&tmp, name.as_str(), AtFlags::empty());
            }
            format!("cannot be written: {error}")
        })?;
        Ok(Op::File {
            file,
            name,
            version: *version,
            grown: None,
        })
    }

    /// Makes everything that was staged durable and visible, and acknowledges it.
    pub(crate) fn flush(&mut self) -> Result<(), SinkError> {
        self.staged_ops = 0;
        self.staged_bytes = 0;
        for (dir, batch) in std::mem::take(&mut self.staged) {
            let Some(tree) = self.trees.get_mut(usize::from(dir)) else {
                continue;
            };
            let tried: Vec<(u64, RelPath)> =
                batch.iter().map(|s| (s.seq, s.path.clone())).collect();
            let found = match tree.place.enter() {
                Ok(root) => Apply::new(tree, root, &self.fence, &self.stamp).run(batch)?,
                Err(error) => {
                    tree.error = error.to_string();
                    let problem = Problem::Failed(error.to_string());
                    failed(batch.iter(), &problem)
                }
            };
            if !found.is_empty() {
                self.incomplete.insert(dir);
            }
            // Not in step: one operation can answer for several numbers.
            let problems: BTreeMap<u64, &Problem> =
                found.iter().map(|(seq, problem)| (*seq, problem)).collect();
            for (seq, path) in tried {
                match problems.get(&seq) {
                    Some(Problem::Failed(why)) => tree.tried(path, Some(why)),
                    Some(Problem::NeedContent) => {}
                    None => tree.tried(path, None),
                }
            }
            self.problems.extend(found);
        }
        for dir in std::mem::take(&mut self.marks) {
            self.mark(dir)?;
        }
        if self.acked < self.last_seq {
            self.fence.pass()?;
            self.acked = self.last_seq;
            self.out.push(Up::Ack {
                upto: self.acked,
                problems: std::mem::take(&mut self.problems),
            });
        }
        Ok(())
    }

    /// The source says that all it has in this directory was sent.
    fn mark(&mut self, dir: u16) -> Result<(), SinkError> {
        self.fence.pass()?;
        let seq = self.last_seq;
        if self.incomplete.remove(&dir) {
            // It did not know yet what failed here: what stands there instead may be the only
            // copy of something, and must not count as common. It will say so again.
            self.problems.push((seq, Problem::NeedContent));
            return Ok(());
        }
        let busy: Vec<_> = self.transfers.values().map(|t| t.name.clone()).collect();
        let tree = self.tree(dir)?;
        let reached = tree
            .place
            .enter()
            .map_err(|e| e.to_string())
            .and_then(|root| {
                tree.spares.grow_old(&root);
                let spares = tree.spares.names();
                sweep(&root, &busy, &spares).map_err(|e| e.to_string())?;
                tree.reached_sync(&root).map_err(|e| e.to_string())
            });
        if let Err(error) = reached {
            tree.error.clone_from(&error);
            self.problems.push((seq, Problem::Failed(error)));
        }
        Ok(())
    }
}

/// Removes what earlier sessions left in the temporary place.
fn sweep(root: &Root, busy: &[String], spares: &BTreeSet<String>) -> io::Result<()> {
    let tmp = root.private(&[b"tmp"])?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = fs::openat(&tmp, ".", flags, Mode::empty())?;
    for entry in fs::Dir::read_from(&open)?.flatten() {
        let name = entry.file_name().to_bytes();
        let used = may_be_kept(name) && busy.iter().any(|part| part.as_bytes()[5..] == name[5..]);
        let spare = std::str::from_utf8(name).is_ok_and(|name| spares.contains(name));
        if name != b"." && name != b".." && !used && !spare {
            fs::unlinkat(&tmp, os(name), AtFlags::empty())?;
        }
    }
    Ok(())
}
