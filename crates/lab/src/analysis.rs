//! From what the client saw to what is reported: gap, lost requests, double activity. Pure.
//!
//! All numbers are milliseconds. An answer counts as *prompt* when it was received within [`PROMPT`]
//! after its question: what comes later, a real client would have given up or asked again. A late
//! answer still proves that a server was active when it answered, so it counts for double activity.

use std::time::Duration;

use serde::Serialize;

use crate::{
    clock::Stamp,
    plan::{ServerId, VipId},
    trace::{Seen, Tick, Trace},
};

/// How long a client waits for an answer before it counts the request as lost.
pub const PROMPT: Duration = Duration::from_millis(200);

/// Two answered ticks in a row join to one stretch of activity unless they are farther apart than this.
const JOIN: Duration = Duration::from_millis(500);

/// A stretch of time, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// Its first moment.
    pub from: Stamp,
    /// Its last moment.
    pub to: Stamp,
}

/// What the clients of one virtual IP saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VipReport {
    /// Requests sent.
    pub sent: usize,
    /// Requests that nobody answered in time.
    pub lost: usize,
    /// Those of them that were answered after all, later than [`PROMPT`].
    pub late: usize,
    /// Longest time without service: from the first lost request to the next answered one.
    pub longest_outage_ms: f64,
    /// From the fault to the first answer of a server that did not answer before it.
    pub gap_ms: Option<f64>,
}

/// What the clients saw of one reserve in one window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Per virtual IP, in the plan's order.
    pub vips: Vec<VipReport>,
    /// From the fault to the first answer of the new server on any virtual IP; `None` without a new one.
    pub gap_ms: Option<f64>,
    /// The same, until it has answered on every virtual IP.
    pub gap_all_ms: Option<f64>,
    /// From the last answer of the old server to the first of the new one, on the slowest virtual IP:
    /// what a planned handover costs.
    pub handover_ms: Option<f64>,
    /// Ticks whose requests were lost on every virtual IP: not served at all.
    pub lost_on_all: usize,
    /// Longest time without service on any virtual IP.
    pub longest_outage_ms: f64,
    /// Time without any answer up to the end of the window; 0 when it is shorter than [`PROMPT`].
    pub silent_at_end_ms: f64,
    /// Time during which two servers would have answered for the same virtual IP.
    pub dual_active_ms: f64,
    /// The server that answered last, per virtual IP.
    pub served_by: Vec<Option<ServerId>>,
    /// The latest wake-up of the lab's own timer: how much the machine itself may have added.
    pub stall_max_ms: f64,
}

/// Judges the ticks of `from..=to` with a fault at `fault`.
///
/// Requests sent less than [`PROMPT`] before `to` and not answered yet are still under way: they are
/// neither lost nor served.
#[must_use]
pub fn report(trace: &Trace, from: Stamp, fault: Stamp, to: Stamp) -> Report {
    let vips: Vec<VipId> = (0..trace.vips()).collect();
    let news: Vec<Option<Takeover>> = vips
        .iter()
        .map(|vip| takeover(trace, *vip, from, fault, to))
        .collect();
    let gaps: Vec<Option<f64>> = news
        .iter()
        .map(|new| new.as_ref().map(|new| new.first.received.ms_since(fault)))
        .collect();
    let any = |tick: &Tick<'_>| vips.iter().any(|vip| prompt(tick, *vip).is_some());
    let all_lost = judged(trace, from, to).filter(|tick| !any(tick)).count();
    Report {
        gap_ms: gaps.iter().flatten().copied().reduce(f64::min),
        gap_all_ms: gaps
            .iter()
            .copied()
            .collect::<Option<Vec<f64>>>()
            .and_then(|all| all.into_iter().reduce(f64::max)),
        handover_ms: news
            .iter()
            .flatten()
            .map(Takeover::handover_ms)
            .reduce(f64::max),
        lost_on_all: all_lost,
        longest_outage_ms: longest_outage(judged(trace, from, to), any),
        silent_at_end_ms: silent_at_end_ms(trace, from, to),
        dual_active_ms: dual_active_ms(trace, from, to),
        served_by: vips
            .iter()
            .map(|vip| last_server(trace, *vip, from, to))
            .collect(),
        stall_max_ms: trace
            .ticks(from, to)
            .map(|tick| tick.late_ms())
            .fold(0.0, f64::max),
        vips: vips
            .iter()
            .zip(gaps)
            .map(|(vip, gap_ms)| VipReport {
                sent: judged(trace, from, to).count(),
                lost: judged(trace, from, to)
                    .filter(|tick| prompt(tick, *vip).is_none())
                    .count(),
                late: judged(trace, from, to)
                    .filter(|tick| tick.answer(*vip).is_some() && prompt(tick, *vip).is_none())
                    .count(),
                longest_outage_ms: longest_outage(judged(trace, from, to), |tick| {
                    prompt(tick, *vip).is_some()
                }),
                gap_ms,
            })
            .collect(),
    }
}

