//! What a server tells the others about itself: its whole state, never a call.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Data, Epoch, Mode, NetworkName, NodeName, ReserveName, Role};

/// The state of one server, as its arbiter last built it. Travels in every datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advert {
    /// The newest version of the protocol that it speaks (rule X6).
    pub protocol: u32,
    /// The oldest one that it speaks; zero: only the newest.
    pub protocol_oldest: u32,
    /// Digest of its configuration (rule X5).
    pub config_digest: u64,
    /// Its usable networks.
    pub usable: BTreeSet<NetworkName>,
    /// Networks that another server lost and whose switch has answered this one since: the
    /// switch lives, what failed is the other server's own link (rule A5).
    pub confirms: BTreeSet<NetworkName>,
    /// Its mode.
    pub mode: Mode,
    /// It leaves on purpose (shutdown): who acknowledges may count it as not active (S1).
    pub leaving: bool,
    /// Its MAC addresses on interfaces that carry VIPs.
    pub macs: BTreeSet<[u8; 6]>,
    /// Its kernel ends what it holds at the end of the lease, to the moment, though its
    /// vip-agent be dead; else the address lifetime does, later.
    pub lease_exact: bool,
    /// Its part in each reserve.
    pub reserves: BTreeMap<ReserveName, AdvertReserve>,
}

/// The part of one server in one reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertReserve {
    /// Its role.
    pub role: Role,
    /// The highest epoch it knows.
    pub epoch: Epoch,
    /// The predicate that permits its takeover holds now (not counting `lead`).
    pub eligible: bool,
    /// It lacks what serving takes, an agent or a service that can start. Starting or waiting, it
    /// claims nothing, and nobody need wait for it; serving, it cannot let go before its lease ends.
    pub unable: bool,
    /// Its replica.
    pub data: Data,
    /// It was the active one of `epoch`.
    pub was_active: bool,
    /// It released `epoch` to this server (rule B3).
    pub released_to: Option<NodeName>,
    /// It claims `epoch` + 1 in an election (section 7).
    pub claims: bool,
    /// It has seen this server's claim and lets it go first (section 7).
    pub yields_to: Option<NodeName>,
    /// An operator here asked for this server to have the reserve: the active one of `epoch`
    /// hands over if it may (rule A12).
    pub asks_for: Option<NodeName>,
}
