//! The turns of vip-agent, supervisor and syncer.

use super::*;

impl World {
    pub(super) fn wake_agent(&mut self, n: NodeIx, process: Process, span: Span) {
        let at = self.now + span;
        self.servers[n].wakes[process.ix()] = at;
        let run = self.servers[n].runs[process.ix()];
        self.timer(at, Event::AgentWake(n, process, run));
    }

    /// How long an agent that last told something at `told` may sleep.
    fn until_sign(&self, n: NodeIx, told: Mono) -> Span {
        sign_at_latest(told, self.timing(n).lease).since(self.now)
    }

    pub(super) fn agent_turn(&mut self, n: NodeIx, process: Process) {
        match process {
            Process::VipAgent => self.vip_turn(n),
            Process::Supervisor => self.supervisor_turn(n),
            Process::Syncer => self.syncer_turn(n),
            Process::LinkWatcher => {
                self.tell(n, Agent::LinkWatcher, Up::Report(Report::Alive));
                self.wake_agent(n, process, sign_interval(self.timing(n).lease));
            }
            Process::Arbiter | Process::Prober => {}
        }
    }

    /// The vip-agent finds out whether it was frozen, before anything else.
    pub(super) fn vip_wake(&mut self, n: NodeIx) {
        let now = self.now;
        let lease = self.timing(n).lease;
        let Some(vip) = &mut self.servers[n].vip else {
            return;
        };
        let gap = now.since(vip.turned);
        vip.turned = now;
        if gap > lease {
            for part in &mut vip.parts {
                part.duty.hold = false;
                part.restored = Mono::ZERO;
            }
            vip.trusted_from = now + lease;
            self.tell(n, Agent::VipAgent, Up::Report(Report::Stalled(gap)));
        }
    }

    pub(super) fn vip_turn(&mut self, n: NodeIx) {
        self.vip_wake(n);
        let now = self.now;
        let timing = self.timing(n);
        let run = self.servers[n].runs[Process::VipAgent.ix()];
        let mut next = sign_interval(timing.lease);
        for r in 0..self.segment.reserves.len() {
            let answers = self.vip_answers(n, r);
            // What cannot be asked on a network without carrier is not known.
            let deaf = (0..self.fabric.nets.len()).any(|net| !self.fabric.carrier(net, n));
            let server = &mut self.servers[n];
            let held = server.holds(r, now);
            let Some(vip) = &mut server.vip else {
                return;
            };
            let wants = vip.wants(r, now);
            let part = &mut vip.parts[r];
            let until = part.duty.until.max(part.restored);
            if part.probe_since.is_some() {
                if answers {
                    part.answer = ProbeAnswer::Neighbour;
                    part.quiet_since = None;
                } else if deaf {
                    part.answer = ProbeAnswer::Unknown;
                    part.quiet_since = None;
                } else if now >= *part.quiet_since.get_or_insert(now) + timing.vip_probe {
                    part.answer = ProbeAnswer::Silent;
                }
                next = next.min(timing.vip_probe.part(4));
            }
            if wants {
                next = next.min(until.since(now) + Span::from_micros(1));
                server.leases[r] = (part.epoch, until);
            } else {
                server.leases[r] = (part.epoch, Mono::ZERO);
            }
            if wants && held {
                self.extend(n, r, until);
            } else if wants != held || (self.servers[n].kernel[r].added && !wants) {
                let span = self.rng.span(150, 600);
                self.after(span, Event::VipApply(n, run, r));
            }
        }
        self.vip_report(n);
        let told = self.servers[n]
            .vip
            .as_ref()
            .map_or(now, |vip| vip.reported_at);
        self.wake_agent(n, Process::VipAgent, next.min(self.until_sign(n, told)));
    }

    /// When the kernel ends an address by itself: with a gate at the end of the lease, else by
    /// its lifetime: whole seconds, looked at no more often than once a second.
    pub(super) fn extend(&mut self, n: NodeIx, r: usize, until: Mono) {
        let seconds = until.since(self.now).as_micros().div_ceil(1_000_000).max(1);
        let late = self.rng.span(0, 1_250_000);
        let lifetime = self.now + Span::from_secs(seconds) + late;
        let gate = self.servers[n].gate;
        let vip = &mut self.servers[n].kernel[r];
        vip.added = true;
        vip.until = if gate { until } else { lifetime };
    }

