use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use haarb_config::{Attachment, Network, Node, Profile};
use haarb_model::{Mode, NeighbourReport, ProbeReport};
use haarb_wire::ClusterKey;

use super::*;

const RED: usize = 0;
const BLUE: usize = 1;

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

fn address(network: usize, host: u8) -> IpAddr {
    let network = u8::try_from(network).expect("small") + 1;
    Ipv4Addr::new(10, 77, network, host).into()
}

fn config() -> Config {
    let networks = ["red", "blue"].map(|n| NetworkName::new(n).expect("a name"));
    let node = |name: &str, host: u8| Node {
        name: node(name),
        networks: networks
            .iter()
            .enumerate()
            .map(|(i, n)| {
                let attachment = Attachment {
                    interface: format!("eth{i}"),
                    address: address(i, host),
                };
                (n.clone(), attachment)
            })
            .collect(),
    };
    Config {
        cluster: "pair".into(),
        profile: Profile::Telecom,
        timing: Timing::telecom(),
        port: 7950,
        sync_port: 7951,
        networks: networks
            .iter()
            .enumerate()
            .map(|(i, name)| Network {
                name: name.clone(),
                switch: Some(address(i, 254)),
            })
            .collect(),
        nodes: vec![node("alpha", 1), node("beta", 2)],
        reserves: Vec::new(),
        watchdog: None,
        digest: 0,
    }
}

fn payload(digest: u64) -> Vec<u8> {
    haarb_api::encode_advert(&Advert {
        protocol: 1,
        config_digest: digest,
        mode: Mode::Automatic,
        ..Advert::default()
    })
}

#[derive(Debug)]
enum Packet {
    Reply {
        network: usize,
        from: IpAddr,
        number: u64,
    },
    Datagram {
        network: usize,
        bytes: Vec<u8>,
    },
}

/// Two servers on two networks in virtual time. A packet takes 50 us, an ECHO 100 us.
struct Pair {
    now: Mono,
    servers: [Server; 2],
    /// Packets on their way, by arrival, then by order of sending.
    wire: BTreeMap<(Mono, u64), (usize, Packet)>,
    sent: u64,
    switch_on: [bool; 2],
    /// Of a hundred packets so many are lost, each way.
    loss: u64,
    random: u64,
}

struct Server {
    engine: Engine,
    powered: bool,
    /// Its arbiter renews its word.
    arbiter_lives: bool,
    payload: Vec<u8>,
    reports: Vec<(Mono, Report)>,
    datagrams: u64,
}

fn engine(index: usize, session: u64, now: Mono) -> Engine {
    let config = config();
    let seal = Seal::new(&config.cluster, &ClusterKey::from_bytes([3; 32]));
    let me = config.nodes[index].name.clone();
    Engine::new(&config, &me, seal, session, now)
}

/// Collects what one engine sends.
#[derive(Default)]
struct Out {
    echoes: Vec<(usize, IpAddr, u64)>,
    datagrams: Vec<(usize, Vec<u8>)>,
    now: Mono,
}

impl Outlet for Out {
    fn echo(&mut self, network: usize, to: IpAddr, number: u64) -> Option<Mono> {
        self.echoes.push((network, to, number));
        Some(self.now)
    }
    fn datagram(&mut self, network: usize, _: IpAddr, bytes: &[u8]) {
        self.datagrams.push((network, bytes.to_vec()));
    }
}

impl Pair {
    fn new() -> Self {
        let now = Mono::from_micros(5_000_000);
        let server = |index: usize| Server {
            engine: engine(index, 1000 * (index as u64 + 1), now),
            powered: true,
            arbiter_lives: true,
            payload: payload(index as u64 + 1),
            reports: Vec::new(),
            datagrams: 0,
        };
        Self {
            now,
            servers: [server(0), server(1)],
            wire: BTreeMap::new(),
            sent: 0,
            switch_on: [true; 2],
            loss: 0,
            random: 1,
        }
    }

    fn lost(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100 < self.loss
    }

