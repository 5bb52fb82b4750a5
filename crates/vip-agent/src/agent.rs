//! The loop: waits for whatever happens first, lets the plan decide, does what it asks.
//!
//! One task, one turn at a time. It waits only in [`Agent::wait`], whose branches are all
//! cancel-safe (queues, readiness, a timerfd); the requests to the kernel within a turn are
//! answered before their send returns. The order on the failover path is: directive,
//! addresses, announcements, and only then reports, the record of leases and the log.

use std::future::poll_fn;

use haarb_config::Config;
use haarb_daemon::timer::Alarm;
use haarb_daemon::{ArbiterLink, FromArbiter, clock};
use haarb_gate::Gate;
use haarb_model::{Guard, KernelLine, Mono, NodeName, Span};

use crate::error::{AgentError, KernelError};
use crate::kernel::Kernel;
use crate::lease::Record;
use crate::packet::Ports;
use crate::plan::{Event, Outcome, Plan, ReserveSetup, Setup, VipId, Work};
use crate::system;

/// Rounds of work and results in one turn; a plan that has not settled by then has met a
/// fault that repeats, and goes on in the next turn.
const ROUNDS_MAX: usize = 8;

/// How often it is checked that nobody removed the gate.
const INSPECT: Span = Span::from_secs(5);

/// How the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It stops serving: everything is let go.
    Stop,
    /// It is about to be started again: everything stays, under the lease.
    Restart,
}

/// The vip-agent of one server.
pub struct Agent {
    plan: Plan,
    kernel: Kernel,
    gate: Gate,
    ports: Ports,
    record: Record,
    arbiter: ArbiterLink,
    alarm: Alarm,
    /// When the gate is looked at next.
    inspect_at: Mono,
}

/// What ended a wait.
enum Woken {
    Arbiter(FromArbiter),
    Kernel(Result<Vec<Event>, KernelError>),
    Frame,
    Alarm,
}

impl Agent {
    /// Reads what the kernel has and opens all that the failover path needs.
    ///
    /// # Errors
    /// The kernel or the run directory is out of reach.
    pub async fn start(
        config: &Config,
        me: &NodeName,
        record: Record,
        arbiter: ArbiterLink,
    ) -> Result<Self, AgentError> {
        let plan = Plan::new(&setup(config, me), &record.read(), clock::now());
        let mut agent = Self {
            plan,
            kernel: Kernel::open()?,
            gate: Gate::open(clock::now),
            ports: Ports::default(),
            record,
            arbiter,
            alarm: Alarm::new().map_err(AgentError::Loop)?,
            inspect_at: clock::now() + INSPECT,
        };
        let snapshot = agent.kernel.snapshot().await?;
        let Event::Snapshot { links, .. } = &snapshot else {
            return Ok(agent);
        };
        let interfaces: Vec<_> = links.iter().map(|link| link.index).collect();
        agent.turn(vec![snapshot]).await;
        agent.gate.sweep(interfaces.into_iter());
        Ok(agent)
    }

    /// Holds what the arbiter says until `end` is ready.
    ///
    /// # Errors
    /// The kernel is out of reach. What is held then ends by its lifetime in the kernel.
    pub async fn run(&mut self, end: impl Future<Output = End>) -> Result<(), AgentError> {
        let mut end = std::pin::pin!(end);
        loop {
            let at = self.plan.deadline(clock::now());
            self.alarm.set(at).map_err(AgentError::Loop)?;
            let woken = tokio::select! {
                biased;
                end = &mut end => {
                    self.finish(end).await;
                    return Ok(());
                }
                woken = self.wait() => woken,
            };
            let events = match woken {
                Woken::Arbiter(FromArbiter::Attached) => vec![Event::Attached],
                Woken::Arbiter(FromArbiter::Directive(d)) => vec![Event::Duties(d.reserves)],
                // The leases run on: that is what they are for.
                Woken::Arbiter(FromArbiter::Lost) | Woken::Frame | Woken::Alarm => Vec::new(),
                Woken::Kernel(Ok(events)) => events,
                Woken::Kernel(Err(KernelError::Lost)) => vec![self.kernel.snapshot().await?],
                Woken::Kernel(Err(error)) => return Err(error.into()),
            };
            self.turn(events).await;
        }
    }

    async fn wait(&mut self) -> Woken {
        let ports = &self.ports;
        tokio::select! {
            biased;
            message = self.arbiter.next() => Woken::Arbiter(message),
            () = self.alarm.rings() => Woken::Alarm,
            events = self.kernel.next() => Woken::Kernel(events),
            () = poll_fn(|context| ports.poll_ready(context)) => Woken::Frame,
        }
    }

