//! Traffic control: the filters that run the gate's programs on an interface.
//!
//! Other filters and a `clsact` that somebody else made are respected: ours go in front where
//! that is possible, never end the others' work, and only our own are ever removed. The one
//! thing to know: our filters are found again by their handle and name, so nothing needs to be
//! remembered; the handle also says whether we made the `clsact` that carries them.

use std::io;

use crate::netlink::{
    ACK, Answer, CREATE, DUMP, EXCLUSIVE, Messages, REPLACE, Refused, Wire, attributes, string,
};
use crate::program::Direction;

const NETLINK_ROUTE: isize = 0;
const NEW_QDISC: u16 = 36;
const DELETE_QDISC: u16 = 37;
const NEW_FILTER: u16 = 44;
const DELETE_FILTER: u16 = 45;
const GET_FILTER: u16 = 46;
/// Attributes of a qdisc or filter (linux/rtnetlink.h) and of the `bpf` filter (linux/pkt_cls.h).
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
/// The program's answer is the verdict.
const DIRECT_ACTION: u32 = 1;

const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const ALL_PROTOCOLS: u16 = 3;

/// The name of our filters.
const NAME: &str = "haarb-gate";
/// The handle of our filters, "hrb"; the lowest bit: the `clsact` is ours too.
const HANDLE: u32 = 0x6872_6200;
const MADE: u32 = 1;
/// How far back in the line of filters ours may stand.
const PRIORITY_MAX: u16 = 16;

/// A filter of ours on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Filter {
    handle: u32,
    priority: u16,
}

/// Everything in one direction of one interface.
#[derive(Clone, Debug, Default)]
struct Filters {
    ours: Vec<Filter>,
    foreign: usize,
}

/// How the gate stands on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The position in the line of filters, the worse of both directions; 1: in front.
    pub(crate) priority: u16,
}

/// The socket for it.
#[derive(Debug)]
pub(crate) struct TrafficControl(Wire);

impl TrafficControl {
    pub(crate) fn open() -> io::Result<Self> {
        Wire::open(NETLINK_ROUTE).map(Self)
    }

    /// Puts the programs (by descriptor: in, out) on an interface, in place of older ones of
    /// ours without a moment between them; both or none.
    pub(crate) fn attach(&self, interface: u32, programs: [u32; 2]) -> Result<Place, Refused> {
        let attached = self.attach_both(interface, programs);
        if attached.is_err() {
            let _ = self.detach(interface);
        }
        attached
    }

    fn attach_both(&self, interface: u32, programs: [u32; 2]) -> Result<Place, Refused> {
        let mut made = 0;
        let mut before = Vec::new();
        for direction in [Direction::Ingress, Direction::Egress] {
            // Without a clsact there is nothing to list, which the kernel calls an error.
            let ours = self.filters(interface, direction).unwrap_or_default().ours;
            made = ours.iter().fold(made, |made, f| made | f.handle & MADE);
            before.push((direction, ours.first().copied()));
        }
        if before.iter().all(|(_, ours)| ours.is_none()) {
            made = self.clsact(interface)?;
        }
        let mut priority = 1;
        for ((direction, ours), program) in before.into_iter().zip(programs) {
            let at = match ours {
                Some(filter) => self.put(interface, direction, filter, program, REPLACE)?,
                None => self.put_first(interface, direction, HANDLE | made, program)?,
            };
            priority = priority.max(at);
        }
        Ok(Place { priority })
    }

    /// Whether our filters are still in both directions.
    pub(crate) fn attached(&self, interface: u32) -> bool {
        [Direction::Ingress, Direction::Egress]
            .into_iter()
            .all(|d| self.filters(interface, d).is_ok_and(|f| !f.ours.is_empty()))
    }

