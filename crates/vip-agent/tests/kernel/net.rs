//! Two network namespaces joined by a cable, made by the test's own thread: `eth0` here,
//! `peer0` there. They go away with the last socket in them.

use std::cell::RefCell;
use std::fs::File;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use haarb_model::VipSpec;
use haarb_vip_agent::claim::Claim;
use haarb_vip_agent::kernel::Kernel;
use haarb_vip_agent::packet::Ports;
use haarb_vip_agent::plan::{Event, Found, Link};
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::link::MacVlanMode;
use rtnetlink::{Handle, LinkBridge, LinkMacVlan, LinkUnspec, LinkVeth, new_connection};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

/// This side's interface.
pub(crate) const HERE: &str = "eth0";
/// The other side's.
pub(crate) const THERE: &str = "peer0";

/// Both namespaces.
pub(crate) struct Net {
    here: File,
    there: File,
    handle: Handle,
    handle_there: Handle,
}

fn new_namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
    File::open("/proc/thread-self/ns/net").expect("its name")
}

fn connect() -> Handle {
    let (connection, handle, _) = new_connection().expect("rtnetlink");
    tokio::spawn(connection);
    handle
}

impl Net {
    /// Makes the namespaces and moves this thread into the first.
    pub(crate) async fn new() -> Self {
        let there = new_namespace();
        let handle_there = connect();
        let here = new_namespace();
        let handle = connect();
        let net = Self {
            here,
            there,
            handle,
            handle_there,
        };
        let cable = LinkVeth::new(HERE, THERE).build();
        net.handle.link().add(cable).execute().await.expect("veth");
        let there_fd = std::os::fd::AsRawFd::as_raw_fd(&net.there);
        let moved = LinkUnspec::new_with_name(THERE)
            .setns_by_fd(there_fd)
            .build();
        net.handle
            .link()
            .change(moved)
            .execute()
            .await
            .expect("move");
        for (handle, name) in [(&net.handle, HERE), (&net.handle_there, THERE)] {
            set(handle, "lo", true).await;
            set(handle, name, true).await;
        }
        net
    }

    /// Runs something that opens sockets in the other namespace.
    pub(crate) fn there<T>(&self, open: impl FnOnce() -> T) -> T {
        setns(&self.there, CloneFlags::CLONE_NEWNET).expect("the other namespace");
        let opened = open();
        setns(&self.here, CloneFlags::CLONE_NEWNET).expect("our namespace");
        opened
    }

    /// Switches the other side's interface, and with it our carrier.
    pub(crate) async fn set_there(&self, up: bool) {
        set(&self.handle_there, THERE, up).await;
    }

    /// Switches this side's interface itself, as an administrator would.
    pub(crate) async fn set_here(&self, up: bool) {
        set(&self.handle, HERE, up).await;
    }

    /// Makes a bridge of this name on this side and plugs the cable into it.
    pub(crate) async fn bridge(&self, name: &str) {
        let bridge = LinkBridge::new(name).up().build();
        let added = self.handle.link().add(bridge).execute().await;
        added.expect("a bridge");
        let port = LinkUnspec::new_with_name(HERE)
            .controller(index(&self.handle, name).await)
            .build();
        let plugged = self.handle.link().change(port).execute().await;
        plugged.expect("a port of the bridge");
    }

    /// Makes a macvlan of this name over the cable.
    pub(crate) async fn macvlan(&self, name: &str) {
        let over = index(&self.handle, HERE).await;
        let macvlan = LinkMacVlan::new(name, over, MacVlanMode::Bridge);
        let added = self.handle.link().add(macvlan.up().build()).execute().await;
        added.expect("a macvlan");
    }

    /// Makes a cable whose two ends are both on this side.
    pub(crate) async fn cable(&self, name: &str, end: &str) {
        let cable = LinkVeth::new(name, end).build();
        let added = self.handle.link().add(cable).execute().await;
        added.expect("a cable");
        for name in [name, end] {
            set(&self.handle, name, true).await;
        }
    }

    /// Sends a frame from the other side as it is.
    pub(crate) async fn send_there(&self, frame: &[u8]) {
        let index = index(&self.handle_there, THERE).await;
        let sent = self.there(|| send_raw(index, frame));
        sent.expect("sent");
    }

    /// Gives an address to this side as an administrator would.
    pub(crate) async fn add_here(&self, vip: &VipSpec) {
        add(&self.handle, vip, HERE).await;
    }

    /// Gives an address to the other side.
    pub(crate) async fn add_there(&self, vip: &VipSpec) {
        add(&self.handle_there, vip, THERE).await;
    }

    /// Removes an address of this side as an administrator would.
    pub(crate) async fn remove_here(&self, vip: &VipSpec) {
        remove(&self.handle, vip).await;
    }

    /// Removes an address of the other side, where the kernel has not done so.
    pub(crate) async fn remove_there(&self, vip: &VipSpec) {
        if vip.address.is_ipv4() {
            remove(&self.handle_there, vip).await;
        }
    }

