//! `haarb-search`: tries every sequence of events on a pair and reports what it found.
//!
//! The exit code is a failure where two servers offered a virtual IP without a residual
//! case, where a mended pair did not come right, or where the time was not enough.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use haarb_model::{Prefer, Span, Timing};
use haarb_search::events::Alphabet;
use haarb_search::walk::{Plan, search};
use haarb_search::{Start, report, shortened};
use haarb_sim::options::Options;

/// Tries every sequence of events on a simulated pair, with the real decision
///
/// After each event the next one follows at once, in the middle of a detection, or when all
/// has settled. States that are alike are visited once.
#[derive(Debug, Parser)]
#[command(name = "haarb-search", version)]
struct Arguments {
    /// How many events at most
    #[arg(long, default_value_t = 2)]
    depth: usize,
    /// Which events: `core` leaves out single daemons, firewalls, maintenance and services
    #[arg(long, value_enum, default_value_t = Events::Full)]
    events: Events,
    /// What the reserve prefers where its data may be old
    #[arg(long, value_enum, default_value_t = Preferred::Availability)]
    prefer: Preferred,
    /// The times of the pair
    #[arg(long, value_enum, default_value_t = Profile::Telecom)]
    profile: Profile,
    /// The reserve has no service
    #[arg(long)]
    no_services: bool,
    /// The reserve has no directory
    #[arg(long)]
    no_directories: bool,
    /// The switches have no addresses to ask
    #[arg(long)]
    no_switch_addresses: bool,
    /// Waits between events, in milliseconds, besides "none" and "until settled"
    /// [default: half of dead-after]
    #[arg(long, value_delimiter = ',')]
    waits: Option<Vec<u64>>,
    /// Where sequences begin; may be repeated [default: all]
    #[arg(long, value_enum)]
    from: Vec<From>,
    /// Also sequences that are the mirror image of another: networks exchanged
    #[arg(long)]
    no_mirror: bool,
    /// No further level is begun after so many seconds
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Threads [default: one per processor]
    #[arg(long)]
    jobs: Option<usize>,
    /// The report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Events {
    Core,
    Full,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preferred {
    Availability,
    Consistency,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    Telecom,
    Lan,
    Wan,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    Settled,
    Starting,
    Dark,
}

impl Arguments {
    fn plan(&self) -> Plan {
        let mut options = Options::pair();
        (options.timing, options.profile) = match self.profile {
            Profile::Telecom => (Timing::telecom(), "telecom"),
            Profile::Lan => (Timing::lan(), "lan"),
            Profile::Wan => (Timing::wan(), "wan"),
        };
        options.prefer = match self.prefer {
            Preferred::Availability => Prefer::Availability,
            Preferred::Consistency => Prefer::Consistency,
        };
        options.services = !self.no_services;
        options.directories = !self.no_directories;
        options.switch_answers = !self.no_switch_addresses;
        let options = shortened(options);
        let waits = match &self.waits {
            Some(list) => list.iter().map(|ms| Span::from_millis(*ms)).collect(),
            None => vec![options.timing.dead_after.part(2)],
        };
        let starts = if self.from.is_empty() {
            Start::ALL.to_vec()
        } else {
            let start = |from: &From| match from {
                From::Settled => Start::Settled,
                From::Starting => Start::Starting,
                From::Dark => Start::Dark,
            };
            self.from.iter().map(start).collect()
        };
        Plan {
            options,
            depth: self.depth,
            alphabet: match self.events {
                Events::Core => Alphabet::Core,
                Events::Full => Alphabet::Full,
            },
            starts,
            waits,
            mirror: !self.no_mirror,
            at_most: Duration::from_secs(self.seconds),
            jobs: self.jobs.unwrap_or_else(|| {
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
            }),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = arguments.plan();
    let began = Instant::now();
    let result = match search(&plan) {
        Ok(result) => result,
        Err(error) => {
            eprintln!("haarb-search: an event that the simulation does not know: {error}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.json {
        println!("{:#}", report::json(&plan, &result, began.elapsed()));
    } else {
        print!("{}", report::text(&plan, &result, began.elapsed()));
    }
    if result.findings.is_empty() && result.depth == plan.depth {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
