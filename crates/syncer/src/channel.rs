//! The encrypted channel between two syncers: Noise `NNpsk0` over TCP (docs/decisions).
//!
//! Both sides prove that they have the cluster's key, and every session has keys of its own,
//! so that recorded bytes are worth nothing later. Messages are cut into records of at most
//! 64 KiB; a message longer than [`MESSAGE_BYTES_MAX`] ends the session before it is read. The
//! one thing to know: nothing is answered before the other side has proved itself.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use snow::{Builder, HandshakeState, StatelessTransportState};

use crate::message::MESSAGE_BYTES_MAX;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// Longest record on the wire, its tag included (Noise specification, section 3).
const RECORD_MAX: usize = 65535;
const TAG: usize = 16;
const PLAIN_MAX: usize = RECORD_MAX - TAG;

/// A handshake message has a 32-byte key and a tag; longer ones are somebody else's.
const HANDSHAKE_MAX: usize = 128;

/// The key of all channels of a cluster, derived from the cluster's key.
#[derive(Clone)]
pub struct ChannelKey([u8; 32]);

impl ChannelKey {
    /// From 32 bytes that were derived for this purpose and no other.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for ChannelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChannelKey(..)")
    }
}

/// Why a channel could not be opened, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error("the connection: {0}")]
    Io(#[from] io::Error),
    /// Another key, a replay, or something else than haarb.
    #[error("the other side does not have the cluster's key, or its bytes were changed")]
    NotOurs,
    #[error("a message of {0} bytes, longer than {MESSAGE_BYTES_MAX}")]
    Oversized(usize),
    #[error("no session could be prepared: {0}")]
    Setup(snow::Error),
}

/// The sending half.
pub(crate) struct Sealer {
    stream: TcpStream,
    state: Arc<StatelessTransportState>,
    nonce: u64,
    out: Vec<u8>,
}

/// The receiving half.
pub(crate) struct Opener {
    stream: io::BufReader<TcpStream>,
    state: Arc<StatelessTransportState>,
    nonce: u64,
    record: Vec<u8>,
    plain: Vec<u8>,
}

fn builder<'a>(key: &'a ChannelKey, cluster: &'a [u8]) -> Result<Builder<'a>, ChannelError> {
    let params = PATTERN.parse().map_err(ChannelError::Setup)?;
    Builder::new(params)
        .psk(0, &key.0)
        .and_then(|builder| builder.prologue(cluster))
        .map_err(ChannelError::Setup)
}

/// What both sides must agree on before anything else: the program, its channel's version and
/// the cluster.
fn prologue(cluster: &str) -> Vec<u8> {
    format!("haarb sync channel 1 {cluster}").into_bytes()
}

/// Opens a channel as the side that connected. `patience` bounds each reading.
pub(crate) fn initiate(
    mut stream: TcpStream,
    key: &ChannelKey,
    cluster: &str,
    patience: Duration,
) -> Result<(Sealer, Opener), ChannelError> {
    stream.set_read_timeout(Some(patience))?;
    let prologue = prologue(cluster);
    let mut noise = builder(key, &prologue)?
        .build_initiator()
        .map_err(ChannelError::Setup)?;
    write_handshake(&mut stream, &mut noise)?;
    read_handshake(&mut stream, &mut noise)?;
    halves(stream, noise)
}

/// Opens a channel as the side that was connected to.
pub(crate) fn respond(
    mut stream: TcpStream,
    key: &ChannelKey,
    cluster: &str,
    patience: Duration,
) -> Result<(Sealer, Opener), ChannelError> {
    stream.set_read_timeout(Some(patience))?;
    let prologue = prologue(cluster);
    let mut noise = builder(key, &prologue)?
        .build_responder()
        .map_err(ChannelError::Setup)?;
    read_handshake(&mut stream, &mut noise)?;
    write_handshake(&mut stream, &mut noise)?;
    halves(stream, noise)
}