    fn run(&mut self, span: Span) {
        let (begin, end) = (self.now, self.now + span);
        while self.now < end {
            let wake = self.servers.iter().filter(|s| s.powered);
            let wake = wake.map(|s| s.engine.wake(self.now)).min();
            // Replies wait for the next turn; only datagrams wake a prober.
            let wakes = |(_, packet): &(usize, Packet)| matches!(packet, Packet::Datagram { .. });
            let packet = self.wire.iter().find(|(_, p)| wakes(p)).map(|(k, _)| k.0);
            let next = wake.into_iter().chain(packet).min().unwrap_or(end);
            // A wake-up that is asked for in the past looks like a stall to the loop.
            let past = self.now - Span::from_millis(1);
            assert!(
                next >= past || self.now == begin,
                "{next:?} at {:?}",
                self.now
            );
            self.now = next.max(self.now).min(end);
            self.deliver();
            for index in 0..2 {
                if self.servers[index].powered {
                    self.turn(index);
                }
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.wire.first_entry()
            && entry.key().0 <= self.now
        {
            let ((at, _), (to, packet)) = entry.remove_entry();
            let server = &mut self.servers[to];
            if !server.powered {
                continue;
            }
            match packet {
                Packet::Reply {
                    network,
                    from,
                    number,
                } => server.engine.echo_reply(network, from, number, at),
                Packet::Datagram { network, bytes } => {
                    server.engine.datagram(network, &bytes, at);
                }
            }
        }
    }

    fn turn(&mut self, index: usize) {
        let now = self.now;
        let mut out = Out {
            now,
            ..Out::default()
        };
        let server = &mut self.servers[index];
        if server.arbiter_lives {
            let until = now + Span::from_millis(500);
            server.engine.directive(server.payload.clone(), until, now);
        }
        server.engine.step(now, &mut out);
        server.engine.conclude(now);
        server
            .reports
            .extend(server.engine.reports().map(|r| (now, r)));
        let other = 1 - index;
        for (network, to, number) in out.echoes {
            let host = if to == address(network, 254) {
                self.switch_on[network]
            } else {
                self.switch_on[network] && self.servers[other].powered
            };
            if host && !self.lost() && !self.lost() {
                let packet = Packet::Reply {
                    network,
                    from: to,
                    number,
                };
                self.post(100, index, packet);
            }
        }
        for (network, bytes) in out.datagrams {
            self.servers[index].datagrams += 1;
            if self.switch_on[network] && !self.lost() {
                self.post(50, other, Packet::Datagram { network, bytes });
            }
        }
    }

    fn post(&mut self, after: u64, to: usize, packet: Packet) {
        self.sent += 1;
        let at = self.now + Span::from_micros(after);
        self.wire.insert((at, self.sent), (to, packet));
    }

    /// The last full report of a server, and when it came.
    fn probe(&self, index: usize) -> (Mono, &ProbeReport) {
        let last = self.servers[index].reports.iter().rev();
        last.filter_map(|(at, r)| match r {
            Report::Probe(probe) => Some((*at, probe)),
            _ => None,
        })
        .next()
        .expect("a report")
    }

    fn neighbour(&self, index: usize) -> &NeighbourReport {
        &self.probe(index).1.neighbours[0]
    }

    /// Digests of the adverts that a server's arbiter was told, with the time.
    fn adverts(&self, index: usize) -> Vec<(Mono, u64)> {
        let all = self.servers[index].reports.iter();
        all.filter_map(|(at, r)| match r {
            Report::Advert { advert, .. } => Some((*at, advert.config_digest)),
            _ => None,
        })
        .collect()
    }

    /// The first moment after `since` at which a report of a server says so.
    fn first(
        &self,
        index: usize,
        since: Mono,
        says: impl Fn(&NeighbourReport) -> bool,
    ) -> Option<Span> {
        let mut all = self.servers[index].reports.iter();
        all.find_map(|(at, r)| match r {
            Report::Probe(p) if *at >= since && says(&p.neighbours[0]) => Some(at.since(since)),
            _ => None,
        })
    }
}

fn running() -> Pair {
    let mut pair = Pair::new();
    pair.run(Span::from_millis(500));
    pair
}

#[test]
fn two_servers_that_start_know_all_of_each_other_within_milliseconds() {
    let mut pair = Pair::new();
    pair.run(Span::from_millis(12));
    for index in 0..2 {
        let beta = pair.neighbour(index);
        assert!(beta.hears_me && !beta.arbiter_silent && !beta.silent);
        for path in &beta.paths {
            assert!(path.heard && path.kernel && path.hears_me, "{path:?}");
            assert_eq!(path.rtt_us, 100);
        }
        let other = 2 - index as u64;
        assert_eq!(pair.adverts(index).last().map(|a| a.1), Some(other));
        let switches = &pair.probe(index).1.switches;
        assert!(switches.iter().all(|s| s.answer == SwitchAnswer::Answers));
    }
}

#[test]
fn what_the_arbiter_says_is_told_at_once_and_reported_once() {
    let mut pair = running();
    pair.run(Span::from_micros(3_300));
    let since = pair.now;
    pair.servers[0].payload = payload(77);
    pair.turn(0);
    pair.run(Span::from_millis(100));
    let told: Vec<_> = pair
        .adverts(1)
        .into_iter()
        .filter(|a| a.0 >= since)
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].1, 77);
    assert!(told[0].0.since(since) <= Span::from_micros(100));
}

