//! A path that can be cut: carries TCP connections to an address, counts, and goes silent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

pub(crate) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    carried: AtomicU64,
    connections: AtomicU64,
    silent: AtomicBool,
}

impl Relay {
    pub(crate) fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else {
                    continue;
                };
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (one, two) = (Arc::clone(&accepting), Arc::clone(&accepting));
                thread::spawn(move || carry(client, server, &one));
                thread::spawn(move || carry(back.0, back.1, &two));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes so far, both ways.
    pub(crate) fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::SeqCst)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// From here on nothing passes and nobody is told: a dead switch.
    pub(crate) fn silence(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if shared.silent.load(Ordering::SeqCst) {
            // Kept open: a reset would tell the ends.
            continue;
        }
        shared.carried.fetch_add(count as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