fn write_handshake(stream: &mut TcpStream, noise: &mut HandshakeState) -> Result<(), ChannelError> {
    let mut message = [0; 2 + HANDSHAKE_MAX];
    let length = noise
        .write_message(&[], &mut message[2..])
        .map_err(ChannelError::Setup)?;
    message[..2].copy_from_slice(&(length as u16).to_be_bytes());
    stream.write_all(&message[..2 + length])?;
    Ok(())
}

fn read_handshake(stream: &mut TcpStream, noise: &mut HandshakeState) -> Result<(), ChannelError> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > HANDSHAKE_MAX {
        return Err(ChannelError::NotOurs);
    }
    let mut message = [0; HANDSHAKE_MAX];
    stream.read_exact(&mut message[..length])?;
    let mut payload = [0; HANDSHAKE_MAX];
    noise
        .read_message(&message[..length], &mut payload)
        .map_err(|_| ChannelError::NotOurs)?;
    Ok(())
}

fn halves(stream: TcpStream, noise: HandshakeState) -> Result<(Sealer, Opener), ChannelError> {
    let state = Arc::new(
        noise
            .into_stateless_transport_mode()
            .map_err(ChannelError::Setup)?,
    );
    let sealer = Sealer {
        stream: stream.try_clone()?,
        state: Arc::clone(&state),
        nonce: 0,
        out: Vec::new(),
    };
    let opener = Opener {
        stream: io::BufReader::with_capacity(256 * 1024, stream),
        state,
        nonce: 0,
        record: vec![0; RECORD_MAX],
        plain: vec![0; RECORD_MAX],
    };
    Ok((sealer, opener))
}

impl Sealer {
    /// Sends one message: its length and its bytes, in as many records as they need.
    pub(crate) fn send(&mut self, message: &[u8]) -> Result<(), ChannelError> {
        self.out.clear();
        let length = (message.len() as u32).to_be_bytes();
        let first = message.len().min(PLAIN_MAX - length.len());
        let head = [&length[..], &message[..first]].concat();
        self.seal(&head)?;
        for record in message[first..].chunks(PLAIN_MAX) {
            self.seal(record)?;
        }
        self.stream.write_all(&self.out)?;
        Ok(())
    }

    fn seal(&mut self, plain: &[u8]) -> Result<(), ChannelError> {
        let start = self.out.len();
        self.out.resize(start + 2 + plain.len() + TAG, 0);
        let length = self
            .state
            .write_message(self.nonce, plain, &mut self.out[start + 2..])
            .map_err(ChannelError::Setup)?;
        self.nonce += 1;
        self.out[start..start + 2].copy_from_slice(&(length as u16).to_be_bytes());
        Ok(())
    }
}

impl Opener {
    /// Waits for one message.
    pub(crate) fn receive(&mut self) -> Result<Vec<u8>, ChannelError> {
        let length = self.open()?;
        let Some((head, start)) = self.plain[..length].split_first_chunk::<4>() else {
            return Err(ChannelError::NotOurs);
        };
        let total = u32::from_be_bytes(*head) as usize;
        if total > MESSAGE_BYTES_MAX {
            return Err(ChannelError::Oversized(total));
        }
        let mut message = Vec::with_capacity(total);
        message.extend_from_slice(start);
        while message.len() < total {
            let length = self.open()?;
            message.extend_from_slice(&self.plain[..length]);
        }
        if message.len() > total {
            return Err(ChannelError::NotOurs);
        }
        Ok(message)
    }

    /// Reads and opens one record; what it held is at the front of `plain`. The number of the
    /// record is part of the key stream: one that is repeated, left out or moved does not open.
    fn open(&mut self) -> Result<usize, ChannelError> {
        let mut length = [0; 2];
        self.stream.read_exact(&mut length)?;
        let record = &mut self.record[..usize::from(u16::from_be_bytes(length))];
        self.stream.read_exact(record)?;
        let opened = self
            .state
            .read_message(self.nonce, record, &mut self.plain)
            .map_err(|_| ChannelError::NotOurs)?;
        self.nonce += 1;
        Ok(opened)
    }
}

#[cfg(test)]
mod tests;