/// The moment when a virtual IP passed from one server to another.
struct Takeover {
    last_of_old: Option<Stamp>,
    first: Seen,
}

impl Takeover {
    fn handover_ms(&self) -> f64 {
        self.last_of_old
            .map_or(0.0, |last| self.first.received.ms_since(last))
    }
}

/// The first answer after `fault` by another server than the one that answered last before it, on this
/// virtual IP or, when nobody did there, on any. When nobody answered at all (both switches were off),
/// any server is a new one.
fn takeover(trace: &Trace, vip: VipId, from: Stamp, fault: Stamp, to: Stamp) -> Option<Takeover> {
    let answers = || {
        trace
            .ticks(from, to)
            .filter_map(move |tick| prompt(&tick, vip))
    };
    let before = |answers: &mut dyn Iterator<Item = Seen>| {
        answers
            .take_while(|seen| seen.received <= fault)
            .last()
            .map(|seen| seen.server)
    };
    let on_any = (0..trace.vips())
        .find_map(|vip| before(&mut trace.ticks(from, to).filter_map(|tick| prompt(&tick, vip))));
    let old = before(&mut answers()).or(on_any);
    let first = answers().find(|seen| seen.received > fault && Some(seen.server) != old)?;
    let last_of_old = answers()
        .filter(|seen| Some(seen.server) == old && seen.received < first.received)
        .map(|seen| seen.received)
        .max();
    Some(Takeover { last_of_old, first })
}

fn silent_at_end_ms(trace: &Trace, from: Stamp, to: Stamp) -> f64 {
    let answers = trace
        .ticks(from, to)
        .flat_map(|tick| (0..trace.vips()).filter_map(move |vip| prompt(&tick, vip)));
    let silent = to.ms_since(answers.map(|seen| seen.received).max().unwrap_or(from));
    if silent < PROMPT.as_secs_f64() * 1e3 {
        0.0
    } else {
        silent
    }
}

fn last_server(trace: &Trace, vip: VipId, from: Stamp, to: Stamp) -> Option<ServerId> {
    trace
        .ticks(from, to)
        .filter_map(|tick| prompt(&tick, vip))
        .max_by_key(|seen| seen.received)
        .map(|seen| seen.server)
}

fn prompt(tick: &Tick<'_>, vip: VipId) -> Option<Seen> {
    tick.answer(vip)
        .filter(|seen| seen.received <= tick.sent().plus(PROMPT))
}

/// The ticks whose fate is decided: answered, or old enough to be lost.
fn judged(trace: &Trace, from: Stamp, to: Stamp) -> impl Iterator<Item = Tick<'_>> + Clone {
    let vips = trace.vips();
    trace.ticks(from, to).filter(move |tick| {
        tick.sent().plus(PROMPT) <= to || (0..vips).all(|vip| prompt(tick, vip).is_some())
    })
}

