//! Bad weather that lasts: what a healthy pair must bear without a switchover.
//!
//! Nothing fails here. Whatever moves the reserve is a false alarm, but for one thing: a
//! server whose own cable flaps may hand over to the one that has both networks (A5).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use haarb_model::{Role, Span};

use crate::act::Act;
use crate::options::Options;
use crate::rng::Rng;
use crate::world::World;

/// A kind of bad weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// 30 % random loss in each direction of every network, from one moment to the next.
    Loss,
}

impl Weather {
    /// All kinds.
    pub const ALL: [Self; 1] = [Self::Loss];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "loss",
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
    let active = (0..options.nodes.len()).filter(|n| world.role(*n, 0) == Some(Role::Active));
    if active.count() != 1 {
        world.checks.fail("they have not found each other".into());
    }
    world.checks.gaps.clear();
    world.checks.fired.clear();
    match weather {
        Weather::Loss => {
            world.act(&Act::Loss(0.3));
            world.run_for(span);
        }
    }
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
