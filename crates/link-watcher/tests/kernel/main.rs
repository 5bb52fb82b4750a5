//! The link-watcher against a real kernel: two cables in a network namespace of its own. Needs
//! root or user namespaces; without them every test is reported as ignored.
//!
//! The numbers come from `measure`, which is run by name:
//! `cargo test -p haarb-link-watcher --test kernel --release -- --ignored --nocapture`.

use std::path::PathBuf;
use std::sync::mpsc as thread;
use std::time::Duration;

use haarb_config::{Attachment, Config, Network, Node, Profile};
use haarb_daemon::{ArbiterLink, Context, FromArbiter, Options, clock};
use haarb_lab::netlink::{CableEnd, Netlink};
use haarb_lab::netns::NetNs;
use haarb_model::{
    LinkReport, NetworkName, NodeName, Prefer, Report, ReserveName, Timing, VipSpec,
};
use libtest_mimic::{Arguments, Trial};
use nix::sched::{CloneFlags, unshare};
use tokio::sync::mpsc;

/// Longer than anything takes on a loaded machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> std::process::ExitCode {
    let reason = become_root_of_a_namespace().err();
    if let Some(reason) = &reason {
        eprintln!("ignored, all of them: {reason}");
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let trial = |name, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(reason.is_some())
    };
    let trials = vec![
        trial("every_change_of_a_link_is_reported", changes),
        trial("what_is_told_too_fast_is_asked_again", flood),
        trial("a_second_loss_within_a_second_is_not_held_back", held_back),
        trial("a_new_arbiter_is_told_everything", attached),
        trial("measure", measure).with_ignored_flag(true),
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

/// A server with eth0 and its cable; eth1 and vip0 are watched and not there at first.
struct Bench {
    outside: Netlink,
    inside: Netlink,
    server: NetNs,
    watcher: Watcher,
    cables: u32,
    held_back: bool,
}

/// A link-watcher in a thread, inside the server's namespace.
struct Watcher {
    reports: mpsc::Receiver<Report>,
    to_watcher: mpsc::Sender<FromArbiter>,
    last: Vec<LinkReport>,
    /// Holds the thread while the sender that belongs to it lives; closed, it stops.
    holds: Option<mpsc::Sender<(thread::Sender<()>, thread::Receiver<()>)>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bench {
    fn new() -> Self {
        Self::with(false)
    }

    fn with(held_back: bool) -> Self {
        let outside = NetNs::create().expect("a namespace");
        let server = NetNs::create().expect("a namespace");
        let mut bench = Self {
            outside: outside.netlink().expect("a socket"),
            inside: server.netlink().expect("a socket"),
            watcher: Watcher::start(server.clone()),
            server,
            cables: 0,
            held_back,
        };
        bench.watcher.until(&["does not exist"; 3]);
        bench.add("eth0");
        bench.up("eth0", true);
        bench.cable("eth0", true);
        bench
            .watcher
            .until(&["up", "does not exist", "does not exist"]);
        bench
    }

    /// The kernel tells of cables at once only where both ends have different numbers, so that
    /// it takes them for virtual; with the same number it holds back, as with real cards.
    fn add(&mut self, name: &str) {
        self.cables += 1;
        let far = CableEnd {
            name,
            mac: None,
            netns: Some(self.server.raw_fd()),
            index: Some(100 + self.cables),
        };
        let near = CableEnd {
            netns: None,
            index: Some(if self.held_back { 100 } else { 200 } + self.cables),
            ..far
        };
        self.outside.add_cable(&near, &far).expect("a cable");
    }

    fn up(&mut self, name: &str, up: bool) {
        let index = self.inside.index_of(name).expect("it is there");
        self.inside.set_up(index, up).expect("done");
    }

    fn cable(&mut self, name: &str, plugged: bool) {
        let index = self.outside.index_of(name).expect("it is there");
        self.outside.set_up(index, plugged).expect("done");
    }
}

fn changes() {
    let mut bench = Bench::new();
    let absent = "does not exist";
    bench.cable("eth0", false);
    bench.watcher.until(&["no carrier", absent, absent]);
    bench.up("eth0", false);
    bench
        .watcher
        .until(&["administratively down", absent, absent]);
    bench.cable("eth0", true);
    bench.up("eth0", true);
    bench.watcher.until(&["up", absent, absent]);
    bench.add("eth1");
    bench
        .watcher
        .until(&["up", "administratively down", absent]);
    let index = bench.outside.index_of("eth0").expect("it is there");
    bench.outside.delete_link(index).expect("done");
    bench
        .watcher
        .until(&[absent, "administratively down", absent]);
}

/// More changes than the socket's queue can hold while the watcher is kept from reading: the
/// end is right all the same.
fn flood() {
    let mut bench = Bench::new();
    let held = bench.watcher.hold();
    for _ in 0..2000 {
        bench.cable("eth0", false);
        bench.cable("eth0", true);
    }
    bench.add("vip0");
    bench.up("vip0", true);
    bench.cable("vip0", true);
    drop(held);
    bench.watcher.until(&["up", "does not exist", "up"]);
}

/// Twenty losses; the kernel by itself would tell of one per second.
fn held_back() {
    let mut bench = Bench::with(true);
    let begin = clock::now();
    for _ in 0..20 {
        bench.cable("eth0", false);
        bench
            .watcher
            .until(&["no carrier", "does not exist", "does not exist"]);
        bench.cable("eth0", true);
        bench
            .watcher
            .until(&["up", "does not exist", "does not exist"]);
    }
    let took = clock::now().since(begin);
    assert!(took < haarb_model::Span::from_secs(10), "{took}");
}

fn attached() {
    let mut bench = Bench::new();
    bench.watcher.last.clear();
    let told = bench.watcher.to_watcher.try_send(FromArbiter::Attached);
    told.expect("room for one");
    bench
        .watcher
        .until(&["up", "does not exist", "does not exist"]);
}

/// Prints how long after a cable was pulled the report is in the arbiter's queue.
fn measure() {
    const ROUNDS: usize = 200;
    for (held_back, what) in [(false, "told at once"), (true, "held back by the kernel")] {
        let mut bench = Bench::with(held_back);
        let index = bench.outside.index_of("eth0").expect("it is there");
        let mut all = Vec::new();
        for round in 0..ROUNDS {
            let pulled = clock::now();
            bench.outside.set_up(index, false).expect("done");
            bench
                .watcher
                .until(&["no carrier", "does not exist", "does not exist"]);
            all.push(clock::now().since(pulled).as_micros());
            bench.cable("eth0", true);
            bench
                .watcher
                .until(&["up", "does not exist", "does not exist"]);
            std::thread::sleep(Duration::from_micros(5000 + round as u64 * 37));
        }
        all.sort_unstable();
        println!(
            "{what}: report after the cable is pulled, the pulling included: median {} us, p99 {} us, max {} us, n {ROUNDS}",
            all[ROUNDS / 2],
            all[ROUNDS * 99 / 100],
            all[ROUNDS - 1]
        );
    }
}

impl Watcher {
    fn start(server: NetNs) -> Self {
        let (link, to_watcher, reports) = ArbiterLink::pair();
        let (holds, mut held) = mpsc::channel::<(thread::Sender<()>, thread::Receiver<()>)>(1);
        let thread = std::thread::spawn(move || {
            let inside = server.run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let stop = async {
                    while let Some((holding, release)) = held.recv().await {
                        let _ = holding.send(());
                        // Blocks the whole thread, which is the point.
                        let _ = release.recv();
                    }
                };
                runtime
                    .block_on(haarb_link_watcher::serve(context(), link, stop))
                    .map_err(std::io::Error::other)
            });
            inside.expect("the watcher ends well");
        });
        Self {
            reports,
            to_watcher,
            last: Vec::new(),
            holds: Some(holds),
            thread: Some(thread),
        }
    }

    /// Stops the watcher's thread until the returned sender is dropped.
    fn hold(&self) -> thread::Sender<()> {
        let (holding, is_held) = thread::channel();
        let (release, released) = thread::channel();
        let holds = self.holds.as_ref().expect("it runs");
        holds.try_send((holding, released)).expect("room for one");
        is_held.recv().expect("it holds");
        release
    }

    /// Reads reports until one says this of eth0, eth1 and vip0.
    fn until(&mut self, reasons: &[&str; 3]) {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            while let Ok(report) = self.reports.try_recv() {
                if let Report::Links(links) = report {
                    self.last = links;
                }
            }
            let now: Vec<_> = self
                .last
                .iter()
                .map(|l| if l.up { "up" } else { l.reason.as_str() })
                .collect();
            if now == reasons {
                return;
            }
            assert!(
                std::time::Instant::now() < end,
                "never: {reasons:?}; last: {:?}",
                self.last
            );
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.holds = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn context() -> Context {
    let nowhere = PathBuf::from("/nonexistent");
    let name = |n| NetworkName::new(n).expect("a name");
    let me = NodeName::new("alpha").expect("a name");
    let here = |i: u8| Attachment {
        interface: format!("eth{i}"),
        address: [10, 77, i + 1, 1].into(),
    };
    let networks = [name("red"), name("blue")];
    let vip = |interface: &str, host: u8| VipSpec {
        address: [10, 77, 1, host].into(),
        prefix: 24,
        interface: interface.into(),
    };
    Context {
        options: Options {
            config: nowhere.clone(),
            node: None,
            run_dir: nowhere.clone(),
            state_dir: nowhere.clone(),
            key: nowhere,
        },
        config: Config {
            cluster: "one".into(),
            profile: Profile::Telecom,
            timing: Timing::telecom(),
            port: 7950,
            sync_port: 7951,
            networks: networks
                .iter()
                .map(|name| Network {
                    name: name.clone(),
                    switch: None,
                })
                .collect(),
            nodes: vec![Node {
                name: me.clone(),
                networks: networks.into_iter().zip([here(0), here(1)]).collect(),
            }],
            reserves: vec![haarb_config::Reserve {
                strict: false,
                resume_on_one: false,
                name: ReserveName::new("sip").expect("a name"),
                prefer: Prefer::Availability,
                vips: vec![vip("eth0", 100), vip("vip0", 101)],
                directories: Vec::new(),
                services: Vec::new(),
            }],
            watchdog: None,
            digest: 0,
        },
        me,
    }
}
