//! The keeper's end of the connection to its supervisor. Never waits: a supervisor that does
//! not read loses the connection, and hears the whole state again when it comes back.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::order::{FromKeeper, ToKeeper};

/// A longer line is not an order: arguments and environment of one command fit many times.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    open: bool,
    /// The other side does not read: nothing more is written, so that it never gets half.
    mute: bool,
}

impl Connection {
    /// `None` where the other side is another user's process.
    pub(super) fn new(stream: UnixStream) -> Option<Self> {
        let peer = getsockopt(&stream, PeerCredentials).ok()?;
        if peer.uid() != 0 && peer.uid() != nix::unistd::geteuid().as_raw() {
            return None;
        }
        stream.set_nonblocking(true).ok()?;
        Some(Self {
            stream,
            received: Vec::new(),
            open: true,
            mute: false,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn send(&mut self, news: &FromKeeper) {
        let Ok(mut line) = serde_json::to_vec(news) else {
            return;
        };
        line.push(b'\n');
        if !self.mute && self.stream.write_all(&line).is_err() {
            self.mute = true;
            // It sees the end and connects anew. What it has sent before is still read.
            let _ = self.stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Every order that has arrived whole.
    pub(super) fn receive(&mut self) -> Vec<ToKeeper> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.open = false,
                Ok(n) => {
                    self.received.extend_from_slice(&chunk[..n]);
                    if self.received.len() <= LINE_BYTES_MAX {
                        continue;
                    }
                    self.open = false;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.open = false,
            }
            break;
        }
        let Some(end) = self.received.iter().rposition(|b| *b == b'\n') else {
            return Vec::new();
        };
        let lines: Vec<u8> = self.received.drain(..=end).collect();
        // An order that a newer supervisor knows and we do not is passed over.
        (lines.split(|b| *b == b'\n'))
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
