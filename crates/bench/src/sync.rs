//! The benchmark of replicated directories: haarb beside rsync and lsyncd, case by case, in turn.
//!
//! [`sync::case`](case) says what is measured and what haarb has to reach, [`system`] who is compared,
//! [`act`] what happens; [`stage`] is the pair on which it happens. One run that fails never spoils the
//! others: what went wrong becomes a line of its cell.

pub mod act;
pub mod case;
pub mod compare;
pub mod look;
pub mod meter;
pub mod page;
pub mod result;
pub mod stage;
pub mod system;
pub mod tree;

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::{Path, PathBuf},
};

use haarb_lab::server::Programs;

use crate::{
    conditions::{Watch, installed},
    failover::in_words,
    result::Absent,
};
use act::{Outcomes, Task, play};
use case::Case;
use result::{Cell, Results, judge, short};
use stage::{Ground, RunError, Stage};
use system::System;

/// A system that fails this often in a case without a single result is given up there.
const FAILURES_MAX: usize = 2;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Systems, in the order of the tables.
    pub systems: Vec<System>,
    /// Cases, in the order of the tables.
    pub cases: Vec<Case>,
    /// Runs of each system in each case.
    pub runs: u32,
    /// What sizes and counts are multiplied by.
    pub scale: f64,
    /// The programs under test.
    pub programs: Programs,
    /// An empty directory for the servers' disks, in memory.
    pub dir: PathBuf,
    /// Where the replicated directories lie.
    pub ground: Ground,
    /// Their file system.
    pub file_system: String,
}

struct Bench {
    options: Options,
    cells: Vec<Cell>,
    stages: u32,
}

/// Measures everything. Progress goes to standard error.
#[must_use]
pub fn measure(options: Options, watch: Watch) -> Results {
    let mut bench = Bench::new(options);
    bench.leave_out_what_is_missing();
    for group in bench.groups() {
        for number in 0..bench.options.runs {
            for system in bench.options.systems.clone() {
                bench.run(group, &system, number);
            }
        }
    }
    let verdicts = judge(&bench.cells, bench.options.scale);
    bench.options.ground.remove();
    Results {
        conditions: watch.finish(),
        file_system: bench.options.file_system,
        scale: bench.options.scale,
        cells: bench.cells,
        verdicts,
    }
}

impl Bench {
    fn new(options: Options) -> Self {
        let cell = |case: &Case, system: &System| Cell {
            case: case.name,
            system: system.name,
            title: system.title,
            runs: Vec::new(),
            failed: Vec::new(),
            absent: (!case.takes(system)).then_some(Absent::NotTried),
        };
        let cells = (options.cases.iter())
            .flat_map(|case| options.systems.iter().map(|system| cell(case, system)))
            .collect();
        Self {
            options,
            cells,
            stages: 0,
        }
    }

    fn leave_out_what_is_missing(&mut self) {
        for system in self.options.systems.clone() {
            let missing: Vec<&str> = (system.needs().iter())
                .filter(|(command, _)| installed(command).is_none())
                .map(|(_, package)| *package)
                .collect();
            if !missing.is_empty() {
                say(&format!(
                    "{}: not installed: skipped (apt-get install {})",
                    system.name,
                    missing.join(" ")
                ));
                self.give_up(system.name, None, &Absent::NotInstalled);
            }
        }
    }

