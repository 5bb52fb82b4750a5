//! Models of the agents that hold: vip-agent, supervisor, syncer. Each follows its last
//! duties, lets go when its lease ends, and reports what it has.

use haarb_model::{
    Data, DirectoryReport, DirectoryState, Epoch, Guard, HeldVip, KernelLine, Mono, NodeName,
    ProbeAnswer, Report, ReserveDuties, ReserveSpec, ServiceDuty, ServiceReport, ServiceRun, Span,
    SyncDuty, SyncReport, SyncReserve, VipDuty, VipReport, VipReserve, sign_due,
};

/// The vip-agent's mind about one reserve.
#[derive(Clone, Debug, Default)]
pub struct VipPart {
    /// What it should hold.
    pub duty: VipDuty,
    /// Under which epoch; never lower than before.
    pub epoch: Epoch,
    /// When the running probe began.
    pub probe_since: Option<Mono>,
    /// Since when nobody has answered it.
    pub quiet_since: Option<Mono>,
    /// What it has found.
    pub answer: ProbeAnswer,
    /// Until when what was found before a restart may be kept.
    pub restored: Mono,
}

/// The vip-agent.
#[derive(Clone, Debug, Default)]
pub struct VipAgent {
    /// One per reserve.
    pub parts: Vec<VipPart>,
    /// Its last report.
    pub reported: Option<VipReport>,
    /// When it reported last.
    pub reported_at: Mono,
    /// Its last turn, to notice a freeze.
    pub turned: Mono,
    /// Leases granted before a freeze count no more.
    pub trusted_from: Mono,
}

impl VipAgent {
    /// Follows new duties of the reserves at these places; a lower epoch than it has seen is refused.
    pub fn follow<'a>(
        &mut self,
        duties: impl Iterator<Item = (usize, &'a ReserveDuties)>,
        now: Mono,
    ) {
        let trusted_from = self.trusted_from;
        for (r, duties) in duties {
            let part = &mut self.parts[r];
            if duties.epoch < part.epoch {
                continue;
            }
            part.epoch = duties.epoch;
            if duties.vip.probe && part.probe_since.is_none() {
                part.probe_since = Some(now);
                part.answer = ProbeAnswer::Unknown;
            }
            if !duties.vip.probe {
                part.probe_since = None;
                part.quiet_since = None;
                part.answer = ProbeAnswer::Unknown;
            }
            part.duty = duties.vip.clone();
            part.restored = Mono::ZERO;
            if part.duty.until < trusted_from {
                part.duty.hold = false;
            }
        }
    }

    /// Whether a reserve may be held at this moment.
    #[must_use]
    pub fn wants(&self, r: usize, now: Mono) -> bool {
        let part = &self.parts[r];
        (part.duty.hold && now < part.duty.until) || now < part.restored
    }

    /// Everything it knows. `held`: what the kernel has.
    #[must_use]
    pub fn report(
        &self,
        specs: &[ReserveSpec],
        held: &[bool],
        mac: [u8; 6],
        gate: bool,
        now: Mono,
    ) -> VipReport {
        let line = if gate {
            KernelLine::Ebpf
        } else {
            KernelLine::Lifetime
        };
        let guard = Guard {
            line,
            reason: String::new(),
        };
        let vips = specs.iter().flat_map(|spec| &spec.vips);
        let guards = vips.map(|vip| (vip.interface.clone(), guard.clone()));
        let parts = self.parts.iter().enumerate().zip(specs).zip(held);
        VipReport {
            reserves: parts
                .map(|(((r, part), spec), held)| VipReserve {
                    reserve: spec.name.clone(),
                    epoch: part.epoch,
                    seen: part.epoch,
                    lease_until: if self.wants(r, now) {
                        part.duty.until.max(part.restored)
                    } else {
                        Mono::ZERO
                    },
                    vips: spec
                        .vips
                        .iter()
                        .map(|vip| HeldVip {
                            address: vip.address,
                            interface: vip.interface.clone(),
                            held: *held,
                        })
                        .collect(),
                    probe: part.answer,
                    probe_since: part.probe_since,
                    error: String::new(),
                })
                .collect(),
            macs: [("red".to_owned(), mac)].into(),
            guards: guards.collect(),
        }
    }
}

/// The supervisor's mind about one reserve.
#[derive(Clone, Debug, Default)]
pub struct ServicePart {
    /// What it should run.
    pub duty: ServiceDuty,
    /// Under which epoch.
    pub epoch: Epoch,
    /// When the start or stop that is under way ends, and whether it is a start.
    pub busy: Option<(Mono, bool)>,
    /// Restarts since the last success.
    pub failures: u32,
    /// Given up.
    pub failed: String,
    /// How often failures were cleared.
    pub cleared: u64,
    /// A restarted supervisor waits for so long to be told before it stops what it finds.
    pub waits_until: Mono,
}

