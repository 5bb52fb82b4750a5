//! `haarb-bench`: the benchmarks by hand; `cargo xtask bench` builds everything and calls it.
//!
//! Like `haarb-lab` it moves itself into the sandbox, and plays the lab's internal roles.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use haarb_bench::{
    conditions::Watch,
    failover,
    fault::{self, Fault},
    page,
    schedule::Counts,
    system::{self, System},
};
use haarb_lab::{roles, sandbox, server::Programs, setup};

/// Measures haarb beside what people run today
///
/// Everything happens in namespaces that vanish with the program. Peers are used when they are
/// installed (keepalived, ucarp); otherwise the tables say so.
#[derive(Debug, Parser)]
#[command(name = "haarb-bench", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Failover: gap, double activity, lost requests, CPU time and memory
    Failover(FailoverOptions),
}

#[derive(Debug, clap::Args)]
struct FailoverOptions {
    /// Runs of each system for each fault; each run of one is followed by a run of the next
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Runs of what takes many seconds [default: a fifth of --runs, at least 3 and at most 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slow_runs: Option<u32>,
    /// Only this system (may be given several times)
    #[arg(long, value_name = "SYSTEM", value_parser = parse_system)]
    only: Vec<&'static System>,
    /// Only this fault (may be given several times)
    #[arg(long, value_name = "NAME", value_parser = parse_fault)]
    fault: Vec<Fault>,
    /// Leave CPU time and memory out
    #[arg(long)]
    without_cost: bool,
    /// Print everything, every single run too, as JSON
    #[arg(long)]
    json: bool,
    /// Write the tables into docs/benchmarks.md
    #[arg(long)]
    write_docs: bool,
    /// That page
    #[arg(
        long,
        value_name = "FILE",
        default_value = "docs/benchmarks.md",
        hide = true
    )]
    docs: PathBuf,
    /// Directory of the binaries under test [default: the directory of haarb-bench itself]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
}

fn parse_system(name: &str) -> Result<&'static System, String> {
    system::find(name).ok_or_else(|| format!("there is {}", page::system_names()))
}

fn parse_fault(name: &str) -> Result<Fault, String> {
    Fault::find(name).ok_or_else(|| {
        let names: Vec<&str> = fault::ALL.iter().map(|fault| fault.name()).collect();
        format!("there is {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    if let Some(code) = roles::dispatch() {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let Command::Failover(options) = CommandLine::parse().command;
    match failover(&options) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "haarb-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn failover(options: &FailoverOptions) -> anyhow::Result<ExitCode> {
    let helper = std::env::current_exe().context("cannot find my own program file")?;
    let bin_dir = match &options.bin_dir {
        Some(dir) => dir
            .canonicalize()
            .with_context(|| format!("--bin-dir {}", dir.display()))?,
        None => helper.parent().map(PathBuf::from).unwrap_or_default(),
    };
    setup::check_binaries(&bin_dir)?;
    let repository = options.docs.parent().and_then(|dir| dir.parent());
    let repository = repository.map_or_else(|| PathBuf::from("."), PathBuf::from);
    let counts = Counts::new(options.runs, options.slow_runs);
    let watch = Watch::start(&bin_dir, &repository, counts);
    let sandbox = sandbox::enter(&[&bin_dir, &options.docs])?;

    let chosen = |system: &&System| options.only.is_empty() || options.only.contains(system);
    let results = failover::measure(
        failover::Options {
            systems: system::ALL.iter().filter(chosen).copied().collect(),
            faults: (fault::ALL.into_iter())
                .filter(|fault| options.fault.is_empty() || options.fault.contains(fault))
                .collect(),
            counts,
            with_cost: !options.without_cost,
            programs: Programs { bin_dir, helper },
            dir: sandbox.dir.join("bench"),
        },
        watch,
    );
    let mut out = io::stdout().lock();
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&results)?)?;
    } else {
        writeln!(out, "\n{}", page::report(&results))?;
    }
    if options.write_docs {
        page::write(&options.docs, &results)
            .with_context(|| format!("cannot write {}", options.docs.display()))?;
    }
    let measured = results.cells.iter().any(|cell| !cell.samples.is_empty());
    Ok(if measured {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
