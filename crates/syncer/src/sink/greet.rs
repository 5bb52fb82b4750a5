//! Who the source is, what it says of its directories, and what is in ours when it asks.
//!
//! It changes no user's file. The one thing to know: a source with a lower epoch than was seen here is
//! refused, whatever else it says.

use super::{Sink, SinkError, aside};
use crate::message::{DirWelcome, Down, Refusal, Up};
use crate::path::RelPath;
use crate::source::forget_question;

/// Bytes of one part of a listing.
const LISTING_BYTES: usize = 256 * 1024;

impl Sink {
    pub(super) fn take_first(&mut self, message: Down) -> Result<(), SinkError> {
        match message {
            Down::Ping => Ok(()),
            Down::Welcome {
                node,
                epoch,
                directories,
                ..
            } => self.welcome(&node, epoch, &directories),
            Down::Refuse { why, epoch } => Err(SinkError::Refused(match why {
                Refusal::Protocol => "it speaks another version of the protocol: both servers need the same version of haarb"
                        .into(),
                Refusal::NotSource => "it is not the source of this reserve now".into(),
                Refusal::LowerEpoch => format!("it is at epoch {epoch}, behind ours"),
                Refusal::Directories => "its directories of this reserve differ from ours".into(),
            })),
            _ => Err(SinkError::Protocol("no welcome first")),
        }
    }

    fn welcome(
        &mut self,
        node: &str,
        epoch: u64,
        directories: &[DirWelcome],
    ) -> Result<(), SinkError> {
        if node != self.source {
            return Err(SinkError::WrongSource {
                ours: self.source.clone(),
                theirs: node.to_owned(),
            });
        }
        if epoch < self.epoch {
            return Err(SinkError::LowerEpoch {
                ours: self.epoch,
                theirs: epoch,
            });
        }
        if directories.len() != self.trees.len() {
            return Err(SinkError::Protocol("another number of directories"));
        }
        self.epoch = epoch;
        self.stamp = aside::stamp(epoch, &self.wall);
        self.welcomed = true;
        let mut look_again = false;
        for (tree, theirs) in self.trees.iter_mut().zip(directories) {
            match tree.leave_out(&theirs.exclude) {
                Ok(other) => look_again |= other,
                Err(error) => tree.error = error,
            }
        }
        if look_again {
            return Err(SinkError::Excludes);
        }
        for (tree, theirs) in self.trees.iter_mut().zip(directories) {
            if !theirs.error.is_empty() {
                tree.error = format!("stopped by the source: {}", theirs.error);
                tree.stopped_there = true;
            }
            if !tree.error.is_empty() {
                continue;
            }
            let joined = tree
                .place
                .enter()
                .map_err(|e| e.to_string())
                .and_then(|root| {
                    // A question of the time when this was the source.
                    forget_question(&root);
                    tree.join(&root, theirs.lineage, node)
                        .map_err(|e| e.to_string())
                });
            if let Err(error) = joined {
                tree.error = error;
            }
        }
        Ok(())
    }

    pub(super) fn list(&mut self, dir: u16, path: &RelPath) -> Result<(), SinkError> {
        // What was received before belongs to what is listed.
        self.flush()?;
        let entries = self.tree(dir)?.listing(path);
        let mut rest = &entries[..];
        loop {
            let mut bytes = 0;
            let fits = rest
                .iter()
                .take_while(|entry| {
                    bytes += entry.name.len() + 128;
                    bytes <= LISTING_BYTES
                })
                .count();
            let (part, later) = rest.split_at(fits);
            rest = later;
            self.out.push(Up::Listing {
                dir,
                path: path.clone(),
                entries: part.to_vec(),
                last: rest.is_empty(),
            });
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}
