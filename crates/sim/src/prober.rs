//! A model of the prober: what it sends, what it makes of what arrives. Written from the
//! design, not from the daemon, so that each is a check on the other.

use std::collections::VecDeque;

use haarb_model::{
    Advert, Mono, NeighbourReport, NetworkName, NodeName, PathReport, ProbeReport, Report, Span,
    SwitchAnswer, SwitchReport, Timing,
};

use crate::{NetIx, NodeIx};

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

const BURST: u32 = 3;
const WINDOW: usize = 128;

#[derive(Clone, Debug, Default)]
struct Path {
    open: VecDeque<(u64, Mono)>,
    last_echo: Option<Mono>,
    last_datagram: Option<Mono>,
    last_live: Option<Mono>,
    hears_me: bool,
    can_send: bool,
    window: VecDeque<bool>,
}

impl Path {
    fn last_sign(&self) -> Option<Mono> {
        self.last_echo.max(self.last_datagram)
    }

    fn loss(&self) -> f64 {
        let lost = self.window.iter().filter(|lost| **lost).count();
        lost as f64 / self.window.len().max(20) as f64
    }

    fn note(&mut self, lost: bool) {
        self.window.push_back(lost);
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
    }

    fn missing(&self, now: Mono, grace: Span) -> u32 {
        let late = self
            .open
            .iter()
            .filter(|(_, at)| *at + grace <= now)
            .count();
        u32::try_from(late).unwrap_or(u32::MAX)
    }
}

/// What is known of one other server.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Its index in the world.
    pub ix: NodeIx,
    name: NodeName,
    paths: Vec<Path>,
    born: Mono,
    hears_me: bool,
    live: bool,
    blind: Span,
    burst: u32,
    burst_last: Mono,
    dead_after: Span,
    /// Its session, once it has shown that it hears ours.
    session: Option<u64>,
    seen: Option<u64>,
    counter: u64,
    payload: Option<Advert>,
    advert_at: Mono,
}

/// The verdicts on one neighbour; a report is due when they change.
type Verdict = (Vec<(bool, bool, bool)>, bool, bool, bool, bool);

/// The prober of one server.
#[derive(Clone, Debug)]
pub struct Prober {
    timing: Timing,
    networks: Vec<NetworkName>,
    /// Its own session.
    pub session: u64,
    /// The other servers.
    pub neighbours: Vec<Neighbour>,
    switch_missing: Vec<u32>,
    switch_answered: Vec<Option<Mono>>,
    switch_window: Vec<VecDeque<bool>>,
    switch_seen: Vec<bool>,
    asked: bool,
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
            .map(|(ix, name)| Neighbour {
                ix,
                name,
                paths: vec![Path::default(); nets],
                born: now,
                hears_me: false,
                live: false,
                blind: Span::ZERO,
                burst: 0,
                burst_last: now,
                dead_after: timing.dead_after,
                session: None,
                seen: None,
                counter: 0,
                payload: None,
                advert_at: now,
            })
            .collect();
        Self {
            told: vec![vec![false; nets]; neighbours.len()],
            timing,
            networks,
            session,
            neighbours,
            switch_missing: vec![0; nets],
            switch_answered: vec![None; nets],
            switch_window: vec![VecDeque::new(); nets],
            switch_seen: vec![false; nets],
            asked,
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
    pub fn directive(&mut self, advert: Advert, until: Mono) {
        self.payload_until = until;
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
            path.open.push_back((self.number, now));
            while path.open.len() > 64 {
                path.open.pop_front();
            }
        }
        self.number
    }

    /// The requests of a confirming burst leave.
    pub fn burst_sent(&mut self, n: usize, now: Mono) {
        self.neighbours[n].burst += 1;
        self.neighbours[n].burst_last = now;
    }

    /// A switch was asked and has answered or not.
    pub fn switch(&mut self, net: NetIx, answered: bool, now: Mono) {
        let window = &mut self.switch_window[net];
        window.push_back(!answered);
        if window.len() > WINDOW {
            window.pop_front();
        }
        if answered {
            self.switch_missing[net] = 0;
            self.switch_answered[net] = Some(now);
            self.switch_seen[net] = true;
        } else {
            self.switch_missing[net] += 1;
        }
    }