    /// What the kernel has of an address on this side, as the agent reads it.
    pub(crate) async fn found(&self, address: IpAddr) -> Option<Found> {
        let mut kernel = Kernel::open().expect("rtnetlink");
        let Ok(Event::Snapshot { addresses, .. }) = kernel.snapshot().await else {
            panic!("no snapshot");
        };
        addresses.into_iter().find(|f| f.address == address)
    }

    /// Whether this side has an address.
    pub(crate) async fn has(&self, address: IpAddr) -> bool {
        self.found(address).await.is_some()
    }
}

/// `struct sockaddr_ll` has no safe maker; nothing is received, so no protocol is needed.
fn send_raw(index: u32, frame: &[u8]) -> std::io::Result<()> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: this is one of the platform's sockaddr types, and all its fields are numbers.
    #[expect(
        unsafe_code,
        reason = "no safe wrapper makes an address for packet sockets"
    )]
    let to = unsafe {
        let address: &mut libc::sockaddr_ll = storage.view_as();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index.cast_signed();
        SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    };
    socket.send_to(frame, &to).map(drop)
}

async fn set(handle: &Handle, name: &str, up: bool) {
    let link = LinkUnspec::new_with_name(name);
    let link = if up { link.up() } else { link.down() };
    let changed = handle.link().change(link.build()).execute().await;
    changed.expect("interface up or down");
}

async fn index(handle: &Handle, name: &str) -> u32 {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await.expect("links").expect("the link");
    link.header.index
}

async fn add(handle: &Handle, vip: &VipSpec, name: &str) {
    let index = index(handle, name).await;
    let mut request = handle.address().add(index, vip.address, vip.prefix);
    if vip.address.is_ipv6() {
        use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
        let nodad = AddressAttribute::Flags(AddressFlags::Nodad);
        request.message_mut().attributes.push(nodad);
    }
    request.execute().await.expect("address added");
}

async fn remove(handle: &Handle, vip: &VipSpec) {
    let addresses = handle.address();
    let mut all = addresses.get().set_address_filter(vip.address).execute();
    let message = all.try_next().await.expect("addresses");
    let message = message.expect("the address that is to be removed");
    addresses.del(message).execute().await.expect("removed");
}

/// A machine at the other end of the cable: hears claims and makes them.
pub(crate) struct Other {
    pub(crate) link: Link,
    vips: Vec<VipSpec>,
    ports: Ports,
    backlog: RefCell<Vec<Claim>>,
}

impl Other {
    pub(crate) async fn new(net: &Net, vips: &[VipSpec]) -> Self {
        let index = index(&net.handle_there, THERE).await;
        let mut links = net.handle_there.link().get().match_index(index).execute();
        let message = links.try_next().await.expect("links").expect("the link");
        let mac = message.attributes.iter().find_map(|a| match a {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(&bytes[..]).ok(),
            _ => None,
        });
        let link = Link {
            index,
            name: THERE.into(),
            up: true,
            confirmed: true,
            mac: mac.map(haarb_vip_agent::claim::Mac),
            asks: true,
        };
        let vips: Vec<_> = vips
            .iter()
            .map(|vip| VipSpec {
                interface: THERE.into(),
                ..vip.clone()
            })
            .collect();
        let mut ports = Ports::default();
        net.there(|| ports.open(&link, vips.iter()))
            .expect("sockets");
        Self {
            link,
            vips,
            ports,
            backlog: RefCell::default(),
        }
    }

    /// Its MAC address.
    pub(crate) fn mac(&self) -> [u8; 6] {
        self.link.mac.expect("a MAC address").0
    }

    /// Claims every VIP once.
    pub(crate) fn claim(&self) {
        for vip in &self.vips {
            self.ports.announce(vip, &self.link).expect("sent");
        }
    }

    /// Asks once who has each VIP.
    pub(crate) fn probe(&self) {
        for vip in &self.vips {
            self.ports.probe(vip, &self.link).expect("sent");
        }
    }

    /// What it has heard since it was asked last.
    pub(crate) fn heard(&self) -> Vec<Claim> {
        let mut claims = self.backlog.take();
        self.ports.drain(|_, claim| claims.push(claim));
        claims
    }

    /// Waits until it has heard `count` claims of `address`; what else it hears is kept.
    pub(crate) async fn hears(&self, address: IpAddr, count: usize) -> Vec<Claim> {
        let mut claims = Vec::new();
        let enough = async {
            loop {
                let (wanted, other): (Vec<_>, _) =
                    self.heard().into_iter().partition(|c| c.address == address);
                claims.extend(wanted);
                self.backlog.replace(other);
                if claims.len() >= count {
                    return;
                }
                std::future::poll_fn(|cx| self.ports.poll_ready(cx)).await;
            }
        };
        let waited = tokio::time::timeout(super::PATIENCE, enough).await;
        assert!(
            waited.is_ok(),
            "heard only {claims:?} of {count} for {address}"
        );
        claims
    }
}
