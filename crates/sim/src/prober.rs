//! A model of the prober: what it sends, what it makes of what arrives. Written from the
//! design, not from the daemon, so that each is a check on the other.

mod neighbour;
mod path;
mod switches;

use haarb_model::{
    Advert, LinkDuties, Mono, NetworkName, NodeName, ProbeReport, Report, Span, SwitchAnswer,
    SwitchReport, Timing, sign_interval,
};

use crate::{NetIx, NodeIx};

pub use neighbour::Neighbour;
use neighbour::Verdict;
use switches::{Around, Switches};

/// What travels between probers.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// The run of the sender's prober.
    pub session: u64,
    /// Counts the datagrams of the session.
    pub counter: u64,
    /// A live arbiter stands behind the payload.
    pub live: bool,
    /// The networks on which the sender hears the receiver.
    pub hears: Vec<bool>,
    /// The receiver's session that the sender has seen last.
    pub echo: Option<u64>,
    /// The sender's state.
    pub payload: Option<Advert>,
}

/// Whether the arbiter waits for a switch's next answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    No,
    Yes,
    Told,
}

/// The prober of one server.
#[derive(Clone, Debug)]
pub struct Prober {
    timing: Timing,
    networks: Vec<NetworkName>,
    /// Its own session.
    pub session: u64,
    /// The other servers.
    pub neighbours: Vec<Neighbour>,
    switches: Switches,
    awaited: Vec<Awaited>,
    number: u64,
    counter: u64,
    payload: Option<Advert>,
    payload_until: Mono,
    told: Vec<Vec<bool>>,
    told_live: bool,
    reported: Option<(Vec<Verdict>, Vec<SwitchAnswer>)>,
    last_report: Mono,
    adverts: Vec<Report>,
    /// A datagram out of turn is due.
    pub news: bool,
}

impl Prober {
    /// A prober that has just started.
    #[must_use]
    pub fn new(
        timing: Timing,
        networks: Vec<NetworkName>,
        asked: bool,
        others: Vec<(NodeIx, NodeName)>,
        session: u64,
        now: Mono,
    ) -> Self {
        let nets = networks.len();
        let neighbours: Vec<Neighbour> = others
            .into_iter()
            .map(|(ix, name)| Neighbour::new(ix, name, nets, &timing, now))
            .collect();
        Self {
            told: vec![vec![false; nets]; neighbours.len()],
            switches: Switches::new(asked, nets, &timing),
            awaited: vec![Awaited::No; nets],
            timing,
            networks,
            session,
            neighbours,
            number: 0,
            counter: 0,
            payload: None,
            payload_until: Mono::ZERO,
            told_live: false,
            reported: None,
            last_report: now,
            adverts: Vec::new(),
            news: true,
        }
    }

    /// What the arbiter says from now on.
    pub fn directive(&mut self, advert: Advert, links: &LinkDuties) {
        self.payload_until = links.payload_until;
        for (name, awaited) in self.networks.iter().zip(&mut self.awaited) {
            *awaited = match (links.ask_switches.contains(name), *awaited) {
                (false, _) => Awaited::No,
                (true, Awaited::No) => Awaited::Yes,
                (true, awaited) => awaited,
            };
        }
        if self.payload.as_ref() != Some(&advert) {
            self.payload = Some(advert);
            self.news = true;
        }
    }

    /// A new connection to the arbiter: everything is told again.
    pub fn attached(&mut self) {
        self.reported = None;
        for neighbour in &self.neighbours {
            if let Some(advert) = &neighbour.payload {
                self.adverts.push(Report::Advert {
                    from: neighbour.name.clone(),
                    at: neighbour.advert_at,
                    advert: advert.clone(),
                });
            }
        }
    }

    /// An ECHO request to a neighbour leaves, or cannot.
    pub fn ask(&mut self, n: usize, net: NetIx, can: bool, now: Mono) -> u64 {
        self.number += 1;
        let path = &mut self.neighbours[n].paths[net];
        path.can_send = can;
        if can {
            path.echoes.sent(self.number, now);
        }
        self.number
    }

    /// The requests of a confirming burst leave.
    pub fn burst_sent(&mut self, n: usize, now: Mono) {
        self.neighbours[n].burst += 1;
        self.neighbours[n].burst_last = now;
    }

    /// An ECHO request to a switch leaves, or cannot.
    pub fn ask_switch(&mut self, net: NetIx, can: bool, now: Mono) -> u64 {
        self.number += 1;
        self.switches.sent(net, self.number, can, now);
        self.number
    }

    /// A switch's ECHO reply arrived.
    pub fn switch_reply(&mut self, net: NetIx, number: u64, at: Mono) {
        self.switches.reply(net, number, at);
        if self.awaited[net] == Awaited::Yes {
            self.awaited[net] = Awaited::Told;
            self.reported = None;
        }
    }

    /// An ECHO reply of a neighbour arrived.
    pub fn reply(&mut self, from: NodeIx, net: NetIx, number: u64, at: Mono) {
        let Some(neighbour) = self.neighbours.iter_mut().find(|n| n.ix == from) else {
            return;
        };
        if neighbour.paths[net].echoes.reply(number, at) {
            neighbour.sign(&self.timing);
        }
    }

