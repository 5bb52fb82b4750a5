//! Large files as their messages come: what is here to build on, the pieces, the end.
//!
//! It holds no bytes: [`Transfer`] does. The one thing to know: a file that cannot be received is
//! answered for at its end, where there is a number to answer to.

use super::apply::Op;
use super::transfer::{Transfer, Unfinished};
use super::{Sink, SinkError};
use crate::attributes;
use crate::message::{Problem, Up, Xattrs};
use crate::path::RelPath;
use crate::version::Version;

/// Segments that the source may ask for at once.
pub(crate) const SUMS_MAX: u32 = 64;

impl Sink {
    pub(super) fn begin(
        &mut self,
        transfer: u64,
        dir: u16,
        path: RelPath,
        sparse: bool,
    ) -> Result<(), SinkError> {
        self.fence.pass()?;
        // What was received before may be the base of what comes.
        self.flush()?;
        let begun = match self.tree(dir)?.place.enter() {
            Ok(root) => Transfer::begin(&root, dir, path, sparse).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let segments = match begun {
            Ok(begun) => {
                let segments = begun.segments();
                self.transfers.insert(transfer, begun);
                segments
            }
            Err(error) => {
                // Told at the end of the transfer, where there is a number to answer to.
                tracing::warn!("a large file cannot be received: {error}");
                self.incomplete.insert(dir);
                0
            }
        };
        self.out.push(Up::Base { transfer, segments });
        Ok(())
    }

    pub(super) fn sums(&mut self, number: u64, first: u64, count: u32) -> Result<(), SinkError> {
        if count > SUMS_MAX {
            return Err(SinkError::Protocol("too many segments asked for"));
        }
        let Some(transfer) = self.transfers.get(&number) else {
            return Ok(());
        };
        for segment in first..first.saturating_add(u64::from(count)) {
            // A segment that cannot be read is described as one that nothing is equal to.
            let answer = transfer
                .signature(number, segment)
                .unwrap_or(Up::Signature {
                    transfer: number,
                    segment,
                    hash: [0; 32],
                    signature: Vec::new(),
                });
            self.out.push(answer);
        }
        Ok(())
    }

    pub(super) fn end(
        &mut self,
        seq: u64,
        number: u64,
        version: &Version,
        xattrs: &Xattrs,
    ) -> Result<(), SinkError> {
        let Some(transfer) = self.transfers.remove(&number) else {
            // It could not even begin; what it was about is known to the source.
            self.count_seq(seq)?;
            self.problems.push((
                seq,
                Problem::Failed("the large file could not be received here".into()),
            ));
            return Ok(());
        };
        let (dir, path) = (transfer.dir, transfer.path.clone());
        let op = match transfer.finish(version) {
            Ok((file, name)) => match attributes::apply(&file, version, xattrs) {
                Ok(()) => Op::File {
                    file,
                    name,
                    version: *version,
                    grown: None,
                },
                Err(error) => Op::Failed(Problem::Failed(error.to_string())),
            },
            Err(Unfinished::Differs) => Op::Failed(Problem::NeedContent),
            Err(Unfinished::Failed(error)) => Op::Failed(Problem::Failed(error)),
        };
        self.stage(seq, dir, path, op, 0)
    }
}
