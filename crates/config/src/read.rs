//! From the tree to the configuration: keys, types, defaults. What concerns several places
//! of the file at once is checked in `check.rs`.

mod reserve;
mod watchdog;

use std::collections::BTreeMap;

use haarb_model::{NetworkName, NodeName};

use crate::check::{self, Positions};
use crate::fields::{self, Fields, Problems, cut, nearest, repeated};
use crate::problem::Found;
use crate::timing::{KEYS, Slot, slot};
use crate::tree::{self, Kind, Tree};
use crate::{Attachment, Config, Network, Node, Profile};

const PORT: u16 = 7950;
const SYNC_PORT: u16 = 7951;
const TOP: [&str; 9] = [
    "cluster",
    "timing",
    "networks",
    "nodes",
    "reserves",
    "port",
    "sync-port",
    "watchdog",
    "witness",
];

/// Reads a whole text.
pub(crate) fn read(text: &str) -> Result<(Config, Positions), Vec<Found>> {
    let tree = tree::parse(text).map_err(|f| vec![f])?;
    let mut p = Problems::default();
    let config = config(&tree, &mut p);
    p.0.sort_by_key(|f| f.pos);
    match config {
        Some(read) if p.0.is_empty() => Ok(read),
        _ => Err(p.0),
    }
}

fn config(tree: &Tree, p: &mut Problems) -> Option<(Config, Positions)> {
    let top = Fields::new(tree, "the configuration", &TOP, p)?;
    let mut at = Positions::default();
    let cluster = top
        .need("cluster", "NAME", p)
        .and_then(|t| fields::name::<NodeName>(t, "cluster", p));
    let (profile, timing) = timing(&top, p, &mut at);
    let networks = networks(&top, p, &mut at);
    let nodes = nodes(&top, &networks, p, &mut at);
    let mut config = Config {
        cluster: cluster.map(|c| c.as_str().to_owned()).unwrap_or_default(),
        profile,
        timing,
        port: port(&top, "port", PORT, p),
        sync_port: port(&top, "sync-port", SYNC_PORT, p),
        networks,
        nodes,
        reserves: reserve::reserves(&top, p, &mut at),
        watchdog: watchdog::watchdog(&top, p, &mut at),
        digest: 0,
    };
    if let Some(witness) = top.get("witness") {
        p.add(
            witness.pos,
            "a witness is not there yet",
            "take the key out; `strict: yes` on a reserve is what closes the case of one lost link and a hole in the other network",
        );
    }
    check::check(&config, &at, p);
    config.digest = config.compute_digest();
    Some((config, at))
}

fn port(top: &Fields<'_>, key: &str, default: u16, p: &mut Problems) -> u16 {
    let read = top.get(key).and_then(|t| {
        fields::parsed(t, key, "write a port from 1 to 65535", p, |t| {
            match t.parse::<u16>() {
                Ok(0) | Err(_) => Err("is not a port"),
                Ok(port) => Ok(port),
            }
        })
    });
    read.unwrap_or(default)
}

/// The profile, then the single values on top of it.
fn timing(
    top: &Fields<'_>,
    p: &mut Problems,
    at: &mut Positions,
) -> (Profile, haarb_model::Timing) {
    let mut profile = Profile::default();
    let mut timing = profile.timing();
    let Some(tree) = top.get("timing") else {
        return (profile, timing);
    };
    let known: Vec<&str> = ["profile"].into_iter().chain(KEYS).collect();
    let Some(fields) = Fields::new(tree, "timing", &known, p) else {
        return (profile, timing);
    };
    if let Some(tree) = fields.get("profile") {
        let names = Profile::ALL.map(Profile::as_str);
        let todo = format!("write one of {}", names.join(", "));
        let read = fields::parsed(tree, "profile", &todo, p, |t| {
            Profile::ALL
                .into_iter()
                .find(|p| p.as_str() == t)
                .ok_or_else(|| format!("is unknown, the nearest is {:?}", nearest(t, &names)))
        });
        at.profile_unknown = read.is_none();
        profile = read.unwrap_or_default();
        timing = profile.timing();
    }
    for key in KEYS {
        let Some(tree) = fields.get(key) else {
            continue;
        };
        match slot(&mut timing, key) {
            Some(Slot::Span(to)) => *to = fields::span(tree, key, p).unwrap_or(*to),
            Some(Slot::Count(to)) => *to = fields::count(tree, key, 1, p).unwrap_or(*to),
            None => {}
        }
        at.timing.insert(key, tree.pos);
    }
    (profile, timing)
}