    /// A datagram arrived.
    pub fn datagram(&mut self, from: NodeIx, net: NetIx, datagram: &Datagram, at: Mono) {
        let own = self.session;
        let Some(neighbour) = self.neighbours.iter_mut().find(|n| n.ix == from) else {
            return;
        };
        neighbour.seen = Some(datagram.session);
        if neighbour.session != Some(datagram.session) {
            if datagram.echo != Some(own) {
                self.news = true;
                return;
            }
            neighbour.session = Some(datagram.session);
            neighbour.counter = 0;
        }
        let newest = datagram.counter > neighbour.counter;
        if newest {
            neighbour.counter = datagram.counter;
            neighbour.live = datagram.live;
            neighbour.hears_me = datagram.hears.iter().any(|hears| *hears);
            for (path, hears) in neighbour.paths.iter_mut().zip(&datagram.hears) {
                path.hears_me = *hears;
            }
        }
        let path = &mut neighbour.paths[net];
        path.last_datagram = Some(at);
        if datagram.live {
            path.last_live = Some(at);
        }
        neighbour.sign(&self.timing);
        if newest && datagram.live && datagram.payload != neighbour.payload {
            neighbour.payload.clone_from(&datagram.payload);
            neighbour.advert_at = at;
            if let Some(advert) = &datagram.payload {
                self.adverts.push(Report::Advert {
                    from: neighbour.name.clone(),
                    at,
                    advert: advert.clone(),
                });
            }
        }
    }

    /// This process stood still for so long: that silence proves nothing.
    pub fn stood_still(&mut self, gap: Span) {
        for neighbour in &mut self.neighbours {
            neighbour.blind = neighbour.blind + gap;
            neighbour.burst = 0;
        }
    }

    /// What is sent to one neighbour now.
    pub fn say(&mut self, n: usize, now: Mono) -> Datagram {
        self.counter += 1;
        let neighbour = &self.neighbours[n];
        Datagram {
            session: self.session,
            counter: self.counter,
            live: now < self.payload_until && self.payload.is_some(),
            hears: neighbour.hears(now, &self.timing),
            echo: neighbour.seen,
            payload: self.payload.clone(),
        }
    }

    /// Whether what we would say about hearing differs from what was said; remembers it.
    pub fn has_news(&mut self, now: Mono) -> bool {
        let live = now < self.payload_until && self.payload.is_some();
        let mut news = std::mem::take(&mut self.news) || live != self.told_live;
        self.told_live = live;
        for (neighbour, told) in self.neighbours.iter().zip(&mut self.told) {
            let hears = neighbour.hears(now, &self.timing);
            news |= *told != hears;
            *told = hears;
        }
        news
    }

    /// Which neighbours are due for a request of the burst.
    #[must_use]
    pub fn bursts(&self, now: Mono) -> Vec<usize> {
        let timing = &self.timing;
        (0..self.neighbours.len())
            .filter(|n| {
                self.neighbours[*n]
                    .burst_at(timing)
                    .is_some_and(|at| at <= now)
            })
            .collect()
    }

    /// Which switches are due for a request of a burst.
    #[must_use]
    pub fn switch_bursts(&self, now: Mono) -> Vec<NetIx> {
        let due = |net: &NetIx| {
            self.switches
                .burst_at(*net, now)
                .is_some_and(|at| at <= now)
        };
        (0..self.networks.len()).filter(due).collect()
    }

    /// When something changes by itself.
    #[must_use]
    pub fn wake(&self, now: Mono) -> Mono {
        let mut at = self.last_report + sign_interval(self.timing.lease);
        if self.payload_until > now {
            at = at.min(self.payload_until);
        }
        let neighbours = self.neighbours.iter().flat_map(|n| n.moments(&self.timing));
        let switches = self.switches.moments(self.around(), now);
        for moment in neighbours.chain(switches).filter(|moment| *moment > now) {
            at = at.min(moment);
        }
        at.max(now + Span::from_micros(50))
    }

    /// Reports that are due.
    pub fn reports(&mut self, now: Mono) -> Vec<Report> {
        let verdicts: Vec<Verdict> = self
            .neighbours
            .iter()
            .map(|n| n.verdict(now, &self.timing))
            .collect();
        let answers = self.switches.answers(self.around(), now);
        let now_true = (verdicts, answers.clone());
        let mut reports = std::mem::take(&mut self.adverts);
        if self.reported.as_ref() != Some(&now_true) {
            let switches = self.networks.iter().zip(answers);
            reports.push(Report::Probe(ProbeReport {
                at: now,
                switches: switches
                    .enumerate()
                    .map(|(net, (network, answer))| SwitchReport {
                        network: network.clone(),
                        answer,
                        last_answer: self.switches.last(net),
                        missing: self.switches.missing(net, now),
                    })
                    .collect(),
                neighbours: self
                    .neighbours
                    .iter()
                    .map(|n| n.report(now, &self.timing, &self.networks))
                    .collect(),
                dropped: std::collections::BTreeMap::new(),
            }));
            self.reported = Some(now_true);
        }
        if reports.is_empty() && now >= self.last_report + sign_interval(self.timing.lease) {
            reports.push(Report::Alive);
        }
        if !reports.is_empty() {
            self.last_report = now;
        }
        reports
    }

    /// What decides about the switches beside their answers. Loss may put off that we are cut
    /// off, but a neighbour that takes us for dead must find us gone.
    fn around(&self) -> Around {
        let dead = self.neighbours.iter().map(|n| n.dead_after).min();
        let interval = self.timing.probe_interval;
        Around {
            patience: dead.unwrap_or(self.timing.dead_after) - (interval + interval.part(2)),
            sign: self.neighbours.iter().filter_map(Neighbour::sign_at).max(),
        }
    }

    /// Whether this session of that server has been accepted.
    #[must_use]
    pub fn believes(&self, from: NodeIx, session: u64) -> bool {
        self.neighbours
            .iter()
            .any(|n| n.ix == from && n.session == Some(session))
    }
}
