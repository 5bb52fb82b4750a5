//! One line about each message, for the trace and the digest of a world.
//!
//! The one thing to know: two runs of one world give the same lines, so what differs from run to
//! run (times of this machine's clock, content) is left out of them.

use super::USERS_TIME;
use crate::message::{Down, Up};

/// A message without its content.
pub(super) fn outline(message: &Down) -> String {
    let what = match message {
        Down::Put { path, version, .. } => format!("put {path:?} {version:?}"),
        Down::Part { .. } => "part".into(),
        Down::Welcome { .. } => "welcome".into(),
        message => format!("{message:?}"),
    };
    outlined(&what)
}

/// An answer without what differs from run to run.
pub(super) fn outline_up(message: &Up) -> String {
    match message {
        Up::Listing { path, entries, .. } => {
            let names: Vec<_> = entries.iter().map(|entry| &entry.name).collect();
            format!("listing of {path:?}: {names:?}")
        }
        Up::Ack { upto, problems } => {
            let failed: Vec<_> = problems.iter().map(|(seq, _)| seq).collect();
            format!("ack up to {upto}, failed: {failed:?}")
        }
        message => format!("{message:?}"),
    }
}

/// A line without the names and times that are others in each run.
fn outlined(line: &str) -> String {
    let mut parts = line.split("mtime ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (time, rest) = part.split_once(',').unwrap_or((part, ""));
        let users = time
            .parse()
            .is_ok_and(|time: i64| time < USERS_TIME / 2 * 3);
        out += if users { time } else { "now" };
        out += rest;
    }
    out
}