    /// Removes what is ours from an interface, and nothing else.
    pub(crate) fn detach(&self, interface: u32) -> Result<(), Refused> {
        let (mut made, mut foreign) = (0, 0);
        for direction in [Direction::Ingress, Direction::Egress] {
            let Ok(filters) = self.filters(interface, direction) else {
                continue;
            };
            for filter in &filters.ours {
                made |= filter.handle & MADE;
                self.remove(interface, direction, *filter)?;
            }
            foreign += filters.foreign;
        }
        if made != 0 && foreign == 0 {
            let mut request = Messages::default();
            let fixed = tcmsg(interface, CLSACT_HANDLE, CLSACT, 0);
            request
                .begin(DELETE_QDISC, ACK, &fixed)
                .text(KIND, "clsact");
            self.0.ask(&request)?;
        }
        Ok(())
    }

    /// Makes sure that the interface has a `clsact`. Answers [`MADE`] if it had none.
    fn clsact(&self, interface: u32) -> Result<u32, Refused> {
        let mut request = Messages::default();
        let fixed = tcmsg(interface, CLSACT_HANDLE, CLSACT, 0);
        request
            .begin(NEW_QDISC, ACK | CREATE | EXCLUSIVE, &fixed)
            .text(KIND, "clsact");
        match self.0.ask(&request) {
            Ok(_) => Ok(MADE),
            // A clsact, or an old `ingress`, which has no way out and refuses that filter below.
            Err(refused) if refused.errno() == libc::EEXIST => Ok(0),
            Err(refused) => Err(refused),
        }
    }

