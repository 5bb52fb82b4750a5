//! Real services under a real supervisor: order, crashes, stops that hang, leases, restarts.

#[expect(dead_code, reason = "shared with the other tests")]
mod bench;

use bench::{Bench, now, program, state};
use haarb_model::{Epoch, Mono, ServiceDuty, ServiceState, Span};

#[tokio::test]
async fn services_start_in_order_and_stop_in_reverse() {
    let (a, b, c) = (program("a"), program("b"), program("c"));
    let mut bench = Bench::new(&[&a, &b, &c]);
    bench.until_stopped().await;
    bench.seen.clear();
    bench.run(1).await;
    bench.until_running().await;
    bench::until("three starts", || bench.log().lines().count() == 3).await;
    for run in &bench.seen {
        let running = |name| state(run, name) == Some(ServiceState::Running);
        let untouched = |name| state(run, name) != Some(ServiceState::Starting);
        assert!(
            running("a") || untouched("b"),
            "b starts before a runs: {run:?}"
        );
        assert!(
            running("b") || untouched("c"),
            "c starts before b runs: {run:?}"
        );
    }
    bench.stop(1).await;
    bench.until_stopped().await;
    assert_eq!(
        bench.log().lines().skip(3).collect::<Vec<_>>(),
        ["stop c", "stop b", "stop a"]
    );
    bench.finish().await;
}

#[tokio::test]
async fn a_service_knows_its_reserve_epoch_node_and_role() {
    let mut bench = Bench::new(&[
        "{ name: a, exec: [/bin/sh, -c, 'echo $HAARB_RESERVE $HAARB_EPOCH $HAARB_NODE $HAARB_ROLE >> LOG; exec sleep 1000'] }",
    ]);
    bench.run(7).await;
    bench::until("a line", || bench.log() == "sip 7 alpha active\n").await;
    bench.finish().await;
}

#[tokio::test]
async fn a_crash_is_seen_and_the_service_started_again() {
    let mut bench =
        Bench::new(&["{ name: a, exec: [/bin/sh, -c, 'echo start >> LOG; exec sleep 1000'] }"]);
    bench.run(1).await;
    bench.until_running().await;
    bench.kill_service("sleep").await;
    bench::until("a second start", || bench.log() == "start\nstart\n").await;
    let run = bench.until_running().await;
    assert_eq!(run.failed, "", "one crash is within its restarts");
    bench.finish().await;
}

#[tokio::test]
async fn a_crash_loop_is_reported_as_failed_and_tried_on() {
    let mut bench = Bench::new(&[
        "{ name: a, exec: [/bin/sh, -c, 'echo start >> LOG; echo port in use; exit 3'], restarts: 2 }",
    ]);
    bench.run(1).await;
    let run = bench.until("failed", |run| !run.failed.is_empty()).await;
    assert!(
        run.failed.starts_with("a: exited with status 3 after ")
            && run
                .failed
                .contains("; its last line: port in use (3 failures within 60s)"),
        "{}",
        run.failed
    );
    assert!(!run.running);
    bench::until("it is tried on", || bench.log().lines().count() >= 5).await;
    bench.finish().await;
}

