//! A cluster in one process: many decisions, virtual time, a network that loses, servers
//! that fail, all from one seed; and text scenarios that drive the same world.
//!
//! The agents here are models written from the design, not the daemons, so that each is a
//! check on the other. Test only: nothing of the product depends on this crate.

#![warn(missing_docs)]

pub mod act;
pub mod agents;
pub mod check;
pub mod net;
pub mod options;
pub mod prober;
pub mod rng;
pub mod scenario;
pub mod server;
pub mod weather;
pub mod world;

use haarb_model::Span;

pub use options::Options;
use rng::Rng;
use world::World;

/// A server's place in the configuration.
pub type NodeIx = usize;
/// A network's place in the configuration.
pub type NetIx = usize;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed that gives this run again.
    pub seed: u64,
    /// Everything that was drawn for it.
    pub options: Options,
    /// What was wrong; `None`: nothing.
    pub failure: Option<String>,
    /// What happened, line by line.
    pub trace: Vec<String>,
    /// Which rules led to a change, and how often.
    pub fired: std::collections::BTreeMap<&'static str, u64>,
    /// Two servers offered a reserve for so long, in a residual case.
    pub dual: Span,
}

/// Everything of a run is drawn from its seed.
#[must_use]
pub fn run_seed(seed: u64, verbose: bool) -> Outcome {
    let mut rng = Rng::new(seed);
    let options = Options::drawn(&mut rng);
    run_with(seed, &options, rng, verbose)
}

/// The same run with kernels that end what is held at the end of the lease, or not.
#[must_use]
pub fn run_seed_gated(seed: u64, gate: bool) -> Outcome {
    let mut rng = Rng::new(seed);
    let mut options = Options::drawn(&mut rng);
    options.gate = gate;
    run_with(seed, &options, rng, false)
}

/// A run with given options; faults are drawn from the seed.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Outcome {
    run_with(seed, options, Rng::new(seed), false)
}

fn run_with(seed: u64, options: &Options, mut rng: Rng, verbose: bool) -> Outcome {
    let mut plan = Rng::new(rng.next_u64());
    let mut world = World::new(options.segment(), &options.disks, rng).with_gate(options.gate);
    world.verbose = verbose;
    world.checks.forgetful = options.disks.contains(&false);
    for n in 0..options.nodes.len() {
        world.power_on(n);
    }
    // Most runs begin with a cluster that has found itself.
    let settle = if plan.chance(0.8) { 10 } else { 1 };
    world.run_for(Span::from_secs(settle));
    let faults = plan.range(1, 6);
    let mut repairs = Vec::new();
    for _ in 0..faults {
        let fault = options::fault(options, &mut plan);
        if !world.checks.failed() {
            world.say(&format!("! {:?}", fault.act));
        }
        world.act(&fault.act);
        repairs.extend(fault.repair);
        world.run_for(pause(&mut plan, options));
        if plan.chance(0.5) && !repairs.is_empty() {
            let repair = repairs.remove(plan.index(repairs.len()));
            if !world.checks.failed() {
                world.say(&format!("! {repair:?}"));
            }
            world.act(&repair);
            world.run_for(pause(&mut plan, options));
        }
    }
    if !world.checks.failed() {
        world.say("! everything is mended");
    }
    world.mend();
    let timing = options.timing;
    world.run_for(Span::from_secs(5));
    world.clear();
    let bound = timing.cold_start
        + timing.rearm_alone
        + timing.link_hold.times(3)
        + timing.claim_after.times(6)
        + timing.drain_max.times(2)
        + Span::from_secs(15);
    world.run_for(bound);
    if !world.checks.failed() {
        let mut checks = std::mem::take(&mut world.checks);
        checks.at_end(&world);
        world.checks = checks;
    }
    let dual = world.checks.dual.values().map(|(_, span)| *span);
    Outcome {
        seed,
        options: options.clone(),
        failure: world
            .checks
            .failure()
            .map(|what| format!("{} {what}", world.clock())),
        fired: world.checks.fired.clone(),
        dual: dual.fold(Span::ZERO, |a, b| a + b),
        trace: world.trace,
    }
}

/// Between two acts: often short, so that faults meet, sometimes long.
fn pause(plan: &mut Rng, options: &Options) -> Span {
    let dead = options.timing.dead_after.as_micros();
    match plan.range(0, 4) {
        0 => plan.span(0, dead * 2),
        1 => plan.span(dead, dead * 20),
        2 => plan.span(500_000, 4_000_000),
        _ => plan.span(2_000_000, 15_000_000),
    }
}
