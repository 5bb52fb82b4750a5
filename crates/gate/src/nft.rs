//! nftables: the line where the kernel gives us no eBPF. A `netdev` table of our own with a chain
//! for each direction of each interface, and sets whose elements time out.
//!
//! It never touches another table. `guarded` has the addresses with a door, `open` those that
//! may be used now; what is in the first and not in the second is dropped. The one thing to
//! know: a timeout is relative and begins when the kernel gets it. So it is computed right before
//! from the absolute deadline, the clock is read again after, and a transaction that took long
//! (we may have stood still in it) is made again.

use std::io;
use std::net::IpAddr;

use haarb_model::{Mono, Span};

use crate::gate::{Door, Doors};
#[cfg(test)]
use crate::netlink::attributes;
use crate::netlink::{ACK, APPEND, CREATE, Messages, Refused, Wire};
use crate::program::Direction;

const NETLINK_NETFILTER: isize = 12;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const FAMILY_NETDEV: u8 = 5;

/// Messages (linux/netfilter/nf_tables.h).
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;

const LIST_ELEMENT: u16 = 1;
/// In front of whatever else there is.
const PRIORITY: i32 = -500;
const ACCEPT: u32 = 1;
const TIMEOUTS: u32 = 0x10;
const DROP: u32 = 0;

/// The name of our table.
const TABLE: &str = "haarb";

/// A transaction that took longer is made again, as often as this.
const SLOW: Span = Span::from_millis(10);
const TRIES: usize = 3;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// Our table.
#[derive(Debug)]
pub(crate) struct Table {
    wire: Wire,
    clock: fn() -> Mono,
}

impl Table {
    pub(crate) fn open(clock: fn() -> Mono) -> io::Result<Self> {
        let wire = Wire::open(NETLINK_NETFILTER)?;
        Ok(Self { wire, clock })
    }

    /// Makes the table anew with everything in it, in place of an older one, in one transaction.
    pub(crate) fn build(&self, interfaces: &[&str], doors: &Doors) -> Result<(), Refused> {
        self.commit(|batch, now| {
            table(batch, NEW_TABLE);
            table(batch, DELETE_TABLE);
            table(batch, NEW_TABLE);
            for (number, set) in Set::ALL.into_iter().enumerate() {
                set.declare(batch, number as u32 + 1);
            }
            for interface in interfaces {
                for direction in [Direction::Ingress, Direction::Egress] {
                    chain(batch, interface, direction);
                    rules(batch, interface, direction);
                }
            }
            for (&address, &door) in doors {
                set_door(batch, address, Some(door), now);
            }
        })
    }

    /// Brings the doors from what they were to what is wanted, in one transaction.
    pub(crate) fn set(&self, before: &Doors, wanted: &Doors) -> Result<(), Refused> {
        self.commit(|batch, now| {
            for (&address, &door) in wanted {
                if before.get(&address) != Some(&door) {
                    set_door(batch, address, Some(door), now);
                }
            }
            for &address in before.keys().filter(|a| !wanted.contains_key(*a)) {
                set_door(batch, address, None, now);
            }
        })
    }

    /// Whether the chains of an interface are still there.
    pub(crate) fn attached(&self, interface: &str) -> bool {
        [Direction::Ingress, Direction::Egress]
            .into_iter()
            .all(|direction| {
                let mut request = Messages::default();
                begin(&mut request, GET_CHAIN, 0)
                    .text(1, TABLE)
                    .text(3, &chain_name(interface, direction));
                self.wire.ask(&request).is_ok()
            })
    }

    /// Removes the table, if there is one.
    pub(crate) fn remove(&self) -> Result<(), Refused> {
        let mut request = Messages::default();
        begin(&mut request, GET_TABLE, 0).text(1, TABLE);
        match self.wire.ask(&request) {
            Err(refused) if refused.errno() == libc::ENOENT => Ok(()),
            Err(refused) => Err(refused),
            Ok(_) => self.commit(|batch, _| table(batch, DELETE_TABLE)),
        }
    }

    fn commit(&self, fill: impl Fn(&mut Messages, Mono)) -> Result<(), Refused> {
        for _ in 0..TRIES {
            let began = (self.clock)();
            let mut batch = Messages::default();
            batch.begin(BATCH_BEGIN, 0, &header(0, SUBSYSTEM));
            fill(&mut batch, began);
            batch.begin(BATCH_END, 0, &header(0, SUBSYSTEM));
            self.wire.ask(&batch)?;
            if (self.clock)().since(began) <= SLOW {
                break;
            }
        }
        Ok(())
    }
}

/// One of our sets.
#[derive(Clone, Copy, Debug)]
struct Set {
    open: bool,
    v6: bool,
}

