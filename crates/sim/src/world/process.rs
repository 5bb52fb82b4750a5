//! Processes: how they start, connect and die.

use super::*;

impl World {
    /// Has a process start after a while.
    pub fn start_in(&mut self, n: NodeIx, process: Process, span: Span) {
        let run = self.servers[n].runs[process.ix()];
        self.after(span, Event::Start(n, process, run));
    }

    pub(super) fn start(&mut self, n: NodeIx, process: Process, run: u32) {
        let server = &mut self.servers[n];
        if server.runs[process.ix()] != run || run % 2 == 1 || server.down[process.ix()] {
            return;
        }
        server.runs[process.ix()] += 1;
        let run = run + 1;
        match process {
            Process::Arbiter => self.start_arbiter(n, run),
            Process::LinkWatcher => {}
            Process::Prober => self.start_prober(n, run),
            Process::VipAgent => self.start_vip_agent(n),
            Process::Syncer => {
                // A replica that was just opened cannot know whether it is the newest.
                let part = SyncPart {
                    data: Data::Stale,
                    ..SyncPart::default()
                };
                let parts = vec![part; self.segment.reserves.len()];
                self.servers[n].syncer = Some(Syncer {
                    parts,
                    ..Syncer::default()
                });
            }
            Process::Supervisor => {
                let part = ServicePart {
                    waits_until: self.now + self.timing(n).lease,
                    ..ServicePart::default()
                };
                let parts = vec![part; self.segment.reserves.len()];
                self.servers[n].supervisor = Some(Supervisor {
                    parts,
                    ..Supervisor::default()
                });
            }
        }
        if let Some(agent) = process.agent() {
            self.try_connect(n, agent);
            self.agent_turn(n, process);
        }
    }

    pub(super) fn start_arbiter(&mut self, n: NodeIx, run: u32) {
        let timing = self.timing(n);
        let server = &mut self.servers[n];
        let record = if server.disk {
            server.record.clone()
        } else {
            haarb_decision::Record::default()
        };
        server.told = Default::default();
        let mut segment = self.segment.clone();
        segment.digest = server.digest;
        segment.timing = timing;
        let core = Core::new(segment, server.name.clone(), record, self.now);
        match core {
            Ok(core) => server.core = Some(core.speaking(server.protocols)),
            Err(unknown) => self.checks.fail(format!("cannot start: {unknown}")),
        }
        self.servers[n].core_wake = self.now;
        self.at(self.now, Event::CoreWake(n, run));
        for agent in Agent::ALL {
            self.try_connect(n, agent);
        }
    }

    pub(super) fn start_prober(&mut self, n: NodeIx, run: u32) {
        let others = self.segment.nodes.iter().enumerate();
        let others = others
            .filter(|(ix, _)| *ix != n)
            .map(|(ix, node)| (ix, node.name.clone()))
            .collect();
        let names = self.segment.networks.iter().map(|net| net.name.clone());
        let asked = self.segment.networks.iter().any(|net| net.switch_answers);
        let session = self.rng.next_u64();
        let prober = Prober::new(
            self.timing(n),
            names.collect(),
            asked,
            others,
            session,
            self.now,
        );
        self.servers[n].prober = Some(prober);
        self.servers[n].prober_turned = self.now;
        let phase = self.rng.span(0, self.timing(n).probe_interval.as_micros());
        self.after(phase, Event::Probe(n, run));
        self.at(self.now, Event::Switches(n, run));
    }

    pub(super) fn start_vip_agent(&mut self, n: NodeIx) {
        let now = self.now;
        let server = &mut self.servers[n];
        let parts = server
            .leases
            .iter()
            .map(|(epoch, until)| VipPart {
                epoch: *epoch,
                restored: if now < *until { *until } else { Mono::ZERO },
                ..VipPart::default()
            })
            .collect();
        server.vip = Some(VipAgent {
            parts,
            turned: now,
            ..VipAgent::default()
        });
    }

    pub(super) fn try_connect(&mut self, n: NodeIx, agent: Agent) {
        let process = Process::of(agent);
        if self.servers[n].runs(process) && self.servers[n].runs(Process::Arbiter) {
            let runs = self.servers[n].runs;
            let span = self.rng.span(500, 20_000);
            self.after(
                span,
                Event::Connect(n, agent, runs[process.ix()], runs[Process::Arbiter.ix()]),
            );
        }
    }

    pub(super) fn connect(&mut self, n: NodeIx, agent: Agent) {
        let server = &mut self.servers[n];
        server.told[Process::of(agent).ix()] = None;
        server.connected[Process::of(agent).ix()] = true;
        match agent {
            Agent::LinkWatcher => {}
            Agent::Prober => server.prober.iter_mut().for_each(Prober::attached),
            Agent::VipAgent => server.vip.iter_mut().for_each(|a| a.reported = None),
            Agent::Syncer => server.syncer.iter_mut().for_each(|a| a.reported = None),
            Agent::Supervisor => server.supervisor.iter_mut().for_each(|a| a.reported = None),
        }
        self.tell(n, agent, Up::Attached);
        match agent {
            Agent::LinkWatcher => self.links(n),
            Agent::Prober => self.prober_turn(n),
            _ => self.agent_turn(n, Process::of(agent)),
        }
    }

    pub(super) fn tell(&mut self, n: NodeIx, agent: Agent, up: Up) {
        let process = Process::of(agent);
        if !self.servers[n].connected[process.ix()] {
            return;
        }
        let runs = self.servers[n].runs;
        let (run, arbiter) = (runs[process.ix()], runs[Process::Arbiter.ix()]);
        self.deliver(
            n,
            process,
            true,
            Event::ToArbiter(n, agent, run, arbiter, up),
        );
    }

    /// Kills a process; it loses what it had in memory.
    pub fn kill(&mut self, n: NodeIx, process: Process) {
        let server = &mut self.servers[n];
        if !server.runs(process) {
            return;
        }
        server.runs[process.ix()] += 1;
        server.stopped[process.ix()] = false;
        match process {
            Process::Arbiter => server.core = None,
            Process::LinkWatcher => {}
            Process::Prober => server.prober = None,
            Process::VipAgent => server.vip = None,
            Process::Syncer => server.syncer = None,
            Process::Supervisor => {
                let parts = server.supervisor.take().map_or(Vec::new(), |s| s.parts);
                for (r, part) in parts.iter().enumerate().filter(|(_, p)| !p.duty.frozen) {
                    self.at(part.duty.until, Event::Orphan(n, r));
                }
            }
        }
        if let Some(agent) = process.agent() {
            self.tell(n, agent, Up::Lost);
            self.servers[n].connected[process.ix()] = false;
        } else {
            self.servers[n].connected = [false; 6];
        }
        self.redeliver(n);
    }
}
