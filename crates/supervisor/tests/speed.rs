//! How long a start and a stop take. A measurement, not a test: nothing is asserted.
//!
//! `cargo build --release -p haarb-supervisor --example stamp`, then
//! `cargo test --release -p haarb-supervisor --test speed -- --ignored --nocapture`

#[expect(dead_code, reason = "shared with the tests")]
mod bench;

use std::path::PathBuf;

use bench::{Bench, now};
use haarb_model::Span;

const ROUNDS: usize = 300;

#[tokio::test]
#[ignore = "a measurement"]
async fn start_and_stop() {
    let mut bench = Bench::new(&[&format!(
        "{{ name: a, exec: [{}, LOG] }}",
        stamp().display()
    )]);
    bench.until_stopped().await;
    let (mut to_main, mut to_report, mut to_stopped) = (vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let told = now();
        bench.run(1).await;
        bench.until_running().await;
        to_report.push(now().since(told));
        bench::until("a stamp", || bench.log().lines().count() > round).await;
        let stamp = bench
            .log()
            .lines()
            .last()
            .and_then(|line| line.parse().ok());
        let main = haarb_model::Mono::from_micros(stamp.expect("microseconds"));
        to_main.push(main.since(told));
        let told = now();
        bench.stop(1).await;
        bench.until_stopped().await;
        to_stopped.push(now().since(told));
    }
    print("directive -> main of the service runs", &mut to_main);
    print("directive -> reported as running", &mut to_report);
    print("directive -> reported as stopped", &mut to_stopped);
    bench.finish().await;
}

fn print(what: &str, spans: &mut [Span]) {
    spans.sort_unstable();
    let at = |share: usize| spans[(spans.len() * share / 100).min(spans.len() - 1)];
    println!("{what}: p50 {} p99 {} max {}", at(50), at(99), at(100));
}

/// The example of that name, built beside this test.
fn stamp() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let profile = test.parent().and_then(|deps| deps.parent());
    profile.expect("a directory").join("examples/stamp")
}
