//! A switch: a bridge in a network namespace of its own, with an address that answers.
//!
//! A port is the switch's end of a cable. The far end has a carrier while its port is up, and a port is
//! up while the switch has power, the cable is plugged in and the machine at the other end has power.
//! All faults here are what a technician can do to a switch or a cable; none touches the servers.

use std::collections::BTreeMap;

use crate::{
    error::LabError,
    netlink::{CableEnd, Mac, Netlink},
    netns::NetNs,
    plan::{NetworkId, Plan},
};

/// One switch with its ports.
pub struct Switch {
    name: String,
    netns: NetNs,
    netlink: Netlink,
    bridge: u32,
    powered: bool,
    next_index: u32,
    ports: BTreeMap<String, Port>,
}

#[derive(Debug, Clone, Copy)]
struct Port {
    index: u32,
    plugged: bool,
}

/// The machine's end of a new cable.
pub(crate) struct FarEnd<'a> {
    pub(crate) netns: &'a NetNs,
    pub(crate) interface: &'a str,
    pub(crate) mac: Mac,
}

/// First interface index of ports. The kernel reports the loss of a carrier at once only when the two
/// ends of a cable have different indexes (otherwise up to a second later), and two namespaces that
/// count from 1 would give equal ones.
const FIRST_PORT_INDEX: u32 = 1000;

impl Switch {
    /// Builds the switch of `network`, powered, without cables.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn build(plan: &Plan, network: NetworkId) -> Result<Self, LabError> {
        let name = plan.networks[network].clone();
        let netns = NetNs::create().map_err(LabError::namespace("create a switch"))?;
        // A switch does not route between its address and anything else.
        netns
            .sysctl(&[("ipv4/ip_forward", "0")])
            .map_err(LabError::namespace("set up a switch"))?;
        crate::machine::settle_ipv6(&netns)?;
        let mut netlink = netns
            .netlink()
            .map_err(LabError::namespace("reach a switch"))?;
        let loopback = netlink.index_of("lo")?;
        netlink.set_up(loopback, true)?;
        netlink.add_bridge(&name)?;
        let bridge = netlink.index_of(&name)?;
        for (address, prefix) in plan.switch_addresses(network) {
            crate::machine::add_address(&mut netlink, bridge, address, prefix)?;
        }
        netlink.set_up(bridge, true)?;
        Ok(Self {
            name,
            netns,
            netlink,
            bridge,
            powered: true,
            next_index: FIRST_PORT_INDEX,
            ports: BTreeMap::new(),
        })
    }

    /// The network's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The switch's network namespace.
    #[must_use]
    pub const fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Whether the switch has power.
    #[must_use]
    pub const fn is_powered(&self) -> bool {
        self.powered
    }

    /// Whether the cable of `machine` is plugged in.
    #[must_use]
    pub fn is_plugged(&self, machine: &str) -> bool {
        self.ports.get(machine).is_some_and(|port| port.plugged)
    }

    /// Lays a cable to a machine, plugged in at both ends. The machine's interface is left down. A
    /// cable of the same name is taken away first, but stays unplugged if it was.
    pub(crate) fn lay_cable(&mut self, machine: &str, far: &FarEnd<'_>) -> Result<(), LabError> {
        let plugged = self.ports.get(machine).is_none_or(|port| port.plugged);
        self.remove_cable(machine)?;
        let index = self.next_index;
        self.next_index += 1;
        let near = CableEnd {
            name: machine,
            mac: None,
            netns: None,
            index: Some(index),
        };
        let far = CableEnd {
            name: far.interface,
            mac: Some(far.mac),
            netns: Some(far.netns.raw_fd()),
            index: None,
        };
        self.netlink.add_cable(&near, &far)?;
        self.netlink.plug_into_bridge(index, self.bridge)?;
        self.ports
            .insert(machine.to_owned(), Port { index, plugged });
        self.set_port(index, self.powered && plugged)
    }

    /// Takes the cable of a machine away, if there is one.
    pub(crate) fn remove_cable(&mut self, machine: &str) -> Result<(), LabError> {
        let Some(port) = self.ports.remove(machine) else {
            return Ok(());
        };
        match self.netlink.delete_link(port.index) {
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()), // went with its machine
            other => Ok(other?),
        }
    }

    /// The machine's end of the cable lost its power: the port goes down, whatever it was.
    pub(crate) fn far_end_dead(&mut self, machine: &str) -> Result<(), LabError> {
        let index = self.port(machine)?.index;
        self.set_port(index, false)
    }

    /// Plugs the cable of `machine` in or pulls it.
    ///
    /// # Errors
    /// When there is no such cable, or as the kernel refuses.
    pub fn plug(&mut self, machine: &str, plugged: bool) -> Result<(), LabError> {
        let index = self.port(machine)?.index;
        if let Some(port) = self.ports.get_mut(machine) {
            port.plugged = plugged;
        }
        self.set_port(index, plugged && self.powered)
    }

    /// Switches the power of the switch off or on: all carriers go at once.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn power(&mut self, on: bool) -> Result<(), LabError> {
        self.powered = on;
        let ports: Vec<Port> = self.ports.values().copied().collect();
        for port in ports {
            self.set_port(port.index, on && port.plugged)?;
        }
        Ok(())
    }

    /// Lets the switch hang: it forwards and answers nothing, but every carrier stays. `false` ends it.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn hang(&mut self, hangs: bool) -> Result<(), LabError> {
        Ok(self.netlink.set_up(self.bridge, !hangs)?)
    }

    /// Makes a layer-2 hole between all of `machines`: they do not reach each other on this network,
    /// but each reaches the switch and everybody else. An empty list mends it.
    ///
    /// # Errors
    /// When one of them has no cable here, or as the kernel refuses.
    pub fn hole(&mut self, machines: &[&str]) -> Result<(), LabError> {
        for machine in machines {
            self.port(machine)?;
        }
        let ports: Vec<(u32, bool)> = self
            .ports
            .iter()
            .map(|(name, port)| (port.index, machines.contains(&name.as_str())))
            .collect();
        for (index, isolated) in ports {
            self.netlink.set_isolated(index, isolated)?;
        }
        Ok(())
    }

    fn port(&self, machine: &str) -> Result<Port, LabError> {
        self.ports
            .get(machine)
            .copied()
            .ok_or_else(|| LabError::Unknown {
                what: "cable",
                name: format!("{machine} - {}", self.name),
                known: self.ports.keys().cloned().collect(),
            })
    }

    fn set_port(&mut self, index: u32, up: bool) -> Result<(), LabError> {
        Ok(self.netlink.set_up(index, up)?)
    }
}
