//! The prober against a real kernel: two servers and two switches as network namespaces, one
//! network IPv4, the other IPv6. Needs root or user namespaces; without them every test is
//! reported as ignored.
//!
//! Times are asserted coarsely: a machine that runs tests stalls for tens of milliseconds. The
//! numbers come from `measure_…`, which are run by name:
//! `cargo test -p haarb-prober --test kernel --release -- --ignored --nocapture`.

mod segment;

use std::time::Duration;

use haarb_daemon::clock;
use haarb_model::{Mono, NeighbourReport, Span, SwitchAnswer};
use libtest_mimic::{Arguments, Trial};
use nix::sched::{CloneFlags, unshare};
use segment::{BLUE, RED, Segment, Server};

fn main() -> std::process::ExitCode {
    let reason = become_root_of_a_namespace().err();
    if let Some(reason) = &reason {
        eprintln!("ignored, all of them: {reason}");
    }
    let mut arguments = Arguments::from_args();
    // Each test has two probers; side by side they would only slow each other down.
    arguments.test_threads.get_or_insert(1);
    let trial = |name, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(reason.is_some())
    };
    let trials = vec![
        trial("two_servers_hear_each_other_on_both_families", hear),
        trial("a_power_off_is_reported", power_off),
        trial("a_cut_cable_is_seen_by_both", cut_cable),
        trial(
            "an_interface_may_come_late_vanish_and_return",
            interface_vanishes,
        ),
        trial("an_address_may_vanish_and_return", address_vanishes),
        trial(
            "who_stood_still_judges_nobody_by_it",
            stands_still_beside_a_living_neighbour,
        ),
        trial(
            "a_death_during_a_stall_is_known_after_it",
            stands_still_while_the_neighbour_dies,
        ),
        trial("measure_detection", measure_detection).with_ignored_flag(true),
        trial("measure_cost", measure_cost).with_ignored_flag(true),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// An ordinary user becomes root of a user namespace, before there is any thread.
fn become_root_of_a_namespace() -> Result<(), String> {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    if uid.is_root() {
        return Ok(());
    }
    let refused = |what: &str, error: &dyn std::fmt::Display| {
        format!("{what}: {error}; run as root or allow user namespaces")
    };
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| refused("no user namespace", &e))?;
    let write = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text).map_err(|e| refused(file, &e))
    };
    write("setgroups", "deny".into())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

fn whole(neighbour: &NeighbourReport) -> bool {
    let paths = neighbour.paths.iter();
    !neighbour.silent && { paths }.all(|p| p.heard && p.kernel && p.hears_me && p.rtt_us > 0)
}

fn pair() -> (Segment, Server, Server) {
    let segment = Segment::new();
    let alpha = segment.start("alpha");
    let beta = segment.start("beta");
    (segment, alpha, beta)
}

fn hear() {
    let (_segment, mut alpha, mut beta) = pair();
    for server in [&mut alpha, &mut beta] {
        server.until("the neighbour is whole and told its state", |seen| {
            whole(&seen.probe.neighbours[0])
                && seen.advert.is_some()
                && seen
                    .probe
                    .switches
                    .iter()
                    .all(|s| s.answer == SwitchAnswer::Answers)
        });
    }
}

fn power_off() {
    let (mut segment, mut alpha, mut beta) = pair();
    alpha.until("whole", |seen| whole(&seen.probe.neighbours[0]));
    let off = clock::now();
    segment.power_off("beta");
    let seen = alpha.until("silent", |seen| seen.probe.neighbours[0].silent);
    let neighbour = &seen.probe.neighbours[0];
    assert!(
        neighbour.paths.iter().all(|p| p.missing >= 3),
        "{neighbour:?}"
    );
    assert!(seen.at.since(off) >= Span::from_millis(15));
    // Its own networks are gone as well, and it says so; it goes on and comes back.
    beta.until("cut off", |seen| {
        let switches = seen.probe.switches.iter();
        { switches }.all(|s| s.answer == SwitchAnswer::Silent)
    });
    segment.power_on("beta");
    for server in [&mut alpha, &mut beta] {
        server.until("whole again", |seen| whole(&seen.probe.neighbours[0]));
    }
}

fn cut_cable() {
    let (mut segment, mut alpha, mut beta) = pair();
    alpha.until("whole", |seen| whole(&seen.probe.neighbours[0]));
    segment.cable("alpha", RED, false);
    for server in [&mut alpha, &mut beta] {
        let seen = server.until("one network", |seen| {
            let paths = &seen.probe.neighbours[0].paths;
            let red = &paths[RED];
            !red.heard && !red.kernel && !red.hears_me && paths[BLUE].heard
        });
        assert!(!seen.probe.neighbours[0].silent);
    }
    let switches = &alpha.last().probe.switches;
    assert_eq!(switches[BLUE].answer, SwitchAnswer::Answers);
}

