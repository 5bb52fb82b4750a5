//! Services that do not want to end: what forks faster than it is found, a keeper that stands
//! still, a stop that never works; and the hardware watchdog, here a file.

#[expect(dead_code, reason = "shared with the other tests")]
mod bench;

use bench::{Bench, now, program};
use haarb_model::{ServiceDuty, Span};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A program that is never the same process for longer than a moment: it starts its successor and
/// ends. Nothing that reads /proc finds it in time, but a control group has it.
const RACER: &str = "{ name: a, stop-timeout: 300ms, exec: [/bin/sh, -c, \
    'echo \"trap : TERM; sh DIR/racer & exit\" > DIR/racer; echo start >> LOG; sh DIR/racer; exec sleep 1000'] }";

#[tokio::test]
async fn what_forks_faster_than_it_is_found_is_killed_as_a_group() {
    if !bench::has_groups() {
        eprintln!("skipped: no writable control groups of version 2 here");
        return;
    }
    let mut bench = Bench::new(&[RACER]);
    bench.run(1).await;
    bench::until("a start", || bench.log() == "start\n").await;
    bench.stop(1).await;
    bench.until_stopped().await;
    assert_eq!(bench.service_pids(), [0; 0]);
    bench.finish().await;
}

#[tokio::test]
async fn what_a_dead_keeper_left_without_a_mark_is_found_in_its_group() {
    if !bench::has_groups() {
        eprintln!("skipped: no writable control groups of version 2 here");
        return;
    }
    // It forks away and scrubs its environment: no descent and no mark leads to it.
    let mut bench = Bench::new(&[
        "{ name: a, exec: [/bin/sh, -c, 'setsid env -i sh -c \"echo \\$\\$ >> DIR/pids; exec sleep 1000\" & exec sleep 2000'] }",
    ]);
    bench.run(1).await;
    let file = bench.dir.path().join("pids");
    let pids = || -> Vec<i32> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    bench::until("it runs", || pids().len() == 1).await;
    let first = pids()[0];
    bench.kill_keepers();
    bench::until("a second start", || pids().len() == 2).await;
    bench::until("the first is gone", || !bench::lives(first)).await;
    bench.stop(1).await;
    bench.until_stopped().await;
    assert!(!pids().into_iter().any(bench::lives));
    bench.finish().await;
}

#[tokio::test]
async fn a_keeper_that_stands_still_is_killed_with_its_service() {
    let mut bench = Bench::with_timing(
        "profile: lan",
        &[
            "{ name: a, stop-timeout: 300ms, exec: [/bin/sh, -c, 'trap : TERM; setsid sleep 1000 & while :; do sleep 0.1; done'] }",
        ],
    );
    bench.run(1).await;
    bench.until_running().await;
    bench::until("two generations", || bench.service_pids().len() >= 2).await;
    let keepers = bench.keeper_pids();
    for keeper in &keepers {
        kill(Pid::from_raw(*keeper), Signal::SIGSTOP).expect("it runs");
    }
    bench.stop(1).await;
    bench.until_stopped().await;
    assert_eq!(bench.service_pids(), [0; 0]);
    assert!(!keepers.into_iter().any(bench::lives));
    bench.finish().await;
}

#[tokio::test]
async fn at_the_end_of_a_lease_a_keeper_that_stands_still_gets_no_more_than_the_grace() {
    // lan: the grace is 500 ms; the stop-timeout plays no part.
    let mut bench = Bench::with_timing(
        "profile: lan",
        &["{ name: a, stop-timeout: 60s, exec: [/bin/sleep, '1000'] }"],
    );
    let until = now() + Span::from_secs(2);
    bench.run_until(1, until).await;
    bench.until_running().await;
    for keeper in bench.keeper_pids() {
        kill(Pid::from_raw(keeper), Signal::SIGSTOP).expect("it runs");
    }
    bench::until("it is killed", || bench.service_pids().is_empty()).await;
    assert!(now() >= until);
    bench.until_stopped().await;
    bench.finish().await;
}

