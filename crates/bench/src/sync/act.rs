//! What happens in each case, and what is taken from it. One function for each group of cases.
//!
//! The one thing to know: the clock runs on the bench's side only, from a change in the source's directory
//! until a look finds it in the sink's; then, outside the clock, both trees are compared completely.

use std::{fs, path::PathBuf, time::Duration};

use haarb_lab::{clock::Stamp, table::Spread};

use super::{
    compare::{self, Depth, compare},
    look,
    meter::Reading,
    result::Run,
    stage::{RunError, Stage, late},
    tree::{self, Dice, Entry},
};

mod everything;
mod large;
mod logs;
mod many;
mod small;

/// How long anything is waited for at full size: above what the slowest peer needs.
pub(super) const LIMIT: Duration = Duration::from_secs(300);

/// What a run of a group gives: the case and its run.
pub type Outcomes = Vec<(&'static str, Run)>;

/// What a group is told.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// The cases of the group that are wanted.
    pub wanted: &'a [&'static str],
    /// What counts and sizes are multiplied by.
    pub scale: f64,
    /// Which run it is; another one makes other data.
    pub number: u32,
}

impl Task<'_> {
    fn wants(&self, case: &str) -> bool {
        self.wanted.contains(&case)
    }

    /// A count at this scale, at least one directory's share of a thousand.
    fn count(&self, full: usize) -> usize {
        ((full as f64 * self.scale) as usize).max(100)
    }

    fn bytes(&self, full: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(8 << 20)
    }

    fn dice(&self) -> Dice {
        Dice::new(u64::from(self.number) + 1)
    }
}

/// Plays the group that a case belongs to.
///
/// # Errors
/// When the lab fails, the replica does not get there, or it is wrong.
pub fn play(group: &str, stage: &mut Stage<'_>, task: &Task<'_>) -> Result<Outcomes, RunError> {
    match group {
        "C1" => small::latency(stage, task),
        "C1x" => small::stale(stage, task),
        "C2" => many::first_transfer(stage, task, 100_000),
        "C2-million" => many::first_transfer(stage, task, 1_000_000),
        "C4" => large::whole_then_changed(stage, task),
        "C6" => logs::grow(stage, task),
        "C7" => many::renamed_then_deleted(stage, task),
        "C9" => many::created(stage, task, 50_000, "C9"),
        "C9-many" => many::created(stage, task, 500_000, "C9-many"),
        "C10" => large::interrupted(stage, task, "C10"),
        "C10-minute" => large::interrupted(stage, task, "C10-minute"),
        "C10-source" => large::interrupted(stage, task, "C10-source"),
        "C10-sink" => large::interrupted(stage, task, "C10-sink"),
        "C11" => everything::lost(stage, task),
        _ => Err(RunError::Wrong(format!("no case {group}"))),
    }
}

/// Takes network and CPU over a piece of a run.
struct Taken {
    before: Reading,
    load: f64,
}

impl Taken {
    fn start(stage: &Stage<'_>) -> Result<Self, RunError> {
        Ok(Self {
            before: stage.read()?,
            load: load(),
        })
    }

    fn finish(&self, stage: &Stage<'_>, values: Vec<f64>) -> Result<Run, RunError> {
        let now = stage.read()?;
        let spread = Spread::of(values.clone()).ok_or_else(|| late("a single value", LIMIT))?;
        Ok(Run {
            values,
            spread,
            sent: now.sent.saturating_sub(self.before.sent),
            payload: 0,
            cpu_s: now.cpu.saturating_sub(self.before.cpu).as_secs_f64(),
            memory_kib: now.memory_kib,
            files: 0,
            torn: 0,
            note: String::new(),
            load: self.load,
        })
    }
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0)
}

/// Whether the replica is right; a replica that is still getting there has a few seconds.
fn check(stage: &Stage<'_>) -> Result<(), RunError> {
    let mut last = compare(&stage.source(), &stage.sink(), Depth::Usual)?;
    let again = |last: &mut compare::Differences| {
        let found = compare(&stage.source(), &stage.sink(), Depth::Usual);
        *last = found.unwrap_or_default();
        last.is_empty()
    };
    if last.is_empty() || look::until(Duration::from_secs(5), || again(&mut last)).is_some() {
        // The roles at the end: a failover in the middle would be another benchmark.
        return stage.settle();
    }
    Err(RunError::Wrong(last.in_words()))
}

fn seconds(from: Stamp, to: Stamp) -> f64 {
    to.ms_since(from) / 1000.0
}

/// Waits for a moment that has nothing to do with the loop of a peer, up to `most`.
fn some_moment(dice: &mut Dice, most: Duration) {
    let us = dice.below(u64::try_from(most.as_micros()).unwrap_or(1));
    std::thread::sleep(Duration::from_micros(us));
}

/// Something is made once in the workshop and used again by every run; a run gives it back.
fn from_workshop(
    stage: &Stage<'_>,
    name: &str,
    make: impl FnOnce(&std::path::Path) -> std::io::Result<()>,
) -> Result<PathBuf, RunError> {
    let place = stage.workshop().join(name);
    if !place.exists() {
        make(&place)?;
    }
    Ok(place)
}

fn entries_of(stage: &Stage<'_>) -> Result<Vec<Entry>, RunError> {
    Ok(tree::entries(&stage.source())?)
}