    async fn finish(&mut self, end: End) {
        match end {
            End::Restart => tracing::info!("leaving the addresses under their leases: restart"),
            End::Stop => {
                self.turn(vec![Event::Stop]).await;
                // What could not be let go stays behind a shut gate.
                if self.plan.doors(clock::now()).is_empty() {
                    self.gate.clear();
                }
                // The link's tasks get their turns to send the last report.
                for _ in 0..16 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// One turn of the loop.
    async fn turn(&mut self, events: Vec<Event>) {
        let now = clock::now();
        // First of all: were we frozen, has a lease run out? Who wakes up lets go before it
        // reads or asks anything.
        if self.plan.wake(now) {
            self.work().await;
        }
        for event in events {
            self.prepare(&event);
            self.plan.feed(now, event);
        }
        // Who was stalled reads what waits before judging anybody silent.
        self.hear();
        self.work().await;
        for report in self.plan.reports(clock::now()) {
            self.arbiter.report(report);
        }
        self.record.write(self.plan.leases());
        self.mend_gate(clock::now());
        for note in self.plan.take_notes() {
            if note.is_warning() {
                tracing::warn!("{note}");
            } else {
                tracing::info!("{note}");
            }
        }
    }

    /// Opens what an interface needs, long before anything is taken there.
    fn prepare(&mut self, event: &Event) {
        let links = match event {
            Event::Link(link) => std::slice::from_ref(link),
            Event::Snapshot { links, .. } => links,
            Event::LinkGone(name) => {
                self.ports.close(name);
                return;
            }
            _ => return,
        };
        for link in links {
            if !self.plan.vips().any(|vip| vip.interface == link.name) {
                continue;
            }
            match self.ports.open(link, self.plan.vips()) {
                Ok(true) => system::promote_secondaries(&link.name),
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    "cannot listen on {}: {error}; nothing can be announced or probed there",
                    link.name
                ),
            }
        }
    }

    fn hear(&mut self) {
        let now = clock::now();
        let (ports, plan) = (&self.ports, &mut self.plan);
        ports.drain(|interface, claim| {
            let interface = interface.to_owned();
            plan.feed(now, Event::Heard { interface, claim });
        });
    }

    /// Does what the plan asks until it asks for nothing more.
    async fn work(&mut self) {
        for _ in 0..ROUNDS_MAX {
            // The gate opens before an address comes and shuts before it goes.
            self.move_gate();
            let work = self.plan.work(clock::now());
            if work.is_empty() {
                return;
            }
            for step in work {
                self.step(step).await;
            }
        }
    }

    /// Brings the kernel's gate in line with the leases: one map update for each that changed.
    fn move_gate(&mut self) {
        let now = clock::now();
        if let Err(error) = self.gate.set(self.plan.doors(now)) {
            tracing::warn!("{error}");
            self.plan.feed(now, Event::GateLost);
        }
        for link in self.plan.unguarded() {
            let guard = match link.asks {
                true => self.gate.guard(link.index, &link.name),
                false => Guard {
                    line: KernelLine::Lifetime,
                    reason: "others do not reach it by ARP or neighbour discovery: there is \
                             nothing to gate"
                        .into(),
                },
            };
            self.plan.feed(now, Event::Guarded { link, guard });
        }
    }

    /// Puts back what somebody else took from the gate.
    fn mend_gate(&mut self, now: Mono) {
        if now < self.inspect_at {
            return;
        }
        self.inspect_at = now + INSPECT;
        let links = self.plan.links().map(|link| link.index).collect();
        for interface in self.gate.mend(&links) {
            tracing::warn!(
                "somebody removed haarb's gate from {interface}; put it back; look for scripts \
                 that delete qdiscs there or flush the nftables ruleset"
            );
        }
    }

    async fn step(&mut self, step: Work) {
        match step {
            Work::RemoveStray(found) => {
                let vip = haarb_model::VipSpec {
                    address: found.address,
                    prefix: found.prefix,
                    interface: found.interface,
                };
                if let Some(link) = self.plan.link_of(&vip.interface) {
                    self.kernel.remove(&vip, link.index).await;
                }
            }
            Work::Add { id, .. } | Work::Refresh { id, .. } | Work::Remove(id) => {
                if let Some(outcome) = self.ask_kernel(id, &step).await {
                    self.plan.done(clock::now(), id, outcome);
                }
            }
            Work::Announce(id) => {
                if let Err(error) = self.send(id, Ports::announce) {
                    tracing::warn!("an announcement could not leave: {error}");
                }
            }
            Work::Probe(id) => {
                let left = self.send(id, Ports::probe).is_ok();
                self.plan.asked(clock::now(), id, left);
            }
        }
    }

    /// `None`: the lease has run out since the plan was made, and the next round lets go.
    async fn ask_kernel(&self, id: VipId, step: &Work) -> Option<Outcome> {
        let Some(vip) = self.plan.vip(id) else {
            return Some(Outcome::Gone);
        };
        let Some(link) = self.plan.link_of(&vip.interface) else {
            return Some(Outcome::Gone);
        };
        if matches!(step, Work::Remove(_)) {
            return Some(self.kernel.remove(vip, link.index).await);
        }
        // Not the seconds of the plan: we may have stood still since, and a lifetime begins
        // anew when the kernel gets it.
        let now = clock::now();
        let seconds = self.plan.lifetime(id, now)?;
        Some(match step {
            Work::Add { .. } => self.kernel.add(vip, link.index, seconds, now).await,
            _ => self.kernel.refresh(vip, link.index, seconds, now).await,
        })
    }

    fn send(
        &self,
        id: VipId,
        how: fn(&Ports, &haarb_model::VipSpec, &crate::plan::Link) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let vip = self.plan.vip(id).ok_or(std::io::ErrorKind::NotFound)?;
        let link = self.plan.link_of(&vip.interface);
        how(
            &self.ports,
            vip,
            link.ok_or(std::io::ErrorKind::NotConnected)?,
        )
    }
}

/// What the plan takes from the configuration.
#[must_use]
pub fn setup(config: &Config, me: &NodeName) -> Setup {
    let attachments = config
        .node(me)
        .into_iter()
        .flat_map(|n| config.attachments(n));
    Setup {
        lease: config.timing.lease,
        vip_probe: config.timing.vip_probe,
        interfaces: attachments.map(|(_, a)| a.interface.clone()).collect(),
        reserves: config
            .reserves
            .iter()
            .map(|reserve| ReserveSetup {
                name: reserve.name.clone(),
                vips: reserve.vips.clone(),
            })
            .collect(),
    }
}
