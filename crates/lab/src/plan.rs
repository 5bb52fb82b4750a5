//! What the lab builds: names and addresses of networks, servers, client and virtual IPs. Pure data.
//!
//! Servers and networks are lists; nothing here says "two". Addresses follow from positions:
//! network *i* (from 1) is `10.77.i.0/24` and `fd77:i::/64`; server *j* (from 1) has host number *j*,
//! the client 200, the bystander 201, the stranger 202, the switch 254, the virtual IP of reserve *r* (from 0) 100 + *r*.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::netlink::Mac;

/// Position of a server in [`Plan::servers`].
pub type ServerId = usize;
/// Position of a network in [`Plan::networks`].
pub type NetworkId = usize;
/// Position of a virtual IP in [`Plan::vips`].
pub type VipId = usize;

/// Most servers and networks a plan can have; the limit is the address scheme's.
pub const MOST: usize = 99;

/// A virtual IP that the client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vip {
    /// The reserve it belongs to.
    pub reserve: String,
    /// The address.
    pub address: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// The network it is on.
    pub network: NetworkId,
}

/// A whole segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Names of the networks; one switch each.
    pub networks: Vec<String>,
    /// Names of the servers, in their order of preference.
    pub servers: Vec<String>,
    /// The virtual IPs under observation.
    pub vips: Vec<Vip>,
    /// UDP port of the measured service.
    pub port: u16,
}

/// Number of the host on a network.
const CLIENT_HOST: u8 = 200;
const BYSTANDER_HOST: u8 = 201;
const STRANGER_HOST: u8 = 202;
const SWITCH_HOST: u8 = 254;
const FIRST_VIP_HOST: u8 = 100;

impl Plan {
    /// The segment of the mission: two servers, two switches, one reserve with a virtual IP on each.
    #[must_use]
    pub fn pair() -> Self {
        Self::new(&["red", "blue"], &["alpha", "beta"], &["demo"])
    }

    /// The pair with an IPv6 virtual IP beside each IPv4 one.
    #[must_use]
    pub fn pair_with_ipv6() -> Self {
        let mut plan = Self::pair();
        let v6 = |vip: &Vip| Vip {
            address: IpAddr::V6(v6(vip.network, FIRST_VIP_HOST)),
            prefix: 64,
            ..vip.clone()
        };
        plan.vips = plan
            .vips
            .iter()
            .flat_map(|vip| [vip.clone(), v6(vip)])
            .collect();
        plan
    }

    /// The pair with two reserves.
    #[must_use]
    pub fn pair_with_two_reserves() -> Self {
        Self::new(&["red", "blue"], &["alpha", "beta"], &["demo", "extra"])
    }

    /// A segment with any number of networks, servers and reserves; each reserve has a virtual IP on
    /// every network.
    ///
    /// # Panics
    /// With more than [`MOST`] of anything, which the address scheme cannot number.
    #[must_use]
    pub fn new(networks: &[&str], servers: &[&str], reserves: &[&str]) -> Self {
        assert!(
            networks.len() <= MOST && servers.len() <= MOST && reserves.len() <= MOST,
            "at most {MOST} of each"
        );
        let owned = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let vip = |network: usize, (number, reserve): (usize, &&str)| Vip {
            reserve: (*reserve).to_owned(),
            address: v4(network, FIRST_VIP_HOST + small(number)),
            prefix: 24,
            network,
        };
        let vips = (0..networks.len())
            .flat_map(|network| {
                reserves
                    .iter()
                    .enumerate()
                    .map(move |reserve| vip(network, reserve))
            })
            .collect();
        Self {
            networks: owned(networks),
            servers: owned(servers),
            vips,
            port: 7000,
        }
    }

    /// The names of the reserves, in their order.
    #[must_use]
    pub fn reserves(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for vip in &self.vips {
            if !names.contains(&vip.reserve.as_str()) {
                names.push(&vip.reserve);
            }
        }
        names
    }

    /// The UDP port of the service behind a virtual IP: each reserve has its own.
    #[must_use]
    pub fn port_of(&self, vip: VipId) -> u16 {
        let reserve = &self.vips[vip].reserve;
        let number = self.reserves().iter().position(|name| name == reserve);
        self.port + number.map_or(0, |number| u16::from(small(number)))
    }

