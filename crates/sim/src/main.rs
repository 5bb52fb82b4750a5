//! `haarb-sim`: runs simulated clusters from seeds and stops at the first one that is wrong.

use std::collections::BTreeMap;
use std::process::ExitCode;

use haarb_model::Span;
use haarb_sim::Lever;
use haarb_sim::weather::{self, Weather};

const USAGE: &str = "\
haarb-sim [--seeds N] [--from S]   run N clusters (default 1000), beginning with seed S
haarb-sim --seed S                 run one and print what happens in it
haarb-sim --shrink S               leave out of a wrong one what it does not need, and print the rest
  --without LEVER[,LEVER]          with these, or `all`, switched off: drift, jitter, reorder,
                                   duplicates, bursts, disk, versions, spread, stalls
haarb-sim --scenario FILE          run a scenario file and print what it gives
haarb-sim --weather KIND [--for SECONDS] [--seeds N] [--from S]
                                   count what bad weather moves: loss,
                                   flapping-active, flapping-standby, stalls";

/// What was asked for.
struct Args {
    seeds: u64,
    from: u64,
    one: Option<u64>,
    scenario: Option<std::path::PathBuf>,
    weather: Option<Weather>,
    shrink: Option<u64>,
    without: Vec<Lever>,
    secs: u64,
}

fn parse() -> Result<Args, String> {
    let mut args = Args {
        seeds: 1000,
        from: 1,
        one: None,
        scenario: None,
        weather: None,
        shrink: None,
        without: Vec::new(),
        secs: 600,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--help" || word == "-h" {
            return Err(USAGE.into());
        }
        let value = words
            .next()
            .ok_or_else(|| format!("{word} needs a value\n{USAGE}"))?;
        if word == "--scenario" {
            args.scenario = Some(value.into());
            continue;
        }
        if word == "--without" {
            args.without = levers(&value)?;
            continue;
        }
        if word == "--weather" {
            args.weather = Some(value.parse()?);
            continue;
        }
        let number: u64 = value
            .parse()
            .map_err(|_| format!("{word} needs a number, not {value:?}\n{USAGE}"))?;
        match word.as_str() {
            "--seeds" => args.seeds = number,
            "--from" => args.from = number,
            "--seed" => args.one = Some(number),
            "--shrink" => args.shrink = Some(number),
            "--for" => args.secs = number,
            other => return Err(format!("{other} is unknown\n{USAGE}")),
        }
    }
    Ok(args)
}

fn levers(text: &str) -> Result<Vec<Lever>, String> {
    if text == "all" {
        return Ok(Lever::ALL.to_vec());
    }
    text.split(',').map(str::parse).collect()
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    if let Some(file) = args.scenario {
        return match std::fs::read_to_string(&file) {
            Ok(text) => {
                print!("{}", haarb_sim::scenario::replay(&text));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{}: {error}", file.display());
                ExitCode::FAILURE
            }
        };
    }
    if let Some(weather) = args.weather {
        return endure(weather, &args);
    }
    if let Some(seed) = args.shrink {
        return report(&haarb_sim::shrink(seed, &args.without), true);
    }
    if let Some(seed) = args.one {
        let outcome = haarb_sim::run_seed_without(seed, &args.without, true);
        return report(&outcome, true);
    }
    let mut fired: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut dual = Span::ZERO;
    for seed in args.from..args.from.saturating_add(args.seeds) {
        let outcome = haarb_sim::run_seed_without(seed, &args.without, false);
        for (rule, count) in &outcome.fired {
            *fired.entry(rule).or_default() += count;
        }
        dual = dual + outcome.dual;
        if outcome.failure.is_some() {
            return report(&outcome, false);
        }
    }
    let rules: Vec<String> = fired
        .iter()
        .map(|(rule, n)| format!("{rule} {n}"))
        .collect();
    println!(
        "{} clusters, seeds {} to {}: nothing wrong\nchanges by rule: {}\ntwo servers offered a virtual IP for {dual} in all, only in residual cases",
        args.seeds,
        args.from,
        args.from.saturating_add(args.seeds).saturating_sub(1),
        rules.join(", ")
    );
    ExitCode::SUCCESS
}

/// Counts what the weather moved. Fails where a check did.
fn endure(weather: Weather, args: &Args) -> ExitCode {
    let (from, to) = match args.one {
        Some(seed) => (seed, seed.saturating_add(1)),
        None => (args.from, args.from.saturating_add(args.seeds)),
    };
    let span = Span::from_secs(args.secs);
    let mut moved = Vec::new();
    let mut moves: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in from..to {
        let toll = weather::endure(weather, seed, span);
        if args.one.is_some() {
            for line in &toll.trace {
                println!("{line}");
            }
        }
        if let Some(what) = &toll.failure {
            println!("seed {seed}: WRONG: {what}");
            return ExitCode::FAILURE;
        }
        if !toll.moves.is_empty() {
            moved.push(seed);
        }
        for (rule, count) in toll.moves {
            *moves.entry(rule).or_default() += count;
        }
    }
    let hours = (to - from) as f64 * args.secs as f64 / 3600.0;
    let rules: Vec<String> = moves
        .iter()
        .map(|(rule, n)| format!("{rule} {n}"))
        .collect();
    println!(
        "{} for {span}, {} clusters, {hours:.2} hours: the reserve moved in {} of them: seeds {moved:?}; by rule: {}",
        weather.as_str(),
        to - from,
        moved.len(),
        rules.join(", ")
    );
    ExitCode::SUCCESS
}

fn report(outcome: &haarb_sim::Outcome, trace: bool) -> ExitCode {
    println!("seed {}: {}", outcome.seed, outcome.options);
    if trace || outcome.failure.is_some() {
        for line in &outcome.trace {
            println!("{line}");
        }
    }
    match &outcome.failure {
        None => {
            println!("nothing wrong");
            ExitCode::SUCCESS
        }
        Some(what) => {
            let without: Vec<&str> = outcome.options.without.iter().map(|l| l.as_str()).collect();
            let without = match without[..] {
                [] => String::new(),
                _ => format!(" --without {}", without.join(",")),
            };
            println!(
                "WRONG: {what}\nagain: cargo xtask sim --seed {0}{without}\nwithout what it does not need: cargo xtask sim --shrink {0}{without}",
                outcome.seed
            );
            ExitCode::FAILURE
        }
    }
}
