//! `haarb-lab`: the laboratory by hand.
//!
//! Moves itself into the sandbox before anything else; what is left to do afterwards is to read the
//! command line and to print.

mod drills;
mod machine;
mod options;
mod servers;
mod up;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use drills::Series;
use haarb_lab::{drill::run::LONG, roles, serve, server::Programs};
use options::RunOptions;

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
        /// How long the drills under lasting loss, flapping and load last [default: 10 s]
        #[arg(long, value_name = "M")]
        minutes: Option<f64>,
        /// Write the page of the drills from this run
        #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "docs/drills.md")]
        write_docs: Option<PathBuf>,
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
    /// Boots two whole Debian servers with systemd, installs haarb from its package, and gives you a shell
    Servers {
        /// Directory of the packages (`cargo xtask dist` makes them)
        #[arg(long, value_name = "DIR")]
        packages: PathBuf,
        /// The server in which the shell runs
        #[arg(long, default_value = "alpha", value_name = "NAME")]
        shell: String,
        /// Install and configure nothing: fresh servers
        #[arg(long)]
        bare: bool,
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
        Command::Check { json } => machine::check(&bin_dir, *json),
        Command::Drill { list: true, .. } => drills::list(),
        Command::Demo { run } => drills::run(programs, run, &drills::demo(), &Series::default()),
        Command::Drill {
            names,
            all,
            repeat,
            minutes,
            write_docs,
            run,
            ..
        } => {
            let series = Series {
                repeat: *repeat,
                long: minutes.map_or(Ok(LONG), |minutes| {
                    Duration::try_from_secs_f64(minutes * 60.0)
                        .with_context(|| format!("--minutes {minutes}"))
                })?,
                page: write_docs.clone(),
            };
            let drills = if *all {
                haarb_lab::drills::all()
            } else {
                drills::chosen(names)?
            };
            drills::run(programs, run, &drills, &series)
        }
        Command::Servers {
            packages,
            shell,
            bare,
        } => servers::servers(programs, packages, shell, *bare),
        Command::Up { shell, run } => up::up(programs, run, shell),
    }
}
