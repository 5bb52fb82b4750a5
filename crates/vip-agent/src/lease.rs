//! The leases in a small file, so that a restarted agent knows which it may keep.
//!
//! Why a file: the kernel's own lifetimes are whole seconds and end later than the lease, so
//! reading a lease back from them would lengthen it; the file has the exact moment, and the
//! highest epoch besides. It is written in place, after the addresses and announcements and
//! never before them: one `pwrite` into a file of the run directory (a tmpfs), no sync. A
//! record of an earlier boot, or one that cannot be read to its end, counts as none; then
//! leftovers are removed at once, which is the safe side.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use haarb_model::{Epoch, Mono, ReserveName};

use crate::error::AgentError;
use crate::plan::Lease;

const FILE: &str = "vip-agent.leases";
const END: &str = "end";
/// Longer records are not ours.
const BYTES_MAX: u64 = 1 << 20;

/// The file.
#[derive(Debug)]
pub struct Record {
    file: File,
    boot: String,
    written: String,
}

impl Record {
    /// Opens the file in `run_dir`, made if need be.
    ///
    /// # Errors
    /// [`AgentError::Record`] if it cannot be opened for writing.
    pub fn open(run_dir: &Path) -> Result<Self, AgentError> {
        let path = run_dir.join(FILE);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = opened.map_err(|reason| AgentError::Record { path, reason })?;
        // Without it no record is believed, which is the safe side.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self {
            file,
            boot: boot.trim().to_owned(),
            written: String::new(),
        })
    }

    /// What was recorded last in this boot.
    #[must_use]
    pub fn read(&self) -> Vec<Lease> {
        let length = self.file.metadata().map_or(0, |m| m.len().min(BYTES_MAX));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        if self.boot.is_empty() || self.file.read_exact_at(&mut bytes, 0).is_err() {
            return Vec::new();
        }
        let text = String::from_utf8_lossy(&bytes);
        parse(&text, &self.boot).unwrap_or_default()
    }

    /// Records the leases, if they changed. A failure is logged and nothing else: it costs a
    /// restart without a gap, not the lease.
    pub fn write(&mut self, leases: impl Iterator<Item = Lease>) {
        let text = render(&self.boot, leases);
        if text == self.written {
            return;
        }
        let outcome = self.file.write_all_at(text.as_bytes(), 0).and_then(|()| {
            match text.len() < self.written.len() {
                true => self.file.set_len(text.len() as u64),
                false => Ok(()),
            }
        });
        if let Err(error) = outcome {
            tracing::warn!("cannot record the leases ({error}): a restart would drop the VIPs");
        }
        self.written = text;
    }
}

fn render(boot: &str, leases: impl Iterator<Item = Lease>) -> String {
    let mut text = format!("{boot}\n");
    for lease in leases {
        let Lease {
            reserve,
            epoch_seen,
            epoch_held,
            until,
        } = lease;
        let until = until.as_micros();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{reserve} {epoch_seen} {epoch_held} {until}");
    }
    text.push_str(END);
    text.push('\n');
    text
}

/// `None` for the record of another boot and for one that is not whole.
fn parse(text: &str, boot: &str) -> Option<Vec<Lease>> {
    let mut lines = text.lines();
    if lines.next()? != boot {
        return None;
    }
    let mut leases = Vec::new();
    loop {
        let line = lines.next()?;
        if line == END {
            return Some(leases);
        }
        let mut words = line.split(' ');
        leases.push(Lease {
            reserve: ReserveName::new(words.next()?).ok()?,
            epoch_seen: Epoch(words.next()?.parse().ok()?),
            epoch_held: Epoch(words.next()?.parse().ok()?),
            until: Mono::from_micros(words.next()?.parse().ok()?),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(name: &str, until: u64) -> Lease {
        Lease {
            reserve: ReserveName::new(name).unwrap(),
            epoch_seen: Epoch(7),
            epoch_held: Epoch(6),
            until: Mono::from_micros(until),
        }
    }

    #[test]
    fn what_is_recorded_is_read_again() {
        let leases = vec![lease("sip", 1_234_567), lease("web", 0)];
        let text = render("boot-1", leases.clone().into_iter());
        assert_eq!(parse(&text, "boot-1"), Some(leases.clone()));
        let overwritten = text.clone() + "web 9 9 9\nend\n";
        assert_eq!(
            parse(&overwritten, "boot-1"),
            Some(leases),
            "the tail of a longer record before it does not matter"
        );
        assert_eq!(parse(&text, "boot-2"), None, "another boot");
        for cut in 0..text.len() - 1 {
            assert_eq!(parse(&text[..cut], "boot-1"), None, "cut at {cut}");
        }
    }
}
