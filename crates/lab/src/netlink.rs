//! A synchronous rtnetlink client for one network namespace.
//!
//! The lab must know when a fault began and when the kernel had carried it out; so requests are plain
//! blocking calls, without a runtime between the caller and the kernel. Messages are built with the
//! builders of `rtnetlink`. A socket belongs to the namespace in which it was opened, whatever thread
//! uses it later; [`crate::netns::NetNs::netlink`] opens it in the right one.

use std::{io, net::IpAddr, os::fd::AsRawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{InfoData, InfoVeth, LinkAttribute, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
};

/// Why the kernel (or the socket) refused a request.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel answered with an errno.
    #[error("the kernel refused to {what}: {source}")]
    Refused {
        /// What was asked, in words.
        what: String,
        /// The errno.
        source: io::Error,
    },
    /// The socket failed.
    #[error("netlink socket failed while trying to {what}: {source}")]
    Socket {
        /// What was asked, in words.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The kernel sent something that is no netlink message.
    #[error("unreadable netlink answer while trying to {what}: {reason}")]
    Garbled {
        /// What was asked, in words.
        what: String,
        /// What was wrong with it.
        reason: String,
    },
}

impl NetlinkError {
    /// The errno of a refusal.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            Self::Socket { .. } | Self::Garbled { .. } => None,
        }
    }
}

type Result<T> = std::result::Result<T, NetlinkError>;

/// A hardware address.
pub type Mac = [u8; 6];

/// One end of a cable: a veth pair is made of two.
#[derive(Debug, Clone)]
pub struct CableEnd<'a> {
    /// Interface name.
    pub name: &'a str,
    /// Hardware address; `None` lets the kernel choose.
    pub mac: Option<Mac>,
    /// Namespace; `None` is the one of the socket.
    pub netns: Option<i32>,
    /// Interface index; `None` lets the kernel choose.
    pub index: Option<u32>,
}

