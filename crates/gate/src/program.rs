//! The program that the kernel runs on every frame of an interface with virtual IPs: it drops
//! what would use a virtual IP after its deadline.
//!
//! It never touches any other frame, and never ends the work of other filters: what it does not
//! drop goes on to them (`TC_ACT_UNSPEC`). An address that is not in the map is none of ours.
//! The one thing to know: dropped is what only the holder of the address may receive or send.
//! What anybody else says about it passes, so that the agent still hears who has it now.

use crate::asm::{Helper, If, Program, Reg, Size};

use Reg::{R0, R1, R2, R3, R4, R6, R7, R8, R10};

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Into this server: judged by their destination.
    Ingress,
    /// Out of this server: judged by their source.
    Egress,
}

/// What the program answers for a frame that must go no further (`TC_ACT_SHOT`).
pub const DROP: i32 = 2;
/// What it answers otherwise: the next filter decides (`TC_ACT_UNSPEC`).
pub const PASS: i32 = -1;

/// Bytes of a key: an IPv6 address, or an IPv4 address mapped into one (RFC 4291, 2.5.5.2).
pub const KEY_BYTES: usize = 16;

/// Fields of `struct __sk_buff` (linux/bpf.h). A VLAN tag that the network card or the kernel
/// took off the frame is only found here.
const SKB_VLAN_PRESENT: i16 = 20;
const SKB_VLAN_TCI: i16 = 24;

/// The lower bits of a tag: the VLAN. 0 is a mere priority: the frame belongs to the interface
/// itself. Any other VLAN is another network, with addresses of its own.
const VLAN_ID: i32 = 0x0fff;

const ETHERTYPE_AT: i32 = 12;
const IPV4: i32 = 0x0800;
const ARP: i32 = 0x0806;
const IPV6: i32 = 0x86dd;
const TAG: i32 = 0x8100;
const SERVICE_TAG: i32 = 0x88a8;
const ICMPV6: i32 = 58;
const NEIGHBOUR_SOLICITATION: i32 = 135;
const NEIGHBOUR_ADVERTISEMENT: i32 = 136;

/// The stack: a key, and eight bytes for whatever is looked at.
const KEY: i16 = -16;
const SEEN: i16 = -24;

/// Places to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Untagged,
    Tagged,
    Typed,
    Ipv4,
    Arp,
    Ipv6,
    Ask,
    Judge,
    Pass,
}

type Gate = Program<To>;

/// The instructions for one direction; `map` is the descriptor of the deadlines: address to
/// nanoseconds of `CLOCK_BOOTTIME` (`u64`).
pub(crate) fn build(direction: Direction, map: i32) -> Vec<u8> {
    let mut p = Gate::new();
    p.copy(R6, R1);
    ethernet(&mut p);
    ipv4(&mut p, direction);
    arp(&mut p, direction);
    ipv6(&mut p, direction, map);
    ask(&mut p, map);
    match p.finish() {
        Ok(code) => code,
        // Every place is set above; the tests build both programs.
        Err(place) => unreachable!("nowhere to jump to: {place:?}"),
    }
}

/// Reads `length` bytes of the frame at `R7 + offset` to the stack; a frame that is too short
/// is nothing that the kernel would take for ours either.
fn read(p: &mut Gate, offset: i32, to: i16, length: i32) {
    p.copy(R1, R6);
    p.copy(R2, R7);
    p.add(R2, offset);
    p.copy(R3, R10);
    p.add(R3, to.into());
    p.set(R4, length);
    p.call(Helper::SkbLoadBytes);
    p.jump_if(R0, If::NotEqual, 0, To::Pass);
}

/// Two bytes that were read, as a number.
fn number(p: &mut Gate, to: Reg, at: i16) {
    p.load(to, R10, at, Size::Half);
    p.network_number(to);
}

