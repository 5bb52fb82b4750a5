//! A history of file versions in which a torn, lost or mixed-up version can be recognised.
//!
//! Every period the writer replaces the file `state` (temporary file, then rename) and appends one line
//! to `log`. Every version carries its number, the writer's name and start, and a checksum over all of
//! it and a body whose bytes follow from the number. Nothing here knows of haarb: it is what any
//! service does with its data.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use serde::Serialize;

use crate::clock::Stamp;

/// Length of the body of one version of `state`, in bytes; long enough to be torn.
const BODY_LEN: usize = 4096;

/// One version, as found in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Counted from 1, continued by whoever takes over.
    pub number: u64,
    /// Who wrote it.
    pub node: String,
    /// When its writer was started, `CLOCK_BOOTTIME` nanoseconds.
    pub started: u64,
}

/// What a directory with a history holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The version in `state`.
    pub state: Option<Version>,
    /// `state` is there but is no whole version.
    pub state_torn: bool,
    /// The last whole line of `log`.
    pub log_last: Option<Version>,
    /// Lines of `log` that are no whole version.
    pub log_torn: usize,
    /// Numbers that `log` passes over.
    pub log_missing: u64,
    /// The highest number in `log` per writer.
    pub last_by: BTreeMap<String, u64>,
}

impl Found {
    /// Every version in the directory is whole.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        !self.state_torn && self.log_torn == 0
    }
}

/// Writes one version every `period` until an error. Continues the numbers it finds in `dir`.
///
/// # Errors
/// The first that the file system reports.
pub fn keep_writing(dir: &Path, node: &str, started: Stamp, period: Duration) -> io::Result<()> {
    let found = inspect(dir)?;
    let last = |version: Option<Version>| version.map_or(0, |version| version.number);
    let mut number = last(found.state).max(last(found.log_last));
    let mut due = Stamp::now();
    loop {
        number += 1;
        write_one(
            dir,
            &Version {
                number,
                node: node.to_owned(),
                started: started.0,
            },
        )?;
        due = due.plus(period).max(Stamp::now().minus(period));
        std::thread::sleep(due.since(Stamp::now()));
    }
}

/// Writes one version into `state` and `log`.
///
/// # Errors
/// As the file system reports.
pub fn write_one(dir: &Path, version: &Version) -> io::Result<()> {
    let temporary = dir.join(".state.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(state_text(version).as_bytes())?;
    file.sync_data()?;
    drop(file);
    fs::rename(&temporary, dir.join("state"))?;
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("log"))?;
    log.write_all(format!("{}\n", line(version)).as_bytes())
}

/// Reads and judges the history in `dir`; an empty directory is an empty history.
///
/// # Errors
/// As the file system reports, except for files that do not exist.
pub fn inspect(dir: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    if let Some(text) = read(&dir.join("state"))? {
        found.state = parse_state(&text);
        found.state_torn = found.state.is_none();
    }
    let log = read(&dir.join("log"))?.unwrap_or_default();
    for text in log.split_inclusive('\n') {
        // The end of a file that is being appended to may be seen half written; it is no version yet.
        let Some(text) = text.strip_suffix('\n') else {
            continue;
        };
        let Some(version) = parse_line(text) else {
            found.log_torn += 1;
            continue;
        };
        if let Some(last) = &found.log_last {
            found.log_missing += version.number.saturating_sub(last.number + 1);
        }
        let last = found.last_by.entry(version.node.clone()).or_default();
        *last = version.number.max(*last);
        found.log_last = Some(version);
    }
    Ok(found)
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn line(version: &Version) -> String {
    let text = format!(
        "version {} of {} started {}",
        version.number, version.node, version.started
    );
    format!("{text} sum {:016x}", checksum(text.as_bytes()))
}

fn parse_line(text: &str) -> Option<Version> {
    let (body, sum) = text.rsplit_once(" sum ")?;
    if sum.len() != 16 || u64::from_str_radix(sum, 16).ok()? != checksum(body.as_bytes()) {
        return None;
    }
    let mut words = body.split(' ');
    let (_, number, _, node, _, started) = (
        words.next()?,
        words.next()?,
        words.next()?,
        words.next()?,
        words.next()?,
        words.next()?,
    );
    Some(Version {
        number: number.parse().ok()?,
        node: node.to_owned(),
        started: started.parse().ok()?,
    })
}

fn state_text(version: &Version) -> String {
    let letter = char::from(b'a' + u8::try_from(version.number % 26).unwrap_or(0));
    let body: String = std::iter::repeat_n(letter, BODY_LEN).collect();
    format!("{}\n{body}\nend {}\n", line(version), version.number)
}

fn parse_state(text: &str) -> Option<Version> {
    let version = parse_line(text.lines().next()?)?;
    (state_text(&version) == text).then_some(version)
}

/// FNV-1a, 64 bits: enough to tell a whole version from a torn one; no protection against intent.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64) -> Version {
        Version {
            number,
            node: "alpha".into(),
            started: 5,
        }
    }

    #[test]
    fn a_history_is_read_back() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(inspect(dir.path()).expect("empty"), Found::default());
        for number in 1..=3 {
            write_one(dir.path(), &version(number)).expect("written");
        }
        let found = inspect(dir.path()).expect("readable");
        assert_eq!(
            (found.state, found.log_last),
            (Some(version(3)), Some(version(3)))
        );
        assert_eq!(
            (found.state_torn, found.log_torn, found.log_missing),
            (false, 0, 0)
        );
    }

    #[test]
    fn torn_and_missing_versions_are_seen() {
        let dir = tempfile::tempdir().expect("a directory");
        for number in [1, 2, 5] {
            write_one(dir.path(), &version(number)).expect("written");
        }
        let path = dir.path().join("state");
        let whole = fs::read(&path).expect("state");
        for length in [0, 10, 60, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).expect("cut");
            assert!(
                inspect(dir.path()).expect("readable").state_torn,
                "cut to {length} bytes"
            );
        }
        let mut mixed = whole;
        mixed[100] ^= 1;
        fs::write(&path, mixed).expect("mixed");
        assert!(inspect(dir.path()).expect("readable").state_torn);
        fs::write(
            dir.path().join("log"),
            "version 1 of alpha started 5 sum 00\n",
        )
        .expect("cut log");
        assert_eq!(inspect(dir.path()).expect("readable").log_torn, 1);
    }

    #[test]
    fn gaps_in_the_log_are_counted() {
        let dir = tempfile::tempdir().expect("a directory");
        for number in [1, 2, 5] {
            write_one(dir.path(), &version(number)).expect("written");
        }
        assert_eq!(inspect(dir.path()).expect("readable").log_missing, 2);
    }
}
