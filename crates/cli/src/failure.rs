//! How a command ends badly, and how its output ends when nobody reads it.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use haarb_daemon::Voice;

/// Why a command was refused or failed: one line per problem, each with what, why and what
/// to do. A reader of standard output that went away is not one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Lines(String),
    /// Standard output was closed: nobody wants the rest.
    NobodyReads,
    /// It has been said already.
    Said,
}

impl Failure {
    pub(crate) fn new(lines: impl Into<String>) -> Self {
        Self::Lines(lines.into())
    }

    /// Says it on standard error and gives the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::NobodyReads => ExitCode::SUCCESS,
            Self::Said => ExitCode::FAILURE,
            Self::Lines(lines) => {
                let mut err = std::io::stderr().lock();
                for line in lines.lines() {
                    let _ = writeln!(err, "haarb: {line}");
                }
                ExitCode::FAILURE
            }
        }
    }

    /// Says it where nobody may read: without waiting.
    pub(crate) fn say(&self, voice: &Voice) {
        if let Self::Lines(lines) = self {
            for line in lines.lines() {
                voice.say(format!("haarb: {line}"));
            }
        }
    }
}

/// Writes to standard output, at once.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| match e.kind() {
            ErrorKind::BrokenPipe => Failure::NobodyReads,
            _ => Failure::new(format!("cannot write to standard output: {e}")),
        })
}
