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
pub mod rough;
pub mod scenario;
pub mod server;
pub mod weather;
pub mod world;

use haarb_model::Span;

pub use options::Options;
use rng::Rng;
pub use rough::Lever;
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
    run_seed_without(seed, &[], verbose)
}

/// The same run with some levers off: without any, the world is ideal but for its faults.
#[must_use]
pub fn run_seed_without(seed: u64, without: &[Lever], verbose: bool) -> Outcome {
    let (options, plan, rng) = draw(seed, without);
    plan.run(seed, &options, rng, verbose)
}

/// An ideal world but for its faults, with kernels that end what is held at the end of the
/// lease, or not.
#[must_use]
pub fn run_seed_gated(seed: u64, gate: bool) -> Outcome {
    let (mut options, plan, rng) = draw(seed, &Lever::ALL);
    options.gate = gate;
    plan.run(seed, &options, rng, false)
}

/// Leaves out what a wrong run of a seed does not need, one act and one lever after the other,
/// for as long as it stays wrong.
#[must_use]
pub fn shrink(seed: u64, without: &[Lever]) -> Outcome {
    let (mut options, mut plan, rng) = draw(seed, without);
    let mut best = plan.run(seed, &options, rng.clone(), false);
    let mut i = 0;
    while best.failure.is_some() && i < plan.acts.len() {
        let mut less = plan.clone();
        less.acts.remove(i);
        let outcome = less.run(seed, &options, rng.clone(), false);
        if outcome.failure.is_some() {
            (plan, best) = (less, outcome);
        } else {
            i += 1;
        }
    }
    for lever in [Lever::Drift, Lever::Jitter] {
        let mut calm = options.clone();
        match lever {
            Lever::Drift => calm.rough.drift_ppm.clear(),
            _ => calm.rough.late_us = 0,
        }
        let outcome = plan.run(seed, &calm, rng.clone(), false);
        if best.failure.is_some() && outcome.failure.is_some() {
            (options, best) = (calm, outcome);
        }
    }
    best
}

fn draw(seed: u64, without: &[Lever]) -> (Options, Plan, Rng) {
    let mut rng = Rng::new(seed);
    // What belongs to levers has its own chance, so that the rest stays as it is.
    let mut rough = Rng::new(seed ^ 0x726f_7567_6800_0000);
    let options = Options::drawn(&mut rng).roughened(without, &mut rough);
    let mut plan = Plan::drawn(&options, &mut Rng::new(rng.next_u64()), &mut rough);
    if options.with(Lever::Stalls) {
        plan.stall(&options, &mut Rng::new(seed ^ 0x7374_616c_6c00_0000));
    }
    (options, plan, rng)
}

/// What is done to a cluster: drawn before anything runs.
#[derive(Clone, Debug)]
struct Plan {
    settle: Span,
    acts: Vec<(act::Act, Span)>,
}

impl Plan {
    fn drawn(options: &Options, rng: &mut Rng, rough: &mut Rng) -> Self {
        // Most runs begin with a cluster that has found itself.
        let settle = Span::from_secs(if rng.chance(0.8) { 10 } else { 1 });
        let mut acts = Vec::new();
        if options.reserves.len() > 1 && rough.chance(0.7) && options.with(Lever::Spread) {
            acts.push((options::spread(options), Span::from_secs(2)));
        }
        let mut repairs = Vec::new();
        let mut rough_repairs = Vec::new();
        for _ in 0..rng.range(1, 6) {
            if rough.chance(0.4) {
                Self::roughen(options, rough, &mut rough_repairs, &mut acts);
            }
            let fault = options::fault(options, rng);
            acts.push((fault.act, pause(rng, options)));
            repairs.extend(fault.repair);
            if rng.chance(0.5) && !repairs.is_empty() {
                let repair = repairs.remove(rng.index(repairs.len()));
                acts.push((repair, pause(rng, options)));
            }
        }
        Self { settle, acts }
    }

    /// A fault that belongs to a lever, or the end of one.
    fn roughen(
        options: &Options,
        rough: &mut Rng,
        repairs: &mut Vec<act::Act>,
        acts: &mut Vec<(act::Act, Span)>,
    ) {
        let mut add = |act: act::Act, span: Span| {
            if options::lever(&act).is_none_or(|lever| options.with(lever)) {
                acts.push((act, span));
            }
        };
        if !repairs.is_empty() && rough.chance(0.4) {
            let repair = repairs.remove(rough.index(repairs.len()));
            add(repair, pause(rough, options));
            return;
        }
        let fault = options::rough_fault(options, rough);
        repairs.extend(fault.repair);
        add(fault.act, pause(rough, options));
    }

    /// Single processes stand still for a while, before some of the acts.
    fn stall(&mut self, options: &Options, rng: &mut Rng) {
        let mut acts = Vec::new();
        for act in std::mem::take(&mut self.acts) {
            if rng.chance(0.3) {
                let (fault, span) = options::stall(options, rng);
                acts.push((fault.act, span));
                let ends = fault.repair.map(|act| (act, pause(rng, options)));
                // Some go on only after the next fault.
                let late = rng.chance(0.5);
                let (before, after) = if late { (None, ends) } else { (ends, None) };
                acts.extend(before);
                acts.push(act);
                acts.extend(after);
            } else {
                acts.push(act);
            }
        }
        self.acts = acts;
    }

    fn run(&self, seed: u64, options: &Options, rng: Rng, verbose: bool) -> Outcome {
        let mut world = World::new(options.segment(), &options.disks, rng).with_gate(options.gate);
        world.verbose = verbose;
        world.rough = options.rough.clone();
        world.checks.forgetful = options.disks.contains(&false);
        for n in 0..options.nodes.len() {
            world.power_on(n);
        }
        world.run_for(self.settle);
        for (act, pause) in &self.acts {
            if world.checks.failed() {
                break;
            }
            world.say(&format!("! {act:?}"));
            world.act(act);
            world.run_for(*pause);
        }
        finish(seed, options, world)
    }
}

/// Everything is mended, and whoever can serve must serve within a bound.
fn finish(seed: u64, options: &Options, mut world: World) -> Outcome {
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
    if world.holds_networks_back() {
        world.run_for(timing.link_hold.times(16));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levers_only_add_to_what_a_seed_gives() {
        let mut added = 0;
        for seed in 1..=200 {
            let (_, ideal, _) = draw(seed, &Lever::ALL);
            let (_, rough, _) = draw(seed, &[]);
            let mut left = rough.acts.iter();
            for act in &ideal.acts {
                assert!(left.any(|other| other == act), "seed {seed}: {act:?}");
            }
            added += rough.acts.len() - ideal.acts.len();
        }
        assert!(added > 100, "only {added} acts of levers in 200 seeds");
    }

    #[test]
    fn a_lever_that_is_off_does_nothing() {
        for lever in Lever::ALL {
            for seed in 1..=100 {
                let (options, plan, _) = draw(seed, &[lever]);
                let mut levers = plan.acts.iter().filter_map(|(act, _)| options::lever(act));
                assert!(levers.all(|used| used != lever), "seed {seed}: {lever}");
                if lever == Lever::Drift {
                    assert!(options.rough.drift_ppm.is_empty());
                }
                if lever == Lever::Jitter {
                    assert_eq!(options.rough.late_us, 0);
                }
            }
        }
    }
}
