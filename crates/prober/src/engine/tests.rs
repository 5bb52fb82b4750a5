//! Two engines with a network of a few lines between them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use haarb_config::{Attachment, Network, Node, Profile};
use haarb_model::{Mode, NeighbourReport, ProbeReport};
use haarb_wire::ClusterKey;

use super::*;

mod arbiter;
mod silence;
mod start;

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
