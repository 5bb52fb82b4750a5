//! A Unix stream for two processes that exchange many small messages. It wakes its process for
//! what arrives, and never because the other side has read.
//!
//! The kernel tells a writer each time that its reader has taken something (unix(7)), even where
//! the writer waits for no room. A stream that tokio registers for both directions so costs a
//! wake-up more for each message sent. This one asks for room only where it has met a full
//! buffer.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as Std;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::{Connected, UdsConnectInfo};

/// One end of a connection.
#[derive(Debug)]
pub struct Stream {
    /// Registered for what arrives.
    fd: AsyncFd<Std>,
    /// The same socket, registered for room, while a full buffer is waited for.
    full: Option<AsyncFd<Std>>,
    peer: UdsConnectInfo,
}

impl Stream {
    /// Takes a connection over from tokio. Must be called inside a runtime.
    ///
    /// # Errors
    /// The reactor refuses the descriptor (epoll_ctl(2)): no memory.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let peer = UdsConnectInfo {
            peer_addr: stream.peer_addr().ok().map(Arc::new),
            peer_cred: stream.peer_cred().ok(),
        };
        Ok(Self {
            fd: register(stream.into_std()?, Interest::READABLE)?,
            full: None,
            peer,
        })
    }

    /// Writes, or waits for room and tries again.
    fn poll_writing(
        &mut self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&Std) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(full) = &self.full {
                // Dropped, so that room is not told again.
                drop(ready!(full.poll_write_ready(context))?);
                self.full = None;
            }
            match write(self.fd.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let again = self.fd.get_ref().try_clone()?;
                    self.full = Some(register(again, Interest::WRITABLE)?);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            let asked = room.len();
            match guard.try_io(|fd| fd.get_ref().read(room)) {
                Ok(Ok(length)) => {
                    // Less than there was room for: nothing is left, and what comes now tells
                    // the reactor (epoll(7), edge-triggered). Not so at the end.
                    if length > 0 && length < asked {
                        guard.clear_ready();
                    }
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_nothing_there) => {}
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_writing(context, |mut socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_writing(context, |mut socket| socket.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.fd.get_ref().shutdown(std::net::Shutdown::Write))
    }
}

impl Connected for Stream {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.peer.clone()
    }
}

fn register<T: AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: the descriptor must stay open and the same as long as it is registered. A Unix
    // socket of the standard library never exchanges its descriptor, and the AsyncFd that owns
    // it deregisters it before it is dropped.
    #[expect(
        unsafe_code,
        reason = "tokio's registration trusts AsRawFd, see SAFETY"
    )]
    unsafe { AsyncFd::register_with_interest(socket, interest) }.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pair() -> (Stream, Stream) {
        let (a, b) = UnixStream::pair().expect("a pair");
        let [a, b] = [a, b].map(|end| Stream::new(end).expect("registered"));
        (a, b)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn more_than_any_buffer_holds_arrives_whole_and_then_the_end() {
        let (mut a, mut b) = pair();
        let bytes: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
        let sent = bytes.clone();
        let writer = tokio::spawn(async move {
            a.write_all(&sent).await.expect("room, in time");
            a.shutdown().await.expect("an end");
            a
        });
        let mut read = Vec::new();
        b.read_to_end(&mut read).await.expect("all of it");
        assert!(read == bytes);
        let mut a = writer.await.expect("no panic");
        // And the other way, after all that.
        b.write_all(b"thanks").await.expect("room");
        let mut thanks = [0; 6];
        a.read_exact(&mut thanks).await.expect("an answer");
        assert_eq!(&thanks, b"thanks");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn many_small_messages_arrive_one_by_one() {
        let (mut a, mut b) = pair();
        for number in 0..1000_u32 {
            a.write_all(&number.to_be_bytes()).await.expect("room");
            let mut read = [0; 4];
            b.read_exact(&mut read).await.expect("a message");
            assert_eq!(u32::from_be_bytes(read), number);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_writes_to_nobody_is_told() {
        let (mut a, b) = pair();
        drop(b);
        assert!(a.write_all(b"hello").await.is_err());
        assert_eq!(a.read(&mut [0; 8]).await.expect("the end"), 0);
    }
}
