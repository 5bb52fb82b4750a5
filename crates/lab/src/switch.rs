//! A switch: a bridge in a network namespace of its own, with an address that answers.
//!
//! A port is the switch's end of a cable. The far end has a carrier while its port is up, and a port is
//! up while the switch has power, the cable is plugged in and the machine at the other end has power.
//! All faults here are what a technician can do to a switch or a cable; none touches the servers.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{
    bad_cable::{BadCable, Carrier},
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
    hangs: bool,
    next_index: u32,
    ports: BTreeMap<String, Port>,
}

struct Port {
    /// The switch's end of the cable: down, and the machine has no carrier.
    index: u32,
    plugged: bool,
    /// The machine at the other end has lost its power; its kernel may still be there, and must not
    /// be heard.
    dead: bool,
    /// It does not reach the other isolated ports.
    isolated: bool,
    /// Between the cable and the bridge, when the cable is bad.
    bad: Option<Bad>,
}

/// A bad cable ends at its carrier thread instead of the bridge; a second, short cable goes on from
/// there into the bridge.
struct Bad {
    cable: BadCable,
    carrier: Carrier,
    /// The bridge's end of the short cable.
    bridge_port: u32,
}

impl Port {
    /// The interface that is the port as the bridge sees it.
    fn bridge_port(&self) -> u32 {
        self.bad.as_ref().map_or(self.index, |bad| bad.bridge_port)
    }
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
        forward_unfiltered(&netns)?;
        crate::machine::settle_ipv6(&netns)?;
        let mut netlink = netns
            .netlink()
            .map_err(LabError::namespace("reach a switch"))?;
        let loopback = netlink.index_of("lo")?;
        netlink.set_up(loopback, true)?;
        netlink.add_bridge(&name, plan.switch_mac(network))?;
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
            hangs: false,
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

    /// Whether frames pass between `machine` and the others here, as far as power and cables go.
    #[must_use]
    pub fn passes(&self, machine: &str) -> bool {
        let port = self.ports.get(machine);
        self.powered && !self.hangs && port.is_some_and(|port| port.plugged && !port.dead)
    }

    /// Whether the cable of `machine` has been exchanged for a bad one, however bad that is.
    #[must_use]
    pub fn is_spoilt(&self, machine: &str) -> bool {
        self.ports
            .get(machine)
            .is_some_and(|port| port.bad.is_some())
    }

    /// Lays a cable to a machine, plugged in at both ends. The machine's interface is left down. A
    /// cable of the same name is taken away first, but stays unplugged if it was.
    pub(crate) fn lay_cable(&mut self, machine: &str, far: &FarEnd<'_>) -> Result<(), LabError> {
        let old = self.ports.get(machine);
        let plugged = old.is_none_or(|port| port.plugged);
        let bad = old.and_then(|port| port.bad.as_ref()).map(|bad| bad.cable);
        self.remove_cable(machine)?;
        let index = self.new_index();
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
        let port = Port {
            index,
            plugged,
            dead: false,
            isolated: false,
            bad: None,
        };
        self.ports.insert(machine.to_owned(), port);
        if let Some(cable) = bad {
            self.spoil(machine, Some(cable))?;
        }
        self.settle_port(machine)
    }

    /// Takes the cable of a machine away, if there is one.
    pub(crate) fn remove_cable(&mut self, machine: &str) -> Result<(), LabError> {
        let Some(port) = self.ports.remove(machine) else {
            return Ok(());
        };
        let short = port.bad.map(|bad| bad.bridge_port);
        for index in std::iter::once(port.index).chain(short) {
            match self.netlink.delete_link(index) {
                Err(error) if error.errno() == Some(libc::ENODEV) => {} // went with its machine
                other => other?,
            }
        }
        Ok(())
    }

    /// The machine's end of the cable lost its power: the port goes down, whatever it was.
    pub(crate) fn far_end_dead(&mut self, machine: &str) -> Result<(), LabError> {
        self.port(machine)?.dead = true;
        self.settle_port(machine)
    }

    /// Plugs the cable of `machine` in or pulls it.
    ///
    /// # Errors
    /// When there is no such cable, or as the kernel refuses.
    pub fn plug(&mut self, machine: &str, plugged: bool) -> Result<(), LabError> {
        self.port(machine)?.plugged = plugged;
        self.settle_port(machine)
    }

