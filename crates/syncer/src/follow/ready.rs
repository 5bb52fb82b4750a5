//! Channels that are open and have said nothing yet: one on every network but the one in use.
//!
//! When that network is lost the session goes on over another without connecting anew and without
//! proving the key once more. The one thing to know: they exist only while the source is connected,
//! so that nobody is called who does not answer.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use haarb_model::NetworkName;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{CONNECT_WITHIN, Following, READ_AHEAD};
use crate::channel::{ChannelError, Opener, initiate};
use crate::counters::Counters;
use crate::link::{Link, prepare};
use crate::message::{Down, Up};
use crate::priority;
use crate::serve::{count_malformed, receive};
use crate::settings::Settings;

/// Between two attempts to have a channel on every network.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// A channel, and what arrives through it.
pub(super) struct Ready {
    /// The network's number.
    pub(super) way: usize,
    pub(super) link: Arc<Link>,
    pub(super) incoming: Receiver<Vec<Down>>,
}

impl Ready {
    /// Proves the key over a connection, and reads from it in a thread of its own, so that the disk
    /// and the network work at the same time.
    pub(super) fn open(
        way: usize,
        stream: TcpStream,
        settings: &Settings,
        counters: &Arc<Counters>,
    ) -> Result<Self, ChannelError> {
        prepare(&stream)?;
        let patience = settings.patience;
        let (sealer, opener) = initiate(
            stream.try_clone()?,
            &settings.key,
            &settings.cluster,
            patience,
        )?;
        let link = Link::start(stream, sealer, Up::Ping.encode(), patience)?;
        let incoming = read_ahead(&link, opener, counters).inspect_err(|_| link.close())?;
        Ok(Self {
            way,
            link,
            incoming,
        })
    }
}

fn read_ahead(
    link: &Arc<Link>,
    mut opener: Opener,
    counters: &Arc<Counters>,
) -> std::io::Result<Receiver<Vec<Down>>> {
    let (sender, receiver) = sync_channel(READ_AHEAD);
    let (link, counters) = (Arc::clone(link), Arc::clone(counters));
    let read = move || {
        priority::lower();
        while let Ok(bytes) = receive(&mut opener, &counters) {
            match Down::decode_all(&bytes) {
                Ok(messages) if messages == [Down::Ping] => {}
                Ok(messages) => {
                    if sender.send(messages).is_err() {
                        break;
                    }
                }
                Err(error) => {
                    count_malformed(&counters, &error);
                    break;
                }
            }
        }
        link.close();
    };
    thread::Builder::new()
        .name("sync-read".into())
        .spawn(read)?;
    Ok(receiver)
}

pub(super) fn dial(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    // From our own address in that network, so that the answer comes back the same way.
    socket.bind(&SockAddr::from(SocketAddr::new(from, 0)))?;
    socket.connect_timeout(&to.into(), CONNECT_WITHIN)?;
    Ok(socket.into())
}

impl Following {
    /// Has a channel ready on every network, until the end.
    pub(super) fn keep_ready(&self, settings: &Settings, counters: &Arc<Counters>) {
        while !self.is_stopped() {
            let seen = self.wanted.seen();
            self.lock_ready().retain(|ready| !ready.link.is_closed());
            if self.connected.load(Ordering::SeqCst) {
                for (way, (from, to)) in settings.ways(&self.source).into_iter().enumerate() {
                    if self.lacks(way, &settings.networks) {
                        let opened = dial(from, to).map_err(ChannelError::from);
                        match opened.and_then(|s| Ready::open(way, s, settings, counters)) {
                            Ok(ready) => self.add(ready),
                            Err(error) => tracing::debug!("{to}: no second channel: {error}"),
                        }
                    }
                }
            }
            self.wanted.wait(seen, TRY_EVERY);
        }
    }

    fn lacks(&self, way: usize, networks: &[NetworkName]) -> bool {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let used = link
            .as_ref()
            .is_some_and(|(used, link)| *used == way && !link.is_closed());
        drop(link);
        let there = self.lock_ready().iter().any(|ready| ready.way == way);
        let silent = networks
            .get(way)
            .is_none_or(|network| self.paths.is_elsewhere(&self.source, network));
        !used && !there && !silent && !self.is_stopped()
    }

    fn add(&self, ready: Ready) {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let used = link
            .as_ref()
            .is_some_and(|(used, link)| *used == ready.way && !link.is_closed());
        drop(link);
        let mut all = self.lock_ready();
        // Under the lock: who ends closes all that are there then. And the session may have come
        // here meanwhile.
        if used || self.is_stopped() {
            ready.link.close();
        } else {
            all.push(ready);
        }
    }

    /// The best of them, if there is any: on a network on which the source is heard.
    pub(super) fn take_ready(&self, first: usize) -> Option<Ready> {
        let order = self.paths.order(&self.source, &self.networks, first);
        let mut all = self.lock_ready();
        all.retain(|ready| !ready.link.is_closed());
        let heard = order.into_iter().filter(|way| {
            let network = self.networks.get(*way);
            network.is_some_and(|network| !self.paths.is_elsewhere(&self.source, network))
        });
        let place = heard
            .filter_map(|way| all.iter().position(|ready| ready.way == way))
            .next()?;
        Some(all.swap_remove(place))
    }

    pub(super) fn has_ready(&self) -> bool {
        self.lock_ready()
            .iter()
            .any(|ready| !ready.link.is_closed())
    }

    pub(super) fn close_ready(&self) {
        for ready in self.lock_ready().drain(..) {
            ready.link.close();
        }
    }
}
