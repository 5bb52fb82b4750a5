//! The prober without its sockets: what to send when, what arrived means, what to report.
//!
//! No clock, no socket, no task: [`Engine::step`] is told the time and given an [`Outlet`];
//! [`Engine::wake`] says when to call it next. Everything that arrived is to be handed in
//! before a step, so that a step never judges by less than what is known.

mod judge;
mod send;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use haarb_config::Config;
use haarb_model::{Advert, Mono, NetworkName, NodeName, Report, Span, SwitchAnswer, Timing};
use haarb_wire::{DropReason, Endpoint, Seal};

use crate::detector::{Detector, Facts, Heard};
use crate::switch::SwitchWatch;

/// Between two looks for a reply that the arbiter waits for. A near switch answers well within.
const LOOK_AGAIN: Span = Span::from_micros(200);
/// Under this name a payload is counted that is authentic and makes no sense.
const BAD_PAYLOAD: &str = "unreadable payload";

/// Where an engine's packets go.
pub trait Outlet {
    /// Sends an ECHO request from the given network's interface. Returns when it left; `None`
    /// where it could not leave this machine.
    fn echo(&mut self, network: usize, to: IpAddr, number: u64) -> Option<Mono>;
    /// Sends a datagram; whether it left shows in the answers.
    fn datagram(&mut self, network: usize, to: IpAddr, bytes: &[u8]);
}

/// The prober without its sockets.
#[derive(Debug)]
pub struct Engine {
    timing: Timing,
    networks: Vec<NetworkName>,
    neighbours: Vec<Neighbour>,
    switches: Vec<Option<Switch>>,
    endpoint: Endpoint,
    /// What the arbiter last said, and until when it counts as alive for that.
    payload: Vec<u8>,
    payload_until: Mono,
    payload_fits: bool,
    /// Whom we last told that we hear.
    told: BTreeMap<NodeName, u16>,
    told_silent: bool,
    /// Number of the last ECHO request.
    echoes: u64,
    next_probe: Mono,
    next_switch: Mono,
    /// Since when the switches are to be asked out of turn.
    ask_switches: Option<Mono>,
    /// A datagram out of turn is due.
    extra: Option<Mono>,
    last_datagram: Mono,
    dropped: BTreeMap<&'static str, u64>,
    reports: Vec<Report>,
    last_report: Mono,
    report_all: bool,
    sending_waited: bool,
}

#[derive(Debug)]
struct Neighbour {
    /// Its address in each network.
    addresses: Vec<IpAddr>,
    detector: Detector,
    reported: Facts,
    /// The last payload that counted, with its session.
    payload: Option<(u64, Vec<u8>)>,
    advert: Option<(Mono, Advert)>,
    /// Share of our datagrams that it misses on each network, as its freshest one says.
    loss_out: Vec<Option<f32>>,
}

#[derive(Debug)]
struct Switch {
    address: IpAddr,
    watch: SwitchWatch,
    reported: SwitchAnswer,
    asked: Asked,
}

/// Whether the arbiter wants to know of a switch's next answer at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    No,
    /// Since then: an answer to an earlier request counts too, it arrived after this.
    Since(Mono),
    /// It answered, and the arbiter was told.
    Told,
}

impl Engine {
    /// An engine for server `me`. `session` is a random number of this run.
    #[must_use]
    pub fn new(config: &Config, me: &NodeName, seal: Seal, session: u64, now: Mono) -> Self {
        let timing = config.timing;
        let networks: Vec<_> = config.networks.iter().map(|n| n.name.clone()).collect();
        let neighbours = config.neighbours(me).map(|node| Neighbour {
            addresses: config.attachments(node).map(|(_, a)| a.address).collect(),
            detector: Detector::new(node.name.clone(), &networks, timing, now),
            reported: Facts::default(),
            payload: None,
            advert: None,
            loss_out: Vec::new(),
        });
        let neighbours: Vec<_> = neighbours.collect();
        let switches = config.networks.iter().map(|network| {
            network.switch.map(|address| Switch {
                address,
                watch: SwitchWatch::new(&timing),
                reported: SwitchAnswer::Silent,
                asked: Asked::No,
            })
        });
        let names = neighbours.iter().map(|n| n.detector.node().clone());
        Self {
            endpoint: Endpoint::new(seal, me.clone(), session, networks.clone(), names),
            switches: switches.collect(),
            neighbours,
            networks,
            payload: Vec::new(),
            payload_until: now,
            payload_fits: true,
            told: BTreeMap::new(),
            told_silent: true,
            echoes: 0,
            next_probe: now,
            next_switch: now,
            ask_switches: None,
            extra: None,
            last_datagram: Mono::ZERO,
            dropped: BTreeMap::new(),
            reports: Vec::new(),
            last_report: now,
            report_all: true,
            sending_waited: false,
            timing,
        }
    }