    /// Switches the power of the switch off or on: all carriers go at once.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn power(&mut self, on: bool) -> Result<(), LabError> {
        self.powered = on;
        let machines: Vec<String> = self.ports.keys().cloned().collect();
        let settle_ports = |switch: &mut Self| {
            let mut machines = machines.iter();
            machines.try_for_each(|machine| switch.settle_port(machine))
        };
        // The kernel takes the ports one by one; a switch without power stops at one instant, and
        // one that gets it back has carriers before it forwards.
        if on {
            settle_ports(self)?;
            self.hang(false)
        } else {
            self.hang(true)?;
            settle_ports(self)
        }
    }

    /// Lets the switch hang: it forwards and answers nothing, but every carrier stays. `false` ends it.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn hang(&mut self, hangs: bool) -> Result<(), LabError> {
        self.hangs = hangs;
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
        for (name, port) in &mut self.ports {
            port.isolated = machines.contains(&name.as_str());
            self.netlink
                .set_isolated(port.bridge_port(), port.isolated)?;
        }
        Ok(())
    }

    /// Makes the cable of a machine bad, changes how bad it is, or (`None`) makes it good again. The
    /// first and the last of these interrupt it for a moment.
    ///
    /// # Errors
    /// When there is no such cable, or as the kernel refuses.
    pub fn spoil(&mut self, machine: &str, cable: Option<BadCable>) -> Result<(), LabError> {
        let bridge = self.bridge;
        let port = self.port(machine)?;
        let (index, isolated) = (port.index, port.isolated);
        match (cable, port.bad.take()) {
            (None, None) => Ok(()),
            (Some(cable), Some(bad)) => {
                bad.carrier.set(cable);
                port.bad = Some(Bad { cable, ..bad });
                Ok(())
            }
            (None, Some(bad)) => {
                self.netlink.delete_link(bad.bridge_port)?;
                drop(bad);
                self.netlink.plug_into_bridge(index, bridge)?;
                Ok(self.netlink.set_isolated(index, isolated)?)
            }
            (Some(cable), None) => {
                let (bridge_port, end) = (self.new_index(), self.new_index());
                let names = [format!("{index}-port"), format!("{index}-end")];
                let side = |name, index| CableEnd {
                    name,
                    mac: None,
                    netns: None,
                    index: Some(index),
                };
                self.netlink
                    .add_cable(&side(&names[0], bridge_port), &side(&names[1], end))?;
                self.netlink.set_up(bridge_port, true)?;
                self.netlink.set_up(end, true)?;
                self.netlink.plug_into_bridge(index, 0)?;
                self.netlink.plug_into_bridge(bridge_port, bridge)?;
                self.netlink.set_isolated(bridge_port, isolated)?;
                let carrier =
                    Carrier::start(&self.netns, index, end, cable).map_err(LabError::Client)?;
                self.port(machine)?.bad = Some(Bad {
                    cable,
                    carrier,
                    bridge_port,
                });
                Ok(())
            }
        }
    }

    fn port(&mut self, machine: &str) -> Result<&mut Port, LabError> {
        let known = self.ports.keys().cloned().collect();
        self.ports
            .get_mut(machine)
            .ok_or_else(|| LabError::Unknown {
                what: "cable",
                name: format!("{machine} - {}", self.name),
                known,
            })
    }

    /// Sets a port up or down as power and cable have it.
    fn settle_port(&mut self, machine: &str) -> Result<(), LabError> {
        let powered = self.powered;
        let port = self.port(machine)?;
        let (index, up) = (port.index, powered && port.plugged && !port.dead);
        Ok(self.netlink.set_up(index, up)?)
    }

    fn new_index(&mut self) -> u32 {
        self.next_index += 1;
        self.next_index
    }
}

/// A switch has no packet filter. The kernel's bridges ask the one of their namespace about every
/// frame unless they are told not to, and that would cost whoever sends: in the lab a frame is
/// forwarded on the sender's time. A kernel without that part has nothing to be told.
fn forward_unfiltered(netns: &NetNs) -> Result<(), LabError> {
    if !Path::new("/proc/sys/net/bridge").is_dir() {
        return Ok(());
    }
    let settings = [
        ("bridge/bridge-nf-call-arptables", "0"),
        ("bridge/bridge-nf-call-ip6tables", "0"),
        ("bridge/bridge-nf-call-iptables", "0"),
    ];
    netns
        .sysctl(&settings)
        .map_err(LabError::namespace("set up a switch"))
}
