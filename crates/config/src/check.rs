//! What concerns several places of the file at once: addresses that must differ or fit
//! together, directories that must not overlap, times that must satisfy the inequalities.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use haarb_model::{NetworkName, NodeName, VipSpec};

use crate::Config;
use crate::duration::exact;
use crate::fields::Problems;
use crate::problem::Pos;
use crate::timing::{Slot, inequalities, slot};

/// Where the values stand in the file.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    pub(crate) timing: BTreeMap<&'static str, Pos>,
    /// Then no time can be judged.
    pub(crate) profile_unknown: bool,
    pub(crate) switches: BTreeMap<NetworkName, Pos>,
    pub(crate) nodes: BTreeMap<NodeName, Pos>,
    pub(crate) addresses: BTreeMap<(NodeName, NetworkName), Pos>,
    pub(crate) interfaces: BTreeMap<(NodeName, NetworkName), Pos>,
    /// In the order of the reserves and their VIPs.
    pub(crate) vips: Vec<Pos>,
    /// The same for their interfaces.
    pub(crate) vip_interfaces: Vec<Pos>,
    /// In the order of the reserves and their directories.
    pub(crate) directories: Vec<Pos>,
    pub(crate) watchdog_timeout: Option<Pos>,
}

pub(crate) fn check(config: &Config, at: &Positions, p: &mut Problems) {
    own_addresses(config, at, p);
    families(config, at, p);
    vips(config, at, p);
    directories(config, at, p);
    if !at.profile_unknown {
        times(config, at, p);
        watchdog(config, at, p);
    }
    if config.port == config.sync_port {
        p.add(
            Pos { line: 1, column: 1 },
            format!("port and sync-port are both {}", config.port),
            "give them different numbers",
        );
    }
}

/// A server that renews its leases in time must never be reset.
fn watchdog(config: &Config, at: &Positions, p: &mut Problems) {
    let least = config.timing.lease.times(2);
    if let (Some(watchdog), Some(pos)) = (&config.watchdog, at.watchdog_timeout)
        && watchdog.timeout < least
    {
        p.add(
            pos,
            format!(
                "the watchdog's timeout of {} is shorter than two leases ({})",
                exact(watchdog.timeout),
                exact(least)
            ),
            "make it longer",
        );
    }
}

/// Everybody's own address, with whose it is and where it stands.
fn owners<'a>(
    config: &'a Config,
    at: &'a Positions,
) -> impl Iterator<Item = (IpAddr, String, Pos)> {
    let switches = config.networks.iter().filter_map(|n| {
        let whose = format!("the switch of network {:?}", n.name.as_str());
        Some((n.switch?, whose, *at.switches.get(&n.name)?))
    });
    let nodes = config.nodes.iter().flat_map(move |node| {
        node.networks.iter().filter_map(move |(network, a)| {
            let whose = format!(
                "node {:?}, network {:?}",
                node.name.as_str(),
                network.as_str()
            );
            let pos = at.addresses.get(&(node.name.clone(), network.clone()))?;
            Some((a.address, whose, *pos))
        })
    });
    switches.chain(nodes)
}

fn own_addresses(config: &Config, at: &Positions, p: &mut Problems) {
    let mut seen = BTreeMap::<IpAddr, String>::new();
    let mut all: Vec<_> = owners(config, at).collect();
    all.sort_by_key(|(_, _, pos)| *pos);
    for (address, whose, pos) in all {
        if let Some(first) = seen.get(&address) {
            p.add(
                pos,
                format!("the address {address} is already that of {first}"),
                "give every server and switch its own address",
            );
        } else {
            seen.insert(address, whose);
        }
    }
}

/// One network speaks one family: its switch and all nodes.
fn families(config: &Config, at: &Positions, p: &mut Problems) {
    for network in &config.networks {
        let mut first = network.switch.map(|ip| ip.is_ipv4());
        for node in &config.nodes {
            let (Some(a), Some(pos)) = (
                node.networks.get(&network.name),
                at.addresses.get(&(node.name.clone(), network.name.clone())),
            ) else {
                continue;
            };
            let family = a.address.is_ipv4();
            if *first.get_or_insert(family) != family {
                p.add(
                    *pos,
                    format!(
                        "the address {} is of another family than the others in network {:?}",
                        a.address,
                        network.name.as_str()
                    ),
                    "use IPv4 or IPv6 for the whole network; virtual IPs may be of either",
                );
            }
        }
    }
}