impl Set {
    const ALL: [Self; 4] = [
        Self::new(false, false),
        Self::new(false, true),
        Self::new(true, false),
        Self::new(true, true),
    ];

    const fn new(open: bool, v6: bool) -> Self {
        Self { open, v6 }
    }

    const fn name(self) -> &'static str {
        match (self.open, self.v6) {
            (false, false) => "guarded4",
            (false, true) => "guarded6",
            (true, false) => "open4",
            (true, true) => "open6",
        }
    }

    fn declare(self, batch: &mut Messages, number: u32) {
        // What `nft list` shows the elements as: ipv4_addr, ipv6_addr.
        let (kind, length): (u32, u32) = if self.v6 { (8, 16) } else { (7, 4) };
        let flags = if self.open { TIMEOUTS } else { 0 };
        begin(batch, NEW_SET, CREATE)
            .text(1, TABLE)
            .text(2, self.name())
            .attribute(3, &flags.to_be_bytes())
            .attribute(4, &kind.to_be_bytes())
            .attribute(5, &length.to_be_bytes())
            .attribute(10, &number.to_be_bytes());
    }

    fn element(self, batch: &mut Messages, message: u16, address: IpAddr, timeout: Option<Span>) {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let flags = if message == NEW_ELEMENT { CREATE } else { 0 };
        begin(batch, message, flags)
            .text(1, TABLE)
            .text(2, self.name())
            .nested(3, |list| {
                list.nested(LIST_ELEMENT, |element| {
                    element.nested(1, |key| {
                        key.attribute(1, &bytes);
                    });
                    if let Some(timeout) = timeout {
                        element.attribute(4, &timeout.as_millis().to_be_bytes());
                    }
                });
            });
    }

    /// Makes sure that an element is not there: what is not there cannot be deleted, so it is
    /// added first, which changes nothing where it is.
    fn without(self, batch: &mut Messages, address: IpAddr) {
        self.element(batch, NEW_ELEMENT, address, None);
        self.element(batch, DELETE_ELEMENT, address, None);
    }
}

fn set_door(batch: &mut Messages, address: IpAddr, door: Option<Door>, now: Mono) {
    let guarded = Set::new(false, address.is_ipv6());
    let open = Set::new(true, address.is_ipv6());
    // Anew: adding an element that is there would leave it its old timeout.
    open.without(batch, address);
    let left = match door {
        None => return guarded.without(batch, address),
        Some(Door::Shut) => Span::ZERO,
        Some(Door::Until(until)) => until.since(now),
    };
    guarded.element(batch, NEW_ELEMENT, address, None);
    // Less than one millisecond would be none, which means for ever.
    if left.as_millis() > 0 {
        open.element(batch, NEW_ELEMENT, address, Some(left));
    }
}

/// A step of a rule; the rule ends at the first that does not hold.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    EtherType,
    /// Bytes of the packet.
    Load {
        offset: u32,
        length: u32,
    },
    /// What was loaded is this.
    Equal(&'a [u8]),
    In(Set),
    NotIn(Set),
    Drop,
}

/// The same judgement as that of the eBPF program ([`crate::program`]). Tags of VLANs are not
/// looked at.
fn rules(batch: &mut Messages, interface: &str, direction: Direction) {
    use Step::{Drop, Equal, EtherType, In, Load, NotIn};
    let ingress = direction == Direction::Ingress;
    let (guarded4, guarded6) = (Set::new(false, false), Set::new(false, true));
    let (open4, open6) = (Set::new(true, false), Set::new(true, true));
    let at = |offset, length| Load { offset, length };
    let own = |there, here| if ingress { there } else { here };
    let chain = chain_name(interface, direction);

    let address = at(own(16, 12), 4);
    let ipv4 = [
        EtherType,
        Equal(&ETHERTYPE_IPV4),
        address,
        In(guarded4),
        NotIn(open4),
        Drop,
    ];
    rule(batch, &chain, &ipv4);

    let address = at(own(24, 8), 16);
    let ipv6 = [
        EtherType,
        Equal(&ETHERTYPE_IPV6),
        address,
        In(guarded6),
        NotIn(open6),
        Drop,
    ];
    rule(batch, &chain, &ipv6);

    let (sender, target) = (at(14, 4), at(24, 4));
    let mut arp = vec![EtherType, Equal(&ETHERTYPE_ARP)];
    arp.extend(if ingress {
        // Who claims the address itself is heard.
        vec![sender, NotIn(guarded4), target, In(guarded4), NotIn(open4)]
    } else {
        vec![sender, In(guarded4), NotIn(open4)]
    });
    arp.push(Drop);
    rule(batch, &chain, &arp);

    let kind: [u8; 1] = [if ingress { 135 } else { 136 }];
    let (next, kind_at, target) = (at(6, 1), at(40, 1), at(48, 16));
    let discovery = [
        EtherType,
        Equal(&ETHERTYPE_IPV6),
        next,
        Equal(&[58]),
        kind_at,
        Equal(&kind),
        target,
        In(guarded6),
        NotIn(open6),
        Drop,
    ];
    rule(batch, &chain, &discovery);
}