#[test]
fn a_power_off_is_reported_at_dead_after() {
    let mut pair = running();
    pair.run(Span::from_micros(4_700));
    let since = pair.now;
    pair.servers[1].powered = false;
    pair.run(Span::from_millis(100));
    let silent = pair.first(0, since, |n| n.silent).expect("a verdict");
    assert!(
        silent >= Span::from_millis(20) && silent <= Span::from_millis(31),
        "{silent}"
    );
    let suspect = pair.first(0, since, |n| n.suspect).expect("a suspicion");
    assert!(suspect < silent);
    assert!(pair.neighbour(0).paths.iter().all(|p| p.missing >= 3));
}

#[test]
fn a_silent_arbiter_is_told_at_once_and_the_prober_goes_on() {
    let mut pair = running();
    let since = pair.now;
    pair.servers[1].arbiter_lives = false;
    pair.run(Span::from_secs(2));
    let told = pair.first(0, since, |n| n.arbiter_silent).expect("told");
    assert!(
        told >= Span::from_millis(498) && told <= Span::from_millis(502),
        "{told}"
    );
    let beta = pair.neighbour(0);
    assert!(!beta.silent && beta.paths.iter().all(|p| !p.heard && p.kernel));
    assert!(beta.hears_me, "the network is whole");
    pair.servers[1].arbiter_lives = true;
    pair.run(Span::from_millis(15));
    assert!(pair.neighbour(0).paths.iter().all(|p| p.heard));
}

#[test]
fn a_dead_network_is_seen_by_both_and_told() {
    let mut pair = running();
    let since = pair.now;
    pair.switch_on[BLUE] = false;
    pair.run(Span::from_millis(100));
    for index in 0..2 {
        let other = pair.neighbour(index);
        assert!(!other.silent && !other.suspect);
        assert!(other.paths[RED].heard && other.paths[RED].hears_me);
        let blue = &other.paths[BLUE];
        assert!(!blue.heard && !blue.kernel && !blue.hears_me, "{blue:?}");
        let switches = &pair.probe(index).1.switches;
        assert_eq!(switches[RED].answer, SwitchAnswer::Answers);
        assert_eq!(switches[BLUE].answer, SwitchAnswer::Silent);
    }
    let told = pair.first(0, since, |n| !n.paths[BLUE].hears_me);
    assert!(told.expect("told") < Span::from_millis(30));
}

#[test]
fn a_server_that_is_cut_off_knows_it_before_it_counts_as_dead() {
    for phase in 0..20 {
        let mut pair = running();
        pair.run(Span::from_micros(phase * 500));
        let since = pair.now;
        pair.switch_on = [false; 2];
        pair.run(Span::from_millis(100));
        let mut all = pair.servers[0].reports.iter();
        let cut_off = all
            .find_map(|(at, r)| match r {
                Report::Probe(p)
                    if p.switches.iter().all(|s| s.answer == SwitchAnswer::Silent)
                        && p.neighbours[0].paths.iter().all(|p| !p.heard) =>
                {
                    Some(at.since(since))
                }
                _ => None,
            })
            .expect("cut off");
        let dead = pair.first(1, since, |n| n.silent).expect("a verdict");
        assert!(cut_off < dead, "cut off after {cut_off}, dead after {dead}");
    }
}

