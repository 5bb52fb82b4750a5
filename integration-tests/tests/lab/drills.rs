//! Every drill is a test, in the order of the list, so that the ones that follow from each other do.

use anyhow::Context as _;
use haarb_integration_tests::{Bench, Test, daemons_are_built, logs};
use haarb_lab::{drill::verdict::Outcome, drills, sandbox::Sandbox, segment::Segment};

const PREFIX: &str = "drill::";

/// One test per drill, those of one segment together.
pub(crate) fn tests() -> Vec<Test> {
    let mut all = drills::all();
    all.sort_by_key(|drill| drill.ground);
    let test = |name: &str| {
        // Names of tests live as long as the program.
        let name: &'static str = Box::leak(format!("{PREFIX}{name}").into_boxed_str());
        Test::new(name, a_drill).needing(daemons_are_built)
    };
    all.iter()
        .map(|drill| {
            let test = test(drill.name);
            if drill.needs_root() {
                test.needing(root)
            } else {
                test
            }
        })
        .collect()
}

fn root(sandbox: &Sandbox) -> Result<(), String> {
    daemons_are_built(sandbox)?;
    if sandbox.privileged {
        Ok(())
    } else {
        Err("only root may take memory back from others, or have real-time priority".into())
    }
}

/// Runs the drill that the test is named after, and those that lead to it.
fn a_drill(bench: &Bench) -> anyhow::Result<()> {
    let name = bench
        .name()
        .strip_prefix(PREFIX)
        .context("a drill's name")?;
    let drill = drills::find(name).with_context(|| format!("no drill called {name}"))?;
    bench.drill(&drill, expect_passed)
}

/// Fails with everything there is to know about an outcome that is not as expected.
fn expect_passed(lab: &Segment, outcome: &Outcome) -> anyhow::Result<()> {
    let unmet: Vec<String> = outcome
        .checks
        .iter()
        .filter(|check| !check.met)
        .map(|check| format!("expected that {}; found: {}", check.what, check.found))
        .collect();
    let text = || {
        format!(
            "{}: {}\n{:?}\n{}",
            outcome.name,
            unmet.join("; "),
            outcome.clients,
            logs(lab)
        )
    };
    anyhow::ensure!(outcome.passed, text());
    Ok(())
}
