//! The failover benchmark: builds the pairs, runs the schedule, collects.
//!
//! One system that fails here never spoils the others: what went wrong becomes a line of its cells.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use haarb_lab::{server::Programs, table::Spread};

use crate::{
    conditions::{Watch, installed},
    cost,
    fault::Fault,
    pair::Pair,
    result::{Absent, Cell, Results, Sample},
    run,
    schedule::Counts,
    system::{Stack, System},
};

/// A system that fails this often in a row is given up.
const FAILURES_MAX: usize = 3;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Systems, in the order of the tables.
    pub systems: Vec<System>,
    /// Faults, in the order of the tables.
    pub faults: Vec<Fault>,
    /// How often.
    pub counts: Counts,
    /// Also CPU time and memory.
    pub with_cost: bool,
    /// The programs under test.
    pub programs: Programs,
    /// An empty directory for the servers' disks.
    pub dir: PathBuf,
}

/// Everything at work.
struct Bench {
    options: Options,
    pairs: Vec<Pair>,
    cells: Vec<Cell>,
}

/// Measures everything. Progress goes to standard error.
#[must_use]
pub fn measure(options: Options, watch: Watch) -> Results {
    let mut bench = Bench::new(options);
    bench.start_pairs();
    for round in 0..bench.options.counts.runs {
        say(&format!(
            "round {} of {}",
            round + 1,
            bench.options.counts.runs
        ));
        for fault in bench.options.faults.clone() {
            bench.round(fault, round);
        }
    }
    let costs = if bench.options.with_cost {
        say("cost, idle and with busy cores");
        cost::measure(&mut bench.pairs)
    } else {
        Vec::new()
    };
    bench.finish(watch, costs)
}

impl Bench {
    fn new(options: Options) -> Self {
        let cell = |system: &System, fault: Fault| Cell {
            system: system.name,
            title: system.title,
            fault: fault.name(),
            samples: Vec::new(),
            failed: Vec::new(),
            absent: (!system.takes(fault)).then_some(Absent::NotTried),
        };
        let cells = (options.faults.iter())
            .flat_map(|fault| options.systems.iter().map(|system| cell(system, *fault)))
            .collect();
        Self {
            options,
            pairs: Vec::new(),
            cells,
        }
    }

    /// Switches a pair on for every system that is there.
    fn start_pairs(&mut self) {
        for system in self.options.systems.clone() {
            if let Some(why) = missing(&system) {
                self.give_up(system.name, &why);
                continue;
            }
            // What a busy machine spoils once may work the second time.
            let start = |attempt: &str| {
                let dir = self.options.dir.join(attempt);
                Pair::start(system, &dir, self.options.programs.clone())
            };
            match start("first").or_else(|_| start("second")) {
                Ok(pair) => self.pairs.push(pair),
                Err(error) => self.give_up(system.name, &Absent::Fails(error.to_string())),
            }
        }
    }

    /// One run of every system that is due.
    fn round(&mut self, fault: Fault, round: u32) {
        let mut given_up = Vec::new();
        for pair in &mut self.pairs {
            let system = *pair.system();
            if !system.takes(fault) || !self.options.counts.is_due(&system, fault, round) {
                continue;
            }
            let outcome = run::run(pair, fault);
            let cell = (self.cells.iter_mut())
                .find(|cell| cell.system == system.name && cell.fault == fault.name());
            let Some(cell) = cell else { continue };
            match outcome {
                Ok(sample) => {
                    say(&describe(cell, &sample));
                    cell.samples.push(sample);
                }
                Err(error) => {
                    say(&format!("  {} {}: {error}", fault.name(), system.name));
                    cell.failed.push(error.to_string());
                    if cell.failed.len() >= FAILURES_MAX && cell.samples.is_empty()
                        || pair.restart().is_err()
                    {
                        say(&pair.last_words());
                        given_up.push((system.name, error.to_string()));
                    }
                }
            }
        }
        for (name, why) in given_up {
            self.pairs.retain(|pair| pair.system().name != name);
            self.give_up(name, &Absent::Fails(why));
        }
    }

    /// Notes why a system has no (more) numbers.
    fn give_up(&mut self, system: &str, why: &Absent) {
        say(&format!("  {system}: left out ({})", in_words(why)));
        for cell in self.cells.iter_mut().filter(|cell| cell.system == system) {
            if cell.samples.is_empty() && cell.absent.is_none() {
                cell.absent = Some(why.clone());
            }
        }
    }

    fn finish(self, watch: Watch, costs: Vec<cost::CostRow>) -> Results {
        let mut conditions = watch.finish();
        conditions.client_realtime =
            (self.pairs.iter()).all(|pair| pair.lab().client().is_realtime());
        conditions.stalls = Spread::of(
            (self.cells.iter())
                .flat_map(|cell| cell.samples.iter().map(|sample| sample.stall_ms))
                .collect(),
        );
        Results {
            conditions,
            cells: self.cells,
            costs,
        }
    }
}

/// Why a system cannot be tried at all; `None` when it can.
fn missing(system: &System) -> Option<Absent> {
    let command = system.command()?;
    let Some(path) = installed(command) else {
        return Some(Absent::NotInstalled);
    };
    if !in_every_server(&path) {
        let text = format!(
            "{} is not in a directory that servers of the lab share",
            path.display()
        );
        return Some(Absent::Fails(text));
    }
    let needs_ip = matches!(system.stack, Stack::Ucarp { .. });
    (needs_ip && installed("ip").is_none())
        .then(|| Absent::Fails("its scripts need the command ip".into()))
}

/// Servers of the lab share the machine's system directories and nothing else.
fn in_every_server(path: &Path) -> bool {
    ["/usr", "/bin", "/sbin"]
        .iter()
        .any(|dir| path.starts_with(dir))
}

/// Why there is no number, for people.
#[must_use]
pub fn in_words(absent: &Absent) -> String {
    match absent {
        Absent::NotInstalled => "not installed".into(),
        Absent::Fails(why) => format!("does not work here: {why}"),
        Absent::NotTried => "not tried".into(),
    }
}

fn describe(cell: &Cell, sample: &Sample) -> String {
    let gap = sample
        .gap_ms
        .map_or_else(|| "no takeover".into(), |gap| format!("gap {gap:.1} ms"));
    format!(
        "  {:<11} {:<16} {gap}, dual-active {:.1} ms, {} lost, stall {:.1} ms",
        cell.fault, cell.system, sample.dual_active_ms, sample.lost, sample.stall_ms
    )
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
