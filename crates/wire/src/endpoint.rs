//! One prober's end of the exchange: its own session and counter, and what it knows of its
//! neighbours' sessions.

use std::collections::BTreeMap;

use haarb_model::{NetworkName, NodeName};

use crate::sessions::{Arrival, Sessions};
use crate::{ClusterKey, Datagram, DropReason, Hears, Seal, TooLarge};

/// Shares of lost datagrams travel in these parts.
const SHARES: f32 = 254.0;

/// What the sender of the next datagram has to say.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// For how long the arbiter has been silent, in milliseconds; `None`: it lives.
    pub arbiter_silent_ms: Option<u32>,
    /// Whether the vip-agent last held a virtual IP, where the prober knows.
    pub vip_held: Option<bool>,
    /// On which networks each neighbour is heard now: bit i for our i-th network.
    pub heard: &'a BTreeMap<NodeName, u16>,
    /// What the arbiter says.
    pub payload: &'a [u8],
    /// It is not like the one before: worth reading at once.
    pub news: bool,
}

/// A datagram that counts: authentic, fresh, from a neighbour.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Who sent it.
    pub from: NodeName,
    /// The run of the sender's prober.
    pub session: u64,
    /// No later datagram arrived before it: its content replaces what was known. Otherwise it
    /// was overtaken on another network, and is a sign of life and nothing else.
    pub newest: bool,
    /// The first of its session: the sender's prober has started anew.
    pub new_session: bool,
    /// For how long the sender's arbiter has been silent, in milliseconds; `None`: it lives.
    pub arbiter_silent_ms: Option<u32>,
    /// Whether the sender's vip-agent last held a virtual IP, where its prober knows.
    pub vip_held: Option<bool>,
    /// On which networks the sender hears our present session: bit i for our i-th network.
    pub hears_me: u16,
    /// What the sender's arbiter says.
    pub payload: Vec<u8>,
    /// It was sent out of turn, because it is not like the one before.
    pub news: bool,
    /// Share of our datagrams that the sender misses on each of our networks, 0 to 1; `None`: it
    /// does not say.
    pub loss_out: Vec<Option<f32>>,
}

/// One prober's end of the exchange.
#[derive(Debug)]
pub struct Endpoint {
    me: NodeName,
    networks: Vec<NetworkName>,
    seal: Seal,
    session: u64,
    counter: u64,
    /// Datagrams sent per network.
    sent: Vec<u32>,
    neighbours: BTreeMap<NodeName, Sessions>,
}

impl Endpoint {
    /// An endpoint of a cluster. `session` is a random number of this run (see
    /// [`Endpoint::random_session`]); `networks` are all networks of the cluster, at most
    /// [`crate::MAX_NETWORKS`], in the order of the configuration.
    #[must_use]
    pub fn new(
        seal: Seal,
        me: NodeName,
        session: u64,
        networks: Vec<NetworkName>,
        neighbours: impl IntoIterator<Item = NodeName>,
    ) -> Self {
        let neighbours = neighbours.into_iter().map(|n| (n, Sessions::default()));
        Self {
            me,
            sent: vec![0; networks.len()],
            networks,
            seal,
            session,
            counter: 0,
            neighbours: neighbours.collect(),
        }
    }

    /// A number that no other run has had.
    ///
    /// # Errors
    /// The kernel has no random numbers.
    pub fn random_session() -> std::io::Result<u64> {
        getrandom::u64().map_err(|e| std::io::Error::other(e.to_string()))
    }

    /// The seal of a cluster's key, for [`Endpoint::new`].
    #[must_use]
    pub fn seal(cluster: &str, key: &ClusterKey) -> Seal {
        Seal::new(cluster, key)
    }

    /// The number of this run.
    #[must_use]
    pub const fn session(&self) -> u64 {
        self.session
    }

