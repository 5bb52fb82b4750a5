//! Whether the switches answer. A model: see [`super`].

use haarb_model::{Mono, Span, SwitchAnswer, Timing};

use super::path::Echoes;
use crate::NetIx;

/// Regular replies that must be missing.
const MISSING: u32 = 3;
/// Requests of a confirming burst, sent ten times as close together as the regular ones: it
/// is over before the third regular reply is missing.
const BURST: u32 = 16;
/// The chance at which random loss alone may look like silence.
const CHANCE: f64 = 1e-9;

/// All switches of one server.
#[derive(Clone, Debug)]
pub(super) struct Switches {
    asked: bool,
    echoes: Vec<Echoes>,
    can_send: Vec<bool>,
    /// Sent since the last reply, and when the last of them was.
    bursts: Vec<(u32, Mono)>,
}

impl Switches {
    pub(super) fn new(asked: bool, nets: usize, timing: &Timing) -> Self {
        Self {
            asked,
            echoes: vec![Echoes::new(timing.switch_interval); nets],
            can_send: vec![false; nets],
            bursts: vec![(0, Mono::ZERO); nets],
        }
    }

    pub(super) fn sent(&mut self, net: NetIx, number: u64, can: bool, now: Mono) {
        self.can_send[net] = can;
        if can {
            self.echoes[net].sent(number, now);
        }
    }

    pub(super) fn reply(&mut self, net: NetIx, number: u64, at: Mono) {
        if self.echoes[net].reply(number, at) {
            self.bursts[net] = (0, at);
        }
    }

    pub(super) fn last(&self, net: NetIx) -> Option<Mono> {
        self.echoes[net].last()
    }

    pub(super) fn missing(&self, net: NetIx, now: Mono) -> u32 {
        self.echoes[net].missing(now)
    }

    /// When the next request of a burst is due: from the first reply that is late on.
    pub(super) fn burst_at(&self, net: NetIx, timing: &Timing) -> Option<Mono> {
        let (sent, last) = self.bursts[net];
        if !self.asked || self.never(net) || sent >= BURST {
            return None;
        }
        match sent {
            0 => self.echoes[net].missing_at(1),
            _ => Some(last + timing.switch_interval.part(10)),
        }
    }

    pub(super) fn burst_sent(&mut self, net: NetIx, now: Mono) {
        let (sent, _) = self.bursts[net];
        self.bursts[net] = (sent + 1, now);
    }

    /// When `count` regular replies and those of the burst are missing.
    fn confirmed_at(&self, net: NetIx, count: u32, timing: &Timing) -> Option<Mono> {
        let echoes = &self.echoes[net];
        let (sent, last) = self.bursts[net];
        if sent < BURST {
            return None;
        }
        let regular = echoes.missing_at(1)? + timing.switch_interval.times(u64::from(count) - 1);
        let all = echoes.missing_at(count + BURST)?;
        Some(regular.max(last + echoes.grace()).max(all))
    }

    fn never(&self, net: NetIx) -> bool {
        !self.can_send[net] || self.echoes[net].last().is_none()
    }

    /// When it will be silent if nothing comes back. Loss may put that off, but never so long
    /// that a neighbour that takes us for dead would find us holding on.
    fn silent_at(&self, net: NetIx, patience: Span, timing: &Timing) -> Option<Mono> {
        let most = patience.as_micros() / timing.switch_interval.as_micros().max(1);
        let most = u32::try_from(most).unwrap_or(u32::MAX).max(MISSING);
        let loss = self.echoes[net].loss();
        let misses = if loss <= 0.0 {
            MISSING
        } else {
            let misses = (CHANCE.ln() / loss.min(0.99).ln()).ceil() as u32;
            misses.clamp(MISSING, most)
        };
        self.confirmed_at(net, misses, timing)
    }

    pub(super) fn answers(&self, patience: Span, timing: &Timing, now: Mono) -> Vec<SwitchAnswer> {
        let passed = |at: Option<Mono>| at.is_some_and(|at| now >= at);
        (0..self.echoes.len())
            .map(|net| {
                if !self.asked {
                    SwitchAnswer::NotAsked
                } else if self.never(net) || passed(self.silent_at(net, patience, timing)) {
                    SwitchAnswer::Silent
                } else {
                    SwitchAnswer::Answers
                }
            })
            .collect()
    }

    pub(super) fn moments(&self, patience: Span, timing: &Timing) -> Vec<Mono> {
        (0..self.echoes.len())
            .flat_map(|net| {
                [
                    self.silent_at(net, patience, timing),
                    self.burst_at(net, timing),
                ]
            })
            .flatten()
            .collect()
    }
}
