//! Trees to replicate: made from a seed, described, looked for on the other side.
//!
//! The one thing to know: [`Entry`] is what a cheap look can tell (kind, size, time); that the content is
//! right is proved by [`super::compare`] after the clock was stopped.

use std::{
    fs::{self, File, Metadata},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Numbers from a seed (xorshift64): nothing here has to be unpredictable, only unlike.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same numbers.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.next() % if limit == 0 { 1 } else { limit }
    }

    /// Bytes that do not compress.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// Files of one directory.
pub const PER_DIRECTORY: usize = 1000;

/// Makes `count` files of `size.0` to `size.1` bytes in directories of [`PER_DIRECTORY`].
///
/// # Errors
/// As the file system refuses.
pub fn make_files(root: &Path, count: usize, size: (u64, u64), seed: u64) -> io::Result<()> {
    let mut dice = Dice::new(seed);
    let mut buffer = vec![0; usize::try_from(size.1).unwrap_or(0)];
    dice.fill(&mut buffer);
    fs::create_dir_all(root)?;
    for number in 0..count {
        let dir = root.join(format!("d{:04}", number / PER_DIRECTORY));
        if number % PER_DIRECTORY == 0 {
            fs::create_dir(&dir)?;
        }
        let length = size.0 + dice.below(size.1 - size.0 + 1);
        let content = &mut buffer[..usize::try_from(length).unwrap_or(0)];
        // No two files are alike; all of it anew for each would cost more than writing it.
        let own = content.len().min(64);
        dice.fill(&mut content[..own]);
        fs::write(dir.join(format!("f{number:07}")), content)?;
    }
    Ok(())
}

/// Makes one large file that does not compress.
///
/// # Errors
/// As the file system refuses.
pub fn make_large(path: &Path, bytes: u64, seed: u64) -> io::Result<()> {
    let mut dice = Dice::new(seed);
    let mut file = File::create(path)?;
    let mut block = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        dice.fill(&mut block);
        let length = left.min(block.len() as u64);
        file.write_all(&block[..usize::try_from(length).unwrap_or(block.len())])?;
        left -= length;
    }
    Ok(())
}

/// One thing below a directory, as a look tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Below the directory.
    pub path: PathBuf,
    /// Kind, and for what is no directory size and modification time.
    look: Look,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    kind: u32,
    size: u64,
    modified: (i64, i64),
}

impl Look {
    fn of(found: &Metadata) -> Self {
        let directory = found.is_dir();
        Self {
            kind: found.mode() & 0o170_000,
            size: if directory { 0 } else { found.size() },
            modified: if directory {
                (0, 0)
            } else {
                (found.mtime(), found.mtime_nsec())
            },
        }
    }
}

impl Entry {
    /// Whether `root` has it like this.
    #[must_use]
    pub fn is_at(&self, root: &Path) -> bool {
        fs::symlink_metadata(root.join(&self.path)).is_ok_and(|found| Look::of(&found) == self.look)
    }

    /// Whether `root` has nothing under its name.
    #[must_use]
    pub fn is_gone_from(&self, root: &Path) -> bool {
        fs::symlink_metadata(root.join(&self.path))
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}

/// What haarb keeps for itself in a directory; it is not replicated.
const OWN: &str = ".haarb";

/// Everything below a directory, sorted by path.
///
/// # Errors
/// As the file system refuses.
pub fn entries(root: &Path) -> io::Result<Vec<Entry>> {
    let mut all = Vec::new();
    let mut to_visit = vec![PathBuf::new()];
    while let Some(dir) = to_visit.pop() {
        for entry in fs::read_dir(root.join(&dir))? {
            let entry = entry?;
            let path = dir.join(entry.file_name());
            if path == Path::new(OWN) {
                continue;
            }
            let look = Look::of(&entry.metadata()?);
            if entry.file_type()?.is_dir() {
                to_visit.push(path.clone());
            }
            all.push(Entry { path, look });
        }
    }
    all.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(all)
}

/// Bytes of all files among these.
#[must_use]
pub fn bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.look.size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_listed_found_and_missed() {
        let dir = tempfile::tempdir().expect("a directory");
        make_files(dir.path(), 1500, (10, 20), 7).expect("files");
        fs::create_dir(dir.path().join(OWN)).expect("a directory");
        let all = entries(dir.path()).expect("a listing");
        assert_eq!(
            all.len(),
            1500 + 2,
            "files and directories, not haarb's own"
        );
        assert!((15_000..=30_000).contains(&bytes(&all)));
        assert!(all.iter().all(|entry| entry.is_at(dir.path())));
        let victim = &all[5];
        fs::write(dir.path().join(&victim.path), "else").expect("written");
        assert!(!victim.is_at(dir.path()) && !victim.is_gone_from(dir.path()));
        fs::remove_file(dir.path().join(&victim.path)).expect("removed");
        assert!(victim.is_gone_from(dir.path()));
    }
}
