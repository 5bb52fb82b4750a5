//! What real machines and networks add to the ideal: clocks that run fast or slow, late timers,
//! packets that overtake each other or arrive twice, loss in bursts.
//!
//! All zero adds nothing and draws nothing, so that scenarios stay as they are.

use std::fmt;
use std::str::FromStr;

use haarb_model::{Span, Timing};

use crate::NodeIx;

/// One way in which random runs go beyond the ideal; each can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lever {
    /// Clocks that differ by up to 200 ppm.
    Drift,
    /// Timers that fire late.
    Jitter,
    /// Packets that overtake each other.
    Reorder,
    /// Packets that arrive twice.
    Duplicates,
    /// Loss in bursts.
    Bursts,
    /// Records that cannot be written, or are gone after a restart.
    Disk,
    /// Servers of another release, within the window.
    Versions,
    /// Several reserves begin on different servers.
    Spread,
    /// Single processes that stand still and go on.
    Stalls,
}

impl Lever {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Drift,
        Self::Jitter,
        Self::Reorder,
        Self::Duplicates,
        Self::Bursts,
        Self::Disk,
        Self::Versions,
        Self::Spread,
        Self::Stalls,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::Jitter => "jitter",
            Self::Reorder => "reorder",
            Self::Duplicates => "duplicates",
            Self::Bursts => "bursts",
            Self::Disk => "disk",
            Self::Versions => "versions",
            Self::Spread => "spread",
            Self::Stalls => "stalls",
        }
    }
}

impl fmt::Display for Lever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Lever {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|lever| lever.as_str() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("no lever {text:?}; there is: {names}")
        })
    }
}

/// How rough a world is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rough {
    /// How much faster each server's clock runs, in parts per million; negative: slower.
    pub drift_ppm: Vec<i64>,
    /// Timers fire late by up to this, in microseconds; one in a hundred ten times as late.
    pub late_us: u64,
    /// The share of packets that take a detour, so that others overtake them.
    pub detour: f64,
    /// The longest detour, in microseconds.
    pub detour_us: u64,
    /// The share of packets that arrive twice.
    pub twice: f64,
    /// Loss in bursts.
    pub gusts: Option<Gusts>,
}

/// Loss in bursts after Gilbert and Elliott: with each packet the network turns bad or good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gusts {
    /// The chance to turn bad.
    pub begin: f64,
    /// The chance to turn good again.
    pub end: f64,
    /// The share that is lost while it is bad.
    pub loss: f64,
}

impl Rough {
    /// The times as a server's own clock counts them: what it takes for a second is shorter
    /// where the clock runs fast.
    #[must_use]
    pub fn timing(&self, n: NodeIx, timing: Timing) -> Timing {
        let ppm = self.drift_ppm.get(n).copied().unwrap_or(0);
        if ppm == 0 {
            return timing;
        }
        let own = |span: Span| {
            let us = i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 2_000_000);
            let us = us - us.saturating_mul(ppm) / 1_000_000;
            Span::from_micros(u64::try_from(us).unwrap_or(0))
        };
        Timing {
            probe_interval: own(timing.probe_interval),
            switch_interval: own(timing.switch_interval),
            dead_after: own(timing.dead_after),
            not_heard_after: own(timing.not_heard_after),
            lease: own(timing.lease),
            software_dead_after: own(timing.software_dead_after),
            link_hold: own(timing.link_hold),
            lead: own(timing.lead),
            claim_after: own(timing.claim_after),
            cold_start: own(timing.cold_start),
            rearm_alone: own(timing.rearm_alone),
            drain_max: own(timing.drain_max),
            vip_probe: own(timing.vip_probe),
            max_switches: timing.max_switches,
            switch_window: own(timing.switch_window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_finds_its_spans_over_sooner() {
        let rough = Rough {
            drift_ppm: vec![200, -20_000],
            ..Rough::default()
        };
        let timing = Timing::telecom();
        assert_eq!(rough.timing(0, timing).lease, Span::from_micros(499_900));
        assert_eq!(rough.timing(1, timing).lease, Span::from_millis(510));
        assert_eq!(rough.timing(2, timing), timing);
    }
}
