//! Questions about a configuration that every daemon asks.

use std::net::IpAddr;

use haarb_model::{
    NetworkName, NetworkSpec, NodeName, NodeSpec, ReserveName, ReserveSpec, Segment,
};

use crate::{Attachment, Config, Node, Reserve};

impl Config {
    /// The part that the decision works on.
    #[must_use]
    pub fn segment(&self) -> Segment {
        Segment {
            cluster: self.cluster.clone(),
            digest: self.digest,
            nodes: self.nodes.iter().map(|n| self.node_spec(n)).collect(),
            networks: self
                .networks
                .iter()
                .map(|n| NetworkSpec {
                    name: n.name.clone(),
                    switch_answers: n.switch.is_some(),
                })
                .collect(),
            reserves: self.reserves.iter().map(reserve_spec).collect(),
            timing: self.timing,
        }
    }

    fn node_spec(&self, node: &Node) -> NodeSpec {
        NodeSpec {
            name: node.name.clone(),
            interfaces: self
                .networks
                .iter()
                .filter_map(|n| node.networks.get(&n.name))
                .map(|a| a.interface.clone())
                .collect(),
        }
    }

    /// A server by name.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.iter().find(|n| &n.name == name)
    }

    /// A reserve by name.
    #[must_use]
    pub fn reserve(&self, name: &ReserveName) -> Option<&Reserve> {
        self.reserves.iter().find(|r| &r.name == name)
    }

    /// All servers except `me`, in the order of the file.
    pub fn neighbours(&self, me: &NodeName) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |n| &n.name != me)
    }

    /// The attachments of one server with their networks, in the order of the file.
    pub fn attachments<'a>(
        &'a self,
        node: &'a Node,
    ) -> impl Iterator<Item = (&'a NetworkName, &'a Attachment)> {
        self.networks
            .iter()
            .filter_map(|n| Some((&n.name, node.networks.get(&n.name)?)))
    }

    /// Who has this address as its own in this network.
    #[must_use]
    pub fn node_at(&self, network: &NetworkName, address: IpAddr) -> Option<&NodeName> {
        self.nodes
            .iter()
            .find(|n| {
                n.networks
                    .get(network)
                    .is_some_and(|a| a.address == address)
            })
            .map(|n| &n.name)
    }
}

fn reserve_spec(reserve: &Reserve) -> ReserveSpec {
    ReserveSpec {
        name: reserve.name.clone(),
        prefer: reserve.prefer,
        strict: reserve.strict,
        resume_on_one: reserve.resume_on_one,
        vips: reserve.vips.clone(),
        directories: reserve.directories.len(),
        services: reserve.services.len(),
    }
}