/// A service whose stop never works, and whose status says so.
const UNSTOPPABLE: &str = "{ name: s, check-interval: 100ms, stop-timeout: 200ms, script: { \
    start: 'touch DIR/on', stop: 'test ! -e DIR/stuck && rm -f DIR/on', \
    status: 'test -e DIR/on || exit 3' } }";

#[tokio::test]
async fn the_watchdog_starves_while_a_service_cannot_be_stopped_and_is_fed_again_after() {
    let mut bench = Bench::with_watchdog(&[UNSTOPPABLE]);
    std::fs::write(bench.dir.path().join("stuck"), "").expect("a file");
    bench.run(1).await;
    bench.until_running().await;
    bench::until("fed while it may run", || bench.feedings() > 2).await;
    let fed_and = |words: &'static str| move |text: &str| text.contains(words);
    bench
        .until_watchdog("fed", fed_and("fed, time-out 10s"))
        .await;
    bench.stop(1).await;
    let text = bench.until_watchdog("starving", fed_and("NOT FED")).await;
    assert!(
        text.contains("sip/s cannot be stopped: its stop command exited with status 1"),
        "{text}"
    );
    // Ten feedings are due in the time-out of 10 s: none for twice the time between two.
    let before = bench.feedings();
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    assert_eq!(bench.feedings(), before);
    std::fs::remove_file(bench.dir.path().join("stuck")).expect("the file");
    bench.until_stopped().await;
    bench::until("fed again", || bench.feedings() > before).await;
    bench.finish_with_watchdog("V").await;
}

#[tokio::test]
async fn a_lease_that_ended_starves_the_watchdog_while_a_stop_hangs() {
    // The stop command hangs and is spared for its stop-timeout: what it should stop is not known to
    // have stopped, and the right to run is over.
    let mut bench = Bench::with_watchdog(&[
        "{ name: s, check-interval: 100ms, stop-timeout: 5s, script: { start: 'touch DIR/on', \
         stop: 'while test -e DIR/stuck; do sleep 0.1; done; rm -f DIR/on', status: 'test -e DIR/on || exit 3' } }",
    ]);
    std::fs::write(bench.dir.path().join("stuck"), "").expect("a file");
    bench.run_until(1, now() + Span::from_secs(2)).await;
    bench.until_running().await;
    let text = bench
        .until_watchdog("starving", |text| text.contains("NOT FED"))
        .await;
    assert!(
        text.contains("has not stopped although its right to run has ended"),
        "{text}"
    );
    std::fs::remove_file(bench.dir.path().join("stuck")).expect("the file");
    bench
        .until_watchdog("fed again", |text| text.contains("fed, time-out"))
        .await;
    bench.until_stopped().await;
    bench.finish_with_watchdog("V").await;
}

#[tokio::test]
async fn a_supervisor_that_dies_feeds_nothing_and_stops_no_clock() {
    let mut bench = Bench::with_watchdog(&[&program("a")]);
    bench.run(1).await;
    bench.until_running().await;
    bench::until("fed", || bench.feedings() > 0).await;
    bench.kill_supervisor().await;
    assert!(!bench.watchdog_log().contains('V'));
    // The next one feeds on.
    let before = bench.feedings();
    bench.start_supervisor();
    bench::until("fed again", || bench.feedings() > before).await;
    bench.finish_with_watchdog("V").await;
}

#[tokio::test]
async fn in_maintenance_it_is_fed_whatever_runs() {
    let mut bench = Bench::with_watchdog(&[&program("a")]);
    bench.run(1).await;
    bench.until_running().await;
    let frozen = ServiceDuty {
        run: true,
        frozen: true,
        until: now(),
        ..ServiceDuty::default()
    };
    bench.tell(2, frozen).await;
    bench
        .until("followed", |run| run.epoch == haarb_model::Epoch(2))
        .await;
    let before = bench.feedings();
    bench::until("fed on", || bench.feedings() > before + 1).await;
    bench.finish_with_watchdog("V").await;
}
