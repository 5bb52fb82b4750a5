//! The arbiter's one loop: an input, a step of the decision, and what follows from it.
//!
//! Nothing here waits but the `select!` at the top. Queues to agents are tried, not awaited;
//! disks belong to other threads.

use std::collections::BTreeMap;

use haarb_api::{Directive, encode_advert, v1};
use haarb_config::Config;
use haarb_daemon::{Context, Shutdown, clock, notify, timer::Alarm};
use haarb_decision::{Command, Core, Input, Step};
use haarb_model::{Agent, Mono, ReserveDuties, ServiceDuty, Span, SyncDuty, VipDuty};
use tokio::sync::{mpsc, oneshot, watch};

use crate::inbox::{Attachment, ConnectionId, Message};
use crate::journal::Journal;
use crate::status;
use crate::store::Store;

/// The order in which agents are told after a step: the address first, then the neighbours
/// (through the prober), then what takes longer.
const TOLD_IN_ORDER: [Agent; 4] = [
    Agent::VipAgent,
    Agent::Prober,
    Agent::Supervisor,
    Agent::Syncer,
];

/// The state of the loop.
#[derive(Debug)]
pub struct Arbiter {
    core: Core,
    config: Config,
    agents: BTreeMap<Agent, Attachment>,
    journal: Journal,
    store: Store,
    changes: watch::Sender<u64>,
    leaving: Vec<oneshot::Sender<Result<String, String>>>,
}

impl Arbiter {
    /// An arbiter around a decision that has seen nothing yet.
    #[must_use]
    pub fn new(
        context: &Context,
        core: Core,
        journal: Journal,
        store: Store,
        changes: watch::Sender<u64>,
    ) -> Self {
        Self {
            core,
            config: context.config.clone(),
            agents: BTreeMap::new(),
            journal,
            store,
            changes,
            leaving: Vec::new(),
        }
    }