    /// The position of the server called `name`.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<ServerId> {
        self.servers.iter().position(|server| server == name)
    }

    /// The position of the network called `name`.
    #[must_use]
    pub fn network(&self, name: &str) -> Option<NetworkId> {
        self.networks.iter().position(|network| network == name)
    }

    /// The interface that every server and the client have on `network`.
    #[must_use]
    pub fn interface(&self, network: NetworkId) -> String {
        format!("eth{network}")
    }

    /// A server's own addresses on `network`, with prefix lengths.
    #[must_use]
    pub fn server_addresses(&self, server: ServerId, network: NetworkId) -> [(IpAddr, u8); 2] {
        addresses(network, 1 + small(server))
    }

    /// The switch's addresses on `network`.
    #[must_use]
    pub fn switch_addresses(&self, network: NetworkId) -> [(IpAddr, u8); 2] {
        addresses(network, SWITCH_HOST)
    }

    /// The client's addresses on `network`.
    #[must_use]
    pub fn client_addresses(&self, network: NetworkId) -> [(IpAddr, u8); 2] {
        addresses(network, CLIENT_HOST)
    }

    /// The addresses on `network` of the host that watches its own neighbour table.
    #[must_use]
    pub fn bystander_addresses(&self, network: NetworkId) -> [(IpAddr, u8); 2] {
        addresses(network, BYSTANDER_HOST)
    }

    /// The bystander's hardware address on `network`.
    #[must_use]
    pub fn bystander_mac(&self, network: NetworkId) -> Mac {
        [0x02, 0x77, 0, 0, small(network) + 1, BYSTANDER_HOST]
    }

    /// The addresses on `network` of the host that takes what is not its own.
    #[must_use]
    pub fn stranger_addresses(&self, network: NetworkId) -> [(IpAddr, u8); 2] {
        addresses(network, STRANGER_HOST)
    }

    /// The stranger's hardware address on `network`.
    #[must_use]
    pub fn stranger_mac(&self, network: NetworkId) -> Mac {
        [0x02, 0x77, 0, 0, small(network) + 1, STRANGER_HOST]
    }

    /// The hardware address of a server on `network`: fixed, as a network card's is, across power-offs.
    #[must_use]
    pub fn server_mac(&self, server: ServerId, network: NetworkId) -> Mac {
        [0x02, 0x77, 0, 0, small(network) + 1, small(server) + 1]
    }

    /// The switch's own hardware address on `network`.
    #[must_use]
    pub fn switch_mac(&self, network: NetworkId) -> Mac {
        [0x02, 0x77, 0, 0, small(network) + 1, SWITCH_HOST]
    }

    /// The client's hardware address on `network`.
    #[must_use]
    pub fn client_mac(&self, network: NetworkId) -> Mac {
        [0x02, 0x77, 0, 0, small(network) + 1, CLIENT_HOST]
    }
}

fn addresses(network: NetworkId, host: u8) -> [(IpAddr, u8); 2] {
    [(v4(network, host), 24), (IpAddr::V6(v6(network, host)), 64)]
}

fn v6(network: NetworkId, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, small(network).into(), 0, 0, 0, 0, 0, host.into())
}

fn v4(network: NetworkId, host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, small(network) + 1, host))
}

/// Positions are below [`MOST`], so this loses nothing.
fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pair_has_the_documented_addresses() {
        let plan = Plan::pair();
        let vips: Vec<String> = plan
            .vips
            .iter()
            .map(|vip| vip.address.to_string())
            .collect();
        assert_eq!(vips, ["10.77.1.100", "10.77.2.100"]);
        assert_eq!(plan.server_addresses(1, 0)[0].0.to_string(), "10.77.1.2");
        assert_eq!(plan.switch_addresses(1)[0].0.to_string(), "10.77.2.254");
        assert_eq!(plan.client_addresses(0)[0].0.to_string(), "10.77.1.200");
        assert_eq!(plan.interface(1), "eth1");
    }

    #[test]
    fn no_address_is_used_twice_in_a_large_segment() {
        let names: Vec<String> = (0..MOST).map(|number| format!("n{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let plan = Plan::new(&["red", "blue", "green"], &names, &["r0", "r1"]);
        let mut seen = std::collections::BTreeSet::new();
        for network in 0..3 {
            let servers = (0..MOST).flat_map(|server| plan.server_addresses(server, network));
            let others = plan
                .switch_addresses(network)
                .into_iter()
                .chain(plan.client_addresses(network))
                .chain(plan.bystander_addresses(network))
                .chain(plan.stranger_addresses(network));
            for (address, _) in servers.chain(others) {
                assert!(seen.insert(address), "{address} twice");
            }
        }
        for vip in &plan.vips {
            assert!(seen.insert(vip.address), "{} twice", vip.address);
        }
    }
}
