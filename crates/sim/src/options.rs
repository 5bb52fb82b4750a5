//! What a random run is made of: a segment, and faults with their repairs, all from a seed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use haarb_decision::{Command, PROTOCOL, PROTOCOLS, Protocols};
use haarb_model::{
    NetworkName, NetworkSpec, NodeName, NodeSpec, Prefer, ReserveName, ReserveSpec, Segment, Span,
    Timing, VipSpec,
};

use crate::act::Act;
use crate::rng::Rng;
use crate::rough::{Gusts, Lever, Rough};
use crate::server::Process;

/// The longest detour of a packet is this part of a probe interval: an ECHO takes two ways, and
/// what a server that is cut off still hears late puts off that it lets go.
const DETOUR_PART: u64 = 5;
/// Clocks of a telecom server are off by no more, in parts per million.
const DRIFT_PPM: u64 = 200;

/// What a run is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Names of the servers.
    pub nodes: Vec<&'static str>,
    /// Names of the reserves.
    pub reserves: Vec<&'static str>,
    /// Names of the networks.
    pub networks: Vec<&'static str>,
    /// The times.
    pub timing: Timing,
    /// Their name, for people.
    pub profile: &'static str,
    /// The switches have addresses.
    pub switch_answers: bool,
    /// Each reserve has a service.
    pub services: bool,
    /// Each reserve has a directory.
    pub directories: bool,
    /// What to do with old data.
    pub prefer: Prefer,
    /// An active server alone on one network gives way.
    pub strict: bool,
    /// One network that both have is enough to serve again.
    pub resume_on_one: bool,
    /// Which servers have a disk.
    pub disks: Vec<bool>,
    /// What real machines and networks add.
    pub rough: Rough,
    /// What was switched off.
    pub without: Vec<Lever>,
    /// The kernels end what is held at the end of the lease, to the moment.
    pub gate: bool,
}

impl Options {
    /// Two servers, two networks, one reserve with a service and a directory, telecom times.
    #[must_use]
    pub fn pair() -> Self {
        Self {
            nodes: vec!["a", "b"],
            reserves: vec!["sip"],
            networks: vec!["red", "blue"],
            timing: Timing::telecom(),
            profile: "telecom",
            switch_answers: true,
            services: true,
            directories: true,
            prefer: Prefer::Availability,
            strict: false,
            resume_on_one: false,
            disks: vec![true, true],
            rough: Rough::default(),
            without: Lever::ALL.to_vec(),
            gate: false,
        }
    }

    /// Options drawn from a seed.
    #[must_use]
    pub fn drawn(rng: &mut Rng) -> Self {
        let mut options = Self::pair();
        if rng.chance(0.15) {
            options.nodes.push("c");
        }
        if rng.chance(0.25) {
            options.reserves.push("web");
        }
        if rng.chance(0.4) {
            options.timing = Timing::lan();
            options.profile = "lan";
        }
        // Shorter than in life, so that a run shows more.
        options.timing.cold_start = Span::from_secs(12);
        options.timing.rearm_alone = Span::from_secs(8);
        options.services = rng.chance(0.8);
        options.directories = rng.chance(0.7);
        if rng.chance(0.2) {
            options.prefer = Prefer::Consistency;
        }
        options.strict = rng.chance(0.1);
        options.resume_on_one = rng.chance(0.1);
        options.disks = options.nodes.iter().map(|_| rng.chance(0.85)).collect();
        // Came later: what a seed draws after it stays as it was.
        options.gate = rng.clone().chance(0.5);
        options
    }

    /// Draws how rough the world is, but for what is switched off. A seed gives the same with
    /// and without any lever, apart from what the lever itself does.
    #[must_use]
    pub fn roughened(mut self, without: &[Lever], rng: &mut Rng) -> Self {
        let mut drift = || rng.range(0, 2 * DRIFT_PPM + 1) as i64 - DRIFT_PPM as i64;
        self.rough.drift_ppm = self.nodes.iter().map(|_| drift()).collect();
        self.rough.late_us = [0, 100, 300][rng.index(3)];
        self.without = without.to_vec();
        if !self.with(Lever::Drift) {
            self.rough.drift_ppm.clear();
        }
        if !self.with(Lever::Jitter) {
            self.rough.late_us = 0;
        }
        self
    }

    /// Whether a lever is not switched off.
    #[must_use]
    pub fn with(&self, lever: Lever) -> bool {
        !self.without.contains(&lever)
    }

