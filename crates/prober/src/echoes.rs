//! The ECHO requests to one address and what became of them: missing replies, round-trip
//! time, loss.
//!
//! No clock and no socket: every call says when. A request is *missing* once it has had time
//! to be answered and no later one was answered either; it is *lost* once a later one was.

use std::collections::VecDeque;

use haarb_model::{Mono, Span};

use crate::loss::LossWindow;

/// Requests that are remembered one by one. More than that in a row without an answer only
/// count.
const REMEMBERED: usize = 64;
/// A longer run without an answer is an outage, not random loss, and says nothing about it.
const OUTAGE: u32 = 16;
/// No reply is called missing before this time: what a kernel needs at worst to answer and
/// ours to deliver when nothing is wrong.
const GRACE_MIN: Span = Span::from_micros(500);

/// The ECHO requests to one address.
#[derive(Clone, Debug)]
pub(crate) struct Echoes {
    /// No reply is waited for longer than this before it is missing: half the regular interval.
    grace_max: Span,
    /// Requests without an answer, oldest first, and answered ones that older ones keep here.
    open: VecDeque<Request>,
    /// Requests of the present run without an answer that are not remembered any more.
    forgotten: u32,
    newest_answered: Option<u64>,
    last_reply: Option<Mono>,
    rtt: Option<RoundTrip>,
    loss: LossWindow,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    number: u64,
    sent: Mono,
    answered: bool,
}

/// Smoothed as RFC 6298 does it, section 2, in microseconds.
#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    smoothed: u64,
    variation: u64,
}

impl RoundTrip {
    const fn first(sample: u64) -> Self {
        Self {
            smoothed: sample,
            variation: sample / 2,
        }
    }

    const fn next(self, sample: u64) -> Self {
        Self {
            variation: (3 * self.variation + self.smoothed.abs_diff(sample)) / 4,
            smoothed: (7 * self.smoothed + sample) / 8,
        }
    }
}

impl Echoes {
    pub(crate) const fn new(interval: Span) -> Self {
        Self {
            grace_max: interval.part(2),
            open: VecDeque::new(),
            forgotten: 0,
            newest_answered: None,
            last_reply: None,
            rtt: None,
            loss: LossWindow::EMPTY,
        }
    }

    /// A request was sent. Numbers grow.
    pub(crate) fn sent(&mut self, number: u64, at: Mono) {
        if self.open.len() == REMEMBERED && self.open.pop_front().is_some_and(|r| !r.answered) {
            self.forgotten = self.forgotten.saturating_add(1);
        }
        self.open.push_back(Request {
            number,
            sent: at,
            answered: false,
        });
    }

    /// A reply arrived. False where it answers nothing that is open: a duplicate, or too late.
    pub(crate) fn reply(&mut self, number: u64, at: Mono) -> bool {
        let Some(request) = self.open.iter_mut().find(|r| r.number == number) else {
            return false;
        };
        if request.answered {
            return false;
        }
        request.answered = true;
        let sample = at.since(request.sent).as_micros();
        self.rtt = Some(match self.rtt {
            Some(rtt) => rtt.next(sample),
            None => RoundTrip::first(sample),
        });
        self.last_reply = self.last_reply.max(Some(at));
        self.newest_answered = self.newest_answered.max(Some(number));
        self.settle(at);
        true
    }

    /// Moves what is decided into the loss window, oldest first.
    fn settle(&mut self, at: Mono) {
        let grace = self.grace();
        let mut run = self.forgotten;
        self.forgotten = 0;
        while let Some(first) = self.open.front() {
            let overtaken = self.newest_answered.is_some_and(|n| first.number < n);
            if first.answered {
                self.end_of_run(std::mem::take(&mut run));
                self.loss.record(false);
            } else if overtaken && at.since(first.sent) >= grace {
                run = run.saturating_add(1);
            } else {
                break;
            }
            self.open.pop_front();
        }
        self.end_of_run(run);
    }

    fn end_of_run(&mut self, run: u32) {
        if run <= OUTAGE {
            for _ in 0..run {
                self.loss.record(true);
            }
        }
    }

    /// How long a reply may take before it is missing: the round trip with its variation.
    pub(crate) fn grace(&self) -> Span {
        self.rtt.map_or(self.grace_max, |rtt| {
            Span::from_micros(rtt.smoothed + 4 * rtt.variation)
                .clamp(GRACE_MIN.min(self.grace_max), self.grace_max)
        })
    }

    /// Requests without an answer since the last one that was answered.
    fn run(&self) -> impl Iterator<Item = &Request> {
        let after = self.newest_answered;
        self.open
            .iter()
            .filter(move |r| !r.answered && Some(r.number) > after)
    }

    /// Replies missing in a row.
    pub(crate) fn missing(&self, now: Mono) -> u32 {
        let grace = self.grace();
        let due = self.run().filter(|r| now >= r.sent + grace).count();
        self.forgotten
            .saturating_add(u32::try_from(due).unwrap_or(u32::MAX))
    }

    /// When `count` replies will be missing in a row if none arrives; `None` while fewer
    /// requests were sent.
    pub(crate) fn missing_at(&self, count: u32) -> Option<Mono> {
        let Some(more) = count.checked_sub(self.forgotten).filter(|&n| n > 0) else {
            return Some(Mono::ZERO);
        };
        let index = usize::try_from(more - 1).ok()?;
        let request = self.run().nth(index)?;
        Some(request.sent + self.grace())
    }

    pub(crate) const fn last_reply(&self) -> Option<Mono> {
        self.last_reply
    }

    /// Smoothed round-trip time in microseconds; 0 before the first reply.
    pub(crate) fn rtt_us(&self) -> u32 {
        let micros = self.rtt.map_or(0, |rtt| rtt.smoothed.max(1));
        u32::try_from(micros).unwrap_or(u32::MAX)
    }

    /// Share of lost requests, without the run that goes on now.
    pub(crate) fn loss(&self) -> f64 {
        self.loss.share()
    }

    /// Share of requests without a reply, the run that goes on now included: for people.
    pub(crate) fn loss_now(&self, now: Mono) -> f32 {
        let mut window = self.loss;
        for _ in 0..self.missing(now).min(1000) {
            window.record(true);
        }
        window.overall() as f32
    }
}

#[cfg(test)]
mod tests;
