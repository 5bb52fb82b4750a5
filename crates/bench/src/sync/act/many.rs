//! C2, C3, C1-tree, C7, C8, C9: many small files.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use haarb_lab::clock::Stamp;

use super::{Outcomes, Taken, Task, check, entries_of, from_workshop, seconds, small};
use crate::sync::{
    look,
    stage::{RunError, Stage, late},
    tree,
};

/// Sizes of the files of the large tree.
const SIZES: (u64, u64) = (1024, 8192);
/// How long a quiet replica is watched.
const QUIET: Duration = Duration::from_secs(10);
/// How often memory is looked at: a look goes through all pages of the processes.
const MEMORY_EVERY: Duration = Duration::from_millis(250);
/// Files of the directory that is renamed.
const RENAMED: usize = 10_000;

/// C2 (or the same with a million files), then in the same pair C3 and C1-tree.
pub(super) fn first_transfer(
    stage: &mut Stage<'_>,
    task: &Task<'_>,
    files: usize,
) -> Result<Outcomes, RunError> {
    let name = if files > 100_000 { "C2-million" } else { "C2" };
    let files = task.count(files);
    let made = from_workshop(stage, &format!("files-{files}"), |place| {
        tree::make_files(place, files, SIZES, 1)
    })?;
    let tree = stage.source().join("tree");
    fs::rename(&made, &tree)?;
    let outcomes = with_tree(stage, task, name, files);
    // For the next run; haarb keeps its own things elsewhere.
    fs::rename(&tree, &made)?;
    outcomes
}

fn with_tree(
    stage: &mut Stage<'_>,
    task: &Task<'_>,
    name: &'static str,
    files: usize,
) -> Result<Outcomes, RunError> {
    fs::write(stage.source().join("status"), [0; 1024])?;
    let entries = entries_of(stage)?;
    stage.start_first()?;
    let taken = Taken::start(stage)?;
    let began = stage.start()?;
    let (seen, memory_kib) = watched(stage, || stage.until_there(&entries, super::LIMIT * 4));
    let seen = seen?;
    let mut run = taken.finish(stage, vec![seconds(began, seen.at)])?;
    run.memory_kib = run.memory_kib.max(memory_kib);
    run.payload = tree::bytes(&entries);
    run.files = files;
    stage.settle()?;
    if name != "C2" || task.wants("C2") {
        check(stage)?;
    }
    let mut outcomes = vec![(name, run)];
    if task.wants("C3") {
        let taken = Taken::start(stage)?;
        thread::sleep(QUIET);
        let mut run = taken.finish(stage, vec![0.0])?;
        let percent = 100.0 * run.cpu_s / QUIET.as_secs_f64();
        run.values = vec![percent];
        run.spread.min = percent;
        run.spread.median = percent;
        run.spread.p99 = percent;
        run.spread.max = percent;
        outcomes.push(("C3", run));
    }
    if task.wants("C1-tree") {
        let taken = Taken::start(stage)?;
        let values = small::changes(stage, &mut task.dice())?;
        outcomes.push(("C1-tree", taken.finish(stage, values)?));
        check(stage)?;
    }
    Ok(outcomes)
}

/// Does something, and says the most memory that the replica had meanwhile.
fn watched<T>(stage: &Stage<'_>, act: impl FnOnce() -> T + Send) -> (T, u64)
where
    T: Send,
{
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (done, acting) = (&done, scope.spawn(act));
        let mut most = 0;
        while !done.load(Ordering::Relaxed) {
            most = most.max(stage.read().map_or(0, |reading| reading.memory_kib));
            if acting.is_finished() {
                done.store(true, Ordering::Relaxed);
            } else {
                thread::sleep(MEMORY_EVERY);
            }
        }
        match acting.join() {
            Ok(value) => (value, most),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// C7, then C8 with the same directory.
pub(super) fn renamed_then_deleted(
    stage: &mut Stage<'_>,
    task: &Task<'_>,
) -> Result<Outcomes, RunError> {
    let files = task.count(RENAMED);
    let source = stage.source();
    tree::make_files(&source.join("old"), files, SIZES, u64::from(task.number))?;
    stage.start_with(&entries_of(stage)?, super::LIMIT)?;

    let taken = Taken::start(stage)?;
    let old = entries_of(stage)?;
    let began = Stamp::now();
    fs::rename(source.join("old"), source.join("new"))?;
    let new = entries_of(stage)?;
    let there = stage.until_there(&new, super::LIMIT)?;
    let sink = stage.sink();
    let gone = look::until(super::LIMIT, || !sink.join("old").exists())
        .ok_or_else(|| late("the old name to go", super::LIMIT))?;
    let mut run = taken.finish(stage, vec![seconds(began, there.at.max(gone.at))])?;
    run.files = old.len();
    check(stage)?;
    let mut outcomes = vec![("C7", run)];

    if task.wants("C8") {
        let taken = Taken::start(stage)?;
        let began = Stamp::now();
        fs::remove_dir_all(source.join("new"))?;
        let sink = stage.sink();
        let gone = look::until_each(&new, super::LIMIT, |entry| entry.is_gone_from(&sink))
            .ok_or_else(|| late("an empty replica", super::LIMIT))?;
        let mut run = taken.finish(stage, vec![seconds(began, gone.at)])?;
        run.files = files;
        check(stage)?;
        outcomes.push(("C8", run));
    }
    Ok(outcomes)
}

/// C9.
pub(super) fn created(
    stage: &mut Stage<'_>,
    task: &Task<'_>,
    files: usize,
    name: &'static str,
) -> Result<Outcomes, RunError> {
    fs::write(stage.source().join("first"), "here")?;
    stage.start_with(&entries_of(stage)?, super::LIMIT)?;
    let taken = Taken::start(stage)?;
    let files = task.count(files);
    let began = Stamp::now();
    tree::make_files(
        &stage.source().join("tree"),
        files,
        (1024, 1024),
        u64::from(task.number),
    )?;
    let last = Stamp::now();
    let entries = entries_of(stage)?;
    let seen = stage.until_there(&entries, super::LIMIT * 2)?;
    let mut run = taken.finish(stage, vec![seconds(last, seen.at)])?;
    run.files = files;
    run.payload = tree::bytes(&entries);
    run.note = format!("created in {:.1} s", seconds(began, last));
    check(stage)?;
    Ok(vec![(name, run)])
}