    /// As far in front as others allow: a place that is taken by another kind of filter is not
    /// to be had.
    fn put_first(
        &self,
        interface: u32,
        direction: Direction,
        handle: u32,
        program: u32,
    ) -> Result<u16, Refused> {
        let mut priority = 1;
        loop {
            let filter = Filter { handle, priority };
            match self.put(interface, direction, filter, program, EXCLUSIVE) {
                Err(refused) if refused.errno() == libc::EINVAL && priority < PRIORITY_MAX => {
                    priority += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn put(
        &self,
        interface: u32,
        direction: Direction,
        filter: Filter,
        program: u32,
        how: u16,
    ) -> Result<u16, Refused> {
        let mut request = Messages::default();
        request
            .begin(
                NEW_FILTER,
                ACK | CREATE | how,
                &of(interface, direction, filter),
            )
            .text(KIND, "bpf")
            .nested(OPTIONS, |options| {
                options
                    .attribute(BPF_FD, &program.to_ne_bytes())
                    .text(BPF_NAME, NAME)
                    .attribute(BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
            });
        self.0.ask(&request).map(|_| filter.priority)
    }

    fn remove(&self, interface: u32, direction: Direction, filter: Filter) -> Result<(), Refused> {
        let mut request = Messages::default();
        request
            .begin(DELETE_FILTER, ACK, &of(interface, direction, filter))
            .text(KIND, "bpf");
        match self.0.ask(&request) {
            Err(refused) if refused.errno() != libc::ENOENT => Err(refused),
            _ => Ok(()),
        }
    }

    fn filters(&self, interface: u32, direction: Direction) -> Result<Filters, Refused> {
        let mut request = Messages::default();
        request.begin(GET_FILTER, DUMP, &tcmsg(interface, 0, parent(direction), 0));
        let mut filters = Filters::default();
        for answer in self.0.ask(&request)? {
            match ours(&answer) {
                Some(Some(filter)) => filters.ours.push(filter),
                Some(None) => filters.foreign += 1,
                None => {}
            }
        }
        Ok(filters)
    }
}

/// What a message says about a filter: nothing, a foreign one, one of ours.
fn ours(answer: &Answer) -> Option<Option<Filter>> {
    let word = |at: usize| {
        Some(u32::from_ne_bytes(
            answer.body.get(at..at + 4)?.try_into().ok()?,
        ))
    };
    let (handle, info) = (word(8)?, word(16)?);
    // Each priority also has an entry of its own, without a filter's number.
    if answer.kind != NEW_FILTER || handle == 0 {
        return None;
    }
    let find = |attribute: u16, within: &[u8]| {
        let found = attributes(within).find(|&(kind, _)| kind == attribute);
        found.map(|(_, value)| value.to_vec())
    };
    let options = find(OPTIONS, answer.body.get(20..)?).unwrap_or_default();
    let name = find(BPF_NAME, &options).unwrap_or_default();
    let is_ours = handle & !MADE == HANDLE && string(&name) == NAME;
    Some(is_ours.then_some(Filter {
        handle,
        priority: (info >> 16) as u16,
    }))
}

const fn parent(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => 0xffff_fff2,
        Direction::Egress => 0xffff_fff3,
    }
}

fn of(interface: u32, direction: Direction, filter: Filter) -> [u8; 20] {
    let protocol = u32::from(ALL_PROTOCOLS.to_be());
    let info = u32::from(filter.priority) << 16 | protocol;
    tcmsg(interface, filter.handle, parent(direction), info)
}

/// `struct tcmsg` (linux/rtnetlink.h).
fn tcmsg(interface: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    for (i, word) in [interface, handle, parent, info].into_iter().enumerate() {
        bytes[4 + 4 * i..][..4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// What somebody else does on an interface, for tests.
#[cfg(test)]
pub(crate) mod foreign {
    use super::*;

    fn ask(fill: impl FnOnce(&mut Messages)) -> Result<Vec<Answer>, Refused> {
        let mut request = Messages::default();
        fill(&mut request);
        TrafficControl::open().expect("rtnetlink").0.ask(&request)
    }

    pub(crate) fn add_clsact(interface: u32) {
        let control = TrafficControl::open().expect("rtnetlink");
        assert_eq!(control.clsact(interface).expect("a clsact"), MADE);
    }

    pub(crate) fn delete_clsact(interface: u32) {
        let fixed = tcmsg(interface, CLSACT_HANDLE, CLSACT, 0);
        ask(|m| {
            m.begin(DELETE_QDISC, ACK, &fixed).text(KIND, "clsact");
        })
        .expect("deleted");
    }

    pub(crate) fn add_ingress(interface: u32) {
        let fixed = tcmsg(interface, CLSACT_HANDLE, CLSACT, 0);
        ask(|m| {
            m.begin(NEW_QDISC, ACK | CREATE, &fixed)
                .text(KIND, "ingress");
        })
        .expect("an ingress");
    }

    pub(crate) fn has_clsact(interface: u32) -> bool {
        const GET_QDISC: u16 = 38;
        let found = ask(|m| {
            m.begin(GET_QDISC, DUMP, &tcmsg(interface, 0, 0, 0));
        });
        found.expect("a list").iter().any(|answer| {
            answer.body.get(4..8) == Some(&interface.to_ne_bytes()[..])
                && attributes(&answer.body[20..])
                    .any(|(kind, value)| kind == KIND && string(value) == "clsact")
        })
    }

    /// A filter for IPv4 alone, with which one for everything cannot share its place.
    pub(crate) fn add_filter(interface: u32, priority: u16) {
        const OPS_LEN: u16 = 4;
        const OPS: u16 = 5;
        let info = u32::from(priority) << 16 | u32::from(0x0800_u16.to_be());
        let fixed = tcmsg(interface, 1, parent(Direction::Ingress), info);
        // Classic BPF: return 0, no match.
        let program = [6, 0, 0, 0, 0, 0, 0, 0];
        ask(|m| {
            m.begin(NEW_FILTER, ACK | CREATE | EXCLUSIVE, &fixed)
                .text(KIND, "bpf")
                .nested(OPTIONS, |options| {
                    options
                        .attribute(OPS_LEN, &1_u16.to_ne_bytes())
                        .attribute(OPS, &program);
                });
        })
        .expect("a filter");
    }

    fn filters(interface: u32) -> Filters {
        let control = TrafficControl::open().expect("rtnetlink");
        let of = |direction| control.filters(interface, direction).unwrap_or_default();
        let (mut all, out) = (of(Direction::Ingress), of(Direction::Egress));
        all.ours.extend(out.ours);
        all.foreign += out.foreign;
        all
    }

    pub(crate) fn has_filter(interface: u32) -> bool {
        filters(interface).foreign == 1
    }

    pub(crate) fn count_filters(interface: u32) -> usize {
        filters(interface).ours.len()
    }
}
