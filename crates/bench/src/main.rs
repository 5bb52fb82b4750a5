//! `haarb-bench`: the benchmarks by hand; `cargo xtask bench` builds everything and calls it.
//!
//! Like `haarb-lab` it moves itself into the sandbox, and plays the lab's internal roles.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
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
    sync::{
        self,
        case::{self, Case},
        stage::Ground,
    },
    system::{self, System},
};
use haarb_lab::{roles, sandbox, server::Programs, setup};

/// Measures haarb beside what people run today
///
/// Everything happens in namespaces that vanish with the program. Peers are used when they are
/// installed (keepalived and ucarp; rsync and lsyncd); otherwise the tables say so.
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
    /// Replicated directories: how soon a change is there, how fast, at which cost
    Sync(SyncOptions),
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
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct SyncOptions {
    /// Runs of each system in each case, in turn
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Only this system (may be given several times)
    #[arg(long, value_name = "SYSTEM", value_parser = parse_replica)]
    only: Vec<&'static sync::system::System>,
    /// Only this case (may be given several times); the long ones are run only when they are named
    #[arg(long, value_name = "CASE", value_parser = parse_case)]
    case: Vec<&'static Case>,
    /// Multiply sizes and counts by this; times are judged as they are
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = parse_scale)]
    scale: f64,
    /// Where the replicated directories lie: on a disk, not in memory [default: beside the binaries]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// What every benchmark takes: what is measured, and where the results go.
#[derive(Debug, clap::Args)]
struct Common {
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

impl Common {
    /// The programs under test, and our own.
    fn programs(&self) -> anyhow::Result<Programs> {
        let helper = std::env::current_exe().context("cannot find my own program file")?;
        let bin_dir = match &self.bin_dir {
            Some(dir) => dir
                .canonicalize()
                .with_context(|| format!("--bin-dir {}", dir.display()))?,
            None => helper.parent().map(PathBuf::from).unwrap_or_default(),
        };
        setup::check_binaries(&bin_dir)?;
        Ok(Programs { bin_dir, helper })
    }

    /// Where git is asked for the revision: above the page in `docs`.
    fn repository(&self) -> PathBuf {
        let repository = self.docs.parent().and_then(Path::parent);
        repository.map_or_else(|| PathBuf::from("."), PathBuf::from)
    }

    /// Says what came out: `report` is the part of the page that begins with `begin`. Fails where
    /// nothing was `measured`.
    fn tell(
        &self,
        results: &impl serde::Serialize,
        begin: &str,
        report: &str,
        measured: bool,
    ) -> anyhow::Result<ExitCode> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(results)?)?;
        } else {
            writeln!(out, "\n{report}")?;
        }
        if self.write_docs {
            page::write(&self.docs, begin, report)
                .with_context(|| format!("cannot write {}", self.docs.display()))?;
        }
        Ok(if measured {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn parse_replica(name: &str) -> Result<&'static sync::system::System, String> {
    sync::system::find(name).ok_or_else(|| format!("there is {}", sync::system::names()))
}

fn parse_case(name: &str) -> Result<&'static Case, String> {
    case::find(name).ok_or_else(|| format!("there is {}", case::all_names()))
}

fn parse_scale(text: &str) -> Result<f64, String> {
    let scale = text.parse().ok();
    (scale.filter(|scale| (0.001..=10.0).contains(scale))).ok_or_else(|| "0.001 to 10".into())
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
    let outcome = match CommandLine::parse().command {
        Command::Failover(options) => failover(&options),
        Command::Sync(options) => sync(&options),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "haarb-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn sync(options: &SyncOptions) -> anyhow::Result<ExitCode> {
    let programs = options.common.programs()?;
    let counts = Counts::new(options.runs, Some(options.runs));
    let peers = [
        ("rsync", "--version"),
        ("lsyncd", "--version"),
        ("ssh", "-V"),
    ];
    let repository = options.common.repository();
    let watch = Watch::start(&programs.bin_dir, &repository, counts, &peers);
    let above = options.dir.clone();
    let above = above.unwrap_or_else(|| programs.bin_dir.clone());
    let place = above.join("bench-sync");
    let ground = Ground::new(&place).with_context(|| format!("cannot use {}", place.display()))?;
    let sandbox = sandbox::enter(&[&programs.bin_dir, &options.common.docs, &place])?;
    let named = |case: &Case| options.case.iter().any(|wanted| wanted.name == case.name);
    let chosen = |case: &Case| {
        if options.case.is_empty() {
            !case.long
        } else {
            named(case)
        }
    };
    let systems = sync::system::ALL.iter();
    let results = sync::measure(
        sync::Options {
            systems: systems
                .filter(|system| options.only.is_empty() || options.only.contains(system))
                .copied()
                .collect(),
            cases: case::ALL.into_iter().filter(chosen).collect(),
            runs: options.runs,
            scale: options.scale,
            programs,
            dir: sandbox.dir.join("bench"),
            file_system: sync::file_system_of(&place),
            ground,
        },
        watch,
    );
    let measured = results.cells.iter().any(|cell| !cell.runs.is_empty());
    let report = sync::page::report(&results);
    options
        .common
        .tell(&results, sync::page::BEGIN, &report, measured)
}

fn failover(options: &FailoverOptions) -> anyhow::Result<ExitCode> {
    let programs = options.common.programs()?;
    let counts = Counts::new(options.runs, options.slow_runs);
    let peers = [("keepalived", "--version"), ("ucarp", "--help")];
    let repository = options.common.repository();
    let watch = Watch::start(&programs.bin_dir, &repository, counts, &peers);
    let sandbox = sandbox::enter(&[&programs.bin_dir, &options.common.docs])?;

    let chosen = |system: &&System| options.only.is_empty() || options.only.contains(system);
    let results = failover::measure(
        failover::Options {
            systems: system::ALL.iter().filter(chosen).copied().collect(),
            faults: (fault::ALL.into_iter())
                .filter(|fault| options.fault.is_empty() || options.fault.contains(fault))
                .collect(),
            counts,
            with_cost: !options.without_cost,
            programs,
            dir: sandbox.dir.join("bench"),
        },
        watch,
    );
    let measured = results.cells.iter().any(|cell| !cell.samples.is_empty());
    let report = page::report(&results);
    options
        .common
        .tell(&results, page::BEGIN, &report, measured)
}