    /// The groups that the wanted cases belong to, in their order.
    fn groups(&self) -> Vec<&'static str> {
        let mut seen = BTreeSet::new();
        let groups = self.options.cases.iter().map(Case::group);
        groups.filter(|group| seen.insert(*group)).collect()
    }

    /// One run of a group on a system, with a fresh pair.
    fn run(&mut self, group: &'static str, system: &System, number: u32) {
        let wanted: Vec<&'static str> = (self.options.cases.iter())
            .filter(|case| case.group() == group)
            .map(|case| case.name)
            .filter(|case| self.is_open(case, system.name))
            .collect();
        if wanted.is_empty() {
            return;
        }
        self.stages += 1;
        let dir = self
            .options
            .dir
            .join(format!("{}-{}", self.stages, system.name));
        let task = Task {
            wanted: &wanted,
            scale: self.options.scale,
            number,
        };
        match self.play(group, system, &dir, &task) {
            Ok(outcomes) => {
                for (case, run) in outcomes {
                    if let Some(cell) = self
                        .cell(case, system.name)
                        .filter(|_| wanted.contains(&case))
                    {
                        say(&describe(cell, &run));
                        cell.runs.push(run);
                    }
                }
            }
            Err(error) => {
                // One line: it becomes a cell of a table.
                let error = error.to_string();
                let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
                say(&format!(
                    "  {group:<10} {:<12} FAILED: {error}",
                    system.name
                ));
                for case in wanted {
                    if let Some(cell) = self.cell(case, system.name) {
                        cell.failed.push(error.clone());
                        if cell.runs.is_empty() && cell.failed.len() >= FAILURES_MAX {
                            cell.absent = Some(Absent::Fails(error.clone()));
                        }
                    }
                }
            }
        }
    }

    fn play(
        &self,
        group: &'static str,
        system: &System,
        dir: &Path,
        task: &Task<'_>,
    ) -> Result<Outcomes, RunError> {
        let exact = case::find(group).is_some_and(Case::with_exact_times);
        let programs = self.options.programs.clone();
        let mut stage = Stage::build(*system, dir, programs, &self.options.ground, exact)?;
        let outcome = play(group, &mut stage, task);
        if outcome.is_err() {
            say(&stage.last_words());
        }
        outcome
    }

    fn cell(&mut self, case: &str, system: &str) -> Option<&mut Cell> {
        (self.cells.iter_mut()).find(|cell| cell.case == case && cell.system == system)
    }

    /// Whether a case is still measured on a system.
    fn is_open(&self, case: &str, system: &str) -> bool {
        (self.cells.iter())
            .any(|cell| cell.case == case && cell.system == system && cell.absent.is_none())
    }

    /// Notes why a system has no numbers, in one case or in all.
    fn give_up(&mut self, system: &str, case: Option<&str>, why: &Absent) {
        say(&format!("  {system}: left out ({})", in_words(why)));
        for cell in self.cells.iter_mut().filter(|cell| cell.system == system) {
            if case.is_none_or(|case| case == cell.case) && cell.absent.is_none() {
                cell.absent = Some(why.clone());
            }
        }
    }
}

fn describe(cell: &Cell, run: &result::Run) -> String {
    let unit = case::find(cell.case).map_or("", |case| case.unit);
    format!(
        "  {:<10} {:<12} {} {unit} (min / median / p99 / max of {}), sent {}, CPU {:.2} s, {:.1} MiB, load {:.1} {}",
        cell.case,
        cell.system,
        [
            run.spread.min,
            run.spread.median,
            run.spread.p99,
            run.spread.max
        ]
        .map(short)
        .join(" / "),
        run.spread.runs,
        case::bytes(run.sent as f64),
        run.cpu_s,
        run.memory_kib as f64 / 1024.0,
        run.load,
        run.note,
    )
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The kind of file system that a directory is on.
#[must_use]
pub fn file_system_of(dir: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    kind_of(&mounts, &dir).unwrap_or_else(|| "unknown".into())
}

/// `device place kind options …`, one a line; the longest place that is above `dir`, the last of these.
fn kind_of(mounts: &str, dir: &Path) -> Option<String> {
    let fields = mounts.lines().map(|line| {
        let mut words = line.split(' ').skip(1);
        (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        )
    });
    fields
        .filter(|(place, _)| dir.starts_with(place))
        .max_by_key(|(place, _)| place.len())
        .map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "a / ext4 rw\nb /mnt tmpfs rw\nc /mnt/data xfs rw\n";
        let kind = |dir: &str| kind_of(mounts, Path::new(dir));
        assert_eq!(kind("/mnt/data/x").as_deref(), Some("xfs"));
        assert_eq!(kind("/mnt/database").as_deref(), Some("tmpfs"));
        assert_eq!(kind("/srv").as_deref(), Some("ext4"));
    }
}
