//! The kernel's side: addresses and interfaces over rtnetlink, requests and notifications.
//!
//! One socket carries both, so that a notification about our own request is there when its
//! answer is. The kernel answers each request before the send returns; nothing here waits
//! for anything else. The one thing to know: an address of ours carries our own number in
//! `IFA_PROTO` (Linux 5.18 and later) and a lifetime that ends, and that is how it is told
//! from an address of the server itself, which is never touched.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use haarb_model::{Mono, Span, VipSpec};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, State};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};

use crate::claim::Mac;
use crate::error::KernelError;
use crate::plan::{Event, Found, Link, Outcome};

/// Who put an address there, in `IFA_PROTO`: not used by the kernel (0 to 3) or by any
/// program that iproute2 knows by name.
pub const PROTOCOL: u8 = 104;

/// `INFINITY_LIFE_TIME` of the kernel (addrconf.h).
const FOR_EVER: u32 = u32::MAX;

type Message = NetlinkMessage<RouteNetlinkMessage>;

/// The kernel's addresses and interfaces in our network namespace.
pub struct Kernel {
    handle: Handle,
    messages: Pin<Box<dyn Stream<Item = Message> + Send + Sync>>,
    names: BTreeMap<u32, String>,
    /// The kernel keeps `IFA_PROTO`. Where it does not, an address counts as ours if its
    /// lifetime ends.
    marks: bool,
}

impl Kernel {
    /// Opens the socket and subscribes. Inside a tokio runtime only.
    ///
    /// # Errors
    /// The kernel refuses the socket.
    pub fn open() -> Result<Self, KernelError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (connection, handle, messages) =
            new_multicast_connection(&groups).map_err(KernelError::Open)?;
        tokio::spawn(connection);
        Ok(Self {
            handle,
            messages: Box::pin(messages.map(|(message, _)| message)),
            names: BTreeMap::new(),
            marks: keeps_protocol(),
        })
    }

    /// Everything that the kernel has now.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub async fn snapshot(&mut self) -> Result<Event, KernelError> {
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(KernelError::List)?;
        self.names.clear();
        let links: Vec<Link> = links.iter().filter_map(|m| self.link(m)).collect();
        let addresses: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(KernelError::List)?;
        let addresses = addresses.iter().filter_map(|m| self.found(m)).collect();
        Ok(Event::Snapshot { links, addresses })
    }

    /// The next things that changed; nothing for notifications that do not concern us.
    /// Cancel-safe: a notification is taken from the queue and returned in one step.
    ///
    /// # Errors
    /// [`KernelError::Lost`] when notifications were lost: take a new [`Self::snapshot`].
    /// [`KernelError::Closed`] when the socket is gone.
    pub async fn next(&mut self) -> Result<Vec<Event>, KernelError> {
        let message = self.messages.next().await.ok_or(KernelError::Closed)?;
        match message.payload {
            NetlinkPayload::InnerMessage(message) => Ok(self.events(&message)),
            NetlinkPayload::Overrun(_) => Err(KernelError::Lost),
            _ => Ok(Vec::new()),
        }
    }

    fn events(&mut self, message: &RouteNetlinkMessage) -> Vec<Event> {
        match message {
            RouteNetlinkMessage::NewLink(message) => {
                let before = self.names.get(&message.header.index).cloned();
                let Some(link) = self.link(message) else {
                    return Vec::new();
                };
                let renamed = before.filter(|b| b != &link.name).map(Event::LinkGone);
                renamed.into_iter().chain([Event::Link(link)]).collect()
            }
            RouteNetlinkMessage::DelLink(message) => {
                let name = self.names.remove(&message.header.index);
                name.map(Event::LinkGone).into_iter().collect()
            }
            RouteNetlinkMessage::NewAddress(message) => {
                let found = self.found(message);
                found.map(Event::Address).into_iter().collect()
            }
            RouteNetlinkMessage::DelAddress(message) => {
                let found = self.found(message);
                found.map(Event::AddressGone).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn link(&mut self, message: &LinkMessage) -> Option<Link> {
        let header = &message.header;
        let name = message.attributes.iter().find_map(|a| match a {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })?;
        self.names.insert(header.index, name.clone());
        let ethernet = header.link_layer_type == LinkLayerType::Ether;
        let mac = message.attributes.iter().find_map(|a| match a {
            LinkAttribute::Address(bytes) if ethernet => <[u8; 6]>::try_from(&bytes[..]).ok(),
            _ => None,
        });
        let passes = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running;
        let confirmed = message
            .attributes
            .iter()
            .any(|a| matches!(a, LinkAttribute::OperState(State::Up)));
        Some(Link {
            index: header.index,
            name,
            up: header.flags.contains(passes),
            confirmed,
            mac: mac.map(Mac),
            asks: ethernet
                && !header
                    .flags
                    .intersects(LinkFlags::Loopback | LinkFlags::Noarp),
        })
    }

    fn found(&self, message: &AddressMessage) -> Option<Found> {
        let mut found = Found {
            interface: self.names.get(&message.header.index)?.clone(),
            address: IpAddr::from([0, 0, 0, 0]),
            prefix: message.header.prefix_len,
            ours: false,
            valid: None,
        };
        let (mut local, mut remote, mut marked) = (None, None, false);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(address) => local = Some(*address),
                AddressAttribute::Address(address) => remote = Some(*address),
                AddressAttribute::Protocol(by) => marked = *by == AddressProtocol::Other(PROTOCOL),
                AddressAttribute::CacheInfo(info) if info.ifa_valid != FOR_EVER => {
                    found.valid = Some(Span::from_secs(info.ifa_valid.into()));
                }
                _ => {}
            }
        }
        found.address = local.or(remote)?;
        found.ours = if self.marks {
            marked
        } else {
            found.valid.is_some()
        };
        Some(found)
    }

    /// Adds a VIP, for `seconds` at most.
    pub async fn add(&self, vip: &VipSpec, index: u32, seconds: u32, now: Mono) -> Outcome {
        let request = self.request(vip, index, seconds);
        match request.execute().await {
            Ok(()) => Outcome::Added {
                ends: now + Span::from_secs(seconds.into()),
            },
            Err(error) if errno(&error) == libc::EEXIST => {
                self.already_there(vip, index, seconds, now).await
            }
            Err(error) => Outcome::Failed(refused("add", vip, &error)),
        }
    }

    /// Either the server's own address, or ours and a notification was overtaken.
    async fn already_there(&self, vip: &VipSpec, index: u32, seconds: u32, now: Mono) -> Outcome {
        let mut all = self.handle.address().get().execute();
        while let Ok(Some(message)) = all.try_next().await {
            if let Some(found) = self.found(&message)
                && found.address == vip.address
                && !found.ours
            {
                return Outcome::Taken {
                    interface: found.interface,
                    prefix: found.prefix,
                };
            }
        }
        self.refresh(vip, index, seconds, now).await
    }

    /// Gives a VIP that is there a new lifetime.
    pub async fn refresh(&self, vip: &VipSpec, index: u32, seconds: u32, now: Mono) -> Outcome {
        let request = self.request(vip, index, seconds).replace();
        match request.execute().await {
            Ok(()) => Outcome::Refreshed {
                ends: now + Span::from_secs(seconds.into()),
            },
            Err(error) => Outcome::Failed(refused("refresh", vip, &error)),
        }
    }

    fn request(&self, vip: &VipSpec, index: u32, seconds: u32) -> rtnetlink::AddressAddRequest {
        let addresses = self.handle.address();
        let mut request = addresses.add(index, vip.address, vip.prefix);
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = seconds;
        // Deprecated from the start: nothing that this server opens itself leaves from an
        // IPv6 VIP, which may be elsewhere a moment later (RFC 6724, 5, rule 3). The kernel
        // does not choose IPv4 sources by this.
        lifetime.ifa_preferred = if vip.address.is_ipv6() { 0 } else { seconds };
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::CacheInfo(lifetime));
        if vip.address.is_ipv6() {
            // It works at once: whether it is free was asked before (rules B6 to B8).
            attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        if self.marks {
            let by = AddressProtocol::Other(PROTOCOL);
            attributes.push(AddressAttribute::Protocol(by));
        }
        request
    }

    /// Removes a VIP. One that is gone already is as good.
    pub async fn remove(&self, vip: &VipSpec, index: u32) -> Outcome {
        let addresses = self.handle.address();
        let mut request = addresses.add(index, vip.address, vip.prefix);
        let message = std::mem::take(request.message_mut());
        match addresses.del(message).execute().await {
            Ok(()) => Outcome::Gone,
            Err(error) => match errno(&error) {
                libc::EADDRNOTAVAIL | libc::ENODEV => Outcome::Gone,
                _ => Outcome::Stuck(refused("remove", vip, &error)),
            },
        }
    }
}

