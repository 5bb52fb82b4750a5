//! Whether the switches answer. A model: see [`super`].

use haarb_model::{Mono, Span, SwitchAnswer, Timing};

use super::path::Echoes;
use crate::NetIx;

/// Replies that must be missing where everything else is silent too.
const MISSING_CUT_OFF: u32 = 10;
/// The same where another switch or a neighbour is heard: nothing is in a hurry.
const MISSING_ALONE: u32 = 25;
/// The most that loss may make of it.
const MISSING_MAX: u32 = 60;
/// Requests in one `switch-interval` once an answer is overdue.
const BURST_PARTS: u64 = 5;
/// The chance at which random loss alone may look like silence.
const CHANCE: f64 = 1e-9;

/// What decides beside the switches themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// The longest time for which loss may put off that this server is cut off.
    pub(super) patience: Span,
    /// The last sign of life of any neighbour.
    pub(super) sign: Option<Mono>,
}

/// All switches of one server.
#[derive(Clone, Debug)]
pub(super) struct Switches {
    asked: bool,
    echoes: Vec<Echoes>,
    can_send: Vec<bool>,
    last_asked: Vec<Mono>,
    spacing: Span,
    probe: Span,
}

impl Switches {
    pub(super) fn new(asked: bool, nets: usize, timing: &Timing) -> Self {
        Self {
            asked,
            echoes: vec![Echoes::new(timing.switch_interval); nets],
            can_send: vec![false; nets],
            last_asked: vec![Mono::ZERO; nets],
            spacing: timing.switch_interval.part(BURST_PARTS),
            probe: timing.probe_interval,
        }
    }

    pub(super) fn sent(&mut self, net: NetIx, number: u64, can: bool, now: Mono) {
        self.can_send[net] = can;
        if can {
            self.echoes[net].sent(number, now);
            self.last_asked[net] = now;
        }
    }

    pub(super) fn reply(&mut self, net: NetIx, number: u64, at: Mono) {
        self.echoes[net].reply(number, at);
    }

    pub(super) fn last(&self, net: NetIx) -> Option<Mono> {
        self.echoes[net].last()
    }

    pub(super) fn missing(&self, net: NetIx, now: Mono) -> u32 {
        self.echoes[net].missing(now)
    }

    /// When to ask out of turn: a reply is overdue, and it is not silent for good.
    pub(super) fn burst_at(&self, net: NetIx, now: Mono) -> Option<Mono> {
        if !self.asked || self.never(net) || passed(self.silent_at(net), now) {
            return None;
        }
        let echoes = &self.echoes[net];
        Some(
            echoes
                .missing_at(1)?
                .max(self.last_asked[net] + self.spacing),
        )
    }

    fn never(&self, net: NetIx) -> bool {
        !self.can_send[net] || self.echoes[net].last().is_none()
    }

    fn misses(&self, net: NetIx, least: u32, most: u32) -> u32 {
        let loss = self.echoes[net].loss();
        if loss <= 0.0 {
            return least;
        }
        let misses = (CHANCE.ln() / loss.min(0.99).ln()).ceil() as u32;
        misses.clamp(least, most.max(least))
    }

    /// When one would count as missing if everything else did.
    fn missing_at(&self, net: NetIx, patience: Span) -> Option<Mono> {
        let most = patience.as_micros() / self.spacing.as_micros().max(1);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        self.echoes[net].missing_at(self.misses(net, MISSING_CUT_OFF, most))
    }

    fn silent_at(&self, net: NetIx) -> Option<Mono> {
        self.echoes[net].missing_at(self.misses(net, MISSING_ALONE, MISSING_MAX))
    }

    /// For how long no neighbour may have been heard before all that is missing is silent.
    fn quiet(&self) -> Span {
        self.spacing.times(MISSING_CUT_OFF.into())
    }

    fn is_missing(&self, net: NetIx, around: Around, now: Mono) -> bool {
        let heard = around.sign.is_some_and(|at| now < at + self.quiet());
        self.never(net) || passed(self.missing_at(net, around.patience), now) && !heard
    }

    pub(super) fn answers(&self, around: Around, now: Mono) -> Vec<SwitchAnswer> {
        let nets = 0..self.echoes.len();
        let all = nets.clone().all(|net| self.is_missing(net, around, now));
        let nobody = around.sign.is_none_or(|at| now >= at + self.probe.times(2));
        nets.map(|net| {
            let hurry = all || nobody && self.is_missing(net, around, now);
            if !self.asked {
                SwitchAnswer::NotAsked
            } else if hurry || self.never(net) || passed(self.silent_at(net), now) {
                SwitchAnswer::Silent
            } else {
                SwitchAnswer::Answers
            }
        })
        .collect()
    }

    pub(super) fn moments(&self, around: Around, now: Mono) -> Vec<Mono> {
        let of = |net| {
            let missing = self.missing_at(net, around.patience);
            [missing, self.silent_at(net), self.burst_at(net, now)]
        };
        let signs = around.sign.into_iter();
        signs
            .flat_map(|at| [at + self.quiet(), at + self.probe.times(2)])
            .chain((0..self.echoes.len()).flat_map(of).flatten())
            .collect()
    }
}

fn passed(at: Option<Mono>, now: Mono) -> bool {
    at.is_some_and(|at| now >= at)
}
