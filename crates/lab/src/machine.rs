//! What servers and the client have in common: a network namespace with a cable to every switch.

use std::{net::IpAddr, path::Path};

use crate::{
    error::LabError,
    netlink::{Mac, Netlink},
    netns::NetNs,
    plan::{NetworkId, Plan},
    switch::{FarEnd, Switch},
};

/// Who a machine is on the networks.
pub(crate) struct Identity<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: &'a dyn Fn(NetworkId) -> Mac,
    pub(crate) addresses: &'a dyn Fn(NetworkId) -> [(IpAddr, u8); 2],
}

/// Settings of a fresh kernel, whatever the host of the lab has: a new network namespace takes over
/// some of its host's. Forwarding on a router or a container host would falsify every result.
const KERNEL_DEFAULTS: [(&str, &str); 12] = [
    ("ipv4/ip_forward", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/arp_ignore", "0"),
    ("ipv4/conf/default/arp_ignore", "0"),
    ("ipv4/conf/all/arp_announce", "0"),
    ("ipv4/conf/default/arp_announce", "0"),
    ("ipv4/conf/all/arp_filter", "0"),
    ("ipv4/conf/default/arp_filter", "0"),
    ("ipv4/conf/all/arp_accept", "0"),
    ("ipv4/conf/default/arp_accept", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
];

/// Makes the network side of a machine: namespace, cables, addresses, everything up.
pub(crate) fn build(
    plan: &Plan,
    switches: &mut [Switch],
    who: &Identity<'_>,
) -> Result<NetNs, LabError> {
    let netns = NetNs::create().map_err(LabError::namespace("create a machine"))?;
    netns
        .sysctl(&KERNEL_DEFAULTS)
        .map_err(LabError::namespace("set up a machine"))?;
    settle_ipv6(&netns)?;
    allow_ping(&netns)?;
    let mut netlink = netns
        .netlink()
        .map_err(LabError::namespace("reach a machine"))?;
    let loopback = netlink.index_of("lo")?;
    netlink.set_up(loopback, true)?;
    for (network, switch) in switches.iter_mut().enumerate() {
        let interface = plan.interface(network);
        switch.lay_cable(
            who.name,
            &FarEnd {
                netns: &netns,
                interface: &interface,
                mac: (who.mac)(network),
            },
        )?;
        let index = netlink.index_of(&interface)?;
        for (address, prefix) in (who.addresses)(network) {
            add_address(&mut netlink, index, address, prefix)?;
        }
        netlink.set_up(index, true)?;
    }
    Ok(netns)
}

/// Adds an address; on a kernel without IPv6, IPv6 addresses are left out.
pub(crate) fn add_address(
    netlink: &mut Netlink,
    index: u32,
    address: IpAddr,
    prefix: u8,
) -> Result<(), LabError> {
    if address.is_ipv6() && !has_ipv6() {
        return Ok(());
    }
    Ok(netlink.add_address(index, address, prefix)?)
}

/// IPv6 addresses are usable at once, and no router is believed.
pub(crate) fn settle_ipv6(netns: &NetNs) -> Result<(), LabError> {
    if !has_ipv6() {
        return Ok(());
    }
    let settings = ["all", "default"].map(|scope| {
        [
            ("accept_dad", "0"),
            ("accept_ra", "0"),
            ("disable_ipv6", "0"),
            ("forwarding", "0"),
        ]
        .map(|(name, value)| (format!("ipv6/conf/{scope}/{name}"), value))
    });
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    netns
        .sysctl(&settings)
        .map_err(LabError::namespace("set up IPv6"))
}

fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").is_dir()
}

/// Ping sockets for everybody; a namespace with a single mapped group can name only that one.
fn allow_ping(netns: &NetNs) -> Result<(), LabError> {
    netns
        .sysctl(&[("ipv4/ping_group_range", "0 2147483647")])
        .or_else(|_| netns.sysctl(&[("ipv4/ping_group_range", "0 0")]))
        .map_err(LabError::namespace("allow ping sockets"))
}
