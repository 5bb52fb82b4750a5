//! The cluster key: 32 random bytes that every server of a cluster shares.
//!
//! It is never used itself: every use derives a key of its own, so that no use can weaken
//! another. The file holds 64 hexadecimal characters in one line and belongs to its owner
//! alone. The key never appears in a log, a debug print or an error.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const BYTES: usize = 32;
/// A key file has 65 bytes; whatever is longer than this is something else.
const FILE_BYTES_MAX: u64 = 256;

/// The secret of one cluster.
#[derive(Clone)]
pub struct ClusterKey([u8; BYTES]);

/// Why there is no key. One line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be opened or read.
    #[error(
        "{}: the cluster key cannot be read ({reason}); make one with `haarb key generate {}` and copy it to every server",
        path.display(), path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        reason: io::Error,
    },
    /// Group or others may do something with it.
    #[error(
        "{}: the cluster key is open to others (mode {mode:04o}); run `chmod 600 {}`, and if a stranger may have read it, make a new one",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no key.
    #[error(
        "{}: this is no cluster key ({what}); expected is one line of 64 hexadecimal characters, as `haarb key generate` writes it",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; nothing of its content.
        what: String,
    },
    /// `generate` found something there.
    #[error(
        "{}: exists already and was not touched; the servers of a cluster share one key, so move it away only if you mean to replace it on all of them",
        path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("{}: the cluster key cannot be written ({reason}); check that the directory exists and may be written", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        reason: io::Error,
    },
    /// The kernel has no random numbers.
    #[error("no random numbers from the kernel ({0}); no key was made")]
    NoRandom(getrandom::Error),
}

/// Whether others than the key's owner may access it. What systemd shows to a daemon
/// (`LoadCredential=`, systemd.exec(5)) is that daemon's alone although its group bits are set: they
/// are the mask of an access control list, in a directory that nobody else may enter.
const fn is_exposed(mode: u32, credential: bool) -> bool {
    let others = if credential { 0o037 } else { 0o077 };
    mode & others != 0
}

/// Whether the service manager shows this file to this daemon alone.
fn is_credential(path: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY")
        .is_some_and(|dir| path.parent() == Some(Path::new(&dir)))
}

impl ClusterKey {
    /// A key from its bytes: for tests, and for a key that arrived another way than by file.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyError`]: it cannot be read, others may access it, or it is no key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let unreadable = |reason| KeyError::Unreadable {
            path: path.into(),
            reason,
        };
        let malformed = |what: String| KeyError::Malformed {
            path: path.into(),
            what,
        };
        // Asked before it is opened: opening a FIFO would wait for its writer.
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(malformed("not a file".into()));
        }
        let file = File::open(path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        let mode = about.permissions().mode() & 0o7777;
        if is_exposed(mode, is_credential(path)) {
            return Err(KeyError::Exposed {
                path: path.into(),
                mode,
            });
        }
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        parse_hex(text.strip_suffix(b"\n").unwrap_or(&text))
            .map(Self)
            .map_err(malformed)
    }

    /// Makes a new key and writes it, for its owner alone. Never replaces a file.
    ///
    /// # Errors
    /// [`KeyError`]: something is there, it cannot be written, or there are no random numbers.
    pub fn generate(path: &Path) -> Result<Self, KeyError> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(KeyError::NoRandom)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|reason| match reason.kind() {
                io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.into() },
                _ => KeyError::Unwritable {
                    path: path.into(),
                    reason,
                },
            })?;
        write_key(file, &bytes).map_err(|reason| {
            // Half a key is worse than none; it is ours, since we have just created it.
            let _ = fs::remove_file(path);
            KeyError::Unwritable {
                path: path.into(),
                reason,
            }
        })?;
        Ok(Self(bytes))
    }

    /// A key for one use. `context` must be a constant of the program that no other use has,
    /// as in `"haarb 1 datagrams"` (the BLAKE3 paper, section 7.2, says why).
    #[must_use]
    pub fn derive(&self, context: &str) -> [u8; BYTES] {
        blake3::derive_key(context, &self.0)
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

fn write_key(mut file: File, bytes: &[u8; BYTES]) -> io::Result<()> {
    let mut line: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    line.push('\n');
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

fn parse_hex(text: &[u8]) -> Result<[u8; BYTES], String> {
    if text.len() != 2 * BYTES {
        return Err(match text.len() {
            0 => "it is empty".into(),
            length if u64::try_from(length).is_ok_and(|l| l + 1 >= FILE_BYTES_MAX) => {
                "it is too long".into()
            }
            length => format!("it has {length} characters"),
        });
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { continue };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Ok(bytes)
}

fn digit(character: u8) -> Result<u8, String> {
    char::from(character)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
        .ok_or_else(|| "it has characters that are not hexadecimal".into())
}

#[cfg(test)]
mod tests;
