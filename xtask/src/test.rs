//! `cargo xtask test`: every check in turn, cheapest first, and one line of totals.
//!
//! Test programs run one after another (cargo's way), so that the lab, which measures, never
//! shares the machine with unit tests. A step that fails does not hide the ones behind it.

use std::io::{BufRead as _, BufReader};
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::cargo::cargo;

/// The tests that need network namespaces.
const LAB: &str = "haarb-integration-tests";
/// Worlds that every test run simulates; `cargo xtask sim --seeds N` does more.
const SEEDS: &str = "200";
/// What every test run searches; `cargo xtask search` takes all events, and goes deeper.
const SEARCH: [&str; 6] = ["--depth", "2", "--events", "core", "--profile", "lan"];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs everything; the exit code is a failure where anything failed.
///
/// # Errors
/// cargo cannot be started.
pub(crate) fn run(no_lab: bool) -> Result<ExitCode> {
    let mut broken = Vec::new();
    for (name, arguments) in [
        ("format", &["fmt", "--all", "--check"][..]),
        (
            "lints",
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "--deny",
                "warnings",
            ],
        ),
    ] {
        eprintln!("== {name}");
        let status = cargo(arguments)
            .status()
            .context("cargo cannot be started")?;
        if !status.success() {
            broken.push(name);
        }
    }

    let mut totals = Totals::default();
    let unit = ["test", "--workspace", "--no-fail-fast", "--exclude", LAB];
    run_tests(
        "unit, scenarios, documentation",
        &unit,
        &mut totals,
        &mut broken,
    )?;
    eprintln!("== simulation, {SEEDS} seeds");
    let simulation = [
        "run",
        "--release",
        "--quiet",
        "-p",
        "haarb-sim",
        "--bin",
        "haarb-sim",
        "--",
        "--seeds",
        SEEDS,
    ];
    let status = cargo(&simulation)
        .status()
        .context("cargo cannot be started")?;
    if !status.success() {
        broken.push("simulation");
    }
    eprintln!("== search, {}", SEARCH.join(" "));
    if crate::cargo::run_pure("haarb-search", &SEARCH.map(String::from))? != ExitCode::SUCCESS {
        broken.push("search");
    }
    if no_lab {
        totals.skipped += count(&["test", "-q", "-p", LAB, "--", "--list"])?;
    } else {
        // The daemons under test are built as users run them.
        crate::cargo::build()?;
        eprintln!("== packages");
        if let Err(error) = crate::servers::prepare() {
            eprintln!("{error:#}");
            broken.push("packages");
        }
        run_tests(
            "lab",
            &["test", "--release", "-p", LAB],
            &mut totals,
            &mut broken,
        )?;
    }

    let Totals {
        passed,
        failed,
        skipped,
    } = totals;
    for step in &broken {
        println!("failed step: {step}");
    }
    // A step without counted tests is a failure that the totals must show.
    let uncounted = if failed == 0 { broken.len() as u64 } else { 0 };
    println!(
        "{passed} passed, {} failed, {skipped} skipped",
        failed + uncounted
    );
    Ok(if broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs one call of `cargo test`, passes its output on and adds up its results.
fn run_tests(
    name: &'static str,
    arguments: &[&str],
    totals: &mut Totals,
    broken: &mut Vec<&'static str>,
) -> Result<()> {
    eprintln!("== {name}");
    let mut child = cargo(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo cannot be started")?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("cargo's output cannot be read")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            if let Some(result) = parse_result(&line) {
                totals.add(result);
            }
        }
    }
    if !child
        .wait()
        .context("cargo cannot be waited for")?
        .success()
    {
        broken.push(name);
    }
    Ok(())
}

/// How many tests a call of `cargo test … --list` names.
fn count(arguments: &[&str]) -> Result<u64> {
    let output = cargo(arguments)
        .output()
        .context("cargo cannot be started")?;
    let listed = String::from_utf8_lossy(&output.stdout);
    Ok(listed
        .lines()
        .filter(|line| line.ends_with(": test"))
        .count() as u64)
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`.
fn parse_result(line: &str) -> Option<Totals> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut totals = Totals::default();
    for part in counts.split(';') {
        let (number, what) = part.trim().split_once(' ')?;
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        match what {
            "passed" => totals.passed = number,
            "failed" => totals.failed = number,
            "ignored" => totals.skipped = number,
            _ => {}
        }
    }
    Some(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_test_program_is_understood() {
        let line = "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.00s";
        assert_eq!(
            parse_result(line),
            Some(Totals {
                passed: 12,
                failed: 1,
                skipped: 2
            })
        );
        assert_eq!(parse_result("test a::b ... ok"), None);
    }
}
