//! Real daemons on two servers: every drill has its verdict, and nothing is left when all is stopped.

use std::time::Duration;

use anyhow::Context as _;
use haarb_integration_tests::{Bench, Test, daemons_are_built, logs, with_logs};
use haarb_lab::{
    clock::Stamp,
    drill::{self, verdict::Outcome},
    drills,
    segment::Segment,
};
use nix::sys::signal::Signal;

use crate::support::{ALPHA, BETA, LIMIT};

pub(crate) const TESTS: &[Test] = &[
    Test::new("drill::return", a_drill).needing(daemons_are_built),
    Test::new("drill::switch-on", a_drill).needing(daemons_are_built),
    Test::new("drill::both-switches-on", a_drill).needing(daemons_are_built),
    Test::new("drill::cable-back", a_drill).needing(daemons_are_built),
    Test::new("drill::switchover", a_drill).needing(daemons_are_built),
    Test::new("drill::power-off-standby", a_drill).needing(daemons_are_built),
    Test::new("drill::cable-standby", a_drill).needing(daemons_are_built),
    Test::new("drill::switch-hangs", a_drill).needing(daemons_are_built),
    Test::new("drill::hole-on-one-network", a_drill).needing(daemons_are_built),
    Test::new("drill::loss-30", a_drill).needing(daemons_are_built),
    Test::new("drill::thaw", a_drill).needing(daemons_are_built),
    Test::new(
        "cluster::each_daemon_killed_once_changes_no_role",
        each_daemon_killed_once,
    )
    .needing(daemons_are_built),
    Test::new(
        "cluster::stopped_daemons_leave_no_address_and_no_service",
        stopped_daemons_leave_nothing,
    )
    .needing(daemons_are_built),
];

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

/// Runs the drill that the test is named after, and those that lead to it.
fn a_drill(bench: &Bench) -> anyhow::Result<()> {
    let name = bench
        .name()
        .strip_prefix("drill::")
        .context("a drill's name")?;
    let drill = drills::find(name).with_context(|| format!("no drill called {name}"))?;
    let mut lab = bench.cluster()?;
    let prepared = drill::run::prepare(&mut lab, &drill, None);
    for outcome in with_logs(&lab, prepared)? {
        expect_passed(&lab, &outcome)?;
    }
    let outcome = drill::run::run(&mut lab, &drill)?;
    expect_passed(&lab, &outcome)
}

fn each_daemon_killed_once(bench: &Bench) -> anyhow::Result<()> {
    let mut lab = bench.cluster()?;
    for drill in drills::all()
        .iter()
        .filter(|drill| drill.name.starts_with("kill-"))
    {
        let prepared = drill::run::prepare(&mut lab, drill, None);
        with_logs(&lab, prepared)?;
        let outcome = drill::run::run(&mut lab, drill)?;
        expect_passed(&lab, &outcome)?;
    }
    Ok(())
}

fn stopped_daemons_leave_nothing(bench: &Bench) -> anyhow::Result<()> {
    let lab = bench.cluster()?;
    for server in [ALPHA, BETA] {
        lab.server(server)
            .signal_program("haarb", Signal::SIGTERM)?;
        let gone = lab.until(
            "nothing of haarb is left on it",
            LIMIT * 3,
            Duration::from_millis(50),
            |lab| {
                let held: Vec<_> = lab
                    .plan()
                    .vips
                    .iter()
                    .filter(|vip| lab.holders(vip.address).contains(&server))
                    .collect();
                let running = lab
                    .server(server)
                    .processes()
                    .map_err(|error| error.to_string())?
                    .len();
                // Its init is left.
                if held.is_empty() && running == 1 {
                    Ok(())
                } else {
                    Err(format!("{running} processes, {held:?}"))
                }
            },
        );
        with_logs(&lab, gone)?;
        if server == ALPHA {
            with_logs(&lab, lab.until_served_by(BETA, Stamp::now(), false, LIMIT))?;
        }
    }
    Ok(())
}
