//! One datagram: its fields, its bytes, and the seal that authenticates them.
//!
//! Layout, version 1, all numbers big-endian:
//!
//! ```text
//! 0   2  "hb"
//! 2   1  version
//! 3   1  flags: 1 arbiter silent, 2 it is known whether VIPs are held, 4 VIPs are held, 8 news
//! 4   8  cluster: first bytes of the hash of its name
//! 12  8  session: random number of the sending prober's run
//! 20  8  counter: grows with every datagram of the session, on all networks together
//! 28  4  milliseconds for which the arbiter has been silent; 0 if it is not
//! 32  1  which of the networks below this one is sent on
//! 33     networks of the sender: count, then each as length and name
//!        sender: length and name
//!        hears: count, then each as length and name of the neighbour, its session (8), the
//!               highest counter heard (8), bits of the networks on which it is heard (2)
//!        payload: length (2), bytes
//!        loss, may be left out: for each network how many datagrams were sent on it, this one
//!               included (4); for each entry of `hears` and each network the share of lost
//!               datagrams in 254ths (1, 255: unknown)
//! end 32 keyed BLAKE3 hash of everything before
//! ```
//!
//! Flag 8 stands at a fixed place in clear, so that a kernel filter can tell what is worth waking
//! the receiver for ([`NEWS`]). Nothing in it is secret; it is authenticated, not encrypted.

use haarb_model::{NetworkName, NodeName};

use crate::cursor::Cursor;
use crate::{ClusterKey, DropReason};

/// The longest datagram in bytes. Fits an IPv6 packet on any link (RFC 8200, section 5).
pub const MAX_DATAGRAM: usize = 1200;
/// The most networks of one cluster: they travel as bits.
pub const MAX_NETWORKS: usize = 16;

const MAGIC: [u8; 2] = *b"hb";
const VERSION: u8 = 1;
const FIXED: usize = 33;
const TAG: usize = 32;
const FLAG_ARBITER_SILENT: u8 = 1;
const FLAG_VIP_KNOWN: u8 = 2;
const FLAG_VIP_HELD: u8 = 4;
const FLAG_NEWS: u8 = 8;
/// Where the flag is that tells a datagram with news from a regular one: offset and mask. A hint
/// for the receiver's kernel; what it says counts only in an authentic datagram.
pub const NEWS: (u32, u8) = (3, FLAG_NEWS);
/// No share of lost datagrams is known.
const LOSS_UNKNOWN: u8 = u8::MAX;

/// One datagram, authentic but not yet judged for replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub from: NodeName,
    /// The run of the sender's prober.
    pub session: u64,
    /// Grows with every datagram of the session.
    pub counter: u64,
    /// The networks of the sender; `network` and the bits of `hears` count in this order.
    pub networks: Vec<NetworkName>,
    /// Which of `networks` it was sent on.
    pub network: usize,
    /// For how long the sender's arbiter has been silent, in milliseconds; `None`: it lives.
    pub arbiter_silent_ms: Option<u32>,
    /// Whether the sender's vip-agent last held a virtual IP, where its prober knows.
    pub vip_held: Option<bool>,
    /// Whom the sender hears. A neighbour may be in it twice: with the session that is
    /// accepted, and with a later one that still has to prove itself.
    pub hears: Vec<Hears>,
    /// What the sender's arbiter says; opaque here.
    pub payload: Vec<u8>,
    /// It is not like the one before: worth reading at once.
    pub news: bool,
    /// How many datagrams its sender has sent on each network in this session; empty: it does
    /// not say.
    pub sent: Vec<u32>,
}

/// What the sender of a datagram heard of one neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hears {
    /// The neighbour.
    pub node: NodeName,
    /// The run of the neighbour's prober.
    pub session: u64,
    /// The highest counter heard from it.
    pub counter: u64,
    /// Bit i: it is heard on the i-th of [`Datagram::networks`].
    pub networks: u16,
    /// Share of its datagrams that are lost on the way, per network, in 254ths; empty where
    /// [`Datagram::sent`] is.
    pub lost: Vec<Option<u8>>,
}

