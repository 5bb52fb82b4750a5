//! `cargo xtask …`: everything that is done with this repository, in Rust.
//!
//! It builds what is needed and hands over to the program that does the work, so that a
//! laptop and a build server run the same. It never changes the machine outside `target/`.

mod cargo;
mod dist;
mod servers;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, tests and shows haarb.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, about, long_about = None)]
struct CommandLine {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Builds haarb and shows it failing over: two servers, two switches, a client
    ///
    /// Everything lives in network namespaces that vanish with the program; root is not
    /// needed where user namespaces are allowed.
    Demo {
        /// Options of the demo: --json, --profile telecom|lan
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Runs every test: format, lints, unit, scenario, simulation, lab; ends with the totals
    Test {
        /// Leave out the tests that need network namespaces (they count as skipped)
        #[arg(long)]
        no_lab: bool,
    },
    /// Faults on a live pair, each with what must follow: NAME…, --all, --list
    ///
    /// `cargo xtask drill --help` shows the options of the laboratory; `--write-docs` makes
    /// docs/drills.md from this run.
    Drill {
        /// Names of drills, --all, --list, --json, --repeat N, --minutes M, --write-docs
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// The laboratory by hand: `up`, `servers`, `check`
    ///
    /// `servers` boots two whole Debian servers with systemd and installs haarb from its package; as root.
    Lab {
        /// What to do there; `cargo xtask lab --help` asks the laboratory itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Measures: `failover` beside keepalived and ucarp, `sync` beside rsync and lsyncd, in turn
    Bench {
        /// What to measure, and options; `cargo xtask bench failover --help` lists those of failover
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Simulates clusters from seeds: --seeds N, --seed S
    Sim {
        /// Options of the simulation
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Tries every sequence of events on a simulated pair: --depth N, --prefer, --json
    Search {
        /// Options of the search
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Makes the Debian package, the bill of materials and checksums in target/dist; --source, too
    Dist {
        #[command(flatten)]
        options: dist::Options,
    },
    /// Writes the generated pages (docs/rules.md) and expectations anew
    Gen {
        /// Only compare, and fail where one is out of date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().task {
        Task::Demo { options } => cargo::run_built("haarb-lab", "demo", &options),
        Task::Drill { options } => cargo::run_built("haarb-lab", "drill", &with_page(options)),
        Task::Lab { options } if options.first().is_some_and(|first| first == "servers") => {
            servers::run(&options)
        }
        Task::Lab { options } => cargo::run_built("haarb-lab", "", &options),
        Task::Bench { options } => cargo::run_bench(&options),
        Task::Sim { options } => cargo::run_pure("haarb-sim", &options),
        Task::Search { options } => cargo::run_pure("haarb-search", &options),
        Task::Test { no_lab } => test::run(no_lab),
        Task::Dist { options } => dist::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Gen { check } => cargo::generate(check),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says where the page of the drills is, whatever directory we are called from.
fn with_page(options: Vec<String>) -> Vec<String> {
    let page = cargo::root().join("docs/drills.md");
    options
        .into_iter()
        .map(|option| match option.as_str() {
            "--write-docs" => format!("--write-docs={}", page.display()),
            _ => option,
        })
        .collect()
}
