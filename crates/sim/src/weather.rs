//! Bad weather that lasts: what a healthy pair must bear without a switchover.
//!
//! Nothing fails here. Whatever moves the reserve is a false alarm, but for one thing: a
//! server whose own cable flaps may hand over to the one that has both networks (A5).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use haarb_model::{Mono, Role, Span};

use crate::NodeIx;
use crate::act::Act;
use crate::options::Options;
use crate::rng::Rng;
use crate::server::Process;
use crate::world::World;

/// A kind of bad weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// 30 % random loss in each direction of every network, from one moment to the next.
    Loss,
    /// A cable of the active server comes and goes, out and in for 20 to 500 ms each.
    FlappingActive,
    /// The same of the standby.
    FlappingStandby,
    /// Single processes of either server stand still for up to a third of the lease, ten a second.
    Stalls,
}

impl Weather {
    /// All kinds.
    pub const ALL: [Self; 4] = [
        Self::Loss,
        Self::FlappingActive,
        Self::FlappingStandby,
        Self::Stalls,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::FlappingActive => "flapping-active",
            Self::FlappingStandby => "flapping-standby",
            Self::Stalls => "stalls",
        }
    }
}

impl FromStr for Weather {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("no weather {text:?}; there is: {names}")
        })
    }
}

/// What it cost.
#[derive(Clone, Debug, Default)]
pub struct Toll {
    /// Times that a server took the reserve or let it go.
    pub moves: BTreeMap<&'static str, u64>,
    /// The longest time nobody held the virtual IP.
    pub gap: Span,
    /// A check that failed.
    pub failure: Option<String>,
    /// What happened, line by line.
    pub trace: Vec<String>,
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moves: Vec<String> = self
            .moves
            .iter()
            .map(|(rule, n)| format!("{rule} {n}"))
            .collect();
        write!(f, "{}; nobody held it for {}", moves.join(", "), self.gap)
    }
}

/// Two servers that found each other, then the weather for so long.
#[must_use]
pub fn endure(weather: Weather, seed: u64, span: Span) -> Toll {
    let options = Options::pair();
    let mut world =
        World::new(options.segment(), &options.disks, Rng::new(seed)).with_gate(options.gate);
    for n in 0..options.nodes.len() {
        world.power_on(n);
    }
    world.run_for(Span::from_secs(5));
    let mut active = (0..2).filter(|n| world.role(*n, 0) == Some(Role::Active));
    let (Some(active), None) = (active.next(), active.next()) else {
        world.checks.fail("they have not found each other".into());
        return toll(world);
    };
    world.checks.gaps.clear();
    world.checks.fired.clear();
    let end = world.now + span;
    match weather {
        Weather::Loss => {
            world.act(&Act::Loss(0.3));
            world.run_for(span);
        }
        Weather::FlappingActive => flap(&mut world, active, seed, end),
        Weather::FlappingStandby => flap(&mut world, 1 - active, seed, end),
        Weather::Stalls => stall(&mut world, seed, end),
    }
    toll(world)
}

fn flap(world: &mut World, n: NodeIx, seed: u64, end: Mono) {
    let mut rng = Rng::new(seed ^ 0x666c_6170);
    while world.now < end {
        for up in [false, true] {
            world.act(&Act::Cable(n, 0, up));
            world.run_for(rng.span(20_000, 500_000));
        }
    }
}

fn stall(world: &mut World, seed: u64, end: Mono) {
    let mut rng = Rng::new(seed ^ 0x7374_616c);
    let longest = world.segment.timing.lease.part(3).as_micros();
    while world.now < end {
        let process = Process::ALL[rng.index(Process::ALL.len())];
        let n = rng.index(world.servers.len());
        world.act(&Act::Stop(n, process, true));
        world.run_for(rng.span(1_000, longest));
        world.act(&Act::Stop(n, process, false));
        world.run_for(rng.span(1_000, 30_000));
    }
}

fn toll(mut world: World) -> Toll {
    Toll {
        moves: std::mem::take(&mut world.checks.fired),
        gap: world
            .checks
            .gaps
            .get(&0)
            .map_or(Span::ZERO, |(_, gap)| *gap),
        failure: world.checks.failure().map(str::to_owned),
        trace: world.trace,
    }
}