/// A datagram would be longer than [`MAX_DATAGRAM`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a datagram of {length} bytes is over the limit of {MAX_DATAGRAM}; fewer reserves or shorter names make it fit"
)]
pub struct TooLarge {
    /// What its length would be.
    pub length: usize,
}

/// What makes datagrams of one cluster authentic.
#[derive(Clone)]
pub struct Seal {
    cluster: [u8; 8],
    key: [u8; 32],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

impl Seal {
    /// The seal of a cluster.
    #[must_use]
    pub fn new(cluster: &str, key: &ClusterKey) -> Self {
        let hash = blake3::hash(cluster.as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&hash.as_bytes()[..8]);
        Self {
            cluster: id,
            key: key.derive("haarb 1 datagrams between servers"),
        }
    }

    /// The bytes of a datagram.
    ///
    /// # Errors
    /// [`TooLarge`]: it would not fit.
    pub fn close(&self, datagram: &Datagram) -> Result<Vec<u8>, TooLarge> {
        let mut bytes = Vec::with_capacity(MAX_DATAGRAM);
        let fits = self.write(datagram, &mut bytes).is_some();
        let length = bytes.len() + TAG;
        if !fits || length > MAX_DATAGRAM {
            return Err(TooLarge { length });
        }
        bytes.extend_from_slice(blake3::keyed_hash(&self.key, &bytes).as_bytes());
        Ok(bytes)
    }

    /// Reads and authenticates a datagram. Total: any bytes give a datagram or a reason.
    ///
    /// # Errors
    /// [`DropReason`], the first that applies.
    pub fn open(&self, bytes: &[u8]) -> Result<Datagram, DropReason> {
        if bytes.len() < FIXED + TAG {
            return Err(DropReason::TooShort);
        }
        if bytes[..3] != [MAGIC[0], MAGIC[1], VERSION] {
            return Err(DropReason::WrongVersion);
        }
        if bytes[4..12] != self.cluster {
            return Err(DropReason::WrongCluster);
        }
        let (content, tag) = bytes.split_at(bytes.len() - TAG);
        let tag = blake3::Hash::from_slice(tag).map_err(|_| DropReason::TooShort)?;
        // Compared in constant time, as blake3::Hash always is.
        if blake3::keyed_hash(&self.key, content) != tag {
            return Err(DropReason::WrongKey);
        }
        read(content).ok_or(DropReason::Malformed)
    }