    /// The configuration that follows.
    ///
    /// # Panics
    /// If a name cannot be one: they are written in this file.
    #[must_use]
    pub fn segment(&self) -> Segment {
        let node = |name: &&str| NodeSpec {
            name: NodeName::new(name).expect("a name written in this file"),
            interfaces: (0..self.networks.len())
                .map(|i| format!("eth{i}"))
                .collect(),
        };
        let network = |name: &&str| NetworkSpec {
            name: NetworkName::new(name).expect("a name written in this file"),
            switch_answers: self.switch_answers,
        };
        let vips = |r: usize| {
            let vip = |net: usize| VipSpec {
                address: IpAddr::V4(Ipv4Addr::new(
                    10,
                    77,
                    u8::try_from(net).unwrap_or(0) + 1,
                    u8::try_from(r).unwrap_or(0) + 100,
                )),
                prefix: 24,
                interface: format!("eth{net}"),
            };
            (0..self.networks.len()).map(vip).collect()
        };
        let reserve = |(r, name): (usize, &&str)| ReserveSpec {
            name: ReserveName::new(name).expect("a name written in this file"),
            prefer: self.prefer,
            strict: self.strict,
            resume_on_one: self.resume_on_one,
            vips: vips(r),
            directories: usize::from(self.directories),
            services: usize::from(self.services),
        };
        Segment {
            cluster: "sim".into(),
            digest: 1,
            nodes: self.nodes.iter().map(node).collect(),
            networks: self.networks.iter().map(network).collect(),
            reserves: self.reserves.iter().enumerate().map(reserve).collect(),
            timing: self.timing,
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            nodes,
            reserves,
            networks: _,
            timing: _,
            profile,
            switch_answers,
            services,
            directories,
            prefer,
            strict,
            resume_on_one,
            disks,
            gate,
            rough,
            without,
        } = self;
        let without: Vec<&str> = without.iter().map(|lever| lever.as_str()).collect();
        write!(
            f,
            "{profile}, nodes {}, reserves {}, switch addresses {switch_answers}, services {services}, directories {directories}, prefer {prefer:?}, strict {strict}, resume on one {resume_on_one}, disks {disks:?}, gate {gate}, clocks off by {:?} ppm, timers late by up to {} us, without [{}]",
            nodes.join(" "),
            reserves.join(" "),
            rough.drift_ppm,
            rough.late_us,
            without.join(",")
        )
    }
}

/// A fault and how it ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What happens.
    pub act: Act,
    /// What ends it; `None`: it ends by itself, or only with the mending of everything.
    pub repair: Option<Act>,
}

/// Draws one fault.
#[must_use]
pub fn fault(options: &Options, rng: &mut Rng) -> Fault {
    let n = rng.index(options.nodes.len());
    let other = (n + 1 + rng.index(options.nodes.len() - 1)) % options.nodes.len();
    let net = rng.index(options.networks.len());
    let r = rng.index(options.reserves.len());
    let process = Process::ALL[rng.index(Process::ALL.len())];
    let lease = options.timing.lease.as_micros();
    let pair = |act: Act, repair: Act| Fault {
        act,
        repair: Some(repair),
    };
    let single = |act: Act| Fault { act, repair: None };
    match rng.range(0, 27) {
        0..=2 => pair(Act::Power(n, false), Act::Power(n, true)),
        3..=5 => pair(Act::Cable(n, net, false), Act::Cable(n, net, true)),
        6..=8 => pair(Act::Switch(net, false), Act::Switch(net, true)),
        9 => pair(Act::Forward(net, false), Act::Forward(net, true)),
        10 => pair(Act::Answer(net, false), Act::Answer(net, true)),
        11 => pair(Act::Hole(net, true), Act::Hole(net, false)),
        12..=13 => pair(
            Act::OneWay(n, other, None, true),
            Act::OneWay(n, other, None, false),
        ),
        14 => pair(
            Act::OneWay(n, other, Some(net), true),
            Act::OneWay(n, other, Some(net), false),
        ),
        15 => pair(Act::NoIcmp(true), Act::NoIcmp(false)),
        16 => pair(Act::NoUdp(true), Act::NoUdp(false)),
        17 => pair(Act::Loss(rng.range(1, 30) as f64 / 100.0), Act::Loss(0.0)),
        18..=19 => single(Act::Kill(n, process, Some(rng.span(20_000, lease / 2)))),
        20 => pair(Act::Kill(n, process, None), Act::Start(n, process)),
        21 => single(Act::KillAll(n, rng.span(50_000, lease * 2))),
        22 => pair(Act::Freeze(n, true), Act::Freeze(n, false)),
        23 => pair(Act::Pause(n, true), Act::Pause(n, false)),
        24 if options.services && rng.chance(0.5) => {
            pair(Act::Broken(n, r, true), Act::Broken(n, r, false))
        }
        24 => single(Act::Crash(n, r)),
        25 => single(Act::RemoveVip(n, r)),
        _ => single(Act::Command(n, command(options, r, other, rng))),
    }
}

