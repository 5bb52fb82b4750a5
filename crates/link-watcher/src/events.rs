//! The socket on which the kernel tells of links.

use std::io;

use haarb_daemon::timer;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::io::unix::AsyncFd;

use crate::message::{self, Message};

/// `RTMGRP_LINK` (rtnetlink(7)): every change of a link.
const LINK_CHANGES: u32 = 1;
/// The kernel never sends more at once than this (netlink(7): at most 32 KiB for a dump).
const READ_BYTES: usize = 64 * 1024;
/// Room for what is told while this process waits for the processor: some 500 messages.
const QUEUE_BYTES: u32 = 1024 * 1024;
/// Datagrams that are read before anything else has its turn.
const READ_MAX: usize = 64;

/// Messages of the kernel about links.
#[derive(Debug)]
pub(crate) struct Events {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
    sequence: u32,
}

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<Message>,
    /// Some messages were lost: everything must be asked again.
    pub(crate) lost: bool,
}

impl Events {
    /// Listens to changes from now on. Nothing is known before [`Events::dump`].
    ///
    /// # Errors
    /// The kernel refuses the socket.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        // As much as allowed; a smaller queue only means an earlier dump.
        let _ = socket.set_rx_buf_sz(QUEUE_BYTES);
        socket.bind(&SocketAddr::new(0, LINK_CHANGES))?;
        Ok(Self {
            socket: timer::register(socket)?,
            buffer: Vec::with_capacity(READ_BYTES),
            sequence: 0,
        })
    }

    /// Asks for all links; the answer comes among the messages, under the returned number.
    ///
    /// # Errors
    /// The kernel refuses; it has no memory.
    pub(crate) fn dump(&mut self) -> io::Result<u32> {
        // Zero marks what the kernel tells by itself.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let request = message::dump_request(self.sequence);
        let kernel = SocketAddr::new(0, 0);
        self.socket.get_ref().send_to(&request, &kernel, 0)?;
        Ok(self.sequence)
    }

    /// Asks for some links by name; the answers come among the messages.
    ///
    /// # Errors
    /// The kernel refuses; it has no memory.
    pub(crate) fn ask<'a>(
        &mut self,
        interfaces: impl IntoIterator<Item = &'a String>,
    ) -> io::Result<()> {
        let kernel = SocketAddr::new(0, 0);
        for interface in interfaces {
            self.sequence = self.sequence.checked_add(1).unwrap_or(1);
            let request = message::link_request(self.sequence, interface);
            self.socket.get_ref().send_to(&request, &kernel, 0)?;
        }
        Ok(())
    }

    /// What has arrived, waiting for it. Cancel-safe.
    ///
    /// # Errors
    /// The socket is broken.
    pub(crate) async fn next(&mut self) -> io::Result<Batch> {
        let mut batch = Batch::default();
        loop {
            let mut ready = self.socket.readable().await?;
            for _ in 0..READ_MAX {
                self.buffer.clear();
                let read = ready.try_io(|socket| {
                    // MSG_TRUNC: the true length, also where the buffer is too short.
                    socket.get_ref().recv(&mut self.buffer, libc::MSG_TRUNC)
                });
                match read {
                    Ok(Ok(length)) => {
                        batch.lost |= length > self.buffer.len();
                        batch.messages.extend(message::parse(&self.buffer));
                    }
                    Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                        batch.lost = true;
                    }
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(Err(error)) => return Err(error),
                    Err(_would_block) => break,
                }
            }
            if batch != Batch::default() {
                return Ok(batch);
            }
        }
    }
}
