//! Whether the configuration fits the machine it is used on. What the machine has is an
//! argument: nothing is asked of the kernel here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use haarb_model::NodeName;

use crate::check::Positions;
use crate::load::load;
use crate::problem::{Found, Pos};
use crate::{Config, Errors, Problem};

/// The network interfaces of a machine and their addresses.
pub type Interfaces = BTreeMap<String, Vec<IpAddr>>;

/// What does not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Misfits {
    /// Interfaces that do not exist: nothing can work.
    pub interfaces: Vec<Problem>,
    /// Own addresses that are not on their interface, or not yet.
    pub addresses: Vec<Problem>,
}

impl Config {
    /// Reads a file again and compares it with the machine of the server `me`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn misfits(path: &Path, me: &NodeName, machine: &Interfaces) -> Result<Misfits, Errors> {
        let (config, at) = load(path)?;
        let file = path.display().to_string();
        Ok(compare(&config, &at, me, machine, &file))
    }
}

fn compare(
    config: &Config,
    at: &Positions,
    me: &NodeName,
    machine: &Interfaces,
    file: &str,
) -> Misfits {
    let mut misfits = Misfits::default();
    let place = |pos: Option<&Pos>| pos.copied().unwrap_or_default();
    let missing = |interface: &str, pos: Pos| {
        let known: Vec<&str> = machine.keys().map(String::as_str).collect();
        Found {
            pos,
            what: format!("the interface {interface:?} does not exist on this server"),
            todo: format!("write one of {}, or create it", known.join(", ")),
        }
        .in_file(file)
    };
    let node = config.node(me);
    for (network, a) in node.iter().flat_map(|n| &n.networks) {
        let key = (me.clone(), network.clone());
        let Some(addresses) = machine.get(&a.interface) else {
            let pos = place(at.interfaces.get(&key));
            misfits.interfaces.push(missing(&a.interface, pos));
            continue;
        };
        if !addresses.contains(&a.address) {
            let found = Found {
                pos: place(at.addresses.get(&key)),
                what: format!(
                    "the interface {} does not have the address {}",
                    a.interface, a.address
                ),
                todo: "give it this address, or write the one that it has".into(),
            };
            misfits.addresses.push(found.in_file(file));
        }
    }
    let vips = config.reserves.iter().flat_map(|r| &r.vips);
    for (vip, pos) in vips.zip(&at.vip_interfaces) {
        if !machine.contains_key(&vip.interface) {
            misfits.interfaces.push(missing(&vip.interface, *pos));
        }
    }
    misfits
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn missing_interfaces_and_addresses_are_told_apart() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/good.yaml");
        let alpha = NodeName::new("alpha").unwrap();
        let on = |interfaces: &[(&str, &str)]| {
            let machine = interfaces
                .iter()
                .map(|(name, ip)| ((*name).to_owned(), vec![ip.parse().unwrap()]))
                .collect();
            let misfits = Config::misfits(Path::new(file), &alpha, &machine).unwrap();
            let line = |p: &Problem| format!("{}:{}: {}; {}\n", p.line, p.column, p.what, p.todo);
            let interfaces: String = misfits.interfaces.iter().map(line).collect();
            let addresses: String = misfits.addresses.iter().map(line).collect();
            format!("interfaces\n{interfaces}addresses\n{addresses}")
        };
        expect![[r#"
            interfaces
            addresses
        "#]]
        .assert_eq(&on(&[("eth0", "10.77.1.1"), ("eth1", "10.77.2.1")]));
        expect![[r#"
            interfaces
            14:26: the interface "eth0" does not exist on this server; write one of eth1, lo, or create it
            23:47: the interface "eth0" does not exist on this server; write one of eth1, lo, or create it
            34:47: the interface "eth0" does not exist on this server; write one of eth1, lo, or create it
            addresses
            15:41: the interface eth1 does not have the address 10.77.2.1; give it this address, or write the one that it has
        "#]].assert_eq(&on(&[("eth1", "10.77.2.9"), ("lo", "127.0.0.1")]));
    }
}