fn errno(error: &rtnetlink::Error) -> i32 {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code().saturating_abs(),
        _ => 0,
    }
}

/// What the kernel refused, where, and what to do about the refusals that people can mend.
fn refused(what: &str, vip: &VipSpec, error: &rtnetlink::Error) -> String {
    let VipSpec {
        address,
        prefix,
        interface,
    } = vip;
    let todo = match errno(error) {
        libc::EPERM => "; give the vip-agent CAP_NET_ADMIN",
        libc::EACCES if address.is_ipv6() => {
            "; IPv6 is switched off there (sysctl net.ipv6.conf.*.disable_ipv6)"
        }
        libc::EAFNOSUPPORT => "; this kernel runs without IPv6",
        libc::ENODEV => "; the interface has just gone",
        _ => "",
    };
    let reason = match errno(error) {
        0 => error.to_string(),
        code => std::io::Error::from_raw_os_error(code).to_string(),
    };
    format!("cannot {what} {address}/{prefix} on {interface}: {reason}{todo}")
}

/// Whether this kernel keeps `IFA_PROTO` (5.18 and later).
fn keeps_protocol() -> bool {
    let Ok(name) = nix::sys::utsname::uname() else {
        return false;
    };
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|n| n.parse::<u32>().ok());
    match (number(), number()) {
        (Some(major), Some(minor)) => (major, minor) >= (5, 18),
        _ => false,
    }
}
