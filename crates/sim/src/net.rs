//! The network between servers: one switch per network, cables, and what can go wrong on
//! the way. It says what passes; the world says when.

use crate::{NetIx, NodeIx};

/// One network.
#[derive(Clone, Debug)]
pub struct Net {
    /// The switch has power: with it goes the carrier.
    pub power: bool,
    /// The switch forwards; off: it hangs with its carrier up.
    pub forwards: bool,
    /// The switch's own address answers.
    pub answers: bool,
    /// The cable of each server is plugged.
    pub cable: Vec<bool>,
}

/// What is lost from one server to another on one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Everything.
    pub all: bool,
    /// ICMP ECHO.
    pub icmp: bool,
    /// UDP datagrams.
    pub udp: bool,
}

/// What travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ECHO requests and replies.
    Icmp,
    /// Datagrams.
    Udp,
    /// ARP and the replica's connection: what no firewall here drops.
    Other,
}

/// All networks.
#[derive(Clone, Debug)]
pub struct Fabric {
    /// One per network.
    pub nets: Vec<Net>,
    /// `ways[net][from][to]`.
    pub ways: Vec<Vec<Vec<Way>>>,
    /// The share of packets that is lost at random.
    pub loss: f64,
    /// The shortest and the longest time on the way, in microseconds.
    pub delay_us: (u64, u64),
}

impl Fabric {
    /// Everything works.
    #[must_use]
    pub fn new(nets: usize, nodes: usize) -> Self {
        let net = Net {
            power: true,
            forwards: true,
            answers: true,
            cable: vec![true; nodes],
        };
        Self {
            nets: vec![net; nets],
            ways: vec![vec![vec![Way::default(); nodes]; nodes]; nets],
            loss: 0.0,
            delay_us: (40, 120),
        }
    }

    /// The interface of a server has carrier.
    #[must_use]
    pub fn carrier(&self, net: NetIx, node: NodeIx) -> bool {
        self.nets[net].power && self.nets[net].cable[node]
    }

    /// The switch forwards what this server sends.
    #[must_use]
    pub fn attached(&self, net: NetIx, node: NodeIx) -> bool {
        self.carrier(net, node) && self.nets[net].forwards
    }

    /// The switch's own address answers this server.
    #[must_use]
    pub fn switch_answers(&self, net: NetIx, node: NodeIx) -> bool {
        self.attached(net, node) && self.nets[net].answers
    }

    /// A packet gets from one server to another, random loss apart.
    #[must_use]
    pub fn passes(&self, net: NetIx, from: NodeIx, to: NodeIx, kind: Kind) -> bool {
        let way = self.ways[net][from][to];
        let dropped = match kind {
            Kind::Icmp => way.all || way.icmp,
            Kind::Udp => way.all || way.udp,
            Kind::Other => way.all,
        };
        self.attached(net, from) && self.attached(net, to) && !dropped
    }

    /// Both can talk to each other on some network.
    #[must_use]
    pub fn connected(&self, a: NodeIx, b: NodeIx) -> bool {
        (0..self.nets.len())
            .any(|net| self.passes(net, a, b, Kind::Other) && self.passes(net, b, a, Kind::Other))
    }

    /// On how many networks a server is attached.
    #[must_use]
    pub fn degree(&self, node: NodeIx) -> usize {
        (0..self.nets.len())
            .filter(|net| self.attached(*net, node))
            .count()
    }

    /// Everything works again; random loss and delay stay as they are.
    pub fn mend(&mut self) {
        let (loss, delay_us) = (self.loss, self.delay_us);
        let nodes = self.nets.first().map_or(0, |net| net.cable.len());
        *self = Self::new(self.nets.len(), nodes);
        self.loss = loss;
        self.delay_us = delay_us;
    }
}

impl Fabric {
    /// Datagrams of one server can reach the other on some network.
    #[must_use]
    pub fn reaches(&self, from: NodeIx, to: NodeIx) -> bool {
        (0..self.nets.len()).any(|net| self.passes(net, from, to, Kind::Udp))
    }
}