    /// The bytes of the next datagram for our `network`-th network; good for every neighbour.
    ///
    /// # Errors
    /// [`TooLarge`]: the payload does not fit; nothing was used up.
    pub fn send(&mut self, network: usize, outgoing: &Outgoing<'_>) -> Result<Vec<u8>, TooLarge> {
        let counter = self.counter + 1;
        let mut sent = self.sent.clone();
        if let Some(count) = sent.get_mut(network) {
            *count = count.saturating_add(1);
        }
        let datagram = Datagram {
            from: self.me.clone(),
            session: self.session,
            counter,
            networks: self.networks.clone(),
            network,
            arbiter_silent_ms: outgoing.arbiter_silent_ms,
            vip_held: outgoing.vip_held,
            hears: self.hears(outgoing.heard),
            payload: outgoing.payload.to_vec(),
            news: outgoing.news,
            sent,
        };
        let bytes = self.seal.close(&datagram)?;
        self.counter = counter;
        self.sent = datagram.sent;
        Ok(bytes)
    }

    /// Judges bytes that arrived on our `network`-th network. Total.
    ///
    /// # Errors
    /// [`DropReason`]: they must have no effect.
    pub fn receive(&mut self, network: usize, bytes: &[u8]) -> Result<Received, DropReason> {
        let datagram = self.seal.open(bytes)?;
        if datagram.from == self.me {
            return Err(DropReason::NotForUs);
        }
        let sessions = self
            .neighbours
            .get_mut(&datagram.from)
            .ok_or(DropReason::UnknownNode)?;
        if datagram.networks.get(datagram.network) != self.networks.get(network) {
            return Err(DropReason::WrongNetwork);
        }
        let about_us = datagram
            .hears
            .iter()
            .filter(|h| h.node == self.me && h.session == self.session);
        let arrival = Arrival {
            network,
            networks: self.networks.len(),
            own_counter: self.counter,
            echo: about_us.clone().map(|h| h.counter).max(),
        };
        let accepted = sessions.judge(&datagram, arrival)?;
        let theirs = |name| datagram.networks.iter().position(|n| n == name);
        let places: Vec<_> = self.networks.iter().map(theirs).collect();
        sessions.note_sent(network, &places, &datagram);
        let bits = about_us.clone().fold(0, |bits, h| bits | h.networks);
        let hears_me = self.in_our_order(&datagram.networks, bits);
        let lost = about_us
            .max_by_key(|h| h.counter)
            .map(|h| h.lost.as_slice());
        let share = |place: &Option<usize>| {
            let share = place.and_then(|at| lost?.get(at).copied().flatten());
            share.map(|share| (f32::from(share) / SHARES).min(1.0))
        };
        let loss_out = places.iter().map(share).collect();
        Ok(Received {
            session: datagram.session,
            newest: accepted.newest,
            new_session: accepted.new_session,
            arbiter_silent_ms: datagram.arbiter_silent_ms,
            vip_held: datagram.vip_held,
            hears_me,
            news: datagram.news,
            loss_out,
            payload: datagram.payload,
            from: datagram.from,
        })
    }

    /// Share of a neighbour's datagrams that did not arrive on one of our networks, 0 to 1;
    /// `None` where that is not known.
    #[must_use]
    pub fn loss_in(&self, node: &NodeName, network: usize) -> Option<f32> {
        self.neighbours.get(node)?.loss_in(network)
    }

    /// Whom we hear, for the others.
    fn hears(&self, heard: &BTreeMap<NodeName, u16>) -> Vec<Hears> {
        let mut all = Vec::new();
        for (node, sessions) in &self.neighbours {
            let accepted = heard.get(node).copied().unwrap_or(0);
            let lost = |network| {
                let share = sessions.loss_in(network)?;
                Some((share.clamp(0.0, 1.0) * SHARES).round() as u8)
            };
            let lost: Vec<_> = (0..self.networks.len()).map(lost).collect();
            all.extend(sessions.echoes(self.counter).map(|echo| Hears {
                node: node.clone(),
                session: echo.session,
                counter: echo.counter,
                networks: echo.heard.unwrap_or(accepted),
                lost: lost.clone(),
            }));
        }
        all
    }

    /// Bits in the order of another server's networks, in the order of ours.
    fn in_our_order(&self, theirs: &[NetworkName], bits: u16) -> u16 {
        let mut ours = 0;
        for (i, name) in self.networks.iter().enumerate() {
            let bit = theirs.iter().position(|n| n == name);
            if bit.is_some_and(|b| b < 16 && bits & (1 << b) != 0) && i < 16 {
                ours |= 1 << i;
            }
        }
        ours
    }
}

#[cfg(test)]
mod tests;
