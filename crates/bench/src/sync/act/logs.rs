//! C6: logs that grow, and how old each line is when the replica has it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use haarb_lab::clock::Stamp;

use super::{Outcomes, Taken, Task, check, entries_of};
use crate::sync::{
    stage::{RunError, Stage, late},
    tree,
};

const LOGS: usize = 50;
const LINE: usize = 100;
const EVERY: Duration = Duration::from_millis(10);
const LONG: f64 = 20.0;
/// How often the sizes are looked at; a line counts as this much older at worst.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// C6.
pub(super) fn grow(stage: &mut Stage<'_>, task: &Task<'_>) -> Result<Outcomes, RunError> {
    let (source, sink) = (stage.source(), stage.sink());
    let name = |log: usize| format!("log{log:02}");
    let open = |log| -> std::io::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(source.join(name(log)))
    };
    let mut logs = (0..LOGS).map(open).collect::<Result<Vec<_>, _>>()?;
    stage.start_with(&entries_of(stage)?, super::LIMIT)?;
    let taken = Taken::start(stage)?;

    let ticks = ((LONG * task.scale).max(2.0) / EVERY.as_secs_f64()) as usize;
    // When the line number k of all logs was written.
    let written = Mutex::new(Vec::<Stamp>::with_capacity(ticks));
    let stopped = AtomicBool::new(false);
    let mut ages = Vec::with_capacity(ticks * LOGS);
    let mut seen_lines = [0_usize; LOGS];
    let (written, stopped) = (&written, &stopped);
    let complete = thread::scope(|scope| -> Result<bool, RunError> {
        let writer = scope.spawn(move || -> std::io::Result<()> {
            let began = Stamp::now();
            for tick in 0..ticks {
                let due = began.plus(EVERY * u32::try_from(tick).unwrap_or(u32::MAX));
                thread::sleep(due.since(Stamp::now()));
                let line = format!("{:<width$}\n", format!("line {tick:08}"), width = LINE - 1);
                written
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Stamp::now());
                for log in &mut logs {
                    log.write_all(line.as_bytes())?;
                }
            }
            stopped.store(true, Ordering::Release);
            Ok(())
        });
        let end = Stamp::now()
            .plus(Duration::from_secs_f64(LONG).mul_f64(task.scale.max(0.1)) + super::LIMIT / 4);
        while seen_lines.iter().any(|lines| *lines < ticks) && Stamp::now() < end {
            for (log, lines) in seen_lines.iter_mut().enumerate() {
                let size = fs::metadata(sink.join(name(log))).map_or(0, |found| found.len());
                let now = Stamp::now();
                let there = usize::try_from(size).unwrap_or(0) / LINE;
                let written = written.lock().unwrap_or_else(PoisonError::into_inner);
                for line in *lines..there.min(written.len()) {
                    ages.push(now.ms_since(written[line]));
                }
                *lines = (*lines).max(there.min(written.len()));
            }
            if writer.is_finished() && !stopped.load(Ordering::Acquire) {
                break;
            }
            thread::sleep(LOOK_EVERY);
        }
        writer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(seen_lines.iter().all(|lines| *lines == ticks))
    })?;
    if !complete {
        return Err(late("all lines", super::LIMIT / 4));
    }
    let mut run = taken.finish(stage, ages)?;
    run.payload = tree::bytes(&entries_of(stage)?);
    run.files = LOGS;
    run.note = format!(
        "{:.2} sent per byte",
        run.sent as f64 / run.payload.max(1) as f64
    );
    check(stage)?;
    Ok(vec![("C6", run)])
}