    /// The number of this run: ECHO requests carry it, so that no other's replies count.
    #[must_use]
    pub const fn session(&self) -> u64 {
        self.endpoint.session()
    }

    /// What the arbiter says from now on, and until when it counts as alive for that. True where
    /// that is news for the neighbours, so that a step is due.
    pub fn directive(&mut self, payload: Vec<u8>, until: Mono, now: Mono) -> bool {
        let lives_again = now >= self.payload_until;
        self.payload_until = until;
        if self.payload != payload {
            self.payload = payload;
            self.payload_fits = true;
            self.extra = Some(now);
        }
        lives_again || self.extra == Some(now)
    }

    /// The arbiter wants a sign of life from these switches: they are asked with the next step,
    /// and their next answer is news. True where one is asked that was not before, so that a
    /// step is due.
    pub fn await_switches(&mut self, wanted: &BTreeSet<NetworkName>, now: Mono) -> bool {
        let mut asks = false;
        for (network, switch) in self.networks.iter().zip(&mut self.switches) {
            let Some(switch) = switch else { continue };
            switch.asked = match (wanted.contains(network), switch.asked) {
                (false, _) => Asked::No,
                (true, Asked::No) => {
                    asks = true;
                    Asked::Since(now)
                }
                (true, asked) => asked,
            };
        }
        if asks {
            self.ask_switches = Some(now);
        }
        asks
    }

    /// A new arbiter listens, or the old one again: everything is reported with the next step.
    pub fn attached(&mut self, now: Mono) {
        self.report_all = true;
        for neighbour in &self.neighbours {
            let heard = neighbour.detector.facts(now).heard != 0;
            if let Some((at, advert)) = neighbour.advert.as_ref().filter(|_| heard) {
                self.reports.push(Report::Advert {
                    from: neighbour.detector.node().clone(),
                    at: *at,
                    advert: advert.clone(),
                });
            }
        }
    }

    /// An ECHO reply of this run arrived.
    pub fn echo_reply(&mut self, network: usize, from: IpAddr, number: u64, at: Mono) {
        for neighbour in &mut self.neighbours {
            if neighbour.addresses.get(network) == Some(&from) {
                neighbour.detector.echo_reply(network, number, at);
                return;
            }
        }
        if let Some(Some(switch)) = self.switches.get_mut(network)
            && switch.address == from
        {
            switch.watch.echo_reply(number, at);
        }
    }

    /// A datagram arrived. Any bytes will do.
    pub fn datagram(&mut self, network: usize, bytes: &[u8], at: Mono) {
        let received = match self.endpoint.receive(network, bytes) {
            Ok(received) => received,
            Err(reason) => {
                self.count(reason.as_str());
                if reason == DropReason::NotProven {
                    // It proves itself by hearing us.
                    self.send_soon(at);
                }
                return;
            }
        };
        let of = self
            .neighbours
            .iter_mut()
            .find(|n| n.detector.node() == &received.from);
        let Some(neighbour) = of else {
            return; // the endpoint knows the same neighbours
        };
        let heard = Heard {
            arbiter_live: received.arbiter_silent_ms.is_none(),
            hears_me: received.hears_me,
            newest: received.newest,
        };
        neighbour.detector.datagram(network, at, heard);
        if received.newest {
            neighbour.loss_out = received.loss_out;
        }
        let payload = (received.session, received.payload);
        let speaks = heard.arbiter_live && heard.newest;
        if !speaks || neighbour.payload.as_ref() == Some(&payload) {
            return;
        }
        let decoded = haarb_api::decode_advert(&payload.1);
        // What makes no sense is kept as seen too: the same bytes are not worth another line.
        neighbour.payload = Some(payload);
        match decoded {
            Ok(advert) => {
                neighbour.advert = Some((at, advert.clone()));
                self.report_all = true;
                self.reports.push(Report::Advert {
                    from: received.from,
                    at,
                    advert,
                });
            }
            Err(invalid) => {
                tracing::warn!("{} says what makes no sense: {invalid}", received.from);
                self.count(BAD_PAYLOAD);
            }
        }
    }

