//! C4, C5, C10: one large file.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    thread,
    time::Duration,
};

use haarb_lab::{clock::Stamp, cluster};

use super::{Outcomes, Taken, Task, check, entries_of, from_workshop, seconds};
use crate::sync::{
    look::{self, Seen},
    stage::{RunError, Stage, late},
    system::{SINK, SOURCE},
    tree::{self, Dice, Entry},
};

const GIB: u64 = 1 << 30;
/// Of the pieces that are changed, and how many of them one is.
const PIECE: u64 = 4096;
const ONE_OF: u64 = 100;

/// The large file, made once. With the peers it is in place before they start, so that the second between
/// two loops is not counted; with haarb it is moved in.
fn make(stage: &Stage<'_>, task: &Task<'_>) -> Result<std::path::PathBuf, RunError> {
    let size = task.bytes(GIB);
    from_workshop(stage, &format!("large-{size}"), |place| {
        tree::make_large(place, size, 3)
    })
}

/// Starts the transfer of the large file; returns when it began, and what is to be there.
fn begin(stage: &mut Stage<'_>, made: &Path) -> Result<(Taken, Stamp, Vec<Entry>), RunError> {
    let place = stage.source().join("large");
    fs::write(stage.source().join("small"), "here")?;
    if stage.system().is_haarb() {
        stage.start_with(&entries_of(stage)?, super::LIMIT)?;
        let taken = Taken::start(stage)?;
        let began = Stamp::now();
        fs::rename(made, &place)?;
        return Ok((taken, began, entries_of(stage)?));
    }
    fs::rename(made, &place)?;
    stage.start_first()?;
    let taken = Taken::start(stage)?;
    let began = stage.start()?;
    Ok((taken, began, entries_of(stage)?))
}

/// Waits until everything is there, and counts how often the file is seen with neither its old nor its
/// new size.
fn watch(
    stage: &Stage<'_>,
    entries: &[Entry],
    old_size: Option<u64>,
    limit: Duration,
) -> Result<(Seen, usize), RunError> {
    let (sink, torn) = (stage.sink(), std::cell::Cell::new(0));
    let new_size = fs::metadata(stage.source().join("large"))?.len();
    let seen = look::until_each(entries, limit, |entry| {
        let size = fs::metadata(sink.join("large"))
            .map(|found| found.size())
            .ok();
        if size.is_some() && size != Some(new_size) && size != old_size {
            torn.set(torn.get() + 1);
        }
        entry.is_at(&sink)
    });
    Ok((
        seen.ok_or_else(|| late("the whole file", limit))?,
        torn.get(),
    ))
}

/// C4, then C5 with the same file.
pub(super) fn whole_then_changed(
    stage: &mut Stage<'_>,
    task: &Task<'_>,
) -> Result<Outcomes, RunError> {
    let made = make(stage, task)?;
    let outcomes = transferred(stage, task, &made);
    give_back(stage, &made);
    outcomes
}

fn give_back(stage: &Stage<'_>, made: &Path) {
    // Not there: it never came so far.
    let _ = fs::rename(stage.source().join("large"), made);
}

fn transferred(stage: &mut Stage<'_>, task: &Task<'_>, made: &Path) -> Result<Outcomes, RunError> {
    let size = fs::metadata(made)?.len();
    let (taken, began, entries) = begin(stage, made)?;
    let (seen, torn) = watch(stage, &entries, None, super::LIMIT)?;
    let took = seconds(began, seen.at);
    let mut run = taken.finish(stage, vec![size as f64 / 1e6 / took])?;
    (run.payload, run.torn) = (size, torn);
    stage.settle()?;
    check(stage)?;
    let mut outcomes = vec![("C4", run)];

    if task.wants("C5") {
        let taken = Taken::start(stage)?;
        let changed = change(&stage.source().join("large"), size)?;
        let began = Stamp::now();
        let (seen, torn) = watch(stage, &entries_of(stage)?, Some(size), super::LIMIT)?;
        let mut run = taken.finish(stage, vec![seconds(began, seen.at)])?;
        (run.payload, run.torn) = (changed, torn);
        check(stage)?;
        outcomes.push(("C5", run));
    }
    Ok(outcomes)
}

/// Changes one piece of a hundred in place, somewhere in each hundred; returns the bytes.
fn change(path: &Path, size: u64) -> Result<u64, RunError> {
    let file = OpenOptions::new().write(true).open(path)?;
    // Never the same twice: the file is used again, and what it has already is no change.
    let mut dice = Dice::new(Stamp::now().0);
    let mut piece = vec![0; PIECE as usize];
    let mut changed = 0;
    for hundred in 0..size / PIECE / ONE_OF {
        dice.fill(&mut piece);
        let at = hundred * ONE_OF + dice.below(ONE_OF);
        file.write_all_at(&piece, at * PIECE)?;
        changed += PIECE;
    }
    Ok(changed)
}

/// C10: the transfer is interrupted when a quarter of it has been sent.
pub(super) fn interrupted(
    stage: &mut Stage<'_>,
    task: &Task<'_>,
    name: &'static str,
) -> Result<Outcomes, RunError> {
    let made = make(stage, task)?;
    let outcomes = cut(stage, &made, name);
    give_back(stage, &made);
    outcomes
}

fn cut(stage: &mut Stage<'_>, made: &Path, name: &'static str) -> Result<Outcomes, RunError> {
    let size = fs::metadata(made)?.len();
    let (taken, _, entries) = begin(stage, made)?;
    if stage.system().is_haarb() && matches!(name, "C10" | "C10-minute") {
        // Two servers that do not hear each other would both serve: that is another benchmark.
        for server in [SOURCE, SINK] {
            cluster::haarb(stage.lab_mut(), server, &["maintenance", "on"])?;
        }
    }
    let before = stage.sent()?;
    let quarter = || stage.sent().is_ok_and(|sent| sent > before + size / 4);
    look::until(super::LIMIT, quarter)
        .ok_or_else(|| late("a quarter of the file", super::LIMIT))?;
    let too_late = stage.sink().join("large").exists();
    let mended = match name {
        "C10-source" => stage.lab_mut().kill_program(SOURCE, "haarb-syncer")?.done,
        "C10-sink" => stage.lab_mut().kill_program(SINK, "haarb-syncer")?.done,
        _ => {
            let seconds = if name == "C10-minute" { 60 } else { 5 };
            both_networks(stage, &[SOURCE, SINK])?;
            // The length of the cut is part of the case.
            thread::sleep(Duration::from_secs(seconds));
            both_networks(stage, &[])?;
            Stamp::now()
        }
    };
    if too_late {
        return Err(RunError::Wrong(
            "the transfer was over before it could be interrupted".into(),
        ));
    }
    let (seen, torn) = watch(stage, &entries, None, super::LIMIT)?;
    let mut run = taken.finish(stage, vec![seconds(mended, seen.at)])?;
    (run.payload, run.torn) = (size, torn);
    check_content(stage)?;
    Ok(vec![(name, run)])
}

fn both_networks(stage: &mut Stage<'_>, apart: &[usize]) -> Result<(), RunError> {
    for network in [0, 1] {
        stage.lab_mut().hole(network, apart)?;
    }
    Ok(())
}

/// Like [`check`]; a pair in maintenance is not ready for everything.
fn check_content(stage: &Stage<'_>) -> Result<(), RunError> {
    let (one, other) = (stage.source().join("large"), stage.sink().join("large"));
    if super::compare::same_content(&one, &other)? {
        return Ok(());
    }
    Err(RunError::Wrong("the content of the large file".into()))
}
