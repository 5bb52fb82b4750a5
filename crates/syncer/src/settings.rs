//! What the syncer of one server needs to know, taken from the configuration once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use haarb_config::Config;
use haarb_model::{NetworkName, NodeName, ReserveName};

use crate::{ChannelKey, Replicated};

/// Shortest patience with a silent path. Stalls of a loaded machine of up to 165 ms were
/// measured; a second is what an operator notices.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// Ten minutes: changes on a standby are mistakes, found before they matter.
const LOOK_AROUND: Duration = Duration::from_secs(600);

/// Everything about this server and the others that does not change while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the cluster; channels to another one do not open.
    pub cluster: String,
    /// This server.
    pub me: NodeName,
    /// The key of all channels.
    pub key: ChannelKey,
    /// The networks, in the order of the configuration.
    pub networks: Vec<NetworkName>,
    /// For every server its own address in each network, in the order of the networks.
    pub addresses: BTreeMap<NodeName, Vec<SocketAddr>>,
    /// The reserves and their directories, in the order of the configuration.
    pub reserves: Vec<(ReserveName, Vec<Replicated>)>,
    /// Where the highest epochs are remembered.
    pub state_dir: PathBuf,
    /// Pause between two rounds in which a standby looks for changes by others.
    pub look_around: Duration,
    /// Silence after which a path counts as dead.
    pub patience: Duration,
}

impl Settings {
    /// From the configuration.
    #[must_use]
    pub fn new(config: &Config, me: &NodeName, key: ChannelKey, state_dir: PathBuf) -> Self {
        let addresses = config
            .nodes
            .iter()
            .map(|node| {
                let of_node = config
                    .attachments(node)
                    .map(|(_, a)| SocketAddr::new(a.address, config.sync_port));
                (node.name.clone(), of_node.collect())
            })
            .collect();
        let reserves = config.reserves.iter().map(|reserve| {
            let directories = reserve.directories.iter();
            (
                reserve.name.clone(),
                directories.map(Replicated::configured).collect(),
            )
        });
        Self {
            cluster: config.cluster.clone(),
            me: me.clone(),
            key,
            networks: config.networks.iter().map(|n| n.name.clone()).collect(),
            addresses,
            reserves: reserves.collect(),
            state_dir,
            look_around: LOOK_AROUND,
            patience: PATIENCE_MIN.max(config.timing.dead_after.times(3).to_duration()),
        }
    }

    /// The other servers.
    pub(crate) fn others(&self) -> Vec<String> {
        let all = self.addresses.keys().filter(|name| **name != self.me);
        all.map(|name| name.as_str().to_owned()).collect()
    }

    /// The ways to another server, network by network: from which of our addresses to which
    /// of its.
    pub(crate) fn ways(&self, to: &NodeName) -> Vec<(IpAddr, SocketAddr)> {
        let of = |name: &NodeName| self.addresses.get(name).cloned().unwrap_or_default();
        let ours = of(&self.me).into_iter().map(|address| address.ip());
        ours.zip(of(to)).collect()
    }
}