fn interface_vanishes() {
    let mut segment = Segment::new();
    segment.remove_interface("alpha", RED);
    let mut alpha = segment.start("alpha");
    let _beta = segment.start("beta");
    let one = |seen: &segment::Seen| {
        let paths = &seen.probe.neighbours[0].paths;
        !paths[RED].heard && !paths[RED].kernel && paths[BLUE].heard
    };
    alpha.until("one network", one);
    segment.add_interface("alpha", RED);
    alpha.until("both", |seen| whole(&seen.probe.neighbours[0]));
    segment.remove_interface("alpha", RED);
    alpha.until("one network again", one);
    segment.add_interface("alpha", RED);
    alpha.until("both again", |seen| whole(&seen.probe.neighbours[0]));
}

fn address_vanishes() {
    let (mut segment, mut alpha, _beta) = pair();
    for network in [RED, BLUE] {
        alpha.until("both", |seen| whole(&seen.probe.neighbours[0]));
        segment.address("alpha", network, false);
        alpha.until("one network", |seen| {
            let paths = &seen.probe.neighbours[0].paths;
            !paths[network].heard && !paths[network].kernel && paths[1 - network].heard
        });
        segment.address("alpha", network, true);
    }
    alpha.until("both again", |seen| whole(&seen.probe.neighbours[0]));
}

/// The neighbour's packets of all that time wait in the sockets: they are read first, at their
/// own times.
fn stands_still_beside_a_living_neighbour() {
    let (_segment, mut alpha, mut beta) = pair();
    for server in [&mut alpha, &mut beta] {
        server.until("whole", |seen| whole(&seen.probe.neighbours[0]));
    }
    let before = (alpha.last().silent, beta.last().silent);
    for stall_ms in [35, 60, 100, 200, 400, 700] {
        alpha.stall(Duration::from_millis(stall_ms));
        let from = clock::now();
        alpha.until("it goes on", |seen| {
            seen.at.since(from) > Span::from_millis(stall_ms) && whole(&seen.probe.neighbours[0])
        });
        // Its kernel answered all the time.
        beta.until("whole", |seen| {
            seen.at > from && whole(&seen.probe.neighbours[0])
        });
    }
    assert_eq!((alpha.last().silent, beta.last().silent), before);
    assert!(alpha.last().stalls >= 1, "the longest is over a lease");
}

/// Silence counts, but not the time in which nobody listened: the verdict comes after the stall,
/// and it comes.
fn stands_still_while_the_neighbour_dies() {
    let (mut segment, mut alpha, _beta) = pair();
    alpha.until("whole", |seen| whole(&seen.probe.neighbours[0]));
    let from = clock::now();
    alpha.stall(Duration::from_millis(300));
    std::thread::sleep(Duration::from_millis(50));
    segment.power_off("beta");
    let seen = alpha.until("silent", |seen| seen.probe.neighbours[0].silent);
    assert!(seen.at.since(from) >= Span::from_millis(300));
}

/// Prints how long after the last sign of life, and after the power-off, the verdict is in the
/// arbiter's queue.
fn measure_detection() {
    const ROUNDS: usize = 60;
    let (mut segment, mut alpha, mut beta) = pair();
    let (mut after_sign, mut after_off) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for server in [&mut alpha, &mut beta] {
            server.until("whole", |seen| whole(&seen.probe.neighbours[0]));
        }
        // Loss counts until the window has forgotten the last outage; phases vary.
        std::thread::sleep(Duration::from_micros(300_000 + round as u64 * 717));
        let off = clock::now();
        segment.power_off("beta");
        let seen = alpha.until("silent", |seen| seen.probe.neighbours[0].silent);
        let sign = seen.probe.neighbours[0].last_sign.unwrap_or(Mono::ZERO);
        after_sign.push(seen.at.since(sign).as_micros());
        after_off.push(seen.at.since(off).as_micros());
        segment.power_on("beta");
    }
    for (what, mut all) in [("last sign", after_sign), ("power-off", after_off)] {
        all.sort_unstable();
        let (median, worst) = (all[ROUNDS / 2], all[ROUNDS - 1]);
        println!("verdict after {what}: median {median} us, max {worst} us, n {ROUNDS}");
    }
}

/// Prints what a prober costs while nothing happens.
fn measure_cost() {
    const SECONDS: u32 = 10;
    let (_segment, mut alpha, _beta) = pair();
    alpha.until("whole", |seen| whole(&seen.probe.neighbours[0]));
    std::thread::sleep(Duration::from_secs(1));
    let before = alpha.cpu();
    std::thread::sleep(Duration::from_secs(SECONDS.into()));
    let used = alpha.cpu().saturating_sub(before) / SECONDS;
    println!(
        "one prober at 10 ms, switches at 5 ms: {:.2} % of one core",
        used.as_secs_f64() * 100.0
    );
}