/// A request socket in one network namespace.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The errno of `socket` or `bind`.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Creates a veth pair, both ends down.
    ///
    /// # Errors
    /// `EEXIST` when a name is taken in its namespace.
    pub fn add_cable(&mut self, near: &CableEnd<'_>, far: &CableEnd<'_>) -> Result<()> {
        let mut peer = LinkMessageBuilder::<LinkUnspec>::new().name(far.name);
        if let Some(mac) = far.mac {
            peer = peer.address(mac.to_vec());
        }
        if let Some(fd) = far.netns {
            peer = peer.setns_by_fd(fd);
        }
        if let Some(index) = far.index {
            peer = peer.index(index);
        }
        let mut link = LinkVeth::new(near.name, far.name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())));
        if let Some(mac) = near.mac {
            link = link.address(mac.to_vec());
        }
        if let Some(fd) = near.netns {
            link = link.setns_by_fd(fd);
        }
        if let Some(index) = near.index {
            link = link.index(index);
        }
        let what = format!("create the cable {} - {}", near.name, far.name);
        self.change(
            RouteNetlinkMessage::NewLink(link.build()),
            NLM_F_CREATE | NLM_F_EXCL,
            &what,
        )
    }

    /// Creates a bridge that forwards at once: no spanning tree, no forward delay, no multicast
    /// snooping (which would hide neighbour discovery from a switch without a querier). Its hardware
    /// address is given, because the kernel otherwise takes the lowest one of its ports, and the switch
    /// would change its address with every cable.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn add_bridge(&mut self, name: &str, mac: Mac) -> Result<()> {
        let link = LinkBridge::new(name)
            .address(mac.to_vec())
            .stp_state(netlink_packet_route::link::BridgeStpState::Disabled)
            .forward_delay(0)
            .mcast_snooping(false)
            .build();
        self.change(
            RouteNetlinkMessage::NewLink(link),
            NLM_F_CREATE | NLM_F_EXCL,
            &format!("create the bridge {name}"),
        )
    }

    /// Makes `port` a port of the bridge `bridge`.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn plug_into_bridge(&mut self, port: u32, bridge: u32) -> Result<()> {
        let link = LinkUnspec::new_with_index(port).controller(bridge).build();
        self.change(
            RouteNetlinkMessage::SetLink(link),
            0,
            &format!("make interface {port} a port of bridge {bridge}"),
        )
    }

    /// Sets an interface up or down. When it is one end of a cable, the other end loses its carrier.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn set_up(&mut self, index: u32, up: bool) -> Result<()> {
        let link = LinkUnspec::new_with_index(index);
        let link = if up { link.up() } else { link.down() };
        let word = if up { "up" } else { "down" };
        self.change(
            RouteNetlinkMessage::SetLink(link.build()),
            0,
            &format!("set interface {index} {word}"),
        )
    }

    /// Sets or clears the isolation of a bridge port: two isolated ports do not reach each other, but
    /// both reach the bridge and every other port.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn set_isolated(&mut self, port: u32, isolated: bool) -> Result<()> {
        let link = LinkBridgePort::new(port).isolated(isolated).build();
        // Port data are heeded in RTM_NEWLINK only; RTM_SETLINK passes over them in silence.
        self.change(
            RouteNetlinkMessage::NewLink(link),
            0,
            &format!("set the isolation of bridge port {port}"),
        )
    }

    /// The neighbour table: interface index, address, hardware address where one is known.
    ///
    /// # Errors
    /// As the socket fails.
    pub fn neighbours(&mut self) -> Result<Vec<(u32, IpAddr, Option<Mac>)>> {
        let answers = self.exchange(
            RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
            NLM_F_DUMP,
            "list the neighbours",
        )?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(message) => neighbour(message),
                _ => None,
            })
            .collect())
    }

    /// Deletes an interface; the other end of a cable goes with it.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn delete_link(&mut self, index: u32) -> Result<()> {
        let link = LinkUnspec::new_with_index(index).build();
        self.change(
            RouteNetlinkMessage::DelLink(link),
            0,
            &format!("delete interface {index}"),
        )
    }

    /// Adds an address without duplicate address detection; replaces it if it is there.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<()> {
        let mut message = address_message(index, address, prefix);
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
        let what = format!("add {address}/{prefix} to interface {index}");
        self.change(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            &what,
        )
    }

    /// Removes an address.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` when it is not there.
    pub fn delete_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<()> {
        let message = address_message(index, address, prefix);
        let what = format!("remove {address}/{prefix} from interface {index}");
        self.change(RouteNetlinkMessage::DelAddress(message), 0, &what)
    }

    /// The index of the interface `name`.
    ///
    /// # Errors
    /// `ENODEV` when there is none.
    pub fn index_of(&mut self, name: &str) -> Result<u32> {
        let what = format!("find the interface {name}");
        let answer = self.link(LinkUnspec::new_with_name(name).build(), &what)?;
        Ok(answer.header.index)
    }

    /// Whether an interface has a carrier; `None` when the kernel does not say.
    ///
    /// # Errors
    /// `ENODEV` when there is no such interface.
    pub fn has_carrier(&mut self, index: u32) -> Result<Option<bool>> {
        let what = format!("read the state of interface {index}");
        let answer = self.link(LinkUnspec::new_with_index(index).build(), &what)?;
        Ok(answer
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Carrier(carrier) => Some(*carrier != 0),
                _ => None,
            }))
    }

    /// The hardware address of an interface, where it has one.
    ///
    /// # Errors
    /// `ENODEV` when there is no such interface.
    pub fn mac_of(&mut self, index: u32) -> Result<Option<Mac>> {
        let what = format!("read the address of interface {index}");
        let answer = self.link(LinkUnspec::new_with_index(index).build(), &what)?;
        Ok(answer
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Address(mac) => mac.as_slice().try_into().ok(),
                _ => None,
            }))
    }

    /// Every address of the namespace: interface index, address, prefix length.
    ///
    /// # Errors
    /// As the socket fails.
    pub fn addresses(&mut self) -> Result<Vec<(u32, IpAddr, u8)>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Unspec;
        let answers = self.exchange(
            RouteNetlinkMessage::GetAddress(message),
            NLM_F_DUMP,
            "list the addresses",
        )?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(message) => local_address(message)
                    .map(|ip| (message.header.index, ip, message.header.prefix_len)),
                _ => None,
            })
            .collect())
    }

    fn link(&mut self, request: LinkMessage, what: &str) -> Result<LinkMessage> {
        let answers = self.exchange(RouteNetlinkMessage::GetLink(request), NLM_F_ACK, what)?;
        answers
            .into_iter()
            .find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(link),
                _ => None,
            })
            .ok_or_else(|| NetlinkError::Garbled {
                what: what.to_owned(),
                reason: "no link in the answer".into(),
            })
    }

    fn change(&mut self, message: RouteNetlinkMessage, flags: u16, what: &str) -> Result<()> {
        self.exchange(message, flags | NLM_F_ACK, what).map(drop)
    }

    /// Sends one request and collects what comes back until its acknowledgement or the end of the dump.
    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: &str,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let socket_error = |source| NetlinkError::Socket {
            what: what.to_owned(),
            source,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(socket_error)?;

        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full().map_err(socket_error)?;
            for answer in messages(&datagram) {
                let answer = answer.map_err(|reason| NetlinkError::Garbled {
                    what: what.to_owned(),
                    reason,
                })?;
                if answer.header.sequence_number != self.sequence {
                    continue; // left over from a request that failed halfway
                }
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(error) => {
                        return Err(NetlinkError::Refused {
                            what: what.to_owned(),
                            source: error.to_io(),
                        });
                    }
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
            }
        }
    }
}

/// Splits a datagram of the kernel into its messages.
pub(crate) fn messages(
    datagram: &[u8],
) -> impl Iterator<Item = std::result::Result<NetlinkMessage<RouteNetlinkMessage>, String>> + '_ {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
            .map_err(|error| error.to_string());
        // Messages are aligned to four bytes; a length below the header's cannot be stepped over.
        let length = rest.get(..4).map_or(0, |head| {
            u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize
        });
        rest = if length < 16 {
            &[]
        } else {
            rest.get(length.next_multiple_of(4)..).unwrap_or_default()
        };
        Some(parsed)
    })
}

/// The host's own address in an address message.
pub(crate) fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => return Some(*ip),
            AddressAttribute::Address(ip) => found = Some(*ip),
            _ => {}
        }
    }
    found
}

/// An entry of the neighbour table; one whose address was not found has no hardware address.
fn neighbour(message: &NeighbourMessage) -> Option<(u32, IpAddr, Option<Mac>)> {
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
            _ => None,
        })?;
    let unknown = matches!(
        message.header.state,
        NeighbourState::Failed | NeighbourState::Incomplete | NeighbourState::None
    );
    let mac = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
            _ => None,
        });
    Some((message.header.ifindex, address, mac.filter(|_| !unknown)))
}

fn address_message(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    match address {
        IpAddr::V4(ip) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .index(index)
            .address(ip, prefix)
            .build(),
        IpAddr::V6(ip) => AddressMessageBuilder::<std::net::Ipv6Addr>::new()
            .index(index)
            .address(ip, prefix)
            .build(),
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}