/// The supervisor.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    /// One per reserve.
    pub parts: Vec<ServicePart>,
    /// Its last report.
    pub reported: Option<ServiceReport>,
    /// When it reported last.
    pub reported_at: Mono,
}

impl Supervisor {
    /// Follows new duties of the reserves at these places.
    pub fn follow<'a>(&mut self, duties: impl Iterator<Item = (usize, &'a ReserveDuties)>) {
        for (r, duties) in duties {
            let part = &mut self.parts[r];
            if duties.epoch < part.epoch {
                continue;
            }
            part.epoch = duties.epoch;
            if duties.services.clear > part.cleared {
                part.failed.clear();
                part.failures = 0;
                part.cleared = duties.services.clear;
            }
            if duties.services.run && !part.duty.run {
                part.failures = 0;
            }
            part.waits_until = Mono::ZERO;
            part.duty = duties.services.clone();
        }
    }

    /// Everything it knows. `running`: what really runs.
    #[must_use]
    pub fn report(&self, specs: &[ReserveSpec], running: &[bool]) -> ServiceReport {
        let parts = self.parts.iter().zip(specs).zip(running);
        ServiceReport {
            reserves: parts
                .map(|((part, spec), running)| ServiceRun {
                    reserve: spec.name.clone(),
                    epoch: part.epoch,
                    running: *running && part.busy.is_none(),
                    stopped: !*running && part.busy.is_none(),
                    failed: part.failed.clone(),
                    not_startable: String::new(),
                    services: Vec::new(),
                })
                .collect(),
            watchdog: String::new(),
        }
    }
}

/// The syncer's mind about one reserve. Versions count what the service has written.
#[derive(Clone, Debug, Default)]
pub struct SyncPart {
    /// What it should do.
    pub duty: SyncDuty,
    /// Under which epoch.
    pub epoch: Epoch,
    /// It is connected as a sink and has caught up.
    pub caught_up: bool,
    /// How good the replica is.
    pub data: Data,
    /// As source in a drain: everything was acknowledged.
    pub drained: bool,
    /// As source: a sink is connected.
    pub connected: bool,
}

/// The syncer.
#[derive(Clone, Debug, Default)]
pub struct Syncer {
    /// One per reserve.
    pub parts: Vec<SyncPart>,
    /// Its last report.
    pub reported: Option<SyncReport>,
    /// When it reported last.
    pub reported_at: Mono,
}

impl Syncer {
    /// Follows new duties of the reserves at these places.
    pub fn follow<'a>(&mut self, duties: impl Iterator<Item = (usize, &'a ReserveDuties)>) {
        for (r, duties) in duties {
            let part = &mut self.parts[r];
            if duties.epoch < part.epoch {
                continue;
            }
            if duties.sync != SyncDuty::Drain || duties.epoch > part.epoch {
                part.drained = false;
            }
            part.epoch = duties.epoch;
            if part.duty != duties.sync {
                part.caught_up = false;
            }
            match duties.sync {
                SyncDuty::Source | SyncDuty::Drain => part.data = Data::Current,
                SyncDuty::Sink(_) | SyncDuty::Off => {}
            }
            part.duty = duties.sync.clone();
        }
    }

    /// From whom it receives.
    #[must_use]
    pub fn source(&self, r: usize) -> Option<&NodeName> {
        match &self.parts[r].duty {
            SyncDuty::Sink(from) => Some(from),
            SyncDuty::Off | SyncDuty::Source | SyncDuty::Drain => None,
        }
    }

    /// Everything it knows.
    #[must_use]
    pub fn report(&self, specs: &[ReserveSpec]) -> SyncReport {
        let parts = self.parts.iter().zip(specs);
        SyncReport {
            reserves: parts
                .map(|(part, spec)| SyncReserve {
                    reserve: spec.name.clone(),
                    epoch: part.epoch,
                    data: part.data,
                    drained: part.drained,
                    directories: vec![DirectoryReport {
                        path: "/srv".into(),
                        state: if part.connected {
                            DirectoryState::InSync
                        } else {
                            DirectoryState::WaitingForPeer
                        },
                        lag_ms: 0,
                        pending_files: 0,
                        held_deletions: 0,
                        failing: 0,
                        error: String::new(),
                    }],
                    conflicts: 0,
                })
                .collect(),
        }
    }
}

/// A report that is due: a new one if anything changed, or a sign of life.
pub fn due<T: Clone + PartialEq>(
    last: &mut Option<T>,
    last_at: &mut Mono,
    current: T,
    now: Mono,
    lease: Span,
    wrap: impl FnOnce(T) -> Report,
) -> Option<Report> {
    if last.as_ref() != Some(&current) {
        *last = Some(current.clone());
        *last_at = now;
        return Some(wrap(current));
    }
    if now >= sign_due(*last_at, lease) {
        *last_at = now;
        return Some(Report::Alive);
    }
    None
}