fn rule(batch: &mut Messages, chain: &str, steps: &[Step<'_>]) {
    begin(batch, NEW_RULE, CREATE | APPEND)
        .text(1, TABLE)
        .text(2, chain)
        .nested(4, |list| {
            for step in steps {
                list.nested(LIST_ELEMENT, |expression| step.write(expression));
            }
        });
}

impl Step<'_> {
    fn write(self, to: &mut Messages) {
        const REGISTER: [u8; 4] = 1_u32.to_be_bytes();
        const VERDICT: [u8; 4] = 0_u32.to_be_bytes();
        const PROTOCOL: [u8; 4] = 1_u32.to_be_bytes();
        const NETWORK_HEADER: [u8; 4] = 1_u32.to_be_bytes();
        const EQUAL: [u8; 4] = 0_u32.to_be_bytes();
        match self {
            Self::EtherType => to.text(1, "meta").nested(2, |meta| {
                meta.attribute(1, &REGISTER).attribute(2, &PROTOCOL);
            }),
            Self::Load { offset, length } => to.text(1, "payload").nested(2, |payload| {
                payload
                    .attribute(1, &REGISTER)
                    .attribute(2, &NETWORK_HEADER)
                    .attribute(3, &offset.to_be_bytes())
                    .attribute(4, &length.to_be_bytes());
            }),
            Self::Equal(bytes) => to.text(1, "cmp").nested(2, |cmp| {
                cmp.attribute(1, &REGISTER)
                    .attribute(2, &EQUAL)
                    .nested(3, |value| {
                        value.attribute(1, bytes);
                    });
            }),
            Self::In(set) | Self::NotIn(set) => to.text(1, "lookup").nested(2, |lookup| {
                let inverted = u32::from(matches!(self, Self::NotIn(_)));
                lookup
                    .text(1, set.name())
                    .attribute(2, &REGISTER)
                    .attribute(5, &inverted.to_be_bytes());
            }),
            Self::Drop => to.text(1, "immediate").nested(2, |immediate| {
                immediate.attribute(1, &VERDICT).nested(2, |value| {
                    value.nested(2, |verdict| {
                        verdict.attribute(1, &DROP.to_be_bytes());
                    });
                });
            }),
        };
    }
}

fn chain_name(interface: &str, direction: Direction) -> String {
    match direction {
        Direction::Ingress => format!("in-{interface}"),
        Direction::Egress => format!("out-{interface}"),
    }
}

fn chain(batch: &mut Messages, interface: &str, direction: Direction) {
    let hook: u32 = match direction {
        Direction::Ingress => 0,
        Direction::Egress => 1,
    };
    begin(batch, NEW_CHAIN, CREATE)
        .text(1, TABLE)
        .text(3, &chain_name(interface, direction))
        .nested(4, |nested| {
            nested
                .attribute(1, &hook.to_be_bytes())
                .attribute(2, &PRIORITY.to_be_bytes())
                .text(3, interface);
        })
        .attribute(5, &ACCEPT.to_be_bytes())
        .text(7, "filter");
}

fn table(batch: &mut Messages, message: u16) {
    let flags = if message == NEW_TABLE { CREATE } else { 0 };
    begin(batch, message, flags).text(1, TABLE);
}

fn begin(batch: &mut Messages, message: u16, flags: u16) -> &mut Messages {
    let kind = SUBSYSTEM << 8 | message;
    batch.begin(kind, flags | ACK, &header(FAMILY_NETDEV, 0))
}

/// `struct nfgenmsg` (linux/netfilter/nfnetlink.h).
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// How many virtual IPs may be used now, for tests.
#[cfg(test)]
pub(crate) fn open_elements() -> usize {
    const GET_ELEMENT: u16 = 13;
    const DUMP: u16 = 0x300;
    let mut request = Messages::default();
    let kind = SUBSYSTEM << 8 | GET_ELEMENT;
    request
        .begin(kind, DUMP, &header(FAMILY_NETDEV, 0))
        .text(1, TABLE)
        .text(2, Set::new(true, false).name());
    let wire = Wire::open(NETLINK_NETFILTER).expect("nftables");
    let answers = wire.ask(&request).expect("the elements");
    let lists = answers
        .iter()
        .flat_map(|answer| attributes(&answer.body[4..]));
    let lists = lists.filter(|(kind, _)| *kind == 3);
    lists.map(|(_, list)| attributes(list).count()).sum()
}
