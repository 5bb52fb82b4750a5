//! `haarb-lab`: the laboratory by hand.
//!
//! Moves itself into the sandbox before anything else; what is left to do afterwards is to read the
//! command line and to print.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use haarb_lab::{
    check,
    clock::Stamp,
    cluster::{self, Goal},
    drill::{self, Drill, verdict::Outcome},
    drills,
    live::Live,
    plan::Plan,
    roles, sandbox,
    segment::Segment,
    serve,
    server::Programs,
    setup::{self, ClusterOptions},
    table,
};

/// Servers, switches and clients on this machine, with real faults, to try haarb
///
/// Everything is made of namespaces that vanish with the program. Root is not needed where user
/// namespaces are allowed; `haarb-lab check` tells.
#[derive(Debug, Parser)]
#[command(name = "haarb-lab", version)]
struct CommandLine {
    /// Directory of the binaries under test [default: the directory of haarb-lab itself]
    #[arg(long, global = true, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows a pair of servers failing over, live, and ends with a table of what the clients saw
    Demo {
        #[command(flatten)]
        run: RunOptions,
    },
    /// Runs drills by name, any number of times, and prints the spread of the gaps
    Drill {
        /// Names of drills; see --list
        #[arg(value_name = "NAME", required_unless_present_any = ["all", "list"])]
        names: Vec<String>,
        /// Run every drill
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// List the drills and end
        #[arg(long)]
        list: bool,
        /// How often each is run
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        repeat: u32,
        #[command(flatten)]
        run: RunOptions,
    },
    /// Starts a pair of servers and gives you a shell in one of them, or at the client
    Up {
        /// Where the shell runs: a server (alpha, beta) or `client`
        #[arg(long, default_value = "alpha", value_name = "NAME")]
        shell: String,
        #[command(flatten)]
        run: RunOptions,
    },
    /// Says whether this machine and this user can run the lab, and what to do when not
    Check {
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// The measured service (started by the lab)
    #[command(hide = true)]
    Serve(serve::Options),
}

#[derive(Debug, Clone, clap::Args)]
struct RunOptions {
    /// Times of the cluster
    #[arg(long, value_enum, default_value_t = Profile::Telecom)]
    profile: Profile,
    /// Leave the replicated directory and its writer out
    #[arg(long)]
    without_files: bool,
    /// Print the results as JSON on standard output; the live view goes to standard error
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Profile {
    /// 10 ms probes, dead after 30 ms
    Telecom,
    /// 100 ms probes, dead after 400 ms
    Lan,
}

fn main() -> ExitCode {
    if let Some(code) = roles::dispatch() {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let arguments = CommandLine::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "haarb-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &CommandLine) -> anyhow::Result<ExitCode> {
    let helper = std::env::current_exe().context("cannot find my own program file")?;
    let bin_dir = match &arguments.bin_dir {
        Some(dir) => dir
            .canonicalize()
            .with_context(|| format!("--bin-dir {}", dir.display()))?,
        None => helper.parent().map(PathBuf::from).unwrap_or_default(),
    };
    let programs = Programs {
        bin_dir: bin_dir.clone(),
        helper,
    };
    match &arguments.command {
        Command::Serve(options) => serve::run(options)
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        Command::Check { json } => check_machine(&bin_dir, *json),
        Command::Drill { list: true, .. } => list_drills(),
        Command::Demo { run } => {
            let drills: Vec<Drill> = drills::DEMO
                .iter()
                .filter_map(|name| drills::find(name))
                .collect();
            run_drills(programs, run, &drills, 1)
        }
        Command::Drill {
            names,
            all,
            repeat,
            run,
            ..
        } => {
            let drills = if *all { drills::all() } else { chosen(names)? };
            run_drills(programs, run, &drills, *repeat)
        }
        Command::Up { shell, run } => up(programs, run, shell),
    }
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<Drill>> {
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

fn list_drills() -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    for drill in drills::all() {
        let after = drill
            .after
            .map_or_else(String::new, |after| format!(" (after {after})"));
        writeln!(out, "{:<20} {}{after}", drill.name, drill.what)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check_machine(bin_dir: &std::path::Path, json: bool) -> anyhow::Result<ExitCode> {
    let sandbox = sandbox::enter(&[bin_dir]);
    let findings = check::look(&sandbox, bin_dir);
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        for finding in &findings {
            let word = match (finding.there, finding.needed) {
                (true, _) => "ok",
                (false, true) => "MISSING",
                (false, false) => "without",
            };
            writeln!(out, "{word:<8} {:<20} {}", finding.what, finding.text)?;
        }
    }
    let usable = findings
        .iter()
        .all(|finding| finding.there || !finding.needed);
    Ok(if usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Enters the sandbox and builds the pair in it, all servers off.
fn build(programs: Programs, options: &RunOptions) -> anyhow::Result<Segment> {
    setup::check_binaries(&programs.bin_dir)?;
    let sandbox = sandbox::enter(&[&programs.bin_dir])?;
    let profile = match options.profile {
        Profile::Telecom => "telecom",
        Profile::Lan => "lan",
    };
    let options = ClusterOptions {
        profile: profile.into(),
        files: !options.without_files,
    };
    Ok(setup::build(
        Plan::pair(),
        sandbox.dir.join("segment"),
        programs,
        &options,
    )?)
}

fn run_drills(
    programs: Programs,
    options: &RunOptions,
    drills: &[Drill],
    repeat: u32,
) -> anyhow::Result<ExitCode> {
    let start = Stamp::now();
    let mut lab = build(programs, options)?;
    let mut live = Live::start(&lab, options.json);
    let outcomes = series(&mut lab, &mut live, drills, repeat);
    drop(live);
    let outcomes = outcomes.inspect_err(|_| print_logs(&lab))?;
    let failed = outcomes.iter().any(|outcome| !outcome.passed);
    if failed {
        print_logs(&lab);
    }
    let took_s = Stamp::now().ms_since(start) / 1e3;
    let mut out = io::stdout().lock();
    if options.json {
        let result = serde_json::json!({
            "passed": !failed,
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
) -> anyhow::Result<Vec<Outcome>> {
    live.doing("starting the servers");
    live.say("two servers, two switches and a client are built; the servers are switched on");
    drill::run::start(lab, |lab| live.follow(lab))?;
    let mut outcomes = Vec::new();
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
            outcomes.push(outcome);
            previous = Some(drill.name);
        }
    }
    Ok(outcomes)
}

fn print_logs(lab: &Segment) {
    for server in 0..lab.plan().servers.len() {
        let _ = writeln!(io::stderr(), "{}", lab.logs(server, 60));
    }
}

/// A segment for a person, with a shell in one of its machines.
fn up(programs: Programs, options: &RunOptions, shell: &str) -> anyhow::Result<ExitCode> {
    let plan = Plan::pair();
    let server = plan.server(shell);
    anyhow::ensure!(
        server.is_some() || shell == "client",
        "no machine called {shell}; there is {}, client",
        plan.servers.join(", ")
    );
    let mut lab = build(programs, options)?;
    for server in 0..lab.plan().servers.len() {
        lab.power_on(server)?;
    }
    let mut err = io::stderr();
    writeln!(err, "waiting for the pair to settle ...")?;
    match cluster::reach(&lab, Goal::Settled, Duration::from_secs(60)) {
        Ok(_) => writeln!(err, "the pair runs")?,
        Err(error) => writeln!(err, "the pair has not settled: {error}")?,
    }
    writeln!(
        err,
        "this shell is on {shell}; try `haarb status`; everything vanishes when it ends"
    )?;
    let program = std::env::var("SHELL")
        .ok()
        .filter(|shell| std::path::Path::new(shell).exists());
    let program = program.unwrap_or_else(|| "/bin/sh".into());
    let helper = &lab.programs().helper;
    let mut command = match server {
        Some(server) => lab.server(server).command(helper, &[&program])?,
        None => {
            let mut command = std::process::Command::new(helper);
            command
                .args([roles::MARK, "enter", "-"])
                .arg(lab.client_netns().path())
                .arg(&program);
            command
        }
    };
    let status = command
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    Ok(ExitCode::from(
        u8::try_from(status.code().unwrap_or(1)).unwrap_or(1),
    ))
}
