//! What the gate's programs do with frames, as the kernel runs them (`BPF_PROG_TEST_RUN`).
//! Needs CAP_BPF; without it every test is reported as ignored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use haarb_gate::bpf::{Deadlines, Loaded};
use haarb_gate::program::{DROP, Direction, PASS};
use haarb_model::{Mono, Span};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::time::{ClockId, clock_gettime};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 100);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 7);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 0x100);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 7);
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// The solicited-node group of the VIP.
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x100);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

fn main() -> std::process::ExitCode {
    let reason = Deadlines::create().err();
    if let Some(reason) = &reason {
        eprintln!("ignored, all of them: the kernel refuses an eBPF map: {reason}");
    }
    let mut trials = vec![
        Trial::test("only_the_holders_frames_are_dropped", only_the_holders),
        Trial::test("the_deadline_is_a_moment_of_boottime", the_deadline),
        Trial::test("a_door_can_be_removed", removed),
        Trial::test("short_frames_pass_and_do_no_harm", short),
    ];
    trials.push(Trial::test("measure_one_frame", measure).with_ignored_flag(true));
    let trials = trials
        .into_iter()
        .map(|t| match reason.is_some() {
            true => t.with_ignored_flag(true),
            false => t,
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn ethernet(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame.resize(frame.len().max(60), 0);
    frame
}

fn tagged(outer: u16, vlan: u16, frame: &[u8]) -> Vec<u8> {
    let tag = [outer.to_be_bytes(), vlan.to_be_bytes()].concat();
    [&frame[..12], &tag, &frame[12..]].concat()
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend([0; 20]);
    ethernet(0x0800, &packet)
}

fn arp(operation: u8, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
    packet.extend([2; 6]);
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    ethernet(0x0806, &packet)
}

fn ipv6(next: u8, from: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, 255];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    ethernet(0x86dd, &packet)
}

fn discovery(kind: u8, from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
    ipv6(58, from, to, &message)
}

/// Frames, and in which directions they are dropped once the lease is over.
fn frames() -> Vec<(&'static str, Vec<u8>, bool, bool)> {
    const REQUEST: u8 = 1;
    const REPLY: u8 = 2;
    const SOLICITATION: u8 = 135;
    const ADVERTISEMENT: u8 = 136;
    let to_vip = ipv4(OTHER, VIP);
    let from_vip = ipv4(VIP, OTHER);
    let mut odd_arp = arp(REQUEST, OTHER, VIP);
    odd_arp[14 + 4] = 8;
    vec![
        ("IPv4 to the VIP", to_vip.clone(), true, false),
        ("IPv4 from the VIP", from_vip.clone(), false, true),
        ("IPv4 between others", ipv4(OTHER, OTHER), false, false),
        (
            "priority tag, to the VIP",
            tagged(0x8100, 5 << 13, &to_vip),
            true,
            false,
        ),
        (
            "priority tag, from the VIP",
            tagged(0x88a8, 0, &from_vip),
            false,
            true,
        ),
        ("another VLAN", tagged(0x8100, 7, &to_vip), false, false),
        ("who has the VIP", arp(REQUEST, OTHER, VIP), true, false),
        (
            "who has another, asks the VIP",
            arp(REQUEST, VIP, OTHER),
            false,
            true,
        ),
        ("the VIP is here", arp(REPLY, VIP, OTHER), false, true),
        (
            "reply for the VIP's own question",
            arp(REPLY, OTHER, VIP),
            true,
            false,
        ),
        (
            "a probe: heard by nobody here, sent by anybody",
            arp(REQUEST, NOBODY, VIP),
            true,
            false,
        ),
        (
            "an announcement: heard, but not sent",
            arp(REQUEST, VIP, VIP),
            false,
            true,
        ),
        ("its other form", arp(REPLY, VIP, VIP), false, true),
        ("ARP with long addresses", odd_arp, false, false),
        (
            "IPv6 to the VIP",
            ipv6(17, OTHER6, VIP6, &[0; 8]),
            true,
            false,
        ),
        (
            "IPv6 from the VIP",
            ipv6(17, VIP6, OTHER6, &[0; 8]),
            false,
            true,
        ),
        (
            "IPv6 between others",
            ipv6(17, OTHER6, OTHER6, &[0; 8]),
            false,
            false,
        ),
        (
            "solicitation of the VIP",
            discovery(SOLICITATION, OTHER6, GROUP, VIP6),
            true,
            false,
        ),
        (
            "solicitation of another",
            discovery(SOLICITATION, OTHER6, GROUP, OTHER6),
            false,
            false,
        ),
        (
            "advertisement of the VIP",
            discovery(ADVERTISEMENT, OTHER6, ALL_NODES, VIP6),
            false,
            true,
        ),
        (
            "advertisement of another",
            discovery(ADVERTISEMENT, OTHER6, ALL_NODES, OTHER6),
            false,
            false,
        ),
        (
            "advertisement from the VIP",
            discovery(ADVERTISEMENT, VIP6, ALL_NODES, VIP6),
            false,
            true,
        ),
        ("no IP at all", ethernet(0x88cc, &[1; 40]), false, false),
    ]
}

fn now() -> Mono {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("a clock");
    let micros = time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_nsec().unsigned_abs() / 1000;
    Mono::from_micros(micros)
}

struct Both {
    deadlines: Deadlines,
    programs: [Loaded; 2],
}

impl Both {
    fn load() -> Result<Self, Failed> {
        let deadlines = Deadlines::create()?;
        let programs = [
            Loaded::load(Direction::Ingress, &deadlines)?,
            Loaded::load(Direction::Egress, &deadlines)?,
        ];
        Ok(Self {
            deadlines,
            programs,
        })
    }

    fn set(&self, until: Mono) -> Result<(), Failed> {
        for vip in [IpAddr::from(VIP), IpAddr::from(VIP6)] {
            self.deadlines.set(vip, until)?;
        }
        Ok(())
    }

    /// Whether each direction drops a frame.
    fn drops(&self, frame: &[u8]) -> Result<[bool; 2], Failed> {
        let mut drops = [false; 2];
        for (drop, program) in drops.iter_mut().zip(&self.programs) {
            let verdict = program.judge(frame)?;
            assert!([DROP, PASS].contains(&verdict), "verdict {verdict}");
            *drop = verdict == DROP;
        }
        Ok(drops)
    }
}

fn only_the_holders() -> Result<(), Failed> {
    let gate = Both::load()?;
    for (what, frame, _, _) in frames() {
        assert_eq!(gate.drops(&frame)?, [false; 2], "no door: {what}");
    }
    gate.set(now() + Span::from_secs(60))?;
    for (what, frame, _, _) in frames() {
        assert_eq!(gate.drops(&frame)?, [false; 2], "within the lease: {what}");
    }
    for over in [now(), Mono::ZERO] {
        gate.set(over)?;
        for (what, frame, ingress, egress) in frames() {
            assert_eq!(gate.drops(&frame)?, [ingress, egress], "after it: {what}");
        }
    }
    Ok(())
}

fn the_deadline() -> Result<(), Failed> {
    let gate = Both::load()?;
    let frame = ipv4(OTHER, VIP);
    let until = now() + Span::from_millis(100);
    gate.set(until)?;
    let mut passed = 0;
    loop {
        let before = now();
        let [dropped, _] = gate.drops(&frame)?;
        let after = now();
        // Whoever is stalled between the clocks learns nothing in this turn.
        assert!(!dropped || after >= until, "dropped before the deadline");
        assert!(dropped || before <= until, "passed after the deadline");
        if dropped {
            break;
        }
        passed += 1;
    }
    assert!(passed > 0, "none passed before it");
    gate.set(now() + Span::from_secs(60))?;
    assert_eq!(
        gate.drops(&frame)?,
        [false; 2],
        "a new lease opens it again"
    );
    Ok(())
}

fn removed() -> Result<(), Failed> {
    let gate = Both::load()?;
    gate.set(Mono::ZERO)?;
    gate.deadlines.remove(VIP.into())?;
    gate.deadlines.remove(VIP.into())?;
    assert_eq!(gate.drops(&ipv4(OTHER, VIP))?, [false; 2]);
    let other = ipv6(17, OTHER6, VIP6, &[]);
    assert_eq!(gate.drops(&other)?, [true, false], "the other one stays");
    Ok(())
}

fn short() -> Result<(), Failed> {
    let gate = Both::load()?;
    gate.set(Mono::ZERO)?;
    for (what, frame, ingress, egress) in frames() {
        // The kernel itself refuses a run on a frame without a whole header of its kind.
        let lengths = 15..=frame.len();
        let judged: Vec<_> = lengths
            .filter_map(|n| gate.drops(&frame[..n]).ok())
            .collect();
        assert!(judged.len() > 5, "{what}: {} runs", judged.len());
        assert_eq!(judged.last(), Some(&[ingress, egress]), "{what}: whole");
        for [into, out] in judged {
            assert!(ingress || !into, "{what}: cut short it is dropped");
            assert!(egress || !out, "{what}: cut short it is dropped");
        }
    }
    Ok(())
}

/// Not a test: prints what one frame costs.
fn measure() -> Result<(), Failed> {
    let gate = Both::load()?;
    gate.set(now() + Span::from_secs(60))?;
    for (what, frame) in [
        ("IPv4 to the VIP", ipv4(OTHER, VIP)),
        ("IPv4 to another", ipv4(OTHER, OTHER)),
        ("IPv6 to another", ipv6(17, OTHER6, OTHER6, &[])),
        ("no IP", ethernet(0x88cc, &[])),
    ] {
        let nanoseconds = gate.programs[0].cost(&frame, 1_000_000)?;
        println!("{what}: {nanoseconds} ns");
    }
    let mut times: Vec<_> = (0..10_000)
        .map(|_| {
            let began = std::time::Instant::now();
            let set = gate.deadlines.set(VIP.into(), now());
            (began.elapsed().as_nanos(), set.is_ok())
        })
        .collect();
    times.sort_unstable();
    let (min, p50, max) = (times[0].0, times[5_000].0, times[9_999].0);
    println!("map update, 10000 times: min {min} ns, median {p50} ns, max {max} ns");
    Ok(())
}