    /// This process stood still between two moments. To be called after everything that
    /// arrived meanwhile was handed in, and before the next step.
    pub fn stood_still(&mut self, from: Mono, until: Mono) {
        for neighbour in &mut self.neighbours {
            neighbour.detector.stood_still(from, until);
        }
        let gap = until.since(from);
        if gap > self.timing.lease {
            self.report_all = true;
            self.reports.push(Report::Stalled(gap));
        }
    }

    /// Whether a neighbour would be called silent now that was not yet. Who calls this has one
    /// last chance to look for a sign of life.
    #[must_use]
    pub fn verdict_due(&self, now: Mono) -> bool {
        self.neighbours
            .iter()
            .any(|n| !n.reported.silent && n.detector.is_silent(now))
    }

    /// Judges, then sends what is due. After it, [`Engine::reports`] are to be delivered.
    pub fn step(&mut self, now: Mono, outlet: &mut impl Outlet) {
        let news = self.judge(now);
        // News go out before packets: on the failover path they are what is waited for.
        // The packets follow with the next step, at once.
        if news && !self.sending_waited {
            self.sending_waited = true;
            return;
        }
        self.sending_waited = false;
        self.send_due(now, outlet);
    }

    /// Judges again after what [`Engine::step`] sent has been answered, or could not leave. To
    /// be called after each step; what arrived meanwhile may be handed in before.
    pub fn conclude(&mut self, now: Mono) {
        if !self.sending_waited {
            self.judge(now);
        }
    }

    /// What is to be told to the arbiter, in this order.
    pub fn reports(&mut self) -> impl Iterator<Item = Report> {
        self.reports.drain(..)
    }

    /// When to call [`Engine::step`] next if nothing arrives before.
    #[must_use]
    pub fn wake(&self, now: Mono) -> Mono {
        let mut at = self.next_send().min(self.next_report());
        if self.payload_until > now {
            at = at.min(self.payload_until);
        }
        let patience = self.switch_patience();
        if self.answer_awaited(now) {
            at = at.min(now + LOOK_AGAIN);
        }
        for neighbour in &self.neighbours {
            at = at.min(neighbour.detector.deadline(now));
        }
        for switch in self.switches.iter().flatten() {
            at = at.min(switch.watch.deadline(now, patience));
            at = at.min(switch.watch.burst_at(now).unwrap_or(Mono::FAR));
        }
        at
    }

    /// The arbiter waits for a switch's answer, and replies wake nobody by themselves: they are
    /// looked for in short steps, for as long as an answer may reasonably take.
    fn answer_awaited(&self, now: Mono) -> bool {
        let within = self.timing.probe_interval;
        self.switches
            .iter()
            .flatten()
            .any(|s| matches!(s.asked, Asked::Since(asked) if now < asked + within))
    }

    fn count(&mut self, reason: &'static str) {
        let count = self.dropped.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    /// The longest that a lossy link may put off the silence of a switch: a server that is
    /// cut off must know it before its neighbours take it for dead.
    fn switch_patience(&self) -> Span {
        let dead_after = self.neighbours.iter().map(|n| n.detector.dead_after());
        let shortest = dead_after.min().unwrap_or(self.timing.dead_after);
        // An interval passes before the first request in vain, and another half until its
        // answer is overdue and the arbiter has let go.
        let interval = self.timing.probe_interval;
        shortest - (interval + interval.part(2))
    }
}

#[cfg(test)]
mod tests;
