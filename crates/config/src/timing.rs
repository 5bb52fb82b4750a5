//! Times by name: the profiles, the keys that override single values, and the inequalities
//! of the decision table (section 9) that the result must satisfy.

use haarb_model::{KernelLine, Span, Timing};

use crate::{Config, Profile};

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 3] = [Self::Telecom, Self::Lan, Self::Wan];

    /// Its name in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Telecom => "telecom",
            Self::Lan => "lan",
            Self::Wan => "wan",
        }
    }

    /// Its times before any override.
    #[must_use]
    pub const fn timing(self) -> Timing {
        match self {
            Self::Telecom => Timing::telecom(),
            Self::Lan => Timing::lan(),
            Self::Wan => Timing::wan(),
        }
    }

    /// What the inequalities assume about machine and network.
    ///
    /// Assumptions, not measurements: daemons at real-time priority on a machine that is not
    /// stalled, and the usual delay of such a network. They may be replaced by what the lab
    /// measures; a server that was stalled for longer lets go by rule X1.
    #[must_use]
    pub const fn margins(self) -> Margins {
        let (jitter, delay, step) = match self {
            Self::Telecom => (500, 500, 500),
            Self::Lan => (10_000, 10_000, 5_000),
            Self::Wan => (50_000, 200_000, 20_000),
        };
        Margins {
            jitter: Span::from_micros(jitter),
            delay: Span::from_micros(delay),
            drop: Span::from_micros(step),
            give_way: Span::from_micros(step),
            granularity: KernelLine::Nftables.late(),
            lifetime: KernelLine::Lifetime.late(),
            switch_misses: 2,
        }
    }
}

/// What the inequalities add to the configured times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Margins {
    /// How late a timer of a daemon fires.
    pub jitter: Span,
    /// One way through the network, both hosts included.
    pub delay: Span,
    /// From the decision to let go until the address is off the interface.
    pub drop: Span,
    /// From the datagram that says "I do not hear you" to the decision to give way (rule A4).
    pub give_way: Span,
    /// How much later than its lease the vip-agent has let go. Where it is dead itself, the
    /// kernel's gate (eBPF, nftables) keeps this too.
    pub granularity: Span,
    /// The same where it is dead and the kernel has nothing but the address lifetime. There the
    /// ARP/ND probe before a takeover (rules B6 and B8) holds back.
    pub lifetime: Span,
    /// Unanswered probes after which a switch counts as silent.
    pub switch_misses: u64,
}

/// One inequality of the decision table, computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inequality {
    /// Its name.
    pub name: &'static str,
    /// The formula in the words of the configuration.
    pub formula: &'static str,
    /// The keys that can mend it, the most natural one first.
    pub keys: &'static [&'static str],
    /// The side that must be larger.
    pub left: Span,
    /// The side that must be smaller.
    pub right: Span,
    /// Whether equal is enough.
    pub or_equal: bool,
}

impl Inequality {
    /// The verdict.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.left > self.right || self.or_equal && self.left == self.right
    }
}

impl Config {
    /// The inequalities of this configuration, each with both sides; all of them hold.
    #[must_use]
    pub fn inequalities(&self) -> Vec<Inequality> {
        inequalities(self.profile, &self.timing)
    }
}

/// Computes every inequality for a profile's margins and the effective times.
pub(crate) fn inequalities(profile: Profile, t: &Timing) -> Vec<Inequality> {
    let m = profile.margins();
    let verdict = t.dead_after + t.vip_probe;
    vec![
        Inequality {
            name: "three replies",
            formula: "dead-after >= 3 x probe-interval",
            keys: &["dead-after", "probe-interval"],
            left: t.dead_after,
            right: t.probe_interval.times(3),
            or_equal: true,
        },
        Inequality {
            name: "cut off without carrier loss",
            formula: "dead-after + vip-probe > probe-interval + jitter + (misses + 1) x switch-interval + 2 x jitter + drop + delay",
            keys: &[
                "dead-after",
                "switch-interval",
                "vip-probe",
                "probe-interval",
            ],
            left: verdict,
            right: t.probe_interval
                + t.switch_interval.times(m.switch_misses + 1)
                + m.jitter.times(3)
                + m.drop
                + m.delay,
            or_equal: false,
        },
        Inequality {
            name: "one-way loss",
            formula: "dead-after + vip-probe > not-heard-after + probe-interval + 2 x jitter + delay + give way + drop",
            keys: &[
                "dead-after",
                "not-heard-after",
                "vip-probe",
                "probe-interval",
            ],
            left: verdict,
            right: t.not_heard_after
                + t.probe_interval
                + m.jitter.times(2)
                + m.delay
                + m.give_way
                + m.drop,
            or_equal: false,
        },
        Inequality {
            name: "software dead, kernel alive",
            formula: "software-dead-after + vip-probe > probe-interval + jitter + lease + granularity + delay",
            keys: &[
                "software-dead-after",
                "lease",
                "vip-probe",
                "probe-interval",
            ],
            left: t.software_dead_after + t.vip_probe,
            right: t.probe_interval + m.jitter + t.lease + m.granularity + m.delay,
            or_equal: false,
        },
        Inequality {
            name: "one lost datagram",
            formula: "not-heard-after >= 2 x probe-interval",
            keys: &["not-heard-after", "probe-interval"],
            left: t.not_heard_after,
            right: t.probe_interval.times(2),
            or_equal: true,
        },
        Inequality {
            name: "eligible only after letting go",
            formula: "lead > lease",
            keys: &["lead", "lease"],
            left: t.lead,
            right: t.lease,
            or_equal: false,
        },
    ]
}

/// The value behind a key of `timing`.
pub(crate) enum Slot<'a> {
    Span(&'a mut Span),
    Count(&'a mut u32),
}

/// The keys of `timing` beside `profile`, in the order in which they are shown.
pub(crate) const KEYS: [&str; 15] = [
    "probe-interval",
    "switch-interval",
    "dead-after",
    "not-heard-after",
    "lease",
    "software-dead-after",
    "link-hold",
    "lead",
    "claim-after",
    "cold-start",
    "rearm-alone",
    "drain-max",
    "vip-probe",
    "max-switches",
    "switch-window",
];

/// Where the value of a key lives; `None` for a key that is not in [`KEYS`].
pub(crate) fn slot<'a>(t: &'a mut Timing, key: &str) -> Option<Slot<'a>> {
    Some(Slot::Span(match key {
        "probe-interval" => &mut t.probe_interval,
        "switch-interval" => &mut t.switch_interval,
        "dead-after" => &mut t.dead_after,
        "not-heard-after" => &mut t.not_heard_after,
        "lease" => &mut t.lease,
        "software-dead-after" => &mut t.software_dead_after,
        "link-hold" => &mut t.link_hold,
        "lead" => &mut t.lead,
        "claim-after" => &mut t.claim_after,
        "cold-start" => &mut t.cold_start,
        "rearm-alone" => &mut t.rearm_alone,
        "drain-max" => &mut t.drain_max,
        "vip-probe" => &mut t.vip_probe,
        "switch-window" => &mut t.switch_window,
        "max-switches" => return Some(Slot::Count(&mut t.max_switches)),
        _ => return None,
    }))
}