/// Longest time from a tick without service to the next one with service (or the last tick).
fn longest_outage<'a>(
    ticks: impl Iterator<Item = Tick<'a>>,
    served: impl Fn(&Tick<'a>) -> bool,
) -> f64 {
    let mut longest: f64 = 0.0;
    let mut since = None;
    for tick in ticks {
        let start = *since.get_or_insert(tick.sent());
        longest = longest.max(tick.sent().ms_since(start));
        if served(&tick) {
            since = None;
        }
    }
    longest
}

/// Milliseconds during which more than one server would have answered for the same virtual IP, summed
/// over the virtual IPs and pairs of servers.
fn dual_active_ms(trace: &Trace, from: Stamp, to: Stamp) -> f64 {
    (0..trace.vips())
        .map(|vip| {
            let servers: Vec<Vec<Stretch>> = (0..trace.servers())
                .map(|server| active(trace, server, vip, from, to))
                .collect();
            overlap_ms(&servers)
        })
        .sum()
}

/// Milliseconds during which more than one server would have answered for a virtual IP, for the one on
/// which that lasted longest.
#[must_use]
pub fn longest_dual_active_ms(trace: &Trace, from: Stamp, to: Stamp) -> f64 {
    let overlap = |vip| {
        let servers: Vec<Vec<Stretch>> = (0..trace.servers())
            .map(|server| active(trace, server, vip, from, to))
            .collect();
        overlap_ms(&servers)
    };
    (0..trace.vips()).map(overlap).fold(0.0, f64::max)
}

/// When `server` would have answered for `vip`, by what it answered when it was asked directly and by
/// what it answered to the clients.
#[must_use]
pub fn active(trace: &Trace, server: ServerId, vip: VipId, from: Stamp, to: Stamp) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut last_answered = false;
    for tick in trace.ticks(from, to) {
        let Some(seen) = tick.probe(server, vip) else {
            last_answered = false;
            continue;
        };
        let is_prompt = seen.received <= tick.sent().plus(PROMPT);
        match stretches.last_mut() {
            Some(last) if last_answered && is_prompt && seen.answered.since(last.to) <= JOIN => {
                last.to = last.to.max(seen.answered);
            }
            _ => stretches.push(Stretch {
                from: seen.answered,
                to: seen.answered,
            }),
        }
        last_answered = is_prompt;
    }
    let by_clients = trace.ticks(from, to).filter_map(|tick| tick.answer(vip));
    let strays = trace
        .strays(from, to)
        .filter(|stray| stray.vip == vip)
        .map(|stray| stray.seen);
    let points = by_clients
        .chain(strays)
        .filter(|seen| seen.server == server);
    stretches.extend(points.map(|seen| Stretch {
        from: seen.answered,
        to: seen.answered,
    }));
    merged(stretches)
}

/// Sorts stretches and joins those that touch, so that no moment counts twice.
#[must_use]
pub fn merged(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_by_key(|stretch| stretch.from);
    let mut joined: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        match joined.last_mut() {
            Some(last) if stretch.from <= last.to => last.to = last.to.max(stretch.to),
            _ => joined.push(stretch),
        }
    }
    joined
}

/// How long at least two of the lists have a stretch at the same moment, in milliseconds, counted once
/// per pair. A single moment inside another's stretch counts as a microsecond: it happened.
#[must_use]
pub fn overlap_ms(lists: &[Vec<Stretch>]) -> f64 {
    let mut total = 0.0;
    for (number, one) in lists.iter().enumerate() {
        for other in &lists[number + 1..] {
            for a in one {
                for b in other {
                    let (from, to) = (a.from.max(b.from), a.to.min(b.to));
                    if from <= to {
                        total += to.ms_since(from).max(0.001);
                    }
                }
            }
        }
    }
    total
}

#[cfg(test)]
mod tests;