#[test]
fn a_new_arbiter_is_told_everything() {
    let mut pair = running();
    pair.servers[0].reports.clear();
    pair.servers[0].engine.attached(pair.now);
    pair.run(Span::from_micros(100));
    assert_eq!(pair.adverts(0).len(), 1);
    assert!(pair.neighbour(0).hears_me);
    // What is not heard any more is not told as if it were.
    pair.servers[1].powered = false;
    pair.run(Span::from_millis(100));
    pair.servers[0].reports.clear();
    pair.servers[0].engine.attached(pair.now);
    pair.run(Span::from_micros(100));
    assert_eq!(pair.adverts(0), []);
    assert!(pair.neighbour(0).silent);
}

#[test]
fn a_restarted_prober_is_heard_again_and_its_state_reported_anew() {
    let mut pair = running();
    let since = pair.now;
    pair.servers[1].engine = engine(1, 77, pair.now);
    pair.run(Span::from_millis(15));
    let again: Vec<_> = pair
        .adverts(0)
        .into_iter()
        .filter(|a| a.0 >= since)
        .collect();
    assert_eq!(again.len(), 1);
    assert_eq!(pair.first(0, since, |n| n.silent || n.suspect), None);
    assert!(pair.neighbour(1).hears_me);
}

/// Rule A4 gives way to a neighbour that does not hear us. A restart must not look like that.
#[test]
fn a_restart_of_either_prober_never_looks_like_a_network_that_works_one_way() {
    for (restarted, phase) in (0..2).flat_map(|r| (0..20).map(move |p| (r, p * 500))) {
        let mut pair = running();
        pair.run(Span::from_micros(phase));
        let since = pair.now;
        pair.servers[restarted].engine = engine(restarted, 77, pair.now);
        pair.run(Span::from_millis(200));
        for index in 0..2 {
            let one_way = pair.first(index, since, |n| {
                n.paths.iter().any(|p| p.heard) && !n.hears_me
            });
            assert_eq!(one_way, None, "server {index}, phase {phase}");
        }
    }
}

#[test]
fn rubbish_is_counted_and_harmless() {
    let mut pair = running();
    let now = pair.now;
    let engine = &mut pair.servers[0].engine;
    engine.datagram(RED, b"", now);
    engine.datagram(RED, &[0; 500], now);
    engine.datagram(9, &[0; 500], now);
    engine.echo_reply(9, address(RED, 2), 1, now);
    engine.echo_reply(RED, address(RED, 77), 1, now);
    pair.run(Span::from_millis(300));
    let dropped = &pair.probe(0).1.dropped;
    assert_eq!(dropped.get("too short"), Some(&1));
    assert_eq!(dropped.get("wrong version"), Some(&2));
}

#[test]
fn a_state_that_makes_no_sense_or_does_not_fit_is_not_a_live_arbiter() {
    let mut pair = running();
    pair.servers[1].payload = vec![0xff; 20];
    pair.run(Span::from_millis(50));
    assert_eq!(pair.adverts(0).len(), 1, "only the first one");
    pair.servers[1].payload = vec![0; 5000];
    pair.run(Span::from_millis(300));
    assert!(pair.neighbour(0).arbiter_silent);
    assert_eq!(
        pair.probe(0).1.dropped.get(BAD_PAYLOAD),
        Some(&1),
        "counted once, not with every datagram"
    );
    pair.servers[1].payload = payload(9);
    pair.run(Span::from_millis(50));
    assert!(!pair.neighbour(0).arbiter_silent);
    assert_eq!(pair.adverts(0).last().map(|a| a.1), Some(9));
}

#[test]
fn a_steady_pair_is_quiet() {
    let mut pair = running();
    let before = (pair.servers[0].reports.len(), pair.servers[0].datagrams);
    pair.run(Span::from_secs(1));
    let reports = pair.servers[0].reports.len() - before.0;
    assert!((7..=12).contains(&reports), "{reports} reports in a second");
    let datagrams = pair.servers[0].datagrams - before.1;
    assert!((199..=201).contains(&datagrams), "{datagrams} datagrams");
}

#[test]
fn a_long_stall_of_ours_is_reported_and_is_no_silence_of_others() {
    let mut pair = running();
    let from = pair.now;
    pair.now = from + Span::from_secs(1);
    pair.wire.clear();
    let woke = pair.now;
    pair.servers[0].engine.stood_still(from, woke);
    pair.servers[1].engine.stood_still(from, woke);
    pair.run(Span::from_millis(100));
    assert_eq!(pair.first(0, woke, |n| n.silent), None);
    let stalls = pair.servers[0].reports.iter();
    let stalls = stalls.filter(|(_, r)| matches!(r, Report::Stalled(_)));
    assert_eq!(stalls.count(), 1);
}

