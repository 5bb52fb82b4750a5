//! C1, C1-tree, C1x: small files that change.

use std::{fs, thread, time::Duration};

use haarb_lab::clock::Stamp;

use super::{Outcomes, Taken, Task, check, entries_of, some_moment};
use crate::sync::{
    look,
    stage::{RunError, Stage, late},
    tree::Dice,
};

/// Changes in a run: a loop of a second takes a second for each.
const CHANGES: usize = 200;
const CHANGES_OF_A_PEER: usize = 15;
/// A change that is not there by then never comes: some loops do not see it.
const CHANGE_LIMIT: Duration = Duration::from_secs(60);
/// A change comes at any moment of a second's loop.
const ANY_MOMENT: Duration = Duration::from_millis(1300);
const SOON: Duration = Duration::from_millis(20);

const STATUS_FILES: usize = 20;
const STATUS_EVERY: Duration = Duration::from_millis(250);
const STATUS_CHANGES: usize = 20;
const STATUS_ROUNDS: usize = 2;
/// So long nothing changes before a file that differs counts as stale for ever: several loops.
const QUIET: Duration = Duration::from_secs(8);

/// C1.
pub(super) fn latency(stage: &mut Stage<'_>, task: &Task<'_>) -> Result<Outcomes, RunError> {
    let status = stage.source().join("status");
    fs::write(status, [0; 1024])?;
    stage.start_with(&entries_of(stage)?, super::LIMIT)?;
    let taken = Taken::start(stage)?;
    let values = changes(stage, &mut task.dice())?;
    let payload = 1024 * values.len() as u64;
    let mut run = taken.finish(stage, values)?;
    run.payload = payload;
    check(stage)?;
    Ok(vec![("C1", run)])
}

/// Rewrites one file in place again and again; returns how long each change took, milliseconds. Its size
/// changes by a byte each time: what becomes of changes that leave it is counted by C1x.
pub(super) fn changes(stage: &Stage<'_>, dice: &mut Dice) -> Result<Vec<f64>, RunError> {
    let (source, sink) = (stage.source().join("status"), stage.sink().join("status"));
    let (count, pause) = if stage.system().is_haarb() {
        (CHANGES, SOON)
    } else {
        (CHANGES_OF_A_PEER, ANY_MOMENT)
    };
    let mut content = [0; 1024];
    let mut values = Vec::with_capacity(count);
    for change in 0..count {
        some_moment(dice, pause);
        dice.fill(&mut content);
        // The first one has another size than the file that is there.
        let content = &content[(change + 1) % 2..];
        let began = Stamp::now();
        fs::write(&source, content)?;
        let there = || fs::read(&sink).is_ok_and(|found| found == content);
        let seen =
            look::until(CHANGE_LIMIT, there).ok_or_else(|| late("a change", CHANGE_LIMIT))?;
        values.push(seen.at.ms_since(began));
    }
    Ok(values)
}

/// C1x. A wrong replica is what is counted here, and no failed run.
pub(super) fn stale(stage: &mut Stage<'_>, _task: &Task<'_>) -> Result<Outcomes, RunError> {
    let write = |stage: &Stage<'_>, round: usize| -> std::io::Result<()> {
        (0..STATUS_FILES).try_for_each(|file| {
            let text = format!("status {file:04} as of {round:08}\n");
            fs::write(stage.source().join(format!("status{file}")), text)
        })
    };
    write(stage, 0)?;
    stage.start_with(&entries_of(stage)?, super::LIMIT)?;
    let taken = Taken::start(stage)?;
    let mut stale = 0;
    for round in 0..STATUS_ROUNDS {
        for change in 0..STATUS_CHANGES {
            write(stage, 1 + round * STATUS_CHANGES + change)?;
            // The pace is part of the case.
            thread::sleep(STATUS_EVERY);
        }
        let differ = || {
            let differs = |file: &usize| {
                let read =
                    |dir: std::path::PathBuf| fs::read(dir.join(format!("status{file}"))).ok();
                read(stage.source()) != read(stage.sink())
            };
            (0..STATUS_FILES).filter(differs).count()
        };
        if look::until(QUIET, || differ() == 0).is_none() {
            stale += differ();
        }
    }
    let mut run = taken.finish(stage, vec![stale as f64])?;
    run.files = STATUS_FILES * STATUS_ROUNDS;
    run.note = format!("of {}", run.files);
    Ok(vec![("C1x", run)])
}
