//! The gate in a network namespace of the test's own, beside filters and tables of others.
//! Where the kernel gives no namespace, or no eBPF, a test says so and proves nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use haarb_model::Span;
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};

use super::*;
use crate::nft::open_elements;
use crate::tc::foreign;

/// The loopback interface is there in every namespace.
const LO: u32 = 1;
const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 1, 100));

fn now() -> Mono {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("a clock");
    let micros = time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_nsec().unsigned_abs() / 1000;
    Mono::from_micros(micros)
}

/// Runs a test in a namespace; `line` is what it needs of the kernel.
fn within_namespace(line: KernelLine, test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            eprintln!("skipped: no network namespace of our own: {error}");
            return;
        }
        let guard = Gate::open(now).guard(LO, "lo");
        let has = guard.line == line || guard.line == KernelLine::Ebpf && nftables_works();
        if !has {
            eprintln!("skipped: {}: {}", guard.line.as_str(), guard.reason);
            return;
        }
        Gate::open(now).sweep([LO].into_iter());
        test();
    });
    thread.join().expect("the test");
}

fn nftables_works() -> bool {
    without_ebpf(now).guard(LO, "lo").line == KernelLine::Nftables
}

fn without_ebpf(clock: fn() -> Mono) -> Gate {
    let mut gate = Gate::open(clock);
    gate.ebpf = Err("taken away".into());
    gate
}

fn door(door: Door) -> Doors {
    Doors::from([(VIP, door)])
}

#[test]
fn it_leaves_nothing_behind() {
    within_namespace(KernelLine::Ebpf, || {
        for mut gate in [Gate::open(now), without_ebpf(now)] {
            let guard = gate.guard(LO, "lo");
            assert!(guard.line > KernelLine::Lifetime);
            gate.set(door(Door::Until(now() + Span::from_secs(9))))
                .expect("a deadline");
            assert!(gate.attached(LO, &gate.interfaces[&LO]));
            gate.clear();
            assert!(!foreign::has_clsact(LO), "the clsact was ours");
            let table = Table::open(now).expect("nftables");
            assert!(!table.attached("lo"));
        }
    });
}

#[test]
fn what_others_put_there_stays() {
    within_namespace(KernelLine::Ebpf, || {
        foreign::add_clsact(LO);
        let mut gate = Gate::open(now);
        assert_eq!(gate.guard(LO, "lo").reason, "");
        gate.clear();
        assert!(foreign::has_clsact(LO), "somebody else made it");

        // A filter in front that shares its place with none for everything: ours comes second and says so.
        foreign::add_filter(LO, 1);
        let guard = gate.guard(LO, "lo");
        assert_eq!(guard.line, KernelLine::Ebpf);
        assert!(guard.reason.contains("come before"), "{}", guard.reason);
        gate.clear();
        assert!(foreign::has_filter(LO), "not ours to remove");
    });
}

#[test]
fn a_filter_that_came_later_keeps_our_clsact() {
    within_namespace(KernelLine::Ebpf, || {
        let mut gate = Gate::open(now);
        gate.guard(LO, "lo");
        // Ours is in front of it, at the first place.
        foreign::add_filter(LO, 2);
        gate.clear();
        assert!(foreign::has_filter(LO));
    });
}

#[test]
fn an_agent_that_comes_again_finds_it() {
    within_namespace(KernelLine::Ebpf, || {
        let mut before = Gate::open(now);
        before.guard(LO, "lo");
        // Killed: nothing is cleared, all descriptors close.
        drop(before);
        let mut after = Gate::open(now);
        assert_eq!(after.guard(LO, "lo").reason, "");
        assert_eq!(foreign::count_filters(LO), 2, "one in each direction");
        after.clear();
        assert!(!foreign::has_clsact(LO), "ours, though another run made it");

        // Killed for good, and started without that interface in the configuration.
        for mut gate in [Gate::open(now), without_ebpf(now)] {
            gate.guard(LO, "lo");
            drop(gate);
            Gate::open(now).sweep([LO].into_iter());
            assert!(!foreign::has_clsact(LO));
            assert!(!Table::open(now).expect("nftables").attached("lo"));
        }
    });
}

#[test]
fn what_somebody_removed_is_put_back() {
    within_namespace(KernelLine::Ebpf, || {
        let existing = BTreeSet::from([LO]);
        let mut gate = Gate::open(now);
        gate.guard(LO, "lo");
        assert_eq!(gate.mend(&existing), Vec::<String>::new());
        foreign::delete_clsact(LO);
        assert_eq!(gate.mend(&existing), ["lo"]);
        assert!(gate.attached(LO, &gate.interfaces[&LO]));
        assert_eq!(gate.mend(&BTreeSet::new()), Vec::<String>::new(), "gone");

        let mut gate = without_ebpf(now);
        gate.guard(LO, "lo");
        Table::open(now).expect("nftables").remove().expect("gone");
        assert_eq!(gate.mend(&existing), ["lo"]);
        Table::open(now).expect("nftables").remove().expect("gone");
        let refused = gate.set(door(Door::Shut));
        assert!(refused.is_err(), "it says that it must be guarded anew");
        assert_eq!(gate.guard(LO, "lo").line, KernelLine::Nftables);
    });
}

#[test]
fn an_old_ingress_leaves_only_nftables() {
    within_namespace(KernelLine::Ebpf, || {
        foreign::add_ingress(LO);
        let mut gate = Gate::open(now);
        let guard = gate.guard(LO, "lo");
        assert_eq!(guard.line, KernelLine::Nftables, "{}", guard.reason);
        assert_eq!(foreign::count_filters(LO), 0, "no half of a gate stays");
        gate.clear();
    });
}

#[test]
fn a_stalled_transaction_is_made_again() {
    /// Every reading, one second more: the process stands still in every transaction.
    fn stalling() -> Mono {
        static READINGS: AtomicU64 = AtomicU64::new(0);
        Mono::ZERO + Span::from_secs(READINGS.fetch_add(1, Ordering::Relaxed))
    }
    within_namespace(KernelLine::Nftables, || {
        let mut gate = without_ebpf(stalling);
        gate.guard(LO, "lo");
        let granted = stalling();
        gate.set(door(Door::Until(granted + Span::from_secs(4))))
            .expect("a deadline");
        // Readings: begun at 1, 3, 5 s after the grant; the last one finds it over.
        let left = open_elements();
        assert_eq!(left, 0, "an old grant got a new lease");
        let until = stalling() + Span::from_secs(60);
        gate.set(door(Door::Until(until))).expect("a deadline");
        assert_eq!(open_elements(), 1, "a fresh one does");
    });
}