#[test]
fn a_switch_that_the_arbiter_wants_to_hear_is_asked_and_reported_at_once() {
    let mut pair = Pair::new();
    pair.run(Span::from_secs(2));
    // Right after a regular round of requests: the next one is 10 ms away.
    let rounds = |pair: &Pair| pair.servers[0].engine.next_switch;
    let before = rounds(&pair);
    while rounds(&pair) == before {
        pair.run(Span::from_micros(100));
    }
    pair.run(Span::from_micros(500));
    let since = pair.now;
    let wanted = BTreeSet::from([pair.servers[0].engine.networks[1].clone()]);
    pair.servers[0].engine.await_switches(&wanted, since);
    pair.run(Span::from_millis(1));
    let (at, probe) = pair.probe(0);
    assert!(at > since, "reported at once");
    assert!(
        probe.switches[1]
            .last_answer
            .is_some_and(|answer| answer > since)
    );
    // The same wish again is no news, a new one is.
    pair.servers[0].engine.await_switches(&wanted, pair.now);
    pair.run(Span::from_millis(8));
    assert_eq!(pair.probe(0).0, at);
    pair.servers[0]
        .engine
        .await_switches(&BTreeSet::new(), pair.now);
    pair.servers[0].engine.await_switches(&wanted, pair.now);
    pair.run(Span::from_millis(1));
    assert!(pair.probe(0).0 > at);
}

#[test]
fn a_switch_that_hangs_while_nobody_is_heard_is_known_before_the_neighbour_is_judged() {
    let mut pair = Pair::new();
    pair.run(Span::from_secs(2));
    let since = pair.now;
    pair.servers[1].powered = false;
    pair.switch_on[0] = false;
    pair.run(Span::from_millis(100));
    let reports = pair.servers[0].reports.iter();
    let mut probes = reports.filter_map(|(at, report)| match report {
        Report::Probe(probe) if *at > since => Some(probe),
        _ => None,
    });
    let lost = |probe: &ProbeReport| probe.switches[0].answer == SwitchAnswer::Silent;
    let silent = probes.find(|probe| probe.neighbours[0].silent);
    let silent = silent.expect("a verdict on the neighbour");
    assert!(lost(silent), "the switch is judged first");
    assert_eq!(silent.switches[1].answer, SwitchAnswer::Answers);
}

#[test]
fn sudden_loss_makes_no_neighbour_silent_and_no_switch() {
    for seed in 1..=100 {
        let mut pair = running();
        pair.random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed);
        pair.run(Span::from_micros(seed * 61 % 10_000));
        pair.loss = 30;
        let since = pair.now;
        pair.run(Span::from_millis(400));
        for index in 0..2 {
            assert_eq!(pair.first(index, since, |n| n.silent), None, "seed {seed}");
            let silent = pair.servers[index].reports.iter().any(|(at, r)| match r {
                Report::Probe(p) if *at >= since => {
                    p.switches.iter().any(|s| s.answer == SwitchAnswer::Silent)
                }
                _ => false,
            });
            assert!(!silent, "seed {seed}: a switch was called silent");
        }
    }
}

#[test]
fn each_direction_of_a_bad_link_is_known_by_both() {
    let mut pair = running();
    pair.loss = 30;
    pair.run(Span::from_secs(3));
    for index in 0..2 {
        for path in &pair.neighbour(index).paths {
            let near = |share: Option<f32>, to: f32| share.is_some_and(|s| (s - to).abs() < 0.2);
            assert!(near(Some(path.loss), 0.51), "{path:?}");
            assert!(
                near(path.loss_in, 0.3) && near(path.loss_out, 0.3),
                "{path:?}"
            );
        }
    }
}

/// Renewals of the arbiter's word are many, and most of them say nothing new.
#[test]
fn a_renewal_alone_is_no_reason_to_turn() {
    let mut pair = running();
    let now = pair.now;
    let later = now + Span::from_secs(1);
    let engine = &mut pair.servers[0].engine;
    assert!(!engine.directive(payload(1), later, now));
    assert!(engine.directive(payload(2), later, now));
    let late = later + Span::from_millis(1);
    assert!(
        engine.directive(payload(2), late + Span::from_secs(1), late),
        "it lives again"
    );
}
