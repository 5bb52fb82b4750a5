//! Two servers and two switches as network namespaces, and a prober in a thread of each server,
//! with the test as its arbiter.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use haarb_config::{Attachment, Config, Network, Node, Profile};
use haarb_daemon::{ArbiterLink, Context, FromArbiter, Options, clock};
use haarb_lab::netlink::{CableEnd, Netlink};
use haarb_lab::netns::NetNs;
use haarb_model::{Advert, Mono, NetworkName, NodeName, ProbeReport, Report, Timing};
use haarb_wire::ClusterKey;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, oneshot};

pub(crate) const RED: usize = 0;
pub(crate) const BLUE: usize = 1;

/// Longer than anything takes on a loaded machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(10);
const SERVERS: [&str; 2] = ["alpha", "beta"];

fn host(server: &str) -> u8 {
    if server == SERVERS[0] { 1 } else { 2 }
}

fn address(network: usize, host: u8) -> (IpAddr, u8) {
    match network {
        RED => ([10, 77, 1, host].into(), 24),
        _ => ([0xfd77, 0, 0, 2, 0, 0, 0, host.into()].into(), 64),
    }
}

pub(crate) struct Segment {
    switch: Netlink,
    _switch_ns: NetNs,
    servers: BTreeMap<&'static str, (NetNs, Netlink)>,
}

impl Segment {
    pub(crate) fn new() -> Self {
        let switch_ns = NetNs::create().expect("a namespace");
        let switch = switch_ns.netlink().expect("a socket");
        let server = |name| {
            let ns = NetNs::create().expect("a namespace");
            let netlink = ns.netlink().expect("a socket");
            (name, (ns, netlink))
        };
        let mut segment = Self {
            switch,
            _switch_ns: switch_ns,
            servers: SERVERS.into_iter().map(server).collect(),
        };
        for network in [RED, BLUE] {
            segment.add_switch(network);
            for server in SERVERS {
                segment.add_interface(server, network);
            }
        }
        segment
    }

    fn add_switch(&mut self, network: usize) {
        let name = format!("br{network}");
        let mac = [2, 0, 0, 0, 254, network as u8];
        self.switch.add_bridge(&name, mac).expect("a bridge");
        let index = self.switch.index_of(&name).expect("it is there");
        let (ip, prefix) = address(network, 254);
        self.switch.add_address(index, ip, prefix).expect("address");
        self.switch.set_up(index, true).expect("up");
    }

    /// Makes a server's interface with its address and plugs it into its switch.
    pub(crate) fn add_interface(&mut self, server: &'static str, network: usize) {
        let (ns, netlink) = self.servers.get_mut(server).expect("a server");
        let (near, far) = (port(server, network), format!("eth{network}"));
        let end = |name, netns| CableEnd {
            name,
            mac: None,
            netns,
            index: None,
        };
        let far_end = end(&far, Some(ns.raw_fd()));
        let added = self.switch.add_cable(&end(&near, None), &far_end);
        added.expect("a cable");
        let index = self.switch.index_of(&near).expect("it is there");
        let bridge = self.switch.index_of(&format!("br{network}"));
        let plugged = self
            .switch
            .plug_into_bridge(index, bridge.expect("it is there"));
        plugged.expect("plugged");
        self.switch.set_up(index, true).expect("up");
        let index = netlink.index_of(&far).expect("it is there");
        let (ip, prefix) = address(network, host(server));
        netlink.add_address(index, ip, prefix).expect("an address");
        netlink.set_up(index, true).expect("up");
    }

    pub(crate) fn remove_interface(&mut self, server: &'static str, network: usize) {
        let index = self.switch.index_of(&port(server, network)).expect("there");
        self.switch.delete_link(index).expect("deleted");
    }

    /// Adds or removes a server's own address.
    pub(crate) fn address(&mut self, server: &'static str, network: usize, there: bool) {
        let (_, netlink) = self.servers.get_mut(server).expect("a server");
        let index = netlink.index_of(&format!("eth{network}")).expect("there");
        let (ip, prefix) = address(network, host(server));
        let done = if there {
            netlink.add_address(index, ip, prefix)
        } else {
            netlink.delete_address(index, ip, prefix)
        };
        done.expect("done");
    }

    /// Plugs or pulls a cable.
    pub(crate) fn cable(&mut self, server: &'static str, network: usize, plugged: bool) {
        let index = self.switch.index_of(&port(server, network)).expect("there");
        self.switch.set_up(index, plugged).expect("done");
    }

    /// Isolates a server from everything without taking its carrier: what a switch sees of a
    /// server whose power is gone, since the cables of both networks go at one moment.
    pub(crate) fn power_off(&mut self, server: &'static str) {
        for network in [RED, BLUE] {
            self.cable(server, network, false);
        }
    }

    pub(crate) fn power_on(&mut self, server: &'static str) {
        for network in [RED, BLUE] {
            self.cable(server, network, true);
        }
    }

    /// Starts a prober on a server.
    pub(crate) fn start(&self, server: &'static str) -> Server {
        let (ns, _) = &self.servers[server];
        Server::start(server, ns.clone())
    }
}

fn port(server: &str, network: usize) -> String {
    format!("{server}{network}")
}