/// Draws one of the faults that belong to a lever.
#[must_use]
pub fn rough_fault(options: &Options, rng: &mut Rng) -> Fault {
    let n = rng.index(options.nodes.len());
    let pair = |act: Act, repair: Act| Fault {
        act,
        repair: Some(repair),
    };
    match rng.range(0, 8) {
        0 => pair(Act::DiskFull(n, true), Act::DiskFull(n, false)),
        1 => Fault {
            act: Act::DiskLost(n),
            repair: None,
        },
        2..=3 => {
            let gusts = Gusts {
                begin: rng.range(1, 10) as f64 / 1000.0,
                end: rng.range(20, 60) as f64 / 100.0,
                loss: 0.9,
            };
            pair(Act::Gusts(Some(gusts)), Act::Gusts(None))
        }
        4 => {
            let most = options.timing.probe_interval.part(DETOUR_PART).as_micros();
            let detour = Act::Detour(rng.range(1, 30) as f64 / 100.0, rng.range(1, most));
            pair(detour, Act::Detour(0.0, 0))
        }
        5 => pair(Act::Twice(0.2), Act::Twice(0.0)),
        _ => upgrade(n, rng),
    }
}

/// A process stands still: how long it may is drawn around its lease.
#[must_use]
pub fn stall(options: &Options, rng: &mut Rng) -> (Fault, Span) {
    let n = rng.index(options.nodes.len());
    let process = Process::ALL[rng.index(Process::ALL.len())];
    let lease = options.timing.lease.as_micros();
    let most = if rng.chance(0.7) { lease } else { lease * 4 };
    let fault = Fault {
        act: Act::Stop(n, process, true),
        repair: Some(Act::Stop(n, process, false)),
    };
    (fault, rng.span(1_000, most))
}

/// One server runs the next release for a while, which still speaks with this one.
fn upgrade(n: usize, rng: &mut Rng) -> Fault {
    let again = rng.span(50_000, 400_000);
    let next = Protocols {
        oldest: PROTOCOL,
        newest: PROTOCOL + 1,
    };
    Fault {
        act: Act::Release(n, next, again),
        repair: Some(Act::Release(n, PROTOCOLS, again)),
    }
}

/// The last reserve goes to the second server, so that both serve.
#[must_use]
pub fn spread(options: &Options) -> Act {
    let segment = options.segment();
    let command = Command::Switchover {
        reserve: segment.reserves[segment.reserves.len() - 1].name.clone(),
        to: Some(segment.nodes[1].name.clone()),
        expected_epoch: None,
    };
    Act::Command(0, command)
}

/// The lever that an act belongs to.
#[must_use]
pub const fn lever(act: &Act) -> Option<Lever> {
    match act {
        Act::DiskFull(..) | Act::DiskLost(_) => Some(Lever::Disk),
        Act::Gusts(_) => Some(Lever::Bursts),
        Act::Detour(..) => Some(Lever::Reorder),
        Act::Twice(_) => Some(Lever::Duplicates),
        Act::Release(..) => Some(Lever::Versions),
        Act::Stop(..) => Some(Lever::Stalls),
        _ => None,
    }
}

fn command(options: &Options, r: usize, other: usize, rng: &mut Rng) -> Command {
    let segment = options.segment();
    let reserve = segment.reserves[r].name.clone();
    let to = segment.nodes[other].name.clone();
    match rng.range(0, 8) {
        0..=3 => Command::Switchover {
            reserve,
            to: rng.chance(0.5).then_some(to),
            expected_epoch: None,
        },
        4 => Command::Promote {
            reserve,
            force: false,
            accept_stale: false,
        },
        5 => Command::Demote { reserve },
        6 => Command::Maintenance(rng.chance(0.5)),
        _ => Command::Clear { reserve },
    }
}