    /// Runs until asked to stop. What is held stays held until its lease ends: stopping the
    /// arbiter is not stopping the server (that is [`Command::Shutdown`]).
    ///
    /// # Errors
    /// The kernel gives no timer.
    pub async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        mut shutdown: Shutdown,
    ) -> anyhow::Result<()> {
        let mut alarm = Alarm::new()?;
        loop {
            notify::turn();
            let deadline = self.core.deadline();
            alarm.set(deadline.min(sign_of_life()))?;
            // Inputs before ticks: after a stall, what waits in the queues is heard before
            // anything is judged by the clock.
            let message = tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                message = inbox.recv() => match message {
                    Some(message) => Some(message),
                    None => return Ok(()),
                },
                () = alarm.rings() => None,
            };
            let now = clock::now();
            self.notice_stall(now, deadline);
            match message {
                Some(message) => self.handle(now, message),
                None => self.step(now, Input::Tick),
            }
            self.follow_up(now);
        }
    }

    /// A loop that turns a whole lease after its deadline was frozen, whatever the reason.
    fn notice_stall(&mut self, now: Mono, deadline: Mono) {
        let late = now.since(deadline);
        if late > self.config.timing.lease {
            self.step(now, Input::Stalled(late));
        }
    }

    fn handle(&mut self, now: Mono, message: Message) {
        match message {
            Message::Attached {
                agent,
                connection,
                hello,
                directives,
            } => {
                tracing::info!("{} attached (pid {})", agent.as_str(), hello.pid);
                self.agents
                    .insert(agent, Attachment::new(connection, hello, directives));
                self.step(now, Input::Attached(agent));
            }
            Message::Detached { agent, connection } => {
                if self.is_current(agent, connection) {
                    self.lose(now, agent, "closed its link");
                }
            }
            Message::Report {
                agent,
                connection,
                report,
            } => {
                if self.is_current(agent, connection) {
                    self.step(now, Input::Report(agent, report));
                }
            }
            Message::Command { command, answer } => self.command(now, command, answer),
            Message::Status { answer } => {
                // Who asked may have gone: fine.
                let _ = answer.send(self.status(now));
            }
        }
    }

    fn is_current(&self, agent: Agent, connection: ConnectionId) -> bool {
        self.agents
            .get(&agent)
            .is_some_and(|a| a.connection == connection)
    }

    fn lose(&mut self, now: Mono, agent: Agent, what: &str) {
        tracing::warn!("{} {what}", agent.as_str());
        self.agents.remove(&agent);
        self.step(now, Input::Lost(agent));
    }

    fn command(
        &mut self,
        now: Mono,
        command: Command,
        answer: oneshot::Sender<Result<String, String>>,
    ) {
        let leaves = matches!(command, Command::Shutdown);
        let step = self.core.step(now, Input::Command(command));
        let said = step.answer.clone();
        self.note(step);
        match said {
            // Answered when nothing is held any more: see `follow_up`.
            Some(Ok(_)) if leaves => self.leaving.push(answer),
            Some(said) => drop(answer.send(said)),
            None => drop(answer.send(Err("the decision gave no answer; this is a bug".into()))),
        }
    }

    fn step(&mut self, now: Mono, input: Input) {
        let step = self.core.step(now, input);
        self.note(step);
    }

    fn note(&mut self, step: Step) {
        let Step {
            events,
            answer: _,
            record_changed,
        } = step;
        if record_changed {
            self.store.save(self.core.record());
        }
        if !events.is_empty() {
            self.changes.send_modify(|count| *count += 1);
        }
        for event in events {
            self.journal.note(event);
        }
    }

    /// Tells every agent what it must hold now, where that changed.
    fn follow_up(&mut self, now: Mono) {
        let duties = self.core.duties(now);
        let mut stuck = Vec::new();
        for agent in TOLD_IN_ORDER {
            let Some(attachment) = self.agents.get_mut(&agent) else {
                continue;
            };
            let mut directive = Directive {
                config_digest: self.config.digest,
                ..Directive::default()
            };
            match agent {
                Agent::Prober => {
                    directive.payload = encode_advert(&self.core.advert());
                    directive.payload_until = duties.links.payload_until;
                    directive.ask_switches = duties.links.ask_switches.clone();
                }
                Agent::VipAgent | Agent::Supervisor => {
                    directive.reserves = parts(&duties.reserves, agent);
                }
                Agent::Syncer => {
                    directive.reserves = parts(&duties.reserves, agent);
                    directive.heard = self.core.view().heard();
                }
                Agent::LinkWatcher => {}
            }
            if !attachment.tell(directive) {
                stuck.push(agent);
            }
        }
        for agent in stuck {
            self.lose(now, agent, "does not read its directives");
        }
        if !self.leaving.is_empty() && !self.core.holds() {
            for answer in self.leaving.drain(..) {
                let _ = answer.send(Ok("nothing is held here any more".into()));
            }
        }
    }

    fn status(&self, now: Mono) -> v1::Status {
        status::status(now, &self.config, &self.core, &self.agents)
    }
}

/// When the loop must turn for the service manager's watchdog, however little there is to do.
fn sign_of_life() -> Mono {
    match notify::turn_within() {
        Some(within) => {
            let micros = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
            clock::now() + Span::from_micros(micros)
        }
        None => Mono::FAR,
    }
}

/// What one agent must hold. The parts of the others are left out, so that a renewal of theirs
/// wakes nobody else.
fn parts(reserves: &[ReserveDuties], agent: Agent) -> Vec<ReserveDuties> {
    let part = |whole: &ReserveDuties| {
        let mut part = ReserveDuties {
            reserve: whole.reserve.clone(),
            role: whole.role,
            epoch: whole.epoch,
            vip: VipDuty::default(),
            services: ServiceDuty::default(),
            sync: SyncDuty::default(),
        };
        match agent {
            Agent::VipAgent => part.vip = whole.vip.clone(),
            Agent::Supervisor => part.services = whole.services.clone(),
            Agent::Syncer => part.sync = whole.sync.clone(),
            Agent::Prober | Agent::LinkWatcher => {}
        }
        part
    };
    reserves.iter().map(part).collect()
}
