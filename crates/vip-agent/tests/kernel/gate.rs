//! The lines behind a dead agent: what a client sees of a VIP when nobody can let go of it.
//!
//! What the gate does is exact and asserted so: a request that leaves after the deadline is not
//! answered, however the machine stalls, because the kernel compares clocks. Within 50 ms is
//! asked of nftables, whose timeouts are counted by the kernel's tick.

use std::time::Duration;

use haarb_daemon::clock;
use haarb_gate::Gate;
use haarb_model::{KernelLine, Mono, Span, VipSpec};
use haarb_vip_agent::arp;
use haarb_vip_agent::claim::Mac;
use nix::sys::signal::Signal;

use crate::client::{Client, Without, between, last_answered, late_ms};
use crate::net::{Net, Other};
use crate::server::{Inside, Process, all_held, config_with, hold, vips};

/// Long enough that the address is still there for a while after the lease: its lifetime is
/// counted in whole seconds.
const LEASE_MS: u64 = 1_100;
/// How late the kernel may end a lease by a gate.
const GATE_LATE: Span = KernelLine::Nftables.late();

/// How an agent dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Frozen,
    Killed,
}

impl Fault {
    const fn signal(self) -> Signal {
        match self {
            Self::Frozen => Signal::SIGSTOP,
            Self::Killed => Signal::SIGKILL,
        }
    }
}

/// The client's own address, so that it can ask.
fn client_of(vip: &VipSpec) -> VipSpec {
    let address = match vip.address {
        std::net::IpAddr::V4(_) => "10.77.1.7".parse(),
        std::net::IpAddr::V6(_) => "fd77:1::7".parse(),
    };
    VipSpec {
        address: address.expect("an address"),
        ..vip.clone()
    }
}

/// What was measured of one dead agent.
struct Seen {
    /// The last answered request left this long after the end of the lease; negative: before.
    late_ms: f64,
    /// The address was still there then.
    still_there: bool,
    /// Requests that were answered after the grace of [`GATE_LATE`].
    after: usize,
}

