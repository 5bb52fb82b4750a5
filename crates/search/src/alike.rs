//! When two states are alike: a fingerprint of everything that a world is made of, but for
//! what means nothing.
//!
//! The whole state is written out and then normalised, so that a new field of the decision
//! counts from the day it is added. Left out or made coarse, and why:
//! - moments count by their distance from now, in classes whose borders are the configured
//!   times: two states whose timers stand in the same classes are taken for alike;
//! - the phase of what happens regularly (probes, renewals, signs of life) and what is on the
//!   wire between two probes;
//! - numbers that only count (datagrams, announcements) and sessions, whose names change;
//! - epochs count by their distance from the highest.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Write as _;

use haarb_model::{Mono, Report, Span, Timing};
use haarb_sim::server::Process;
use haarb_sim::world::{Event, Up, World};

/// Fields whose value means nothing for what comes next.
const SKIPPED: &[&str] = &[
    "segment",
    "spec",
    "timing",
    "record",
    "told",
    "told_live",
    "reported",
    "evidence",
    "text",
    // Phases of what is regular.
    "now",
    "next",
    "renewed",
    "payload_renewed",
    "payload_until",
    "reported_at",
    "turned",
    "last_report",
    "wakes",
    "core_wake",
    "prober_wake",
    "prober_turned",
    "delivered",
    "at",
    "burst_last",
    // Numbers that only count, and what is on the wire.
    "number",
    "counter",
    "announce",
    "runs",
    "open",
    "version",
    "deferred",
    "window",
    "switch_window",
    "announced",
    // Copies for people of what counts elsewhere.
    "last_sign",
    "last_echo_at",
    "rtt_us",
    "loss",
    "missing",
    "lag_ms",
    "macs",
];

/// Fields that are renewed all the time: only whether they are far from their end counts.
const RENEWED: &[&str] = &["last", "lease_until", "until"];

/// The fingerprint of a world.
#[must_use]
pub fn fingerprint(world: &World, extra: &str) -> u128 {
    // FNV-1a, 128 bits.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in normal(world, extra) {
        hash ^= u128::from(byte);
        hash = hash.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    hash
}

/// All that counts of a world, written out: worlds with the same text are alike.
#[must_use]
pub fn normal(world: &World, extra: &str) -> Vec<u8> {
    let mut text = String::with_capacity(48 * 1024);
    let _ = write!(text, "{:?}", world.servers);
    let _ = write!(text, "{:?}{extra}", world.fabric);
    for (n, server) in world.servers.iter().enumerate() {
        for process in Process::ALL {
            let _ = write!(text, "{}", server.runs(process));
        }
        for (m, other) in world.servers.iter().enumerate() {
            // The same versions, or who is ahead. That a sink receives the newest one in a moment is
            // the phase of what is regular.
            for (r, (version, others)) in server.version.iter().zip(&other.version).enumerate() {
                let follows = world.receives(n, m, r) || world.receives(m, n, r);
                let ahead = if follows {
                    Ordering::Equal
                } else {
                    version.cmp(others)
                };
                let _ = write!(text, "{ahead:?}");
            }
            if let (Some(prober), Some(session)) =
                (&server.prober, other.prober.as_ref().map(|p| p.session))
            {
                let _ = write!(text, "{n}{m}{}", prober.believes(m, session));
            }
        }
        for event in &server.deferred {
            pending(world, world.now, event, &mut text);
        }
    }
    for (at, event) in world.pending() {
        pending(world, at, event, &mut text);
    }
    Normal::new(world.now, &world.segment.timing).read(&text)
}

/// Writes an event that is still to come, if it is not one of the regular ones.
fn pending(world: &World, at: Mono, event: &Event, text: &mut String) {
    let runs = |n: usize, process: Process, run: u32| {
        world.servers[n].runs[process.ix()] == run && run % 2 == 1
    };
    let counts = match event {
        Event::Probe(..)
        | Event::Switches(..)
        | Event::ProberWake(..)
        | Event::Reply { .. }
        | Event::SwitchReply { .. }
        | Event::Datagram { .. }
        | Event::CoreWake(..)
        | Event::AgentWake(..)
        | Event::ToAgent(..)
        | Event::Links(..) => false,
        Event::ToArbiter(_, _, _, _, Up::Report(Report::Alive)) => false,
        Event::ToArbiter(n, agent, run, arbiter, _) => {
            runs(*n, Process::of(*agent), *run) && runs(*n, Process::Arbiter, *arbiter)
        }
        Event::Start(n, process, run) => {
            world.servers[*n].runs[process.ix()] == *run && run % 2 == 0
        }
        Event::VipApply(n, run, _) => runs(*n, Process::VipAgent, *run),
        Event::Connect(n, agent, run, arbiter) => {
            runs(*n, Process::of(*agent), *run) && runs(*n, Process::Arbiter, *arbiter)
        }
        Event::Orphan(n, _) => {
            world.servers[*n].power && !world.servers[*n].runs(Process::Supervisor)
        }
        Event::Command(n, _) => world.servers[*n].power,
    };
    if counts {
        let _ = match event {
            Event::ToArbiter(n, agent, _, _, up) => write!(text, "{at:?}{n}{agent:?}{up:?}"),
            Event::Start(n, process, _) => write!(text, "{at:?}{n}{process:?}"),
            Event::VipApply(n, _, r) => write!(text, "{at:?}{n}vip{r}"),
            Event::Connect(n, agent, ..) => write!(text, "{at:?}{n}connect{agent:?}"),
            other => write!(text, "{at:?}{other:?}"),
        };
    }
}

