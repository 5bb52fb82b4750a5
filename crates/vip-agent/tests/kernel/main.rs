//! The agent against a real kernel: each test makes its own network namespaces. Needs root or
//! user namespaces; without them every test is reported as ignored.
//!
//! Times are asserted coarsely: a machine that runs tests stalls for tens of milliseconds.

mod client;
mod gate;
mod net;
mod server;

use std::time::Duration;

use haarb_daemon::clock;
use haarb_model::{Mono, ProbeAnswer, Report, Span, VipDuty, VipSpec};
use libtest_mimic::{Arguments, Trial};
use net::{Net, Other};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use server::{
    Inside, Process, all_held, config_with, duties, hold, ms_since, nothing, probe, vips,
};

/// Longer than anything takes on a loaded machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> std::process::ExitCode {
    let reason = become_root_of_a_namespace().err();
    if let Some(reason) = &reason {
        eprintln!("ignored, all of them: {reason}");
    }
    let mut arguments = Arguments::from_args();
    // Each test is a server of its own; side by side they would only slow each other down.
    arguments.test_threads.get_or_insert(1);
    let mut trials = vec![
        trial("it_takes_announces_and_releases", takes_announces_releases),
        trial("it_puts_back_what_somebody_removed", puts_back),
        trial("it_never_touches_an_address_of_the_server", spares_static),
        trial("it_lets_go_at_the_end_of_its_lease", lease_ends),
        trial("a_probe_tells_who_answers", probes),
        trial("without_carrier_a_probe_is_not_silent", probes_deaf),
        trial("it_defends_what_it_holds_once_per_10_s", defends),
        trial("a_burst_follows_the_cable", announces_on_link_up),
        trial("an_interface_that_went_down_serves_again", down_and_up),
        trial("loopback_and_bridge_carry_vips_too", other_interfaces),
        trial("killed_it_leaves_the_address_to_the_kernel", killed),
        trial("restarted_it_goes_on_without_a_flap", restarted),
        trial("sigterm_lets_go_and_sigusr1_does_not", signals),
        trial("thawed_it_lets_go_first", thawed),
        trial("frozen_the_gate_ends_the_lease", gate::frozen),
        trial("killed_the_gate_ends_the_lease", gate::killed),
        trial("on_a_macvlan_the_gate_ends_the_lease", gate::on_macvlan),
        trial("on_a_bridge_the_gate_ends_the_lease", gate::on_bridge),
        trial(
            "where_no_vip_is_the_gate_ends_the_lease_too",
            gate::weak_host,
        ),
        trial("a_priority_tag_is_no_way_past", gate::priority_tags),
        trial("frozen_nftables_ends_the_lease", gate::frozen_nftables),
        trial("killed_nftables_ends_the_lease", gate::killed_nftables),
        trial(
            "nftables_restarted_no_request_is_lost",
            gate::restarted_nftables,
        ),
        trial("without_a_gate_the_lifetime_ends_it", gate::lifetime_alone),
        trial("killed_and_restarted_no_request_is_lost", gate::restarted),
    ];
    trials.push(trial("measure_a_dead_agent", gate::measure).with_ignored_flag(true));
    trials.push(trial("measure_take_and_release", measure).with_ignored_flag(true));
    if reason.is_some() {
        trials = trials
            .into_iter()
            .map(|t| t.with_ignored_flag(true))
            .collect();
    }
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

/// A test in a thread of its own, which may change its namespaces as it likes.
fn trial<F>(name: &'static str, test: fn(Net) -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    Trial::test(name, move || {
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async { test(Net::new().await).await });
        });
        thread.join().map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(|&s| s.into()));
            text.unwrap_or_default().into()
        })
    })
}