#[tokio::test]
async fn clear_forgets_the_failure() {
    let mut bench = Bench::new(&[
        "{ name: a, exec: [/bin/sh, -c, 'test -e DIR/mended && exec sleep 1000; exit 3'], restarts: 0 }",
    ]);
    bench.run(1).await;
    bench.until("failed", |run| !run.failed.is_empty()).await;
    std::fs::write(bench.dir.path().join("mended"), "").expect("a file");
    let duty = ServiceDuty {
        run: true,
        until: Mono::FAR,
        clear: 1,
        ..ServiceDuty::default()
    };
    bench.tell(1, duty).await;
    bench
        .until("runs without failure", |run| {
            run.running && run.failed.is_empty()
        })
        .await;
    bench.finish().await;
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed_with_its_children() {
    let mut bench = Bench::new(&[
        "{ name: a, exec: [/bin/sh, -c, 'trap : TERM; (trap : TERM; while :; do sleep 0.1; done) & echo start >> LOG; while :; do sleep 0.1; done'], stop-timeout: 300ms }",
    ]);
    bench.run(1).await;
    bench::until("a start", || bench.log() == "start\n").await;
    let told = now();
    bench.stop(1).await;
    bench.until_stopped().await;
    assert!(
        now().since(told) >= Span::from_millis(300),
        "it got its time"
    );
    assert_eq!(bench.service_pids(), [0; 0]);
    bench.finish().await;
}

#[tokio::test]
async fn who_forks_away_is_stopped_all_the_same() {
    // The grandchild leaves session, group and parent, and outlives the program's SIGTERM.
    let mut bench = Bench::new(&[
        "{ name: a, exec: [/bin/sh, -c, 'setsid sh -c \"setsid sleep 1000 & echo start >> LOG\" & exec sleep 1000'], stop-timeout: 300ms }",
    ]);
    bench.run(1).await;
    bench::until("a start", || bench.log() == "start\n").await;
    bench::until("two sleepers", || bench.named("sleep").len() == 2).await;
    bench.stop(1).await;
    bench.until_stopped().await;
    assert_eq!(bench.service_pids(), [0; 0]);
    bench.finish().await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_does_not_run_beside_its_restart() {
    let mut bench = Bench::new(&[
        "{ name: a, exec: [/bin/sh, -c, 'setsid sleep 1000 & echo start >> LOG; exit 0'], restarts: 0 }",
    ]);
    bench.run(1).await;
    let run = bench.until("failed", |run| !run.failed.is_empty()).await;
    assert!(
        run.failed.contains("must stay in the foreground"),
        "{}",
        run.failed
    );
    bench::until("several starts", || bench.log().lines().count() >= 4).await;
    assert!(bench.named("sleep").len() <= 1);
    bench.finish().await;
}

#[tokio::test]
async fn a_program_that_is_missing_is_told_before_and_after() {
    let mut bench = Bench::new(&["{ name: a, exec: [/no/such/program] }"]);
    let run = bench
        .until("not startable", |run| !run.not_startable.is_empty())
        .await;
    assert!(
        run.not_startable
            .starts_with("a: /no/such/program: No such file")
    );
    bench.run(1).await;
    let run = bench.until("failed", |run| !run.failed.is_empty()).await;
    assert!(
        run.failed
            .contains("cannot run /no/such/program: No such file"),
        "{}",
        run.failed
    );
    bench.finish().await;
}

const SCRIPT: &str = "{ name: s, check-interval: 100ms, script: { \
    start: 'echo start >> LOG; setsid sleep 1000 < /dev/null & echo $! > DIR/pid', \
    stop: 'echo stop >> LOG; test -e DIR/pid && kill $(cat DIR/pid); rm -f DIR/pid', \
    status: 'test -e DIR/pid && kill -0 $(cat DIR/pid) || exit 3' } }";

#[tokio::test]
async fn a_script_is_started_checked_restarted_and_stopped() {
    let mut bench = Bench::new(&[SCRIPT]);
    bench.run(1).await;
    bench.until_running().await;
    assert_eq!(bench.log(), "start\n");
    // Its daemon crashes: seen by its keeper, confirmed by the status command.
    bench.kill_service("sleep").await;
    bench::until("stop and start", || bench.log() == "start\nstop\nstart\n").await;
    bench.until("running again", |run| run.running).await;
    bench.stop(1).await;
    bench.until_stopped().await;
    assert_eq!(bench.log(), "start\nstop\nstart\nstop\n");
    assert_eq!(bench.service_pids(), [0; 0]);
    bench.finish().await;
}

#[tokio::test]
async fn a_start_that_hangs_is_killed_and_reported() {
    let mut bench = Bench::new(&[
        "{ name: s, start-timeout: 200ms, restarts: 0, script: { start: 'sleep 1000', stop: 'echo stop >> LOG', status: 'exit 3' } }",
    ]);
    bench.run(1).await;
    let run = bench.until("failed", |run| !run.failed.is_empty()).await;
    assert!(
        run.failed.contains("its start command was killed after "),
        "{}",
        run.failed
    );
    bench::until("cleaned up by its stop command", || {
        bench.log().starts_with("stop\n")
    })
    .await;
    bench.finish().await;
}

#[tokio::test]
async fn a_stop_that_hangs_is_killed_and_what_it_should_stop_too() {
    let mut bench = Bench::new(&[
        "{ name: s, stop-timeout: 200ms, script: { start: 'setsid sleep 1000 < /dev/null & echo $! > DIR/pid', stop: 'sleep 1000', status: 'kill -0 $(cat DIR/pid) || exit 3' } }",
    ]);
    bench.run(1).await;
    bench.until_running().await;
    bench.stop(1).await;
    let run = bench
        .until("the stop failed", |run| !run.failed.is_empty())
        .await;
    assert!(
        run.failed.contains("its stop command did not end in time"),
        "{}",
        run.failed
    );
    // All of it is dead; the status command confirms it.
    bench.until_stopped().await;
    assert_eq!(bench.service_pids(), [0; 0]);
    bench.finish().await;
}

#[tokio::test]
async fn what_runs_and_must_not_is_stopped() {
    let mut bench = Bench::new(&[
        "{ name: s, check-interval: 50ms, script: { start: 'touch DIR/on', stop: 'rm -f DIR/on; echo stop >> LOG', status: 'test -e DIR/on || exit 3' } }",
    ]);
    bench.stop(1).await;
    bench.until_stopped().await;
    assert_eq!(bench.log(), "", "nothing to stop, nothing stopped");
    // Somebody starts it by hand.
    std::fs::write(bench.dir.path().join("on"), "").expect("a file");
    bench.until("found running", |run| !run.stopped).await;
    bench.last = None;
    bench.until_stopped().await;
    assert_eq!(bench.log(), "stop\n", "{:#?}", bench.seen);
    bench.finish().await;
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_ends_the_services() {
    let mut bench = Bench::new(&[&program("a")]);
    let until = now() + Span::from_secs(2);
    bench.run_until(1, until).await;
    bench.until_running().await;
    bench.last = None;
    bench.until_stopped().await;
    assert!(now() >= until);
    bench.finish().await;
}

#[tokio::test]
async fn a_lease_that_is_renewed_keeps_them() {
    let mut bench = Bench::new(&[&program("a")]);
    bench.run_until(1, now() + Span::from_secs(3)).await;
    bench.until_running().await;
    let end = now() + Span::from_millis(4500);
    while now() < end {
        bench.run_until(1, now() + Span::from_secs(3)).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    bench.read_reports();
    let ran = bench.seen.iter().skip_while(|run| !run.running);
    assert!(
        ran.clone().count() >= 1 && ran.clone().all(|run| run.running),
        "{:?}",
        bench.seen
    );
    bench.finish().await;
}

#[tokio::test]
async fn without_a_supervisor_the_keeper_ends_the_lease() {
    let (a, stubborn) = (
        program("a"),
        "{ name: b, exec: [/bin/sh, -c, 'trap : TERM; while :; do sleep 0.05; done'] }",
    );
    let mut bench = Bench::new(&[&a, stubborn, SCRIPT]);
    let until = now() + Span::from_secs(4);
    bench.run_until(1, until).await;
    bench.until_running().await;
    bench.kill_supervisor().await;
    bench::until("nothing runs", || bench.pids().is_empty()).await;
    assert!(now() >= until);
    assert!(
        bench.log().contains("stop a\n"),
        "gracefully first: {}",
        bench.log()
    );
    assert!(bench.log().ends_with("stop\n") || bench.log().contains("stop\nstop a"));
    bench.finish().await;
}

#[tokio::test]
async fn a_restart_of_the_supervisor_has_no_effect() {
    let mut bench = Bench::new(&[
        "{ name: a, exec: [/bin/sh, -c, 'echo start >> LOG; exec sleep 1000'] }",
        SCRIPT,
    ]);
    bench.run_until(4, now() + Span::from_secs(60)).await;
    bench.until_running().await;
    bench::until("both sleep", || bench.named("sleep").len() == 2).await;
    let before = bench.named("sleep");
    for round in 0..3 {
        match round {
            0 => bench.end_supervisor().await,
            _ => bench.kill_supervisor().await,
        }
        bench.start_supervisor();
        let run = bench.until_running().await;
        assert_eq!(
            run.epoch,
            Epoch(4),
            "what runs here is known before anybody speaks"
        );
    }
    bench.run(6).await;
    let run = bench.until("followed", |run| run.epoch == Epoch(6)).await;
    assert!(run.running);
    assert_eq!(bench.named("sleep"), before);
    assert_eq!(bench.log().lines().count(), 2, "{}", bench.log());
    // And it is in charge: it can stop what it found.
    bench.stop(6).await;
    bench.until_stopped().await;
    assert_eq!(bench.service_pids(), [0; 0]);
    bench.finish().await;
}

#[tokio::test]
async fn a_restarted_supervisor_stops_what_must_not_run() {
    let mut bench = Bench::new(&[&program("a")]);
    bench.run_until(4, now() + Span::from_secs(60)).await;
    bench.until_running().await;
    bench.kill_supervisor().await;
    bench.start_supervisor();
    bench.stop(5).await;
    bench.until_stopped().await;
    assert_eq!(bench.service_pids(), [0; 0]);
    // The epoch survives another restart, with nothing running.
    bench.kill_supervisor().await;
    bench.start_supervisor();
    let run = bench.until("a report", |_| true).await;
    assert_eq!(run.epoch, Epoch(5));
    bench.run(4).await;
    bench.stop(6).await;
    bench.until("followed", |run| run.epoch == Epoch(6)).await;
    assert!(!bench.seen.iter().any(|run| run.running), "epoch 4 is over");
    bench.finish().await;
}

#[tokio::test]
async fn a_keeper_that_is_killed_takes_everything_with_it_and_is_replaced() {
    let mut bench = Bench::new(&[
        "{ name: a, exec: [/bin/sh, -c, 'setsid sleep 1000 & echo start >> LOG; exec sleep 2000'] }",
    ]);
    bench.run(1).await;
    bench::until("a start", || bench.log() == "start\n").await;
    bench::until("two sleepers", || bench.named("sleep").len() == 2).await;
    let before = bench.service_pids();
    bench.kill_keepers();
    bench::until("a second start", || bench.log() == "start\nstart\n").await;
    bench.until("running", |run| run.running).await;
    bench::until("two sleepers", || bench.named("sleep").len() == 2).await;
    let after = bench.service_pids();
    assert!(
        before.iter().all(|pid| !after.contains(pid)),
        "{before:?} {after:?}"
    );
    bench.finish().await;
}

#[tokio::test]
async fn in_maintenance_a_crash_is_reported_and_nothing_else() {
    let mut bench = Bench::new(&[
        "{ name: a, exec: [/bin/sh, -c, 'echo start >> LOG; exec sleep 1000'] }",
        &program("b"),
    ]);
    bench.run(1).await;
    bench.until_running().await;
    let frozen = ServiceDuty {
        run: true,
        frozen: true,
        until: now(),
        ..ServiceDuty::default()
    };
    bench.tell(2, frozen).await;
    bench.until("followed", |run| run.epoch == Epoch(2)).await;
    bench.kill_service("sleep").await;
    let run = bench
        .until("seen", |run| state(run, "a") == Some(ServiceState::Failed))
        .await;
    assert_eq!(state(&run, "b"), Some(ServiceState::Running));
    // Longer than any delay before a first restart, and than the lease's end.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(bench.log().matches("start\n").count(), 1, "{}", bench.log());
    bench.run(2).await;
    bench.until_running().await;
    bench.finish().await;
}

#[tokio::test]
async fn two_supervisors_do_not_pull_at_the_same_services() {
    let bench = Bench::new(&[&program("a")]);
    let error = bench.second_supervisor().expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("another supervisor already runs"),
        "{error}"
    );
    bench.finish().await;
}

#[tokio::test]
async fn a_supervisor_that_was_frozen_says_so_and_stops_first() {
    let mut bench = Bench::with_timing("profile: lan", &[&program("a")]);
    bench.run(1).await;
    bench.until_running().await;
    bench.last = None;
    bench.told = None;
    // The supervisor shares this thread: nothing of it moves for longer than its lease of 1 s.
    std::thread::sleep(std::time::Duration::from_millis(1300));
    bench.until_stopped().await;
    assert!(
        bench.stalled.iter().any(|gap| *gap >= Span::from_secs(1)),
        "{:?}",
        bench.stalled
    );
    assert_eq!(bench.service_pids(), [0; 0]);
    bench.finish().await;
}

#[tokio::test]
async fn a_systemd_unit_without_systemd_is_a_clear_error() {
    if std::path::Path::new("/run/systemd/system").exists() {
        eprintln!("skipped: systemd runs this machine");
        return;
    }
    let mut bench = Bench::new(&["{ name: k, restarts: 0, systemd: kamailio.service }"]);
    let run = bench
        .until("not startable", |run| !run.not_startable.is_empty())
        .await;
    assert_eq!(
        run.not_startable,
        "k: systemd does not run this server; use exec or script"
    );
    bench.run(1).await;
    let run = bench.until("failed", |run| !run.failed.is_empty()).await;
    assert!(run.failed.starts_with("k: "), "{}", run.failed);
    bench.finish().await;
}

#[tokio::test]
async fn a_changed_configuration_leaves_alone_what_stays_and_stops_what_goes() {
    let (a, b, c) = (program("a"), program("b"), program("c"));
    let mut bench = Bench::new(&[&a, &b]);
    bench.run(1).await;
    bench.until_running().await;
    bench::until("two starts", || bench.log().lines().count() == 2).await;
    bench.reconfigure(&[&a, &c]);
    bench.run(1).await;
    bench
        .until("c runs", |run| run.running && state(run, "c").is_some())
        .await;
    bench::until("b stops, c starts", || bench.log().lines().count() == 4).await;
    let log = bench.log();
    assert_eq!(log.matches("start a").count(), 1, "{log}");
    assert!(
        log.contains("stop b\n") && log.contains("start c\n"),
        "{log}"
    );
    assert!(!log.contains("stop a"), "{log}");
    bench.finish().await;
}

#[tokio::test]
async fn a_service_that_left_the_configuration_while_nobody_looked_is_stopped() {
    let (a, b) = (program("a"), program("b"));
    let mut bench = Bench::new(&[&a, &b]);
    bench.run(1).await;
    bench.until_running().await;
    bench::until("two starts", || bench.log().lines().count() == 2).await;
    bench.kill_supervisor().await;
    bench.reconfigure(&[&a]);
    bench.start_supervisor();
    bench::until("b stops", || bench.log().contains("stop b\n")).await;
    bench.until_running().await;
    bench.finish().await;
}