    /// `None` where a count or a length does not fit its field.
    fn write(&self, datagram: &Datagram, to: &mut Vec<u8>) -> Option<()> {
        let Datagram {
            from,
            session,
            counter,
            networks,
            network,
            arbiter_silent_ms,
            vip_held,
            hears,
            payload,
            news,
            sent,
        } = datagram;
        let mut flags = if *news { FLAG_NEWS } else { 0 };
        if arbiter_silent_ms.is_some() {
            flags |= FLAG_ARBITER_SILENT;
        }
        flags |= match vip_held {
            None => 0,
            Some(false) => FLAG_VIP_KNOWN,
            Some(true) => FLAG_VIP_KNOWN | FLAG_VIP_HELD,
        };
        to.extend_from_slice(&MAGIC);
        to.extend_from_slice(&[VERSION, flags]);
        to.extend_from_slice(&self.cluster);
        to.extend_from_slice(&session.to_be_bytes());
        to.extend_from_slice(&counter.to_be_bytes());
        to.extend_from_slice(&arbiter_silent_ms.unwrap_or(0).to_be_bytes());
        to.push(u8::try_from(*network).ok()?);
        to.push(u8::try_from(networks.len()).ok()?);
        for network in networks {
            write_text(to, network.as_str())?;
        }
        write_text(to, from.as_str())?;
        to.push(u8::try_from(hears.len()).ok()?);
        for one in hears {
            write_text(to, one.node.as_str())?;
            to.extend_from_slice(&one.session.to_be_bytes());
            to.extend_from_slice(&one.counter.to_be_bytes());
            to.extend_from_slice(&one.networks.to_be_bytes());
        }
        let length = u16::try_from(payload.len()).ok()?;
        to.extend_from_slice(&length.to_be_bytes());
        to.extend_from_slice(payload);
        if !sent.is_empty() {
            write_loss(to, networks.len(), sent, hears)?;
        }
        Some(())
    }
}

fn write_loss(to: &mut Vec<u8>, networks: usize, sent: &[u32], hears: &[Hears]) -> Option<()> {
    if sent.len() != networks {
        return None;
    }
    to.extend(sent.iter().flat_map(|count| count.to_be_bytes()));
    for one in hears {
        if one.lost.len() != networks {
            return None;
        }
        to.extend(one.lost.iter().map(|share| share.unwrap_or(LOSS_UNKNOWN)));
    }
    Some(())
}

fn write_text(to: &mut Vec<u8>, text: &str) -> Option<()> {
    to.push(u8::try_from(text.len()).ok()?);
    to.extend_from_slice(text.as_bytes());
    Some(())
}

fn read(content: &[u8]) -> Option<Datagram> {
    let mut rest = Cursor::new(content);
    rest.bytes(3)?;
    let flags = rest.u8()?;
    rest.bytes(8)?;
    let session = rest.u64()?;
    let counter = rest.u64()?;
    let silent_ms = rest.u32()?;
    let network = usize::from(rest.u8()?);
    let networks = read_networks(&mut rest)?;
    let from = NodeName::new(rest.text()?).ok()?;
    let mut hears = read_hears(&mut rest)?;
    let length = rest.u16()?;
    let payload = rest.bytes(length.into())?.to_vec();
    let sent = if rest.is_at_end() {
        Vec::new()
    } else {
        read_loss(&mut rest, networks.len(), &mut hears)?
    };
    let known = FLAG_ARBITER_SILENT | FLAG_VIP_KNOWN | FLAG_VIP_HELD | FLAG_NEWS;
    let sound = rest.is_at_end() && network < networks.len() && flags & !known == 0;
    sound.then_some(Datagram {
        from,
        session,
        counter,
        networks,
        network,
        arbiter_silent_ms: (flags & FLAG_ARBITER_SILENT != 0).then_some(silent_ms),
        vip_held: (flags & FLAG_VIP_KNOWN != 0).then_some(flags & FLAG_VIP_HELD != 0),
        hears,
        payload,
        news: flags & FLAG_NEWS != 0,
        sent,
    })
}

fn read_loss(rest: &mut Cursor<'_>, networks: usize, hears: &mut [Hears]) -> Option<Vec<u32>> {
    let sent = (0..networks).map(|_| rest.u32()).collect::<Option<_>>()?;
    for one in hears {
        let shares = rest.bytes(networks)?.iter();
        one.lost = shares.map(|&s| (s != LOSS_UNKNOWN).then_some(s)).collect();
    }
    Some(sent)
}

fn read_networks(rest: &mut Cursor<'_>) -> Option<Vec<NetworkName>> {
    let count = usize::from(rest.u8()?);
    if count > MAX_NETWORKS {
        return None;
    }
    (0..count)
        .map(|_| NetworkName::new(rest.text()?).ok())
        .collect()
}

fn read_hears(rest: &mut Cursor<'_>) -> Option<Vec<Hears>> {
    let count = rest.u8()?;
    (0..count)
        .map(|_| {
            Some(Hears {
                node: NodeName::new(rest.text()?).ok()?,
                session: rest.u64()?,
                counter: rest.u64()?,
                networks: rest.u16()?,
                lost: Vec::new(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