/// Leaves the beginning of the packet in `R7` and goes to what its EtherType says.
fn ethernet(p: &mut Gate) {
    p.load(R2, R6, SKB_VLAN_PRESENT, Size::Word);
    p.jump_if(R2, If::Equal, 0, To::Untagged);
    p.load(R2, R6, SKB_VLAN_TCI, Size::Word);
    p.and(R2, VLAN_ID);
    p.jump_if(R2, If::NotEqual, 0, To::Pass);
    p.place(To::Untagged);
    p.set(R7, ETHERTYPE_AT);
    read(p, 0, SEEN, 4);
    number(p, R8, SEEN);
    p.jump_if(R8, If::Equal, TAG, To::Tagged);
    p.jump_if(R8, If::NotEqual, SERVICE_TAG, To::Typed);
    p.place(To::Tagged);
    number(p, R2, SEEN + 2);
    p.and(R2, VLAN_ID);
    p.jump_if(R2, If::NotEqual, 0, To::Pass);
    p.add(R7, 4);
    read(p, 0, SEEN, 2);
    number(p, R8, SEEN);
    p.place(To::Typed);
    p.add(R7, 2);
    p.jump_if(R8, If::Equal, IPV4, To::Ipv4);
    p.jump_if(R8, If::Equal, ARP, To::Arp);
    p.jump_if(R8, If::Equal, IPV6, To::Ipv6);
    p.jump(To::Pass);
}

/// An IPv4 address of the packet becomes the key.
fn ipv4_key(p: &mut Gate, offset: i32) {
    p.store_value(R10, KEY, 0, Size::Word);
    p.store_value(R10, KEY + 4, 0, Size::Word);
    let mapped = i32::from_ne_bytes([0, 0, 0xff, 0xff]);
    p.store_value(R10, KEY + 8, mapped, Size::Word);
    read(p, offset, KEY + 12, 4);
}

fn ipv4(p: &mut Gate, direction: Direction) {
    p.place(To::Ipv4);
    let address = match direction {
        Direction::Ingress => 16,
        Direction::Egress => 12,
    };
    ipv4_key(p, address);
    p.jump(To::Ask);
}

/// In: who asks for the address gets no answer, but who claims it is heard. Out: nobody here
/// claims it any more; whoever merely asks for it may.
fn arp(p: &mut Gate, direction: Direction) {
    const SENDER: i32 = 14;
    const TARGET: i32 = 24;
    p.place(To::Arp);
    read(p, 2, SEEN, 4);
    number(p, R2, SEEN);
    p.jump_if(R2, If::NotEqual, IPV4, To::Pass);
    number(p, R2, SEEN + 2);
    // Addresses of six and four bytes.
    p.jump_if(R2, If::NotEqual, 0x0604, To::Pass);
    match direction {
        Direction::Ingress => {
            ipv4_key(p, TARGET);
            read(p, SENDER, SEEN, 4);
            p.load(R2, R10, SEEN, Size::Word);
            p.load(R3, R10, KEY + 12, Size::Word);
            p.jump_if_reg(R2, If::Equal, R3, To::Pass);
        }
        Direction::Egress => ipv4_key(p, SENDER),
    }
    p.jump(To::Ask);
}

/// The packet's own address, or the one that neighbour discovery is about.
fn ipv6(p: &mut Gate, direction: Direction, map: i32) {
    const NEXT_HEADER: i32 = 6;
    const ICMP_TYPE: i32 = 40;
    const ICMP_TARGET: i32 = 48;
    p.place(To::Ipv6);
    let (address, about) = match direction {
        Direction::Ingress => (24, NEIGHBOUR_SOLICITATION),
        Direction::Egress => (8, NEIGHBOUR_ADVERTISEMENT),
    };
    read(p, address, KEY, 16);
    look_up(p, map);
    p.jump_if(R0, If::NotEqual, 0, To::Judge);
    for (at, value) in [(NEXT_HEADER, ICMPV6), (ICMP_TYPE, about)] {
        read(p, at, SEEN, 1);
        p.load(R2, R10, SEEN, Size::Byte);
        p.jump_if(R2, If::NotEqual, value, To::Pass);
    }
    read(p, ICMP_TARGET, KEY, 16);
    p.jump(To::Ask);
}

fn look_up(p: &mut Gate, map: i32) {
    p.set_map(R1, map);
    p.copy(R2, R10);
    p.add(R2, KEY.into());
    p.call(Helper::MapLookupElem);
}

/// The verdict: dropped from the deadline on.
fn ask(p: &mut Gate, map: i32) {
    p.place(To::Ask);
    look_up(p, map);
    p.jump_if(R0, If::Equal, 0, To::Pass);
    p.place(To::Judge);
    p.load(R8, R0, 0, Size::Double);
    p.call(Helper::KtimeGetBootNs);
    p.jump_if_reg(R0, If::Less, R8, To::Pass);
    p.set(R0, DROP);
    p.exit();
    p.place(To::Pass);
    p.set(R0, PASS);
    p.exit();
}
