//! What a prober knows of one other server, and its verdicts. A model: see [`super`].

use haarb_model::{Advert, Mono, NeighbourReport, NetworkName, NodeName, PathReport, Span, Timing};

use super::path::Path;
use crate::NodeIx;

/// The requests of a confirming burst, on every network.
const BURST: u32 = 10;
/// Replies that must be missing on every network.
const MISSING: u32 = 10;

/// One other server.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Its index in the world.
    pub ix: NodeIx,
    pub(super) name: NodeName,
    pub(super) paths: Vec<Path>,
    pub(super) born: Mono,
    pub(super) hears_me: bool,
    pub(super) live: bool,
    pub(super) blind: Span,
    pub(super) burst: u32,
    pub(super) burst_last: Mono,
    pub(super) dead_after: Span,
    /// Its session, once it has shown that it hears ours.
    pub(super) session: Option<u64>,
    pub(super) seen: Option<u64>,
    pub(super) counter: u64,
    pub(super) payload: Option<Advert>,
    pub(super) advert_at: Mono,
}

/// The verdicts on one neighbour; a report is due when they change.
pub(super) type Verdict = (Vec<(bool, bool, bool)>, bool, bool, bool, bool);

impl Neighbour {
    pub(super) fn new(ix: NodeIx, name: NodeName, nets: usize, timing: &Timing, now: Mono) -> Self {
        Self {
            ix,
            name,
            paths: vec![Path::new(timing.probe_interval); nets],
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
        }
    }

    pub(super) fn sign(&mut self, timing: &Timing) {
        self.blind = Span::ZERO;
        self.burst = 0;
        self.stretch(timing);
    }

    /// Silence lasts for so many intervals that random loss alone gives it once in 10^12.
    fn stretch(&mut self, timing: &Timing) {
        let last = self.last_sign();
        let quiet = timing.dead_after.max(timing.probe_interval.times(5));
        let alive = self
            .paths
            .iter()
            .filter(|path| path.last_sign().is_some_and(|at| last.since(at) <= quiet));
        let chance: f64 = alive.map(|p| p.echoes.loss() * p.echoes.loss()).product();
        self.dead_after = if chance > 0.0 {
            let intervals = (1e-12f64.ln() / chance.min(0.99).ln()).ceil().min(64.0) as u64;
            timing
                .dead_after
                .max(timing.probe_interval.times(intervals))
        } else {
            timing.dead_after
        };
    }

    /// Its last sign of life, if it ever gave one.
    pub(super) fn sign_at(&self) -> Option<Mono> {
        self.paths.iter().filter_map(Path::last_sign).max()
    }

    pub(super) fn last_sign(&self) -> Mono {
        self.sign_at().unwrap_or(self.born)
    }

    fn margin(timing: &Timing) -> Span {
        timing.probe_interval.min(timing.dead_after.part(3))
    }

    fn suspect_at(&self, timing: &Timing) -> Mono {
        self.last_sign() + self.blind + (self.dead_after - Self::margin(timing))
    }

    /// When the next request of the burst is due.
    pub(super) fn burst_at(&self, timing: &Timing) -> Option<Mono> {
        match self.burst {
            0 => Some(self.suspect_at(timing)),
            BURST.. => None,
            _ => Some(self.burst_last + Self::margin(timing).part(10)),
        }
    }

    fn not_heard_after(&self, timing: &Timing) -> Span {
        let (set, now) = (timing.dead_after.as_micros(), self.dead_after.as_micros());
        Span::from_micros(timing.not_heard_after.as_micros() * now / set.max(1))
    }

    fn within(&self, at: Option<Mono>, span: Span, now: Mono) -> bool {
        at.is_some_and(|at| now < at + span + self.blind)
    }

    /// On which networks we say that we hear it: by a datagram lately, or by one within the
    /// lease while its kernel answers.
    pub(super) fn hears(&self, now: Mono, timing: &Timing) -> Vec<bool> {
        let lately = self.not_heard_after(timing);
        self.paths
            .iter()
            .map(|path| {
                let datagram = |span| self.within(path.last_datagram, span, now);
                let kernel = self.within(path.echoes.last(), lately, now);
                datagram(lately) || kernel && datagram(timing.lease)
            })
            .collect()
    }

    fn silent_at(&self) -> Option<Mono> {
        if self.burst < BURST {
            return None;
        }
        let mut at = self.last_sign() + self.blind + self.dead_after;
        let mut asked = false;
        for path in self.paths.iter().filter(|path| path.can_send) {
            asked = true;
            at = at.max(path.echoes.missing_at(MISSING)?);
        }
        asked.then_some(at)
    }

    /// How long an ECHO reply proves that what we send arrives.
    fn proof(timing: &Timing) -> Span {
        timing.probe_interval + timing.probe_interval.part(2)
    }

    /// When a verdict may change by itself.
    pub(super) fn moments(&self, timing: &Timing) -> Vec<Mono> {
        let heard = self.not_heard_after(timing) + self.blind;
        let mut list: Vec<Mono> = self.silent_at().into_iter().collect();
        list.extend(self.burst_at(timing));
        for path in &self.paths {
            list.extend(path.last_live.map(|at| at + heard));
            list.extend(path.last_datagram.map(|at| at + heard));
            list.extend(path.last_datagram.map(|at| at + timing.lease + self.blind));
            list.extend(path.echoes.last().map(|at| at + heard));
            list.extend(
                path.echoes
                    .last()
                    .map(|at| at + Self::proof(timing) + self.blind),
            );
            list.extend(path.last_sign().map(|at| at + self.dead_after + self.blind));
        }
        list
    }

    pub(super) fn verdict(&self, now: Mono, timing: &Timing) -> Verdict {
        let limit = self.not_heard_after(timing);
        let paths = self.paths.iter().map(|path| {
            (
                self.within(path.last_live, limit, now),
                self.within(path.last_sign(), self.dead_after, now),
                path.hears_me,
            )
        });
        let silent = self.silent_at().is_some_and(|at| now >= at);
        let suspect = !silent && now >= self.suspect_at(timing);
        // What comes back has arrived there.
        let proven = self
            .paths
            .iter()
            .any(|path| self.within(path.echoes.last(), Self::proof(timing), now));
        let hears_me = self.hears_me || proven;
        (paths.collect(), hears_me, !self.live, suspect, silent)
    }

    pub(super) fn report(
        &self,
        now: Mono,
        timing: &Timing,
        networks: &[NetworkName],
    ) -> NeighbourReport {
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
                    last_echo: path.echoes.last(),
                    last_datagram: path.last_datagram,
                    missing: path.echoes.missing(now),
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
