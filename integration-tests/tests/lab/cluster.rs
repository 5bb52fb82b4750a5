//! Real daemons on two servers, apart from the drills: nothing is left when all is stopped, and no timer
//! runs on the wall clock.

use std::{fs, time::Duration};

use haarb_integration_tests::{Bench, Test, daemons_are_built, with_logs};
use haarb_lab::clock::Stamp;
use nix::sys::signal::Signal;

use crate::support::{ALPHA, BETA, LIMIT};

pub(crate) const TESTS: &[Test] = &[
    Test::new(
        "cluster::stopped_daemons_leave_no_address_and_no_service",
        stopped_daemons_leave_nothing,
    )
    .needing(daemons_are_built),
    Test::new(
        "cluster::no_timer_of_a_daemon_runs_on_the_wall_clock",
        no_timer_on_the_wall_clock,
    )
    .needing(daemons_are_built),
];

/// What stands for a drill of a wall clock that jumps: that clock is the whole machine's and cannot be
/// set for the lab alone, but the kernel tells on which clock every timer runs.
fn no_timer_on_the_wall_clock(bench: &Bench) -> anyhow::Result<()> {
    let lab = bench.cluster()?;
    let mut seen = 0;
    for server in [ALPHA, BETA] {
        for pid in lab.server(server).processes()? {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            for clock in clocks_of(&format!("/proc/{pid}")) {
                seen += 1;
                // CLOCK_REALTIME and CLOCK_REALTIME_ALARM.
                anyhow::ensure!(
                    clock != 0 && clock != 8,
                    "{} has a timer on clock {clock}",
                    name.trim()
                );
            }
        }
    }
    anyhow::ensure!(seen >= 4, "the daemons have timers: {seen}");
    Ok(())
}

/// The clock of every timer descriptor and POSIX timer of a process.
fn clocks_of(process: &str) -> Vec<u32> {
    let descriptors = fs::read_dir(format!("{process}/fdinfo"))
        .into_iter()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let timers = fs::read_to_string(format!("{process}/timers")).ok();
    let of = |text: &str| {
        let value = |line: &str| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case("clockid")
                .then(|| value.trim().parse().ok())?
        };
        text.lines().filter_map(value).collect::<Vec<u32>>()
    };
    descriptors
        .chain(timers)
        .flat_map(|text| of(&text))
        .collect()
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
