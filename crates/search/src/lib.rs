//! An exhaustive search: every sequence of events up to a length, over the real decision.
//!
//! Two servers stand in a simulated world without jitter (`haarb-sim`), so that a state's
//! future depends on nothing but the state. From each state every event is tried, at once,
//! in the middle of a detection and after everything has settled; states that are alike are
//! visited once. After every step of every run: never two servers that offer a virtual IP
//! but in the residual cases, and from every state, once all is mended, one server serves.
//! Test only: nothing of the product depends on this crate.

#![warn(missing_docs)]

pub mod alike;
pub mod events;
pub mod found;
mod parallel;
pub mod report;
pub mod residual;
mod state;
pub mod walk;
pub mod watch;

use haarb_model::Span;
use haarb_sim::options::Options;
use haarb_sim::rng::Rng;
use haarb_sim::world::World;

/// Waits that cold starts and one-network modes take, shorter than in life: their order
/// among the other times is the same, and a state settles sooner.
const COLD_START: Span = Span::from_millis(2500);
const REARM_ALONE: Span = Span::from_millis(2200);

/// The pair that is searched: one reserve, the given options, short waits.
#[must_use]
pub fn shortened(mut options: Options) -> Options {
    options.timing.cold_start = COLD_START;
    options.timing.rearm_alone = REARM_ALONE;
    options
}

/// Where a search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Both servers run and have found each other; the first one serves.
    Settled,
    /// Both servers have just been powered on.
    Starting,
    /// Neither server has power.
    Dark,
}

impl Start {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Settled, Self::Starting, Self::Dark];

    /// Its name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Starting => "starting",
            Self::Dark => "dark",
        }
    }

    /// The lines of a scenario that lead there.
    #[must_use]
    pub const fn lines(self) -> &'static [&'static str] {
        match self {
            Self::Settled => &["power a on", "power b on", "run 10s"],
            Self::Starting => &["power a on", "power b on"],
            Self::Dark => &[],
        }
    }

    /// The world there.
    #[must_use]
    pub fn world(self, options: &Options) -> World {
        let mut world = World::new(options.segment(), &options.disks, Rng::steady(1));
        match self {
            Self::Dark => {}
            Self::Starting | Self::Settled => {
                world.power_on(0);
                world.power_on(1);
            }
        }
        if self == Self::Settled {
            world.run_for(Span::from_secs(10));
        }
        world.trace.clear();
        world
    }
}