/// Takes a VIP under a lease, lets the agent die, and asks from the other end of the cable.
async fn die(net: &Net, vip: &VipSpec, without: Without, fault: Fault) -> Seen {
    let other = Other::new(net, &vips()).await;
    let mut agent = Process::start_without(without).await;
    let duty = hold(1, LEASE_MS);
    let until = duty[0].vip.until;
    agent.tell(duty).await;
    agent.until("both held", |r| all_held(r, true)).await;
    let client = net.there(|| Client::start(vip.address));
    // The first answers are there before it dies.
    sleep_until(clock::now() + Span::from_millis(200)).await;
    other.heard();
    other.probe();
    other.hears(vip.address, 1).await;
    agent.signal(fault.signal());
    sleep_until(until + GATE_LATE).await;
    other.heard();
    other.probe();
    sleep_until(until + GATE_LATE.times(3)).await;
    let silent = !other.heard().iter().any(|c| c.address == vip.address);
    // Asked last: it was there all the time while nobody answered.
    let still_there = net.has(vip.address).await;
    // However busy the machine is, the lifetime is underneath.
    while net.has(vip.address).await {
        assert!(clock::now() < until + Span::from_secs(10), "it stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let requests = client.finish();
    let last = last_answered(&requests).expect("it was reachable");
    let (after, _) = between(&requests, until + GATE_LATE, Mono::FAR);
    assert_eq!(silent, after == 0, "ARP and ND end with the rest");
    Seen {
        late_ms: late_ms(last, until),
        still_there,
        after,
    }
}

async fn sleep_until(moment: Mono) {
    tokio::time::sleep(moment.since(clock::now()).to_duration()).await;
}

/// The other side gets addresses to ask from.
async fn with_client(net: &Net) {
    for vip in vips() {
        net.add_there(&client_of(&vip)).await;
    }
}

/// The agent says which line it has; a kernel that has not got it makes the test pointless.
async fn has_line(without: Without, wanted: KernelLine) -> bool {
    let mut agent = Process::start_without(without).await;
    let guard = agent.guard().await;
    if guard.line != wanted {
        println!("skipped: {} instead: {}", guard.line.as_str(), guard.reason);
        return false;
    }
    assert_eq!(guard.reason.is_empty(), wanted == KernelLine::Ebpf);
    agent.end(Signal::SIGTERM);
    true
}

async fn ends_exactly(net: Net, without: Without, line: KernelLine, fault: Fault) {
    if !has_line(without, line).await {
        return;
    }
    with_client(&net).await;
    for vip in vips() {
        let seen = die(&net, &vip, without, fault).await;
        println!(
            "{:?} {fault:?} {}: last answer {:+.1} ms from the end of the lease, address {}",
            line,
            vip.address,
            seen.late_ms,
            if seen.still_there {
                "still there"
            } else {
                "gone"
            }
        );
        assert_eq!(seen.after, 0, "answered after the lease");
        assert!(seen.still_there, "the gate did it, not the lifetime");
    }
}

pub(crate) async fn frozen(net: Net) {
    ends_exactly(net, Without::Nothing, KernelLine::Ebpf, Fault::Frozen).await;
}

pub(crate) async fn killed(net: Net) {
    ends_exactly(net, Without::Nothing, KernelLine::Ebpf, Fault::Killed).await;
}

pub(crate) async fn frozen_nftables(net: Net) {
    ends_exactly(net, Without::Ebpf, KernelLine::Nftables, Fault::Frozen).await;
}

pub(crate) async fn killed_nftables(net: Net) {
    ends_exactly(net, Without::Ebpf, KernelLine::Nftables, Fault::Killed).await;
}

/// Another address of the server changes shortly before the lifetime of the VIP ends: the
/// kernel looks at lifetimes then, and not again for a whole second.
async fn change_another(net: &Net, vip: &VipSpec) {
    while !net.has(vip.address).await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    let another = VipSpec {
        address: "10.77.1.9".parse().expect("an address"),
        ..vip.clone()
    };
    net.add_here(&another).await;
}

/// Without either the address lifetime does it, later, and the agent says so. The decision
/// reckons with as much.
pub(crate) async fn lifetime_alone(net: Net) {
    with_client(&net).await;
    let [v4, _] = vips();
    let mut agent = Process::start_without(Without::EbpfAndNftables).await;
    let guard = agent.guard().await;
    assert_eq!(guard.line, KernelLine::Lifetime);
    for word in ["eBPF", "CAP_BPF", "nftables"] {
        assert!(guard.reason.contains(word), "{}", guard.reason);
    }
    agent.end(Signal::SIGTERM);
    let dies = die(&net, &v4, Without::EbpfAndNftables, Fault::Frozen);
    let (seen, ()) = tokio::join!(dies, change_another(&net, &v4));
    println!(
        "last answer {:+.0} ms from the end of the lease",
        seen.late_ms
    );
    let most = KernelLine::Lifetime.late().as_millis() as f64;
    assert!(seen.after > 0 && seen.late_ms < most, "{}", seen.late_ms);
}

/// Whether this kernel has a gate at all.
fn has_gate() -> bool {
    let mut gate = Gate::open(clock::now);
    let guard = gate.guard(1, "lo");
    gate.clear();
    if guard.line == KernelLine::Lifetime {
        println!("skipped: {}", guard.reason);
    }
    guard.line > KernelLine::Lifetime
}

/// On an interface that stands on another.
pub(crate) async fn on_macvlan(net: Net) {
    if has_gate() {
        with_client(&net).await;
        net.macvlan("mv0").await;
        ends_on(&net, "mv0").await;
    }
}

/// On an interface that stands on another. A cable has room for one of both.
pub(crate) async fn on_bridge(net: Net) {
    if has_gate() {
        with_client(&net).await;
        net.bridge("br0").await;
        ends_on(&net, "br0").await;
    }
}

async fn ends_on(net: &Net, interface: &str) {
    let on = vips().map(|vip| VipSpec {
        interface: interface.into(),
        ..vip
    });
    for vip in &on {
        let mut agent = Inside::start_with(&config_with(&on)).await;
        let duty = hold(1, LEASE_MS);
        let until = duty[0].vip.until;
        agent.tell(duty).await;
        agent.until("both held", |r| all_held(r, true)).await;
        let client = net.there(|| Client::start(vip.address));
        sleep_until(clock::now() + Span::from_millis(200)).await;
        agent.die().await;
        sleep_until(until + GATE_LATE.times(3)).await;
        let still_there = net.has(vip.address).await;
        let requests = client.finish();
        let last = last_answered(&requests).expect("it was reachable");
        println!(
            "{interface} {}: last answer {:+.1} ms from the end of the lease",
            vip.address,
            late_ms(last, until)
        );
        let (after, _) = between(&requests, until + GATE_LATE, Mono::FAR);
        assert_eq!(after, 0, "answered after the lease");
        assert!(still_there, "the gate did it, not the lifetime");
        // The next run begins with what this one left.
        let next = Inside::start_with(&config_with(&on)).await;
        next.stop().await;
        assert!(!net.has(vip.address).await, "leftovers go first");
    }
}

/// The VIP is on another interface than the one through which it is asked for: the kernel
/// answers there too, and must not after the lease.
pub(crate) async fn weak_host(net: Net) {
    if !has_gate() {
        return;
    }
    net.cable("eth7", "eth8").await;
    let on = vips().map(|vip| VipSpec {
        interface: "eth7".into(),
        ..vip
    });
    let other = Other::new(&net, &vips()).await;
    let mut agent = Inside::start_with(&config_with(&on)).await;
    let duty = hold(1, LEASE_MS);
    let until = duty[0].vip.until;
    agent.tell(duty).await;
    agent.until("both held", |r| all_held(r, true)).await;
    other.heard();
    other.probe();
    other.hears(on[0].address, 1).await;
    agent.die().await;
    sleep_until(until + GATE_LATE).await;
    other.heard();
    other.probe();
    sleep_until(until + GATE_LATE.times(3)).await;
    assert!(net.has(on[0].address).await, "the gate did it");
    assert!(other.heard().is_empty(), "answered after the lease");
}

/// A priority tag, which the kernel takes off and keeps beside the frame, opens no way past.
pub(crate) async fn priority_tags(net: Net) {
    if !has_gate() {
        return;
    }
    let [v4, _] = vips();
    let std::net::IpAddr::V4(address) = v4.address else {
        panic!("an IPv4 VIP");
    };
    let other = Other::new(&net, &vips()).await;
    let mut frame = arp::probe(Mac(other.mac()), address).to_vec();
    frame.splice(12..12, [0x81, 0x00, 5 << 5, 0]);
    let mut agent = Inside::start().await;
    let duty = hold(1, LEASE_MS);
    let until = duty[0].vip.until;
    agent.tell(duty).await;
    agent.until("both held", |r| all_held(r, true)).await;
    // After the burst.
    sleep_until(clock::now() + Span::from_millis(100)).await;
    other.heard();
    net.send_there(&frame).await;
    other.hears(v4.address, 1).await;
    agent.die().await;
    sleep_until(until + GATE_LATE).await;
    other.heard();
    net.send_there(&frame).await;
    sleep_until(until + GATE_LATE.times(3)).await;
    assert!(net.has(v4.address).await, "the gate did it");
    let answers = other.heard();
    assert!(!answers.iter().any(|c| c.address == v4.address));
}

/// Killed and started again within its lease: every request of the client is answered.
pub(crate) async fn restarted_without_loss(net: Net, without: Without) {
    with_client(&net).await;
    let [v4, _] = vips();
    let mut agent = Process::start_without(without).await;
    agent.tell(hold(1, 20_000)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    let client = net.there(|| Client::start(v4.address));
    sleep_until(clock::now() + Span::from_millis(100)).await;
    let began = clock::now();
    for _ in 0..3 {
        agent.end(Signal::SIGKILL);
        agent.start_again().await;
        agent.until("both kept", |r| all_held(r, true)).await;
    }
    let ended = clock::now();
    agent.tell(hold(1, 20_000)).await;
    agent.until("both held", |r| all_held(r, true)).await;
    let requests = client.finish();
    let (answered, lost) = between(&requests, began, ended);
    assert!(answered > 10, "the client asked {answered} times");
    assert_eq!(lost, 0, "lost, of {answered}");
    agent.end(Signal::SIGTERM);
}

pub(crate) async fn restarted(net: Net) {
    restarted_without_loss(net, Without::Nothing).await;
}

pub(crate) async fn restarted_nftables(net: Net) {
    restarted_without_loss(net, Without::Ebpf).await;
}

/// Not a test: when the last answer came, over many deaths.
pub(crate) async fn measure(net: Net) {
    const ROUNDS: usize = 20;
    with_client(&net).await;
    let [v4, v6] = vips();
    for (line, without) in [
        (KernelLine::Ebpf, Without::Nothing),
        (KernelLine::Nftables, Without::Ebpf),
        (KernelLine::Lifetime, Without::EbpfAndNftables),
    ] {
        for fault in [Fault::Frozen, Fault::Killed] {
            for vip in [&v4, &v6] {
                let mut times = Vec::new();
                for _ in 0..ROUNDS {
                    times.push(die(&net, vip, without, fault).await.late_ms);
                }
                times.sort_unstable_by(f64::total_cmp);
                println!(
                    "{} {fault:?} {}: last answer after the lease, n {ROUNDS}: min {:+.2}, \
                     median {:+.2}, max {:+.2} ms",
                    line.as_str(),
                    vip.address,
                    times[0],
                    times[ROUNDS / 2],
                    times[ROUNDS - 1]
                );
            }
        }
    }
}