    pub(super) fn vip_apply(&mut self, n: NodeIx, r: usize) {
        let now = self.now;
        let Some(vip) = &self.servers[n].vip else {
            return;
        };
        let until = vip.parts[r].duty.until.max(vip.parts[r].restored);
        if vip.wants(r, now) {
            self.extend(n, r, until);
        } else {
            self.servers[n].kernel[r].added = false;
        }
        self.vip_report(n);
    }

    pub(super) fn vip_report(&mut self, n: NodeIx) {
        let now = self.now;
        let held: Vec<bool> = (0..self.segment.reserves.len())
            .map(|r| self.servers[n].holds(r, now))
            .collect();
        let mac = [2, 0, 0, 0, 0, u8::try_from(n).unwrap_or(0)];
        let lease = self.timing(n).lease;
        let gate = self.servers[n].gate;
        let Some(vip) = &mut self.servers[n].vip else {
            return;
        };
        let report = vip.report(&self.segment.reserves, &held, mac, gate, now);
        // A renewed lease is told when a sign of life is due.
        let known = vip.reported.as_ref();
        if now < sign_due(vip.reported_at, lease)
            && known.is_some_and(|known| known.covers(&report))
        {
            return;
        }
        let due = agents::due(
            &mut vip.reported,
            &mut vip.reported_at,
            report,
            now,
            lease,
            Report::Vip,
        );
        if let Some(report) = due {
            self.tell(n, Agent::VipAgent, Up::Report(report));
        }
    }

    /// Whether another server answers an ARP probe for a reserve's virtual IPs.
    pub(super) fn vip_answers(&mut self, n: NodeIx, r: usize) -> bool {
        let now = self.now;
        for other in 0..self.servers.len() {
            if other == n || !self.servers[other].alive() || !self.servers[other].holds(r, now) {
                continue;
            }
            for net in 0..self.fabric.nets.len() {
                let there = self.fabric.passes(net, n, other, Kind::Other) && !self.lost(net);
                let back = self.fabric.passes(net, other, n, Kind::Other) && !self.lost(net);
                if there && back {
                    return true;
                }
            }
        }
        false
    }

    pub(super) fn supervisor_turn(&mut self, n: NodeIx) {
        let now = self.now;
        let mut next = sign_interval(self.timing(n).lease);
        for r in 0..self.segment.reserves.len() {
            if self.segment.reserves[r].services == 0 {
                continue;
            }
            let start = self.rng.span(1_000, 40_000);
            let stop = self.rng.span(500, 10_000);
            let server = &mut self.servers[n];
            let Some(supervisor) = &mut server.supervisor else {
                return;
            };
            let part = &mut supervisor.parts[r];
            if let Some((at, starts)) = part.busy {
                if now < at {
                    next = next.min(at.since(now));
                    continue;
                }
                part.busy = None;
                if starts && server.broken[r] {
                    part.failures += 1;
                    if part.failures >= 3 {
                        part.failed = "exited 3 times".into();
                    }
                } else {
                    server.running[r] = starts;
                }
            }
            let run = part.duty.run && now < part.duty.until;
            if part.duty.run {
                next = next.min(part.duty.until.since(now) + Span::from_micros(1));
            }
            if server.running[r] && server.broken[r] {
                server.running[r] = false;
            }
            let told = now >= part.waits_until;
            let wrong = run != server.running[r] && !part.duty.frozen && told;
            if wrong && (!run || part.failed.is_empty()) {
                let span = if run { start } else { stop };
                part.busy = Some((now + span, run));
                next = next.min(span);
            }
        }
        let lease = self.timing(n).lease;
        let server = &mut self.servers[n];
        let Some(supervisor) = &mut server.supervisor else {
            return;
        };
        let report = supervisor.report(&self.segment.reserves, &server.running);
        let due = agents::due(
            &mut supervisor.reported,
            &mut supervisor.reported_at,
            report,
            now,
            lease,
            Report::Services,
        );
        let told = supervisor.reported_at;
        if let Some(report) = due {
            self.tell(n, Agent::Supervisor, Up::Report(report));
        }
        self.wake_agent(n, Process::Supervisor, next.min(self.until_sign(n, told)));
    }