    /// An ECHO reply arrived.
    pub fn reply(&mut self, from: NodeIx, net: NetIx, number: u64, at: Mono) {
        let interval = self.timing.probe_interval;
        let Some(neighbour) = self.neighbours.iter_mut().find(|n| n.ix == from) else {
            return;
        };
        let path = &mut neighbour.paths[net];
        let Some(place) = path.open.iter().position(|(n, _)| *n == number) else {
            return;
        };
        for _ in 0..place {
            path.open.pop_front();
            path.note(true);
        }
        path.open.pop_front();
        path.note(false);
        path.last_echo = Some(at);
        neighbour.sign();
        neighbour.stretch(self.timing.dead_after, interval);
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
        neighbour.sign();
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

    /// When something changes by itself.
    #[must_use]
    pub fn wake(&self, now: Mono) -> Mono {
        let mut at = self.last_report + self.timing.lease.part(10);
        if self.payload_until > now {
            at = at.min(self.payload_until);
        }
        for neighbour in &self.neighbours {
            for moment in neighbour.moments(&self.timing) {
                if moment > now {
                    at = at.min(moment);
                }
            }
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
        let answers: Vec<SwitchAnswer> = (0..self.networks.len())
            .map(|net| self.answer(net))
            .collect();
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
                        last_answer: self.switch_answered[net],
                        missing: self.switch_missing[net],
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
        if reports.is_empty() && now >= self.last_report + self.timing.lease.part(10) {
            reports.push(Report::Alive);
        }
        if !reports.is_empty() {
            self.last_report = now;
        }
        reports
    }

    fn answer(&self, net: NetIx) -> SwitchAnswer {
        if !self.asked {
            return SwitchAnswer::NotAsked;
        }
        if !self.switch_seen[net] {
            return SwitchAnswer::Silent;
        }
        // As many misses as random loss makes unlikely, but always in time to know that we
        // are cut off before a neighbour takes us for dead.
        let window = &self.switch_window[net];
        let lost = window.iter().filter(|lost| **lost).count() as f64 / window.len().max(20) as f64;
        let dead = self.neighbours.iter().map(|n| n.dead_after).min();
        let limit = dead.unwrap_or(self.timing.dead_after) - self.timing.probe_interval;
        let most = (limit.as_micros() / self.timing.switch_interval.as_micros().max(1)).max(3);
        let wanted = if lost > 0.0 {
            (1e-12f64.ln() / lost.min(0.9).ln()).ceil() as u64
        } else {
            3
        };
        if u64::from(self.switch_missing[net]) >= wanted.clamp(3, most) {
            SwitchAnswer::Silent
        } else {
            SwitchAnswer::Answers
        }
    }
}

impl Neighbour {
    fn sign(&mut self) {
        self.blind = Span::ZERO;
        self.burst = 0;
    }

    fn stretch(&mut self, configured: Span, interval: Span) {
        let quiet: f64 = self
            .paths
            .iter()
            .map(|path| path.loss() * path.loss())
            .product();
        self.dead_after = if quiet > 0.0 {
            let intervals = (1e-12f64.ln() / quiet.min(0.99).ln()).ceil().min(64.0) as u64;
            configured.max(interval.times(intervals))
        } else {
            configured
        };
    }

    fn last_sign(&self) -> Mono {
        let last = self.paths.iter().filter_map(Path::last_sign).max();
        last.unwrap_or(self.born)
    }

    fn margin(timing: &Timing) -> Span {
        timing.probe_interval.min(timing.dead_after.part(3))
    }

    fn suspect_at(&self, timing: &Timing) -> Mono {
        self.last_sign() + self.blind + (self.dead_after - Self::margin(timing))
    }

    fn burst_at(&self, timing: &Timing) -> Option<Mono> {
        match self.burst {
            0 => Some(self.suspect_at(timing)),
            BURST.. => None,
            _ => Some(self.burst_last + Self::margin(timing).part(4)),
        }
    }

    fn not_heard_after(&self, timing: &Timing) -> Span {
        let (set, now) = (timing.dead_after.as_micros(), self.dead_after.as_micros());
        Span::from_micros(timing.not_heard_after.as_micros() * now / set.max(1))
    }

    fn within(&self, at: Option<Mono>, span: Span, now: Mono) -> bool {
        at.is_some_and(|at| now < at + span + self.blind)
    }

    fn hears(&self, now: Mono, timing: &Timing) -> Vec<bool> {
        let limit = self.not_heard_after(timing);
        self.paths
            .iter()
            .map(|path| self.within(path.last_datagram, limit, now))
            .collect()
    }

    fn grace(timing: &Timing) -> Span {
        Self::margin(timing).part(8)
    }

    fn silent(&self, now: Mono, timing: &Timing) -> bool {
        let grace = Self::grace(timing);
        let asked: Vec<&Path> = self.paths.iter().filter(|path| path.can_send).collect();
        !asked.is_empty()
            && self.burst >= BURST
            && now >= self.burst_last + grace
            && now >= self.last_sign() + self.blind + self.dead_after
            && asked.iter().all(|path| path.missing(now, grace) >= 3)
    }

    /// How long an ECHO reply proves that what we send arrives.
    fn proof(timing: &Timing) -> Span {
        timing.probe_interval + timing.probe_interval.part(2)
    }

    fn moments(&self, timing: &Timing) -> Vec<Mono> {
        let heard = self.not_heard_after(timing) + self.blind;
        let mut list = vec![
            self.last_sign() + self.blind + self.dead_after,
            self.burst_last + Self::grace(timing),
        ];
        list.extend(self.burst_at(timing));
        for path in &self.paths {
            list.extend(path.last_live.map(|at| at + heard));
            list.extend(
                path.last_echo
                    .map(|at| at + Self::proof(timing) + self.blind),
            );
            list.extend(path.last_datagram.map(|at| at + heard));
            list.extend(path.last_sign().map(|at| at + self.dead_after + self.blind));
        }
        list
    }

    fn verdict(&self, now: Mono, timing: &Timing) -> Verdict {
        let limit = self.not_heard_after(timing);
        let paths = self.paths.iter().map(|path| {
            (
                self.within(path.last_live, limit, now),
                self.within(path.last_sign(), self.dead_after, now),
                path.hears_me,
            )
        });
        let silent = self.silent(now, timing);
        let suspect = !silent && now >= self.suspect_at(timing);
        // What comes back has arrived there.
        let proven = self
            .paths
            .iter()
            .any(|path| self.within(path.last_echo, Self::proof(timing), now));
        let hears_me = self.hears_me || proven;
        (paths.collect(), hears_me, !self.live, suspect, silent)
    }

    fn report(&self, now: Mono, timing: &Timing, networks: &[NetworkName]) -> NeighbourReport {
        let (paths, hears_me, arbiter_silent, suspect, silent) = self.verdict(now, timing);
        let paths = self.paths.iter().zip(paths).zip(networks);
        NeighbourReport {
            node: self.name.clone(),
            paths: paths
                .map(|((path, (heard, kernel, hears_me)), network)| PathReport {
                    network: network.clone(),
                    heard,
                    kernel,
                    hears_me,
                    last_echo: path.last_echo,
                    last_datagram: path.last_datagram,
                    missing: path.missing(now, Self::grace(timing)),
                    rtt_us: 0,
                    loss: 0.0,
                    loss_in: None,
                    loss_out: None,
                })
                .collect(),
            hears_me,
            arbiter_silent,
            last_sign: Some(self.last_sign()),
            last_heard: self.paths.iter().filter_map(|path| path.last_live).max(),
            suspect,
            silent,
            dead_after: self.dead_after,
        }
    }
}

impl Prober {
    /// Whether this session of that server has been accepted.
    #[must_use]
    pub fn believes(&self, from: NodeIx, session: u64) -> bool {
        self.neighbours
            .iter()
            .any(|n| n.ix == from && n.session == Some(session))
    }
}