fn config() -> Config {
    let networks = ["red", "blue"].map(|n| NetworkName::new(n).expect("a name"));
    let nodes = SERVERS.map(|server| Node {
        name: NodeName::new(server).expect("a name"),
        networks: networks
            .iter()
            .enumerate()
            .map(|(i, network)| {
                let here = Attachment {
                    interface: format!("eth{i}"),
                    address: address(i, host(server)).0,
                };
                (network.clone(), here)
            })
            .collect(),
    });
    let switch = |(i, name): (usize, &NetworkName)| Network {
        name: name.clone(),
        switch: Some(address(i, 254).0),
    };
    Config {
        cluster: "pair".into(),
        profile: Profile::Telecom,
        timing: Timing::telecom(),
        port: 7950,
        sync_port: 7951,
        networks: networks.iter().enumerate().map(switch).collect(),
        nodes: nodes.into(),
        reserves: Vec::new(),
        watchdog: None,
        digest: 0,
    }
}

/// What the arbiter of a server knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// When the last report was read.
    pub(crate) at: Mono,
    pub(crate) probe: ProbeReport,
    pub(crate) advert: Option<Advert>,
    /// Reports so far that called the neighbour silent.
    pub(crate) silent: u32,
    /// Stalls of its own that the prober noticed and reported.
    pub(crate) stalls: u32,
}

/// A prober in a thread, inside a server's namespace.
pub(crate) struct Server {
    reports: mpsc::Receiver<Report>,
    seen: Seen,
    cpu_us: Arc<AtomicU64>,
    stall: mpsc::UnboundedSender<Duration>,
    _to_prober: mpsc::Sender<FromArbiter>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(server: &'static str, ns: NetNs) -> Self {
        let (link, to_prober, reports) = ArbiterLink::pair();
        let (stop, stopped) = oneshot::channel::<()>();
        let (stall, mut stalls) = mpsc::unbounded_channel::<Duration>();
        let directive = haarb_api::Directive {
            payload: haarb_api::encode_advert(&Advert {
                protocol: 1,
                ..Advert::default()
            }),
            payload_until: Mono::FAR,
            ..haarb_api::Directive::default()
        };
        to_prober
            .try_send(FromArbiter::Directive(directive))
            .expect("room for one");
        let cpu_us = Arc::new(AtomicU64::new(0));
        let cpu = cpu_us.clone();
        let thread = std::thread::spawn(move || {
            let inside = ns.run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let stop = async {
                    let mut often = tokio::time::interval(Duration::from_millis(500));
                    let mut stopped = stopped;
                    loop {
                        tokio::select! {
                            _ = &mut stopped => return,
                            _ = often.tick() => note_cpu(&cpu),
                            // The whole loop stands still, as under SIGSTOP.
                            Some(span) = stalls.recv() => std::thread::sleep(span),
                        }
                    }
                };
                let key = ClusterKey::from_bytes([5; 32]);
                runtime
                    .block_on(haarb_prober::serve(context(server), key, link, stop))
                    .map_err(std::io::Error::other)
            });
            inside.expect("the prober ends well");
        });
        Self {
            reports,
            seen: Seen::default(),
            cpu_us,
            stall,
            _to_prober: to_prober,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Reads reports until one makes `is` true; fails the test if none does for long.
    pub(crate) fn until(&mut self, what: &str, is: impl Fn(&Seen) -> bool) -> Seen {
        let end = std::time::Instant::now() + PATIENCE;
        // What was queued before is old news, read first.
        loop {
            match self.reports.try_recv() {
                Ok(report) => self.take(report),
                Err(mpsc::error::TryRecvError::Empty) => {
                    if !self.seen.probe.neighbours.is_empty() && is(&self.seen) {
                        return self.seen.clone();
                    }
                    assert!(
                        std::time::Instant::now() < end,
                        "never: {what}; last: {:#?}",
                        self.seen
                    );
                    std::thread::sleep(Duration::from_micros(100));
                }
                Err(mpsc::error::TryRecvError::Disconnected) => panic!("the prober has ended"),
            }
        }
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Probe(probe) => {
                self.seen.at = clock::now();
                self.seen.silent += u32::from(probe.neighbours[0].silent);
                self.seen.probe = probe;
            }
            Report::Advert { advert, .. } => self.seen.advert = Some(advert),
            Report::Stalled(_) => self.seen.stalls += 1,
            _ => {}
        }
    }

    /// Has the prober stand still for so long, from now on.
    pub(crate) fn stall(&self, span: Duration) {
        self.stall.send(span).expect("it runs");
    }

    pub(crate) const fn last(&self) -> &Seen {
        &self.seen
    }

    /// CPU time that the prober has used, to half a second.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_micros(self.cpu_us.load(Ordering::Relaxed))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn note_cpu(to: &AtomicU64) {
    if let Ok(time) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) {
        let us = time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_nsec().unsigned_abs() / 1000;
        to.store(us, Ordering::Relaxed);
    }
}

fn context(server: &str) -> Context {
    let nowhere = PathBuf::from("/nonexistent");
    Context {
        options: Options {
            config: nowhere.clone(),
            node: Some(server.into()),
            run_dir: nowhere.clone(),
            state_dir: nowhere.clone(),
            key: nowhere,
        },
        config: config(),
        me: NodeName::new(server).expect("a name"),
    }
}