fn vips(config: &Config, at: &Positions, p: &mut Problems) {
    let mut seen = BTreeMap::<IpAddr, &str>::new();
    let all = config
        .reserves
        .iter()
        .flat_map(|r| r.vips.iter().map(|v| (r.name.as_str(), v)));
    for ((reserve, vip), pos) in all.zip(&at.vips) {
        match seen.get(&vip.address) {
            Some(other) => p.add(
                *pos,
                format!(
                    "the virtual IP {} is already that of reserve {other:?}",
                    vip.address
                ),
                "give every reserve its own virtual IPs",
            ),
            None => {
                seen.insert(vip.address, reserve);
            }
        }
        if let Some((_, whose, _)) = owners(config, at).find(|(ip, ..)| *ip == vip.address) {
            p.add(
                *pos,
                format!(
                    "the virtual IP {} is the own address of {whose}",
                    vip.address
                ),
                "use an address that no machine has as its own",
            );
        }
        on_segment(config, vip, *pos, p);
    }
}

/// Where a VIP sits on the interface of a segment network, the server's own address there
/// must lie in the VIP's prefix. A full-length prefix (/32, /128) says nothing about the
/// network, and another family cannot be compared.
fn on_segment(config: &Config, vip: &VipSpec, pos: Pos, p: &mut Problems) {
    let full = if vip.address.is_ipv4() { 32 } else { 128 };
    if vip.prefix == full {
        return;
    }
    for node in &config.nodes {
        for (network, a) in &node.networks {
            let same_family = a.address.is_ipv4() == vip.address.is_ipv4();
            if a.interface != vip.interface || !same_family {
                continue;
            }
            if prefix_of(a.address, vip.prefix) != prefix_of(vip.address, vip.prefix) {
                p.add(
                    pos,
                    format!(
                        "the virtual IP {}/{} is outside the network {:?} of its interface {}, where node {:?} is {}",
                        vip.address,
                        vip.prefix,
                        network.as_str(),
                        vip.interface,
                        node.name.as_str(),
                        a.address
                    ),
                    "choose an address of that network, its prefix length, or another interface",
                );
                return;
            }
        }
    }
}

/// The first `prefix` bits, as a number.
fn prefix_of(address: IpAddr, prefix: u8) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) >> 32u32.saturating_sub(prefix.into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_shr(128u32.saturating_sub(prefix.into()))
            .unwrap_or(0),
    }
}

fn directories(config: &Config, at: &Positions, p: &mut Problems) {
    let mut seen = Vec::<(&Path, &str)>::new();
    let all = config
        .reserves
        .iter()
        .flat_map(|r| r.directories.iter().map(|d| (r.name.as_str(), &d.path)));
    for ((reserve, path), pos) in all.zip(&at.directories) {
        for (other, owner) in &seen {
            let relation = if path == other {
                "is the same as"
            } else if path.starts_with(other) {
                "lies inside"
            } else if other.starts_with(path) {
                "contains"
            } else {
                continue;
            };
            p.add(
                *pos,
                format!(
                    "the directory {} {relation} {} of reserve {owner:?}",
                    path.display(),
                    other.display()
                ),
                "replicate every directory once",
            );
        }
        seen.push((path, reserve));
    }
}

fn times(config: &Config, at: &Positions, p: &mut Problems) {
    for rule in inequalities(config.profile, &config.timing) {
        if rule.holds() {
            continue;
        }
        let pos = rule.keys.iter().find_map(|k| at.timing.get(k)).copied();
        let mut timing = config.timing;
        let todo = match slot(&mut timing, rule.keys[0]) {
            Some(Slot::Span(now)) => format!(
                "raise {} {} {}, or change {}",
                rule.keys[0],
                if rule.or_equal {
                    "to at least"
                } else {
                    "above"
                },
                exact(*now + (rule.right - rule.left)),
                rule.keys[1..].join(", ")
            ),
            _ => format!("change {}", rule.keys.join(", ")),
        };
        p.add(
            pos.unwrap_or_default(),
            format!(
                "the times break {:?}: {} is {} against {}",
                rule.name,
                rule.formula,
                exact(rule.left),
                exact(rule.right)
            ),
            todo,
        );
    }
}
