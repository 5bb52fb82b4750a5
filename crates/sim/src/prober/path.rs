//! ECHO requests to one address over one network, and what became of them. A model: see
//! [`super`].

use std::collections::VecDeque;

use haarb_model::{Mono, Span};

/// ECHO requests whose loss is remembered.
const WINDOW: usize = 128;
/// The latest of them count by themselves, so that a link that turns bad is known soon.
const LATEST: usize = 16;
/// A longer run without an answer is an outage and says nothing about random loss.
const OUTAGE: usize = 16;
/// Requests that may be open.
const OPEN: usize = 256;

/// The requests to one address.
#[derive(Clone, Debug)]
pub(super) struct Echoes {
    interval: Span,
    /// Without an answer since the last one that was answered.
    open: VecDeque<(u64, Mono)>,
    last: Option<Mono>,
    rtt: Option<Span>,
    window: VecDeque<bool>,
}

impl Echoes {
    pub(super) fn new(interval: Span) -> Self {
        Self {
            interval,
            open: VecDeque::new(),
            last: None,
            rtt: None,
            window: VecDeque::new(),
        }
    }

    pub(super) fn sent(&mut self, number: u64, at: Mono) {
        self.open.push_back((number, at));
        if self.open.len() > OPEN {
            self.open.pop_front();
        }
    }

    /// False where it answers nothing that is open.
    pub(super) fn reply(&mut self, number: u64, at: Mono) -> bool {
        let Some(place) = self.open.iter().position(|(n, _)| *n == number) else {
            return false;
        };
        let overtaken = self.open.drain(..place).count();
        if overtaken <= OUTAGE {
            (0..overtaken).for_each(|_| self.note(true));
        }
        self.note(false);
        if let Some((_, sent)) = self.open.pop_front() {
            let rtt = at.since(sent);
            self.rtt = Some(self.rtt.map_or(rtt, |old| (old.times(7) + rtt).part(8)));
        }
        self.last = self.last.max(Some(at));
        true
    }

    fn note(&mut self, lost: bool) {
        self.window.push_back(lost);
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
    }

    pub(super) const fn last(&self) -> Option<Mono> {
        self.last
    }

    /// How long a reply may take.
    pub(super) fn grace(&self) -> Span {
        let most = self.interval.part(2);
        let rtt = self.rtt.map_or(most, |rtt| rtt.times(3));
        rtt.max(Span::from_micros(500)).min(most)
    }

    pub(super) fn missing(&self, now: Mono) -> u32 {
        let grace = self.grace();
        let late = self.open.iter().filter(|(_, at)| *at + grace <= now);
        u32::try_from(late.count()).unwrap_or(u32::MAX)
    }

    /// When `count` will be missing if none is answered; `None` while fewer were sent.
    pub(super) fn missing_at(&self, count: u32) -> Option<Mono> {
        let index = usize::try_from(count.max(1) - 1).ok()?;
        self.open.get(index).map(|(_, at)| *at + self.grace())
    }

    /// The share that was lost, of all that are remembered or of the latest ones.
    pub(super) fn loss(&self) -> f64 {
        let lost = |n: usize| self.window.iter().rev().take(n).filter(|l| **l).count();
        if self.window.is_empty() {
            return 0.0;
        }
        let all = lost(WINDOW) as f64 / self.window.len() as f64;
        let latest = match lost(LATEST) {
            0 | 1 => 0.0,
            lost => lost as f64 / LATEST as f64,
        };
        all.max(latest)
    }
}

/// What is known of the way to one neighbour over one network.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) echoes: Echoes,
    pub(super) last_datagram: Option<Mono>,
    pub(super) last_live: Option<Mono>,
    pub(super) hears_me: bool,
    pub(super) can_send: bool,
}

impl Path {
    pub(super) fn new(interval: Span) -> Self {
        Self {
            echoes: Echoes::new(interval),
            last_datagram: None,
            last_live: None,
            hears_me: false,
            can_send: false,
        }
    }

    pub(super) fn last_sign(&self) -> Option<Mono> {
        self.echoes.last().max(self.last_datagram)
    }
}
