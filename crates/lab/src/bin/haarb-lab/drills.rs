//! `haarb-lab demo` and `haarb-lab drill`: drills in a row, the live view, the results.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use haarb_lab::{
    clock::Stamp,
    drill::{self, Drill, Ground, run::LONG, verdict::Outcome},
    drills,
    live::Live,
    page::{self, Conditions},
    segment::Segment,
    server::Programs,
    table,
};

use crate::options::{RunOptions, build_on, enter};

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
        writeln!(out, "{:<36} {}{after}", drill.name, drill.what)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How drills are run.
pub(crate) struct Series {
    /// How often each.
    pub(crate) repeat: u32,
    /// Duration of the long ones.
    pub(crate) long: Duration,
    /// The page to write.
    pub(crate) page: Option<PathBuf>,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            repeat: 1,
            long: LONG,
            page: None,
        }
    }
}

/// Runs drills, shows them, prints what came of them; the status tells whether all passed.
pub(crate) fn run(
    programs: Programs,
    options: &RunOptions,
    drills: &[Drill],
    series: &Series,
) -> anyhow::Result<ExitCode> {
    let start = Stamp::now();
    let sandbox = enter(&programs, &[])?;
    let mut outcomes = Vec::new();
    let mut realtime = true;
    let mut ended = Ok(());
    // A ground at a time: each has a segment of its own.
    for ground in Ground::ALL {
        let here: Vec<Drill> = drills
            .iter()
            .filter(|drill| drill.ground == ground)
            .filter(|drill| sandbox.privileged || !drill.needs_root())
            .cloned()
            .collect();
        if here.is_empty() || ended.is_err() {
            continue;
        }
        let (plan, programs) = (ground.plan(), programs.clone());
        let mut lab = match build_on(&sandbox, ground.name(), plan, programs, options) {
            Ok(lab) => lab,
            // What was done until then is still to be printed.
            Err(error) => {
                ended = Err(error);
                continue;
            }
        };
        let mut live = Live::start(&lab, options.json);
        let known = outcomes.len();
        let dir = options.trace_dir.as_deref();
        ended = run_here(&mut lab, &mut live, &here, series, dir, &mut outcomes);
        drop(live);
        realtime &= lab.client().is_realtime();
        if ended.is_err() || outcomes[known..].iter().any(|outcome| !outcome.passed) {
            print_logs(&lab);
        }
    }
    let failed = ended.is_err() || outcomes.iter().any(|outcome| !outcome.passed);
    let took_s = Stamp::now().ms_since(start) / 1e3;
    let mut out = io::stdout().lock();
    if options.json {
        let result = serde_json::json!({
            "passed": !failed,
            "error": ended.as_ref().err().map(|error| format!("{error:#}")),
            "took_s": took_s,
            "client_realtime": realtime,
            "drills": outcomes,
            "spread": table::spreads(&outcomes),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&result)?)?;
    } else {
        if series.repeat == 1 {
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
    if let Some(path) = &series.page {
        let profile = options.profile.name();
        let conditions = Conditions::here(profile, series.repeat, series.long, realtime);
        std::fs::write(path, page::page(&outcomes, &conditions))
            .with_context(|| format!("cannot write {}", path.display()))?;
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
fn run_here(
    lab: &mut Segment,
    live: &mut Live,
    drills: &[Drill],
    series: &Series,
    trace_dir: Option<&Path>,
    outcomes: &mut Vec<Outcome>,
) -> anyhow::Result<()> {
    live.doing("starting the servers");
    live.say("two servers, two switches and a client are built; the servers are switched on");
    drill::run::start(lab, |lab| live.follow(lab))?;
    let mut previous = None;
    for _ in 0..series.repeat {
        for drill in drills {
            live.doing(format!("preparing: {}", drill.what));
            drill::whole::prepare(lab, drill, previous, series.long)?;
            live.follow(lab)?;
            live.doing(drill.what);
            live.say(format!("== {}: {}", drill.name, drill.what));
            let outcome = drill::run::run_for(lab, drill, series.long)?;
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
