//! What the daemons of one server cost: all systems side by side, idle and with every core busy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use haarb_lab::{
    clock::Stamp,
    cost::{Usage, cpu_share, usage},
    error::LabError,
    plan::ServerId,
};
use serde::Serialize;

use crate::pair::Pair;

/// How long each state is measured.
pub const PERIOD: Duration = Duration::from_secs(10);

/// CPU shares and memory of the daemons of one server.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ServerCost {
    /// Of one core, percent.
    pub cpu_percent: f64,
    /// MiB; shared pages count in parts.
    pub memory_mib: f64,
    /// Processes.
    pub processes: usize,
}

/// One system.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CostRow {
    /// Name of the system.
    pub system: &'static str,
    /// Its name in the tables.
    pub title: &'static str,
    /// The active server, nothing else going on.
    pub idle_active: ServerCost,
    /// The standby at the same time.
    pub idle_standby: ServerCost,
    /// The active server while every core of the machine is kept busy at normal priority.
    pub busy_active: ServerCost,
    /// How often a virtual IP moved while the cores were busy: false switchovers.
    pub moves_when_busy: usize,
}

/// Measures all pairs at once; their clients are silent. Pairs that do not settle are left out.
#[must_use]
pub fn measure(pairs: &mut [Pair]) -> Vec<CostRow> {
    let settled: Vec<(&Pair, ServerId)> = pairs
        .iter_mut()
        .filter_map(|pair| {
            let active = pair.settle().ok()?;
            pair.lab().client().pause(true);
            Some((&*pair, active))
        })
        .collect();
    let idle = sample(&settled);
    let began = Stamp::now();
    let busy = busy_cores();
    let loaded = sample(&settled);
    busy.store(true, Ordering::Relaxed);
    let rows = settled.iter().zip(idle).zip(loaded);
    rows.filter_map(|(((pair, _), idle), loaded)| {
        let (idle, loaded) = (idle.ok()?, loaded.ok()?);
        Some(CostRow {
            system: pair.system().name,
            title: pair.system().title,
            idle_active: idle[0],
            idle_standby: idle[1],
            busy_active: loaded[0],
            moves_when_busy: pair.lab().vip_events(began).len(),
        })
    })
    .collect()
}

/// The costs of active and standby of every pair over one [`PERIOD`].
fn sample(pairs: &[(&Pair, ServerId)]) -> Vec<Result<[ServerCost; 2], LabError>> {
    let read = || -> Vec<(Stamp, Result<[Usage; 2], LabError>)> {
        pairs
            .iter()
            .map(|(pair, active)| {
                let of = |server| pair.daemons(server).map(|pids| usage(&pids));
                let both = of(*active).and_then(|a| Ok([a, of(pair.other(*active))?]));
                (Stamp::now(), both)
            })
            .collect()
    };
    let before = read();
    thread::sleep(PERIOD);
    let cost = |((t0, before), (t1, after)): ((Stamp, _), (Stamp, _))| {
        let (before, after): ([Usage; 2], [Usage; 2]) = (before?, after?);
        Ok([0, 1].map(|place| ServerCost {
            cpu_percent: 100.0 * cpu_share(&before[place], &after[place], t1.since(t0)),
            memory_mib: after[place].memory_kib as f64 / 1024.0,
            processes: after[place].processes,
        }))
    };
    before.into_iter().zip(read()).map(cost).collect()
}

/// Keeps every core busy until the flag is set.
fn busy_cores() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    stop
}
