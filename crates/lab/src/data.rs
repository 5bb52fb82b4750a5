//! A large file in the replicated directory, in which a lost or mixed-up piece can be recognised.

use std::{fs, io::Write as _, path::PathBuf};

use crate::{error::LabError, plan::ServerId, segment::Segment};

const NAME: &str = "large";
const MIB: usize = 1 << 20;

fn place(lab: &Segment, server: ServerId) -> PathBuf {
    let reserve = lab
        .plan()
        .reserves()
        .first()
        .map_or("", |name| *name)
        .to_owned();
    lab.server(server)
        .disk()
        .join("srv")
        .join(reserve)
        .join(NAME)
}

/// Writes the file on a server, `mib` MiB long.
///
/// # Errors
/// As the file system refuses.
pub fn write(lab: &Segment, server: ServerId, mib: usize) -> Result<(), LabError> {
    let path = place(lab, server);
    let write = || {
        let mut file = fs::File::create(&path)?;
        (0..mib).try_for_each(|number| file.write_all(&piece(number)))
    };
    write().map_err(LabError::file(&path))
}

/// How many MiB of the file a server has when it is whole; `None` when it has none, 0 when it is torn.
///
/// # Errors
/// As the file system refuses.
pub fn whole_mib(lab: &Segment, server: ServerId) -> Result<Option<usize>, LabError> {
    let path = place(lab, server);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LabError::file(path)(error)),
    };
    Ok(Some(whole(&bytes)))
}

/// Takes the file away again.
///
/// # Errors
/// As the file system refuses.
pub fn remove(lab: &Segment, server: ServerId) -> Result<(), LabError> {
    let path = place(lab, server);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LabError::file(path)(error))
        }
        _ => Ok(()),
    }
}

fn whole(bytes: &[u8]) -> usize {
    let pieces = bytes.len() / MIB;
    let intact = bytes.len() == pieces * MIB
        && bytes
            .chunks(MIB)
            .enumerate()
            .all(|(number, chunk)| chunk == piece(number));
    if intact { pieces } else { 0 }
}

/// A MiB that depends on its place (xorshift64), so that no two are alike and none compresses away.
fn piece(number: usize) -> Vec<u8> {
    let mut state = number as u64 + 0x9e37_79b9_7f4a_7c15;
    (0..MIB / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_or_mixed_up_file_is_not_whole() {
        let good: Vec<u8> = (0..2).flat_map(piece).collect();
        assert_eq!(whole(&good), 2);
        assert_eq!(whole(&good[..MIB + 1]), 0);
        let mixed: Vec<u8> = [1, 0].into_iter().flat_map(piece).collect();
        assert_eq!(whole(&mixed), 0);
    }
}