async fn takes_announces_releases(net: Net) {
    let vips = vips();
    let other = Other::new(&net, &vips).await;
    let mut agent = Inside::start().await;
    agent.until("nothing held", |r| all_held(r, false)).await;
    let duty = hold(7, 5_000);
    let until = duty[0].vip.until;
    agent.tell(duty).await;
    let held = agent.until("both held", |r| all_held(r, true)).await;
    assert_eq!((held.epoch.0, held.lease_until), (7, until));
    assert_eq!(held.error, "");
    for vip in &vips {
        let found = net.found(vip.address).await.expect("the kernel has it");
        assert!(found.ours, "marked as ours");
        assert_eq!(
            (found.prefix, &found.interface),
            (vip.prefix, &vip.interface)
        );
        let valid = found.valid.expect("it ends by itself");
        assert!(
            valid <= Span::from_secs(6),
            "not far beyond the lease: {valid}"
        );
    }
    // The burst: three times two forms of ARP, three advertisements.
    let arp = other.hears(vips[0].address, 6).await;
    let na = other.hears(vips[1].address, 3).await;
    let mac = arp[0].mac;
    assert_ne!(mac.0, other.mac());
    assert!(arp.iter().chain(&na).all(|claim| claim.mac == mac));
    // Again after one second.
    other.hears(vips[0].address, 2).await;
    agent.tell(nothing(8)).await;
    let released = agent.until("both released", |r| all_held(r, false)).await;
    assert_eq!(released.lease_until, Mono::ZERO);
    for vip in &vips {
        assert!(!net.has(vip.address).await);
    }
    agent.tell(hold(7, 5_000)).await;
    let refused = agent
        .until("a lower epoch refused", |r| !r.error.is_empty())
        .await;
    assert!(
        refused.error.contains("epoch 8 has been seen"),
        "{}",
        refused.error
    );
    assert!(all_held(&refused, false));
    agent.tell(hold(9, 5_000)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    agent.stop().await;
    for vip in &vips {
        assert!(!net.has(vip.address).await, "stopped: let go");
    }
}

async fn puts_back(net: Net) {
    let vips = vips();
    let mut agent = Inside::start().await;
    agent.tell(hold(1, 20_000)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    let other = Other::new(&net, &vips).await;
    other.hears(vips[1].address, 1).await;
    other.heard();
    for vip in &vips {
        net.remove_here(vip).await;
        // It comes back with a new announcement.
        other.hears(vip.address, 1).await;
        assert!(net.found(vip.address).await.is_some_and(|f| f.ours));
    }
    agent.stop().await;
}

async fn spares_static(net: Net) {
    let [v4, v6] = vips();
    net.add_here(&v4).await;
    let mut agent = Inside::start().await;
    agent.tell(hold(1, 20_000)).await;
    let report = agent
        .until("one held, one not", |r| {
            r.vips[1].held && !r.error.is_empty()
        })
        .await;
    assert!(!report.vips[0].held);
    assert!(report.error.contains("not from haarb"), "{}", report.error);
    agent.tell(nothing(1)).await;
    agent.until("released", |r| all_held(r, false)).await;
    assert!(net.has(v4.address).await, "the server's own address stays");
    assert!(!net.has(v6.address).await);
    // Once it is gone the VIP can be taken.
    agent.tell(hold(1, 20_000)).await;
    agent.until("one held", |r| r.vips[1].held).await;
    net.remove_here(&v4).await;
    agent
        .until("both held", |r| all_held(r, true) && r.error.is_empty())
        .await;
    agent.stop().await;
}

async fn lease_ends(net: Net) {
    let vips = vips();
    let mut agent = Inside::start().await;
    let duty = hold(1, 300);
    let until = duty[0].vip.until;
    agent.tell(duty).await;
    agent.until("both held", |r| all_held(r, true)).await;
    let ended = agent.until("let go", |r| all_held(r, false)).await;
    let now = clock::now();
    assert!(now >= until, "not before the lease ends");
    assert!(
        now.since(until) < Span::from_millis(250),
        "late: {}",
        now.since(until)
    );
    assert_eq!(ended.lease_until, Mono::ZERO);
    assert!(!net.has(vips[0].address).await);
    // A lease that is over when it arrives is none.
    let past = VipDuty {
        hold: true,
        until: clock::now(),
        ..VipDuty::default()
    };
    agent.tell(duties(2, past)).await;
    agent.tell(probe(vec![])).await;
    let next = agent.until("the probe", |r| r.probe_since.is_some()).await;
    assert!(all_held(&next, false));
    agent.stop().await;
}

async fn probes(net: Net) {
    let vips = vips();
    let other = Other::new(&net, &vips).await;
    let mut agent = Inside::start().await;
    let began = clock::now();
    agent.tell(probe(vec![])).await;
    agent.until("unknown", |r| r.probe_since.is_some()).await;
    let silent = agent
        .until("silence", |r| r.probe == ProbeAnswer::Silent)
        .await;
    assert!(
        clock::now().since(began) >= Span::from_millis(8),
        "a whole window"
    );
    assert!(silent.probe_since.is_some_and(|since| since >= began));
    // The other side takes one after the other, and is no server, then is one.
    for vip in &vips {
        net.add_there(vip).await;
        agent.tell(probe(vec![])).await;
        agent
            .until("a stranger", |r| r.probe == ProbeAnswer::Foreign)
            .await;
        agent.tell(probe(vec![other.mac()])).await;
        agent
            .until("a neighbour", |r| r.probe == ProbeAnswer::Neighbour)
            .await;
        net.set_there(false).await;
        agent
            .until("no carrier", |r| r.probe == ProbeAnswer::Unknown)
            .await;
        let gone = Net::found(&net, vip.address).await;
        assert!(gone.is_none(), "a probe takes nothing");
        net.remove_there(vip).await;
        net.set_there(true).await;
        agent
            .until("silence again", |r| r.probe == ProbeAnswer::Silent)
            .await;
    }
    agent.tell(nothing(1)).await;
    agent.until("no probe", |r| r.probe_since.is_none()).await;
    agent.stop().await;
}

async fn probes_deaf(net: Net) {
    net.set_there(false).await;
    let mut agent = Inside::start().await;
    agent.tell(probe(vec![])).await;
    agent.until("unknown", |r| r.probe_since.is_some()).await;
    // Time for many windows, during which no report may say silent; then the cable is back.
    tokio::time::sleep(Duration::from_millis(200)).await;
    agent.tell(probe(vec![[6; 6]])).await;
    let back = clock::now();
    net.set_there(true).await;
    let silent = agent
        .until("silence", |r| r.probe != ProbeAnswer::Unknown)
        .await;
    assert_eq!(silent.probe, ProbeAnswer::Silent);
    assert!(clock::now().since(back) >= Span::from_millis(8));
    agent.stop().await;
}

async fn defends(net: Net) {
    let vips = vips();
    let mut agent = Inside::start().await;
    agent.tell(hold(1, 20_000)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    let other = Other::new(&net, &vips).await;
    // The burst and its repetition after one second pass first.
    other.hears(vips[0].address, 2).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    other.heard();
    for _ in 0..5 {
        other.claim();
    }
    let conflict = agent
        .until("a conflict", |r| r.probe == ProbeAnswer::Foreign)
        .await;
    assert!(all_held(&conflict, true), "kept");
    other.hears(vips[0].address, 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    other.claim();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let more = other.heard();
    let more = more.iter().filter(|c| c.address == vips[0].address);
    assert_eq!(more.count(), 0, "one defence, two forms, per 10 s");
    agent.stop().await;
}

async fn announces_on_link_up(net: Net) {
    let vips = vips();
    let mut agent = Inside::start().await;
    net.set_there(false).await;
    agent.tell(hold(1, 20_000)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    let other = Other::new(&net, &vips).await;
    net.set_there(true).await;
    for vip in &vips {
        other.hears(vip.address, 3).await;
    }
    agent.stop().await;
}

async fn down_and_up(net: Net) {
    let vips = vips();
    let mut agent = Inside::start().await;
    agent.tell(hold(1, 20_000)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    let other = Other::new(&net, &vips).await;
    // The kernel drops IPv6 addresses of an interface that is set down, and may refuse to
    // take them until it is up again.
    net.set_here(false).await;
    agent.tell(hold(1, 20_000)).await;
    agent.until("the directive", |_| true).await;
    other.heard();
    net.set_here(true).await;
    for vip in &vips {
        other.hears(vip.address, 3).await;
        assert!(net.found(vip.address).await.is_some_and(|f| f.ours));
    }
    agent.tell(hold(1, 20_001)).await;
    let report = agent.until("both held", |r| all_held(r, true)).await;
    assert_eq!(report.error, "");
    agent.stop().await;
}

async fn other_interfaces(net: Net) {
    let [v4, v6] = vips();
    let on = |vip: &VipSpec, interface: &str, prefix| VipSpec {
        prefix,
        interface: interface.into(),
        ..vip.clone()
    };
    let loopback = [on(&v4, "lo", 32), on(&v6, "lo", 128)];
    let mut agent = Inside::start_with(&config_with(&loopback)).await;
    agent.tell(probe(vec![])).await;
    let answer = agent.until("an answer", |r| r.probe_since.is_some()).await;
    assert_eq!(answer.probe, ProbeAnswer::Silent, "nobody else is there");
    agent.tell(hold(1, 20_000)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    agent.stop().await;
    assert!(!net.has(v4.address).await && !net.has(v6.address).await);

    // The bridge comes after the agent, as it does in many a boot.
    let bridged = [on(&v4, "br0", 24), on(&v6, "br0", 64)];
    let mut agent = Inside::start_with(&config_with(&bridged)).await;
    agent.tell(hold(1, 20_000)).await;
    let missing = agent.until("an error", |r| !r.error.is_empty()).await;
    assert!(
        missing.error.contains("no interface br0"),
        "{}",
        missing.error
    );
    let other = Other::new(&net, &[v4.clone(), v6.clone()]).await;
    net.bridge("br0").await;
    let report = agent.until("both held", |r| all_held(r, true)).await;
    assert_eq!(report.error, "");
    other.hears(v4.address, 2).await;
    other.hears(v6.address, 1).await;
    agent.stop().await;
}

async fn killed(net: Net) {
    let vips = vips();
    let mut agent = Process::start().await;
    agent.tell(hold(1, 500)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    agent.end(Signal::SIGKILL);
    let killed = clock::now();
    assert!(net.has(vips[0].address).await && net.has(vips[1].address).await);
    while net.has(vips[0].address).await || net.has(vips[1].address).await {
        assert!(ms_since(killed) < 5_000, "the kernel has not ended it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!(
        "kernel ended both addresses {} ms after the kill",
        ms_since(killed)
    );
}

async fn restarted(net: Net) {
    let vips = vips();
    let mut agent = Process::start().await;
    agent.tell(hold(5, 5_000)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    let mut watcher = haarb_vip_agent::kernel::Kernel::open().expect("rtnetlink");
    watcher.snapshot().await.expect("a snapshot");
    agent.end(Signal::SIGKILL);
    agent.start_again().await;
    let again = agent.until("both kept", |r| all_held(r, true)).await;
    assert_eq!(again.epoch.0, 5, "under the same epoch");
    agent.tell(hold(5, 20_000)).await;
    agent
        .until("both held", |r| {
            all_held(r, true) && r.lease_until > again.lease_until
        })
        .await;
    agent.tell(nothing(5)).await;
    agent.until("released", |r| all_held(r, false)).await;
    // The only removals that the kernel told of are the two at the end.
    let mut gone = 0;
    let mut appeared = 0;
    while gone < 2 {
        for event in watcher.next().await.expect("notifications") {
            let address = match &event {
                haarb_vip_agent::plan::Event::Address(f) => (f.address, true),
                haarb_vip_agent::plan::Event::AddressGone(f) => (f.address, false),
                _ => continue,
            };
            if vips.iter().any(|v| v.address == address.0) {
                assert!(!(address.1 && gone > 0), "it came back: {event:?}");
                gone += usize::from(!address.1);
                appeared += usize::from(address.1);
            }
        }
    }
    assert!(appeared >= 2, "its lifetime was renewed");
    // Without a lease in the record, leftovers go at once.
    agent.tell(hold(6, 20_000)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    agent.end(Signal::SIGKILL);
    agent.forget_leases();
    agent.start_again().await;
    agent.until("removed", |r| all_held(r, false)).await;
    assert!(!net.has(vips[0].address).await);
}

async fn signals(net: Net) {
    let vips = vips();
    let mut agent = Process::start().await;
    agent.tell(hold(1, 20_000)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    agent.end(Signal::SIGUSR1);
    assert!(net.has(vips[0].address).await, "a restart leaves it");
    agent.start_again().await;
    agent.until("both kept", |r| all_held(r, true)).await;
    agent.end(Signal::SIGTERM);
    for vip in &vips {
        assert!(!net.has(vip.address).await, "a stop does not");
    }
}

async fn thawed(net: Net) {
    let vips = vips();
    let mut agent = Process::start().await;
    agent.tell(hold(1, 500)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    agent.signal(Signal::SIGSTOP);
    tokio::time::sleep(Duration::from_millis(700)).await;
    // The arbiter goes on renewing and does not know.
    agent.tell(hold(1, 450)).await;
    agent.signal(Signal::SIGCONT);
    let stalled = async {
        loop {
            match agent.reports.recv().await.expect("it lives") {
                Report::Stalled(gap) => return gap,
                Report::Vip(report) => assert!(!all_held(&report.reserves[0], true)),
                _ => {}
            }
        }
    };
    let gap = tokio::time::timeout(PATIENCE, stalled).await.expect("X1");
    assert!(gap >= Span::from_millis(600), "{gap}");
    assert!(!net.has(vips[0].address).await, "let go before it was told");
    agent.tell(probe(vec![])).await;
    let next = agent.until("the probe", |r| r.probe_since.is_some()).await;
    assert!(
        all_held(&next, false),
        "what was granted before the thaw is void"
    );
    // What is granted after it counts.
    agent.tell(hold(2, 20_000)).await;
    agent.until("both held", |r| all_held(r, true)).await;
}

/// Not a test: prints how long taking and releasing take, as a process behind gRPC.
async fn measure(net: Net) {
    const ROUNDS: u64 = 1_000;
    let vips = vips();
    let other = Other::new(&net, &vips).await;
    let mut agent = Process::start().await;
    let (mut announced, mut took, mut released) = (Vec::new(), Vec::new(), Vec::new());
    for epoch in 1..=ROUNDS {
        other.heard();
        let began = clock::now();
        agent.tell(hold(epoch, 20_000)).await;
        other.hears(vips[0].address, 1).await;
        announced.push(clock::now().since(began).as_micros());
        agent.until("held", |r| all_held(r, true)).await;
        took.push(clock::now().since(began).as_micros());
        let began = clock::now();
        agent.tell(nothing(epoch)).await;
        agent.until("released", |r| all_held(r, false)).await;
        released.push(clock::now().since(began).as_micros());
    }
    println!("{ROUNDS} times, an IPv4 and an IPv6 address, gRPC included:");
    for (what, mut times) in [
        ("directive -> first ARP seen at the other end", announced),
        ("directive -> report that both are held", took),
        ("directive -> report that both are released", released),
    ] {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        let (p50, p99, max) = (at(50), at(99), at(100));
        println!("  {what}: p50 {p50} us, p99 {p99} us, max {max} us");
    }
}
