//! `haarb-lab demo` and `haarb-lab drill`: drills in a row, the live view, the results.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use haarb_lab::{
    clock::Stamp,
    drill::{self, Drill, verdict::Outcome},
    drills,
    live::Live,
    segment::Segment,
    server::Programs,
    table,
};

use crate::options::{RunOptions, build};

/// The drills of the demo.
pub(crate) fn demo() -> Vec<Drill> {
    drills::DEMO
        .iter()
        .filter_map(|name| drills::find(name))
        .collect()
}

pub(crate) fn chosen(names: &[String]) -> anyhow::Result<Vec<Drill>> {
    names
        .iter()
        .map(|name| {
            let known = || {
                drills::all()
                    .iter()
                    .map(|drill| drill.name)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            drills::find(name)
                .with_context(|| format!("no drill called {name}; there is {}", known()))
        })
        .collect()
}

pub(crate) fn list() -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    for drill in drills::all() {
        let after = drill
            .after
            .map_or_else(String::new, |after| format!(" (after {after})"));
        writeln!(out, "{:<20} {}{after}", drill.name, drill.what)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs drills, shows them, prints what came of them; the status tells whether all passed.
pub(crate) fn run(
    programs: Programs,
    options: &RunOptions,
    drills: &[Drill],
    repeat: u32,
) -> anyhow::Result<ExitCode> {
    let start = Stamp::now();
    let mut lab = build(programs, options)?;
    let mut live = Live::start(&lab, options.json);
    let mut outcomes = Vec::new();
    let dir = options.trace_dir.as_deref();
    let ended = series(&mut lab, &mut live, drills, repeat, dir, &mut outcomes);
    drop(live);
    let failed = ended.is_err() || outcomes.iter().any(|outcome| !outcome.passed);
    if failed {
        print_logs(&lab);
    }
    let took_s = Stamp::now().ms_since(start) / 1e3;
    let mut out = io::stdout().lock();
    if options.json {
        let result = serde_json::json!({
            "passed": !failed,
            "error": ended.as_ref().err().map(|error| format!("{error:#}")),
            "took_s": took_s,
            "client_realtime": lab.client().is_realtime(),
            "drills": outcomes,
            "spread": table::spreads(&outcomes),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&result)?)?;
    } else {
        if repeat == 1 {
            writeln!(out, "\n{}", table::table(&outcomes))?;
        } else {
            writeln!(
                out,
                "\n{}\n{}",
                table::spread_table(&outcomes),
                table::totals(&outcomes)
            )?;
        }
        writeln!(out, "{took_s:.0} s in all")?;
    }
    // What was done until then has been printed; the reason why it is not all comes last.
    ended?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Switches everything on and runs the drills one after another.
fn series(
    lab: &mut Segment,
    live: &mut Live,
    drills: &[Drill],
    repeat: u32,
    trace_dir: Option<&Path>,
    outcomes: &mut Vec<Outcome>,
) -> anyhow::Result<()> {
    live.doing("starting the servers");
    live.say("two servers, two switches and a client are built; the servers are switched on");
    drill::run::start(lab, |lab| live.follow(lab))?;
    let mut previous = None;
    for _ in 0..repeat {
        for drill in drills {
            live.doing(format!("preparing: {}", drill.what));
            drill::run::prepare(lab, drill, previous)?;
            live.follow(lab)?;
            live.doing(drill.what);
            live.say(format!("== {}", drill.what));
            let outcome = drill::run::run(lab, drill)?;
            live.follow(lab)?;
            let verdict = if outcome.passed { "passed" } else { "FAILED" };
            let saw = table::what_clients_saw(&outcome);
            live.say(format!("   {verdict}: the clients saw {saw}"));
            for check in outcome.checks.iter().filter(|check| !check.met) {
                live.say(format!(
                    "   expected that {}; found: {}",
                    check.what, check.found
                ));
            }
            if let Some(dir) = trace_dir {
                write_trace(lab, dir, outcomes.len() + 1, &outcome)?;
            }
            outcomes.push(outcome);
            previous = Some(drill.name);
        }
    }
    Ok(())
}

/// What the client saw in one drill, tick by tick.
fn write_trace(lab: &Segment, dir: &Path, number: usize, outcome: &Outcome) -> anyhow::Result<()> {
    let Some(fault) = outcome.fault else {
        return Ok(());
    };
    let path = dir.join(format!("{number:03}-{}.csv", outcome.name));
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut file = BufWriter::new(File::create(&path)?);
        let from = fault.began.minus(drill::run::LEAD_IN);
        let trace = lab.client().cut(from, Stamp::now());
        trace.write_csv(&mut file, fault.began, lab.plan())?;
        file.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn print_logs(lab: &Segment) {
    for server in 0..lab.plan().servers.len() {
        let _ = writeln!(io::stderr(), "{}", lab.logs(server, 60));
    }
}
