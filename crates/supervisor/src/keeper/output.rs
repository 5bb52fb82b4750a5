//! What a service prints, line by line onto the daemon's standard error, with its name.
//!
//! Never waits: when nobody reads standard error, lines are dropped and counted, because a
//! keeper that stands still cannot end a lease.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::OnceLock;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Longer lines are printed in pieces: a pipe takes this much at once without waiting.
const PIECE_BYTES_MAX: usize = 3500;
/// How much is read in one turn: the rest waits, so that a service that prints without end
/// does not keep its keeper from anything else.
const TURN_BYTES_MAX: usize = 64 * 1024;
/// How much of a service's last line is kept for the reason of a failure.
const LAST_LINE_CHARS_MAX: usize = 160;

/// The pipes of everything that runs below the keeper.
pub(super) struct Outputs {
    label: String,
    pipes: Vec<Pipe>,
    last_line: String,
    dropped: u64,
}

struct Pipe {
    reader: io::PipeReader,
    pending: Vec<u8>,
}

impl Outputs {
    pub(super) fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            pipes: Vec::new(),
            last_line: String::new(),
            dropped: 0,
        }
    }

    /// A new pipe; what is written into it is printed.
    pub(super) fn open(&mut self) -> io::Result<OwnedFd> {
        let (reader, writer) = io::pipe()?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        self.pipes.push(Pipe {
            reader,
            pending: Vec::new(),
        });
        Ok(writer.into())
    }

    pub(super) fn readers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pipes.iter().map(|pipe| pipe.reader.as_fd())
    }

    /// Forgets what was said last: a new start begins.
    pub(super) fn forget(&mut self) {
        self.last_line.clear();
    }

    /// The last line that was printed since the start; empty if none was.
    pub(super) fn last_line(&self) -> &str {
        &self.last_line
    }

    /// Prints what has arrived.
    pub(super) fn forward(&mut self) {
        let mut pipes = std::mem::take(&mut self.pipes);
        pipes.retain_mut(|pipe| self.forward_one(pipe));
        self.pipes = pipes;
    }

    /// Whether the pipe is still open.
    fn forward_one(&mut self, pipe: &mut Pipe) -> bool {
        let mut chunk = [0; 4096];
        let mut taken = 0;
        while taken < TURN_BYTES_MAX {
            match pipe.reader.read(&mut chunk) {
                Ok(0) => {
                    self.print_lines(&mut pipe.pending, true);
                    return false;
                }
                Ok(n) => {
                    taken += n;
                    pipe.pending.extend_from_slice(&chunk[..n]);
                    self.print_lines(&mut pipe.pending, false);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn print_lines(&mut self, pending: &mut Vec<u8>, all: bool) {
        while let Some(end) = line_end(pending, all) {
            let line: Vec<u8> = pending.drain(..end).collect();
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            if text.is_empty() {
                continue;
            }
            self.last_line = text.chars().take(LAST_LINE_CHARS_MAX).collect();
            if self.dropped > 0 && print(&self.label, &format!("({} lines lost)", self.dropped)) {
                self.dropped = 0;
            }
            if !print(&self.label, text) {
                self.dropped += 1;
            }
        }
    }
}

/// Where the first printable piece of `pending` ends.
fn line_end(pending: &[u8], all: bool) -> Option<usize> {
    let newline = pending.iter().position(|b| *b == b'\n').map(|at| at + 1);
    match newline {
        Some(end) if end <= PIECE_BYTES_MAX => Some(end),
        _ if pending.len() >= PIECE_BYTES_MAX => Some(PIECE_BYTES_MAX),
        _ => (all && !pending.is_empty()).then_some(pending.len()),
    }
}

/// Prints one line if that does not have to wait; whether it did.
pub(super) fn print(label: &str, text: &str) -> bool {
    // One write: lines of several processes on one pipe do not mix up to PIPE_BUF (pipe(7)).
    let line = format!("{label}: {text}\n");
    match never_waiting() {
        Some(mut stderr) => stderr.write_all(line.as_bytes()).is_ok(),
        None => {
            is_writable(io::stderr().as_fd()) && io::stderr().write_all(line.as_bytes()).is_ok()
        }
    }
}

/// Standard error once more, opened so that a write never waits: between a look whether there is
/// room and the write, another process may have filled the pipe that all of them share. `None`
/// where it cannot be opened: a socket.
fn never_waiting() -> Option<&'static File> {
    static OWN: OnceLock<Option<File>> = OnceLock::new();
    let open = || {
        OpenOptions::new()
            .append(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/proc/self/fd/2")
            .ok()
    };
    OWN.get_or_init(open).as_ref()
}

fn is_writable(stderr: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(stderr, PollFlags::POLLOUT)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
        && fds[0]
            .revents()
            .is_some_and(|e| e.contains(PollFlags::POLLOUT))
}