/// Reads a state as text and hashes what counts of it.
struct Normal {
    now: u64,
    borders: Vec<u64>,
    coarse: Vec<u64>,
    names: HashMap<u64, u64>,
    out: Vec<u8>,
}

impl Normal {
    fn new(now: Mono, timing: &Timing) -> Self {
        let mut borders: Vec<u64> = [
            timing.dead_after.part(2),
            timing.dead_after,
            timing.dead_after.times(2),
            timing.lease.part(2),
            timing.lease,
            timing.software_dead_after,
            timing.claim_after,
            timing.link_hold,
            timing.rearm_alone,
            timing.cold_start,
        ]
        .iter()
        .map(|span| span.as_micros())
        .collect();
        borders.sort_unstable();
        let mut coarse: Vec<u64> = [
            timing.lease.part(2),
            // What was renewed at this very moment is no further from its end than the lease.
            timing.lease + Span::from_micros(1),
            timing.software_dead_after,
        ]
        .iter()
        .map(|span| span.as_micros())
        .collect();
        coarse.sort_unstable();
        Self {
            now: now.as_micros(),
            borders,
            coarse,
            names: HashMap::new(),
            out: Vec::with_capacity(32 * 1024),
        }
    }

    fn put(&mut self, byte: u8) {
        self.out.push(byte);
    }

    fn put_all(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn moment(&mut self, at: u64, coarse: bool) {
        let borders = if coarse { &self.coarse } else { &self.borders };
        let class = |distance: u64| borders.partition_point(|border| *border <= distance);
        let class = u8::try_from(class(at.abs_diff(self.now))).unwrap_or(u8::MAX);
        self.put(if at > self.now { b'+' } else { b'-' });
        self.put(b'a' + class);
    }

    fn read(mut self, text: &str) -> Vec<u8> {
        let bytes = text.as_bytes();
        let highest = highest_epoch(text);
        let mut i = 0;
        let mut field = "";
        while i < bytes.len() {
            let byte = bytes[i];
            if byte == b'"' {
                let end = quoted(bytes, i);
                self.put_all(&bytes[i..end]);
                i = end;
            } else if byte.is_ascii_alphabetic() || byte == b'_' {
                let end = word_end(bytes, i);
                let word = &text[i..end];
                if bytes[end..].starts_with(b": ") {
                    // A report's copy of what the prober knows better.
                    let copied = word == "dead_after" && field == "silent";
                    field = word;
                    let value = &bytes[end + 2..];
                    let moments = word == "switches"
                        && (value.starts_with(b"[M") || value.starts_with(b"[]"));
                    let skipped = copied || SKIPPED.contains(&word) || moments;
                    i = end + 2;
                    if skipped {
                        i = value_end(bytes, i);
                    } else {
                        self.put_all(word.as_bytes());
                    }
                } else if bytes.get(end) == Some(&b'(') && matches!(word, "Mono" | "Span" | "Epoch")
                {
                    let close = end + 1 + digits(&bytes[end + 1..]);
                    let number: u64 = text[end + 1..close].parse().unwrap_or(u64::MAX);
                    if word == "Mono" {
                        self.moment(number, RENEWED.contains(&field));
                    } else if word == "Span" {
                        self.put(b'~');
                        let class = self.borders.partition_point(|border| *border <= number);
                        self.put(b'a' + u8::try_from(class).unwrap_or(0));
                    } else {
                        let below = highest.saturating_sub(number).min(3) as u8;
                        self.put(b'e');
                        self.put(if number == 0 { b'0' } else { b'a' + below });
                    }
                    i = close + 1;
                } else {
                    self.put_all(word.as_bytes());
                    i = end;
                }
            } else if byte.is_ascii_digit() {
                let end = i + digits(&bytes[i..]);
                let number: u64 = text[i..end].parse().unwrap_or(u64::MAX);
                self.number(number);
                i = end;
            } else {
                self.put(byte);
                i += 1;
            }
        }
        self.out
    }

    /// Small numbers are themselves, large ones are many, huge ones are names.
    fn number(&mut self, number: u64) {
        const HUGE: u64 = 1 << 40;
        const MANY: u64 = 9;
        if number > HUGE {
            let next = self.names.len() as u64;
            let name = *self.names.entry(number).or_insert(next);
            self.put(b'#');
            self.put_all(name.to_string().as_bytes());
        } else {
            self.put(b'0' + number.min(MANY) as u8);
        }
    }
}

fn highest_epoch(text: &str) -> u64 {
    let bytes = text.as_bytes();
    text.match_indices("Epoch(")
        .filter_map(|(at, word)| {
            let from = at + word.len();
            text[from..from + digits(&bytes[from..])].parse().ok()
        })
        .max()
        .unwrap_or(0)
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| b.is_ascii_digit()).count()
}

fn word_end(bytes: &[u8], from: usize) -> usize {
    let word = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_';
    from + bytes[from..].iter().take_while(word).count()
}

/// Behind the closing quote of a string that begins at `from`.
fn quoted(bytes: &[u8], from: usize) -> usize {
    let mut i = from + 1;
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(bytes.len())
}

/// Behind a value: at the comma or bracket that ends it.
fn value_end(bytes: &[u8], from: usize) -> usize {
    let mut depth = 0usize;
    let mut i = from;
    while i < bytes.len() {
        match bytes[i] {
            b'"' => {
                i = quoted(bytes, i);
                continue;
            }
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' if depth == 0 => return i,
            b'}' | b']' | b')' => depth -= 1,
            b',' if depth == 0 => return i,
            _ => {}
        }
        i += 1;
    }
    i
}
