//! A failover done by hand, to prove that the lab measures what happens and not what it hopes for.
//!
//! Adds and removes a virtual IP on a server and announces it, with the timing that the test chooses.
//! The drills use it only for what a stranger or a careless hand does.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::{
    client::send_frame,
    clock::Stamp,
    error::LabError,
    guest::BootCommand,
    netlink::Mac,
    netns::NetNs,
    plan::{Plan, ServerId, VipId},
    roles::{HELPER, MARK},
    segment::Segment,
};

const BROADCAST: Mac = [0xff; 6];

/// Gives a virtual IP to a server and announces it; returns when that was done.
///
/// # Errors
/// When the server has no power, or as the kernel refuses.
pub fn take(lab: &Segment, server: ServerId, vip: VipId) -> Result<Stamp, LabError> {
    let mac = lab.plan().server_mac(server, lab.plan().vips[vip].network);
    claim(netns_of(lab, server)?, lab.plan(), vip, mac)?;
    Ok(Stamp::now())
}

/// Gives a virtual IP to the machine with this hardware address and announces it.
pub(crate) fn claim(netns: &NetNs, plan: &Plan, vip: VipId, mac: Mac) -> Result<(), LabError> {
    let place = &plan.vips[vip];
    let mut netlink = netns.netlink().map_err(LabError::Client)?;
    let interface = netlink.index_of(&plan.interface(place.network))?;
    netlink.add_address(interface, place.address, place.prefix)?;
    if let IpAddr::V4(address) = place.address {
        netns
            .run(|| announce(interface, mac, address))
            .map_err(LabError::Client)?;
    }
    Ok(())
}

/// Takes a virtual IP away from a server.
///
/// # Errors
/// When the server has no power or does not hold it.
pub fn drop_vip(lab: &Segment, server: ServerId, vip: VipId) -> Result<Stamp, LabError> {
    let place = &lab.plan().vips[vip];
    let mut netlink = netns_of(lab, server)?.netlink().map_err(LabError::Client)?;
    let interface = netlink.index_of(&lab.plan().interface(place.network))?;
    netlink.delete_address(interface, place.address, place.prefix)?;
    Ok(Stamp::now())
}

fn netns_of(lab: &Segment, server: ServerId) -> Result<&NetNs, LabError> {
    let server = lab.server(server);
    server.netns().ok_or_else(|| LabError::NoPower {
        server: server.name().to_owned(),
        what: "hold an address".into(),
    })
}

/// Broadcasts a gratuitous ARP request (RFC 5227, section 3) from the calling thread's namespace.
fn announce(interface: u32, mac: Mac, address: Ipv4Addr) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut frame = Vec::with_capacity(42);
    frame.extend_from_slice(&BROADCAST);
    frame.extend_from_slice(&mac);
    // EtherType ARP; Ethernet, IPv4, their lengths; operation 1, a request.
    frame.extend_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&address.octets());
    send_frame(&socket, interface, BROADCAST, &frame)
}

/// The boot of a server that runs the measured service and nothing else.
#[must_use]
pub fn boot_service(plan: &Plan, server: ServerId) -> Vec<BootCommand> {
    let argv = [
        HELPER,
        MARK,
        "serve",
        "--node",
        &plan.servers[server],
        "--port",
        &plan.port.to_string(),
    ];
    vec![BootCommand {
        name: "serve".into(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
    }]
}
