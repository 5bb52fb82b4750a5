//! Waits for sinks on every network, lets in who has the cluster's key, and hands them to the
//! reserve that they ask for.
//!
//! The one thing to know: what a stranger can take is a thread for [`Settings::patience`], and
//! only so many of them at once.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::channel::{ChannelError, Opener, respond};
use crate::counters::{CROWD, Counters, MALFORMED, NOT_OURS};
use crate::link::{Link, prepare};
use crate::message::{Down, Hello, Refusal, Up};
use crate::serve::{Serving, count_malformed, peer, receive};
use crate::settings::Settings;

/// Connections that have not proved anything yet. Sinks need one each.
const STRANGERS_MAX: usize = 32;

/// The reserves that are sent from here now.
#[derive(Default)]
pub(crate) struct Sources(Mutex<BTreeMap<String, Arc<Serving>>>);

impl Sources {
    pub(crate) fn insert(&self, serving: &Arc<Serving>) {
        let name = serving.reserve.as_str().to_owned();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name, Arc::clone(serving));
    }

    pub(crate) fn remove(&self, reserve: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(reserve);
    }

    fn get(&self, reserve: &str) -> Option<Arc<Serving>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(reserve).cloned()
    }
}

/// What every accepting thread needs.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) settings: Arc<Settings>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) counters: Arc<Counters>,
    strangers: Arc<AtomicUsize>,
    listeners: Arc<Mutex<Vec<Listening>>>,
}

/// One address that is listened on.
struct Listening {
    socket: Arc<TcpListener>,
    thread: JoinHandle<()>,
}

impl Door {
    pub(crate) fn new(
        settings: Arc<Settings>,
        sources: Arc<Sources>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            settings,
            sources,
            counters,
            strangers: Arc::new(AtomicUsize::new(0)),
            listeners: Arc::default(),
        }
    }

    /// Stops listening. Sessions that stand are not touched.
    pub(crate) fn close(&self) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for Listening { socket, thread } in listeners.drain(..) {
            // Wakes the thread in accept(2), which then fails with EINVAL.
            let _ = SockRef::from(&*socket).shutdown(std::net::Shutdown::Read);
            let _ = thread.join();
        }
    }

    /// Listens on one address until [`Door::close`].
    pub(crate) fn open(&self, address: SocketAddr) -> std::io::Result<SocketAddr> {
        let socket = Arc::new(listener(address)?);
        let bound = socket.local_addr()?;
        let (door, listener) = (self.clone(), Arc::clone(&socket));
        let thread = thread::Builder::new()
            .name("sync-listen".into())
            .spawn(move || door.accept(&listener))?;
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.push(Listening { socket, thread });
        Ok(bound)
    }

    fn accept(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                // It was shut down.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
                Err(error) => {
                    // Out of descriptors, or reset before we came to it. It may last: a
                    // moment's rest keeps this from turning in circles.
                    tracing::warn!("a connection could not be accepted: {error}");
                    thread::sleep(std::time::Duration::from_millis(50));
                    continue;
                }
            };
            if self.strangers.fetch_add(1, Ordering::SeqCst) >= STRANGERS_MAX {
                self.strangers.fetch_sub(1, Ordering::SeqCst);
                self.counters.count(CROWD, &peer(&stream));
                continue;
            }
            let door = self.clone();
            let spawned = thread::Builder::new()
                .name("sync-source".into())
                .spawn(move || door.admit(stream));
            if let Err(error) = spawned {
                self.strangers.fetch_sub(1, Ordering::SeqCst);
                tracing::warn!("no thread for a connection: {error}");
            }
        }
    }

    fn admit(&self, stream: TcpStream) {
        let from = peer(&stream);
        let opened = self.open_channel(&stream);
        // Who has the key is no stranger, and may wait as long as it likes before it asks for
        // something: sinks keep a channel ready on every network.
        self.strangers.fetch_sub(1, Ordering::SeqCst);
        let introduced = opened.and_then(|(link, opener)| self.introduce(link, opener));
        let (link, opener, hello) = match introduced {
            Ok(Some(introduced)) => introduced,
            Ok(None) => return,
            Err(error) => {
                match &error {
                    ChannelError::NotOurs => self.counters.count(NOT_OURS, &from),
                    _ => tracing::debug!("{from}: {error}"),
                }
                return;
            }
        };
        match self.sources.get(&hello.reserve) {
            Some(serving) => serving.serve(&link, opener, hello),
            None => {
                let refusal = Down::Refuse {
                    why: Refusal::NotSource,
                    epoch: 0,
                };
                let _ = link.send(&refusal.encode());
                link.close();
            }
        }
    }

    /// From a connection to somebody who has the key.
    fn open_channel(&self, stream: &TcpStream) -> Result<(Arc<Link>, Opener), ChannelError> {
        prepare(stream)?;
        let settings = &self.settings;
        let (sealer, opener) = respond(
            stream.try_clone()?,
            &settings.key,
            &settings.cluster,
            settings.patience,
        )?;
        let ping = Down::Ping.encode();
        let link = Link::start(stream.try_clone()?, sealer, ping, settings.patience)?;
        Ok((link, opener))
    }

    /// From a channel to a sink with a name. It may look at its disk before it says it.
    fn introduce(
        &self,
        link: Arc<Link>,
        mut opener: Opener,
    ) -> Result<Option<(Arc<Link>, Opener, Hello)>, ChannelError> {
        let introduced = self.wait_for_hello(&mut opener);
        match introduced {
            Ok(Some(hello)) => Ok(Some((link, opener, hello))),
            Ok(None) => {
                link.close();
                Ok(None)
            }
            Err(error) => {
                link.close();
                Err(error)
            }
        }
    }

    fn wait_for_hello(&self, opener: &mut Opener) -> Result<Option<Hello>, ChannelError> {
        loop {
            let bytes = receive(opener, &self.counters)?;
            match Up::decode(&bytes) {
                Ok(Up::Ping) => {}
                Ok(Up::Hello(hello)) => return Ok(Some(hello)),
                Ok(_) => {
                    self.counters.count(MALFORMED, &"no hello first");
                    return Ok(None);
                }
                Err(error) => {
                    count_malformed(&self.counters, &error);
                    return Ok(None);
                }
            }
        }
    }
}

fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    // The address may come later than we do: a cable that is not plugged in yet.
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(64)?;
    Ok(socket.into())
}