    pub(super) fn syncer_turn(&mut self, n: NodeIx) {
        let now = self.now;
        let mut next = sign_interval(self.timing(n).lease);
        for r in 0..self.segment.reserves.len() {
            if self.segment.reserves[r].directories == 0 {
                continue;
            }
            self.sync(n, r);
            next = next.min(Span::from_millis(5));
        }
        let lease = self.timing(n).lease;
        let Some(syncer) = &mut self.servers[n].syncer else {
            return;
        };
        let report = syncer.report(&self.segment.reserves);
        let due = agents::due(
            &mut syncer.reported,
            &mut syncer.reported_at,
            report,
            now,
            lease,
            Report::Sync,
        );
        let told = syncer.reported_at;
        if let Some(report) = due {
            self.tell(n, Agent::Syncer, Up::Report(report));
        }
        self.wake_agent(n, Process::Syncer, next.min(self.until_sign(n, told)));
    }

    /// One reserve of one syncer: as source it writes and drains, as sink it receives.
    pub(super) fn sync(&mut self, n: NodeIx, r: usize) {
        let Some(syncer) = &self.servers[n].syncer else {
            return;
        };
        let part = &syncer.parts[r];
        let epoch = part.epoch;
        match &part.duty {
            SyncDuty::Off => {}
            SyncDuty::Source | SyncDuty::Drain => {
                let drains = part.duty == SyncDuty::Drain;
                if self.servers[n].running[r] {
                    self.servers[n].version[r] += 1;
                    self.checks.wrote(n, r);
                }
                let version = self.servers[n].version[r];
                let behind = (0..self.servers.len()).any(|other| {
                    self.receives(other, n, r) && self.servers[other].version[r] != version
                });
                let connected = (0..self.servers.len()).any(|other| self.receives(other, n, r));
                if let Some(syncer) = &mut self.servers[n].syncer {
                    syncer.parts[r].drained = drains && !behind;
                    syncer.parts[r].connected = connected;
                }
            }
            SyncDuty::Sink(from) => {
                let from = self.servers.iter().position(|s| s.name == *from);
                let Some(from) = from else { return };
                let source = self.servers[from].syncer.as_ref().map(|s| &s.parts[r]);
                let fits = source.is_some_and(|source| {
                    matches!(source.duty, SyncDuty::Source | SyncDuty::Drain)
                        && source.epoch >= epoch
                });
                let works = fits && self.receives(n, from, r);
                let version = self.servers[from].version[r];
                if works {
                    if self.servers[n].version[r] != version {
                        self.servers[n].version[r] = version;
                    }
                    self.checks.received(n, from, r);
                }
                if let Some(syncer) = &mut self.servers[n].syncer {
                    let part = &mut syncer.parts[r];
                    if works {
                        part.data = Data::Current;
                    } else if fits && !part.caught_up && part.data == Data::Current {
                        // Somebody else serves and we have not caught up with it.
                        part.data = Data::Stale;
                    }
                    part.caught_up |= works;
                }
            }
        }
    }

    /// A sink receives from a source: both work and can talk.
    #[must_use]
    pub fn receives(&self, sink: NodeIx, source: NodeIx, r: usize) -> bool {
        let up = |n: NodeIx| {
            let server = &self.servers[n];
            server.alive() && server.frozen.is_none() && server.syncer.is_some()
        };
        let name = &self.servers[source].name;
        let follows = self.servers[sink]
            .syncer
            .as_ref()
            .is_some_and(|syncer| syncer.source(r) == Some(name));
        sink != source && follows && up(sink) && up(source) && self.fabric.connected(sink, source)
    }
}
