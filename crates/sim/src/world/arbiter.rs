//! The arbiter's shell: inputs, steps, and telling agents what changed.

use super::*;

impl World {
    pub(super) fn arrive_at_arbiter(&mut self, n: NodeIx, agent: Agent, run: u32, up: Up) {
        let current = self.servers[n].runs[Process::of(agent).ix()];
        let input = match up {
            Up::Attached => Input::Attached(agent),
            Up::Lost if current == run || current.is_multiple_of(2) => Input::Lost(agent),
            Up::Lost => return,
            Up::Report(report) => Input::Report(agent, report),
        };
        self.step(n, input);
    }

    pub(super) fn command(&mut self, n: NodeIx, command: Command) {
        if self.servers[n].core.is_some() {
            self.step(n, Input::Command(command));
        }
    }

    pub(super) fn step(&mut self, n: NodeIx, input: Input) {
        let now = self.now;
        let full = self.servers[n].disk_full;
        let Some(core) = &mut self.servers[n].core else {
            return;
        };
        let step = core.step(now, input);
        let deadline = core.deadline();
        if step.record_changed && !full {
            let record = core.record().clone();
            self.servers[n].record = record;
        }
        if let Some(answer) = &step.answer {
            let text = match answer {
                Ok(text) => format!("{} ok: {text}", self.servers[n].name),
                Err(text) => format!("{} refused: {text}", self.servers[n].name),
            };
            self.say(&text);
        }
        let mut checks = std::mem::take(&mut self.checks);
        for event in &step.events {
            self.say_event(n, event);
            checks.on_event(self, n, event);
        }
        checks.after_step(self, n);
        self.checks = checks;
        if deadline <= now {
            self.checks.fail(format!(
                "{}: a deadline that has passed",
                self.servers[n].name
            ));
        }
        let run = self.servers[n].runs[Process::Arbiter.ix()];
        self.servers[n].core_wake = deadline;
        self.timer(deadline, Event::CoreWake(n, run));
        self.follow_up(n);
    }

    pub(super) fn say_event(&mut self, n: NodeIx, event: &haarb_model::Event) {
        let name = self.servers[n].name.clone();
        let about = event
            .reserve
            .as_ref()
            .filter(|_| self.segment.reserves.len() > 1)
            .map_or(String::new(), |reserve| format!(" {reserve}"));
        let short = haarb_decision::Rule::by_id(event.rule).map_or("", |rule| rule.name);
        let line = match (event.from, event.to) {
            (Some(from), Some(to)) if from != to => format!(
                "{name}{about} {from} -> {to}  {} {short}, epoch {}",
                event.rule, event.epoch
            ),
            _ if event.rule == "OP" => return,
            _ if event.why.starts_with("Over after") => {
                format!("{name}{about} over: {} {short}", event.rule)
            }
            (Some(_), Some(_)) => format!(
                "{name}{about} {}: {} {short}",
                event.severity.as_str(),
                event.rule
            ),
            _ => {
                let why = event.why.split_once(". ").map_or(&*event.why, |(a, _)| a);
                format!("{name} {} {}", event.rule, why.trim_end_matches('.'))
            }
        };
        self.say(&line);
        if self.verbose {
            for (what, value) in &event.evidence {
                self.trace.push(format!("           {what}: {value}"));
            }
        }
    }

    pub(super) fn follow_up(&mut self, n: NodeIx) {
        let now = self.now;
        let Some(core) = &self.servers[n].core else {
            return;
        };
        let told = (core.duties(now), core.advert());
        for agent in [
            Agent::VipAgent,
            Agent::Prober,
            Agent::Supervisor,
            Agent::Syncer,
        ] {
            let process = Process::of(agent);
            let last = &self.servers[n].told[process.ix()];
            let connected = self.servers[n].connected[process.ix()];
            if last.as_ref() == Some(&told) || !connected {
                continue;
            }
            self.servers[n].told[process.ix()] = Some(told.clone());
            let runs = self.servers[n].runs;
            let event = Event::ToAgent(
                n,
                agent,
                runs[process.ix()],
                runs[Process::Arbiter.ix()],
                Box::new(told.clone()),
            );
            self.deliver(n, process, false, event);
        }
    }

    pub(super) fn arrive_at_agent(&mut self, n: NodeIx, agent: Agent, told: &(Duties, Advert)) {
        let now = self.now;
        let (duties, advert) = told;
        let specs = self.segment.reserves.clone();
        let place = |duty: &haarb_model::ReserveDuties| {
            specs.iter().position(|spec| spec.name == duty.reserve)
        };
        let parts = duties.reserves.iter();
        let parts = parts.filter_map(|duty| Some((place(duty)?, duty)));
        let server = &mut self.servers[n];
        match agent {
            Agent::LinkWatcher => {}
            Agent::Prober => {
                if let Some(prober) = &mut server.prober {
                    prober.directive(advert.clone(), &duties.links);
                }
                self.prober_turn(n);
            }
            Agent::VipAgent => {
                self.vip_wake(n);
                if let Some(vip) = &mut self.servers[n].vip {
                    vip.follow(parts, now);
                }
                self.agent_turn(n, Process::VipAgent);
            }
            Agent::Syncer => {
                if let Some(syncer) = &mut server.syncer {
                    syncer.follow(parts);
                }
                self.agent_turn(n, Process::Syncer);
            }
            Agent::Supervisor => {
                if let Some(supervisor) = &mut server.supervisor {
                    supervisor.follow(parts);
                }
                self.agent_turn(n, Process::Supervisor);
            }
        }
    }
}
