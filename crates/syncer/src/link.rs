//! One open channel to another syncer, with a heartbeat in both directions.
//!
//! Each side says something at least every [`Link::beat`], from a thread of its own, so that a
//! long look at a disk is not taken for a dead path; who hears nothing for its whole patience
//! gives the path up. The one thing to know: closing a link wakes everybody who waits on it.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use crate::channel::{ChannelError, Sealer};
use crate::signal::Signal;

/// How many beats fit into the patience: one that is lost or late is no reason to give up.
const BEATS: u32 = 4;

/// Unsent data may wait longer than the heartbeat allows when the other side's disk is slow
/// and its window closed; this is for a path that died in silence.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// An open channel: sending half, heartbeat, end.
pub(crate) struct Link {
    sealer: Mutex<Sealing>,
    stream: TcpStream,
    closed: AtomicBool,
    end: Signal,
    ping: Vec<u8>,
    patience: Duration,
}

struct Sealing {
    sealer: Sealer,
    last: Instant,
}

impl Link {
    /// Takes over the sending half and starts the heartbeat.
    pub(crate) fn start(
        stream: TcpStream,
        sealer: Sealer,
        ping: Vec<u8>,
        patience: Duration,
    ) -> std::io::Result<Arc<Self>> {
        let link = Arc::new(Self {
            sealer: Mutex::new(Sealing {
                sealer,
                last: Instant::now(),
            }),
            stream,
            closed: AtomicBool::new(false),
            end: Signal::default(),
            ping,
            patience,
        });
        let beating = Arc::clone(&link);
        thread::Builder::new()
            .name("sync-beat".into())
            .spawn(move || beating.beat())?;
        Ok(link)
    }

    fn beat(&self) {
        let every = self.patience / BEATS;
        loop {
            let seen = self.end.seen();
            if self.is_closed() {
                return;
            }
            self.end.wait(seen, self.rest(every));
            // Whoever holds the lock is sending: that is a sign of life as well.
            let quiet = match self.sealer.try_lock() {
                Ok(sealing) => sealing.last.elapsed() >= every,
                Err(_) => false,
            };
            if quiet && self.send(&self.ping).is_err() {
                return;
            }
        }
    }

    /// How long until something must be said, if nobody says anything meanwhile.
    fn rest(&self, every: Duration) -> Duration {
        match self.sealer.try_lock() {
            Ok(sealing) => every.saturating_sub(sealing.last.elapsed()),
            Err(_) => every,
        }
    }

    /// Sends a message. A link that cannot send is closed.
    pub(crate) fn send(&self, message: &[u8]) -> Result<(), ChannelError> {
        let mut sealing = self.sealer.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sealing.sealer.send(message);
        sealing.last = Instant::now();
        if sent.is_err() {
            self.close();
        }
        sent
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes a reader and a writer; the other side may have closed it before.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.end.notify();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

/// What both sides set on their sockets.
pub(crate) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(2))
        .with_interval(Duration::from_secs(1))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)
}
