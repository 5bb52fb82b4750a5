//! The disk of a server: a file system of its own, which outlives the power and can be full.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{FaultTimes, Server};
use crate::error::LabError;

/// Of a server's disk.
const DISK_SIZE: &str = "mode=755,size=256m";
/// Of what a whole Debian system changes: packages, and their replacements beside them.
const CHANGES_SIZE: &str = "mode=755,size=2g";
const CHANGES: &str = "changes";
/// The file that fills it.
const BALLAST: &str = "ballast";

impl Server {
    /// A disk of its own, so that it can be full.
    pub(super) fn mount_disk(&self) -> Result<(), LabError> {
        let disk = self.disk();
        fs::create_dir_all(&disk).map_err(LabError::file(&disk))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), &disk, Some("tmpfs"), flags, Some(DISK_SIZE))
            .map_err(|errno| LabError::file(disk)(errno.into()))
    }

    /// A file system for all that a whole Debian system changes; returns the directory. It outlives the
    /// power, as the disk does.
    pub(super) fn mount_changes(&self) -> Result<PathBuf, LabError> {
        let changes = self.dir.join(CHANGES);
        fs::create_dir_all(&changes).map_err(LabError::file(&changes))?;
        mount(
            Some("tmpfs"),
            &changes,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(CHANGES_SIZE),
        )
        .map_err(|errno| LabError::file(&changes)(errno.into()))?;
        Ok(changes)
    }

    /// Fills its disk to the last byte.
    ///
    /// # Errors
    /// As the file system refuses, beside the refusal that is wanted.
    pub fn fill_disk(&self) -> Result<FaultTimes, LabError> {
        let path = self.disk().join(BALLAST);
        let mut file = fs::File::create(&path).map_err(LabError::file(&path))?;
        let block = vec![0x55; 1 << 16];
        FaultTimes::of(|| {
            // The last bytes are filled with smaller pieces.
            let mut length = block.len();
            while length > 0 {
                match file.write(&block[..length]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => length /= 2,
                    Err(error) => return Err(LabError::file(&path)(error)),
                }
            }
            Ok(())
        })
    }

    /// Takes away what filled the disk, if it was filled.
    ///
    /// # Errors
    /// As the file system refuses.
    pub fn empty_disk(&self) -> Result<(), LabError> {
        let path = self.disk().join(BALLAST);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LabError::file(path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Its disk: `etc` is its `/etc/haarb`, `state` its `/var/lib/haarb`, `srv` its `/srv`, `log` its `/var/log`.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }

    /// Takes the disk away; what lies on it is lost.
    pub(super) fn unmount_disk(&self) {
        let _ = umount2(&self.disk(), MntFlags::MNT_DETACH);
        // There only where it is a whole Debian system.
        let _ = umount2(&self.dir.join(CHANGES), MntFlags::MNT_DETACH);
    }
}