fn networks(top: &Fields<'_>, p: &mut Problems, at: &mut Positions) -> Vec<Network> {
    let Some(tree) = top.need("networks", "[{ name: red }, { name: blue }]", p) else {
        return Vec::new();
    };
    let mut networks = Vec::<Network>::new();
    for item in fields::list(tree, "networks", p) {
        let Some(f) = Fields::new(item, "a network", &["name", "switch"], p) else {
            continue;
        };
        let switch = f
            .get("switch")
            .and_then(|t| Some((fields::address(t, "switch", p)?, t.pos)));
        let Some(tree) = f.need("name", "red", p) else {
            continue;
        };
        let Some(name) = fields::name::<NetworkName>(tree, "the network's name", p) else {
            continue;
        };
        if networks.iter().any(|n| n.name == name) {
            p.add(
                tree.pos,
                format!("a second network is named {:?}", name.as_str()),
                "give every network its own name",
            );
            continue;
        }
        if let Some((_, pos)) = switch {
            at.switches.insert(name.clone(), pos);
        }
        networks.push(Network {
            name,
            switch: switch.map(|(ip, _)| ip),
        });
    }
    networks
}

fn nodes(
    top: &Fields<'_>,
    networks: &[Network],
    p: &mut Problems,
    at: &mut Positions,
) -> Vec<Node> {
    let Some(tree) = top.need("nodes", "a list of servers", p) else {
        return Vec::new();
    };
    let mut nodes = Vec::<Node>::new();
    for item in fields::list(tree, "nodes", p) {
        let Some(f) = Fields::new(item, "a node", &["name", "networks"], p) else {
            continue;
        };
        let name = f.need("name", "alpha", p).and_then(|t| {
            let name = fields::name::<NodeName>(t, "the node's name", p)?;
            at.nodes.entry(name.clone()).or_insert(t.pos);
            if nodes.iter().any(|n| n.name == name) {
                p.add(
                    t.pos,
                    format!("a second node is named {:?}", name.as_str()),
                    "give every node its own name",
                );
            }
            Some(name)
        });
        let attached = attachments(&f, name.as_ref(), networks, p, at);
        if let Some(name) = name
            && !nodes.iter().any(|n| n.name == name)
        {
            nodes.push(Node {
                name,
                networks: attached,
            });
        }
    }
    if let Some(extra) = nodes.get(2) {
        p.add(
            at.nodes.get(&extra.name).copied().unwrap_or_default(),
            "more than two nodes are not supported yet",
            "configure two servers",
        );
    }
    nodes
}

/// How one node is attached: every network once, each by its own interface.
fn attachments(
    node: &Fields<'_>,
    name: Option<&NodeName>,
    networks: &[Network],
    p: &mut Problems,
    at: &mut Positions,
) -> BTreeMap<NetworkName, Attachment> {
    let mut attached = BTreeMap::<NetworkName, Attachment>::new();
    let Some(tree) = node.need("networks", "{ red: { interface: eth0, address: … } }", p) else {
        return attached;
    };
    let Kind::Map(entries) = &tree.kind else {
        p.add(
            tree.pos,
            "networks of a node must be a mapping from a network to an interface and an address",
            "write `NETWORK: { interface: …, address: … }` for every network",
        );
        return attached;
    };
    let known: Vec<&str> = networks.iter().map(|n| n.name.as_str()).collect();
    for (i, (key, value)) in entries.iter().enumerate() {
        repeated(entries, i, p);
        let network = networks.iter().find(|n| n.name.as_str() == key.text);
        if network.is_none() && !known.is_empty() {
            p.add(
                key.pos,
                format!("unknown network {:?} in a node", cut(&key.text)),
                format!(
                    "the nearest known network is {:?}",
                    nearest(&key.text, &known)
                ),
            );
        }
        let Some(f) = Fields::new(value, "a node's network", &["interface", "address"], p) else {
            continue;
        };
        let interface = f
            .need("interface", "eth0", p)
            .and_then(|t| Some((fields::interface(t, "interface", p)?, t.pos)));
        let address = f
            .need("address", "10.77.1.1", p)
            .and_then(|t| Some((fields::address(t, "address", p)?, t.pos)));
        let (Some(network), Some((interface, pos)), Some((address, address_pos))) =
            (network, interface, address)
        else {
            continue;
        };
        if attached.values().any(|a| a.interface == interface) {
            p.add(
                pos,
                format!("the interface {interface:?} is already used for another network"),
                "give every network its own interface: one switch, one cable",
            );
        }
        if let Some(name) = name {
            let key = (name.clone(), network.name.clone());
            at.interfaces.entry(key.clone()).or_insert(pos);
            at.addresses.entry(key).or_insert(address_pos);
        }
        attached
            .entry(network.name.clone())
            .or_insert(Attachment { interface, address });
    }
    for network in networks {
        if !entries.iter().any(|(k, _)| k.text == network.name.as_str()) {
            p.add(
                tree.pos,
                format!(
                    "this node is not attached to the network {:?}",
                    network.name.as_str()
                ),
                format!("add `{}: {{ interface: …, address: … }}`", network.name),
            );
        }
    }
    attached
}
