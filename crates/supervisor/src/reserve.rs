//! The services of one reserve under the arbiter's directives and lease.
//!
//! Pure: time is an argument, actions are the result. It never starts under an epoch lower
//! than the highest it has seen, and never lets a service run beyond the last lease. The one
//! thing to know: a directive is a whole state, so the same one twice changes nothing but
//! the lease.

use haarb_model::{Epoch, Mono, ReserveDuties, ReserveName, Role, ServiceDuty, ServiceRun, Span};

use crate::machine::{Act, Input, Machine, State};
use crate::plan::{self, Order, Want};
use crate::restart::Limits;

/// What one keeper must be told, by the place of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// The place of the service in the reserve.
    pub service: usize,
    /// What to do.
    pub what: What,
}

/// See [`Action`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Start it under the present lease.
    Start,
    /// Stop it, or clean up after it.
    Stop,
    /// Let it run on until the present lease ends.
    Renew,
}

/// Why a directive was not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("told to run under epoch {asked}, but epoch {seen} was seen already; refused")]
pub struct LowerEpoch {
    /// The epoch of the directive.
    pub asked: Epoch,
    /// The highest one seen.
    pub seen: Epoch,
}

/// The services of one reserve.
#[derive(Clone, Debug)]
pub struct Reserve {
    name: ReserveName,
    epoch: Epoch,
    role: Role,
    duty: Option<ServiceDuty>,
    /// Until when what was found running may run while nobody has said anything.
    found_until: Mono,
    services: Vec<Service>,
}

#[derive(Clone, Debug)]
struct Service {
    name: String,
    machine: Machine,
    /// Why the last attempt to stop it failed, until it has stopped or may run again.
    unstoppable: Option<String>,
    not_startable: String,
}

impl Reserve {
    /// A reserve of which nothing is known. What is found running may go on until
    /// `found_until` if nobody says anything before.
    #[must_use]
    pub fn new(name: ReserveName, found_until: Mono, services: Vec<(String, Limits)>) -> Self {
        Self {
            name,
            epoch: Epoch::default(),
            role: Role::Starting,
            duty: None,
            found_until,
            services: services
                .into_iter()
                .map(|(name, limits)| Service {
                    name,
                    machine: Machine::new(limits),
                    unstoppable: None,
                    not_startable: String::new(),
                })
                .collect(),
        }
    }

    /// Takes over what a keeper from before was found doing, with its epoch and lease.
    pub fn adopt(&mut self, service: usize, state: State, epoch: Epoch, until: Mono) {
        self.epoch = self.epoch.max(epoch);
        self.found_until = self.found_until.max(until);
        if let Some(service) = self.services.get_mut(service) {
            service.machine.adopt(state);
        }
    }

    /// Takes over an epoch that was seen before a restart.
    pub fn remember(&mut self, epoch: Epoch) {
        self.epoch = self.epoch.max(epoch);
    }

    /// Follows a directive. What must be done about it comes from [`Reserve::settle`].
    ///
    /// # Errors
    /// [`LowerEpoch`]: it asks to run under a lower epoch than seen; nothing changes.
    pub fn direct(&mut self, now: Mono, told: &ReserveDuties) -> Result<Vec<Action>, LowerEpoch> {
        let duty = &told.services;
        if duty.run && told.epoch < self.epoch {
            return Err(LowerEpoch {
                asked: told.epoch,
                seen: self.epoch,
            });
        }
        let ran = self.duty.as_ref().is_none_or(|before| before.run);
        let clear_before = self.duty.as_ref().map_or(duty.clear, |before| before.clear);
        // A new activation is a new attempt: somebody decided it knowing what failed here.
        let cleared = duty.clear > clear_before || (duty.run && !ran);
        self.epoch = self.epoch.max(told.epoch);
        self.role = told.role;
        self.duty = Some(duty.clone());
        if cleared {
            for service in &mut self.services {
                service.machine.clear(now);
            }
        }
        Ok(match self.want(now) {
            Want::Run | Want::Hold => self.renewals(),
            Want::Stop => Vec::new(),
        })
    }

    fn renewals(&self) -> Vec<Action> {
        let live = |(_, s): &(usize, &Service)| !s.machine.is_stopped();
        (self.services.iter().enumerate().filter(live))
            .map(|(service, _)| Action {
                service,
                what: What::Renew,
            })
            .collect()
    }

    /// Notes a fact about a service.
    pub fn note(&mut self, now: Mono, service: usize, fact: Input<'_>) {
        if let Some(service) = self.services.get_mut(service) {
            service.machine.step(now, fact);
            if let Input::StopFailed(why) = fact {
                service.unstoppable = Some(why.to_owned());
            } else if service.machine.is_stopped() {
                service.unstoppable = None;
            }
        }
    }

    /// Notes whether a service could start here; empty: it could.
    pub fn note_startable(&mut self, service: usize, why_not: String) {
        if let Some(service) = self.services.get_mut(service) {
            service.not_startable = why_not;
        }
    }

    /// The supervisor was frozen for longer than a lease: every right to run that it knows
    /// of has ended, until it is told anew (rule X1).
    pub fn stalled(&mut self, now: Mono) {
        self.found_until = Mono::ZERO;
        if let Some(duty) = &mut self.duty {
            duty.until = duty.until.min(now);
        }
    }

    /// What must be done now, in order.
    pub fn settle(&mut self, now: Mono) -> Vec<Action> {
        let want = self.want(now);
        let mut actions = Vec::new();
        for service in &mut self.services {
            service.machine.tick(now);
            if want != Want::Stop {
                service.unstoppable = None;
            }
        }
        while let Some(order) = plan::next(want, &self.states(), now) {
            let (place, input) = match order {
                Order::Start(place) => (place, Input::Start),
                Order::Stop(place) => (place, Input::Stop),
            };
            let what = match self.services[place].machine.step(now, input) {
                Some(Act::Start) => What::Start,
                Some(Act::Stop) => What::Stop,
                None => continue,
            };
            actions.push(Action {
                service: place,
                what,
            });
        }
        actions
    }

    fn states(&self) -> Vec<State> {
        self.services.iter().map(|s| s.machine.state()).collect()
    }

    /// What should become of the services now.
    #[must_use]
    pub fn want(&self, now: Mono) -> Want {
        match &self.duty {
            None if now < self.found_until => Want::Hold,
            None => Want::Stop,
            Some(duty) if duty.frozen => Want::Hold,
            Some(duty) if duty.run && now < duty.until => Want::Run,
            Some(_) => Want::Stop,
        }
    }

    /// Whether the arbiter wants the services to run but the lease ended at or before `now`.
    #[must_use]
    pub fn lapsed(&self, now: Mono) -> bool {
        let over = |duty: &ServiceDuty| duty.run && !duty.frozen && duty.until <= now;
        self.duty.as_ref().is_some_and(over)
    }

    /// When the right to run ended that was not renewed; `None`: it goes on, or the arbiter has
    /// ended it in good order.
    #[must_use]
    pub fn right_ended(&self, now: Mono) -> Option<Mono> {
        match &self.duty {
            None if self.found_until <= now => Some(self.found_until),
            Some(duty) if self.lapsed(now) => Some(duty.until),
            None | Some(_) => None,
        }
    }

    /// Whether this service must not run and is not known to have stopped. One of which nothing is
    /// known is not meant: whether it runs at all is found out first.
    #[must_use]
    pub fn must_stop(&self, now: Mono, service: usize) -> bool {
        let runs = |s: &Service| {
            let known = s.machine.state() != State::Unknown || s.unstoppable.is_some();
            known && !s.machine.is_stopped()
        };
        self.want(now) == Want::Stop && self.services.get(service).is_some_and(runs)
    }

    /// Which service cannot be stopped: it was tried and failed, or the right to run ended and twice
    /// the grace is over, which is when another server may start its own. Says why, for people.
    #[must_use]
    pub fn overstays(&self, now: Mono, grace: Span) -> Option<String> {
        let late = (self.right_ended(now)).is_some_and(|ended| now >= ended + grace.times(2));
        let mut late_ones = (0..self.services.len()).filter(|place| self.must_stop(now, *place));
        late_ones.find_map(|place| {
            let Service {
                name, unstoppable, ..
            } = &self.services[place];
            match unstoppable {
                Some(why) => Some(format!("{}/{name} cannot be stopped: {why}", self.name)),
                None if late => Some(format!(
                    "{}/{name} has not stopped although its right to run has ended",
                    self.name
                )),
                None => None,
            }
        })
    }

    /// Until when the services may run; [`Mono::FAR`] in maintenance, which stops nothing.
    #[must_use]
    pub fn until(&self) -> Mono {
        match &self.duty {
            None => self.found_until,
            Some(duty) if duty.frozen => Mono::FAR,
            Some(duty) => duty.until,
        }
    }

    /// When [`Reserve::settle`] should be called next if nothing else happens.
    #[must_use]
    pub fn deadline(&self, now: Mono) -> Option<Mono> {
        let lease = self.until();
        (self.services.iter().filter_map(|s| s.machine.deadline()))
            .chain([lease])
            .filter(|at| *at > now)
            .min()
    }

    /// The state of a service.
    #[must_use]
    pub fn state(&self, service: usize) -> Option<State> {
        self.services.get(service).map(|s| s.machine.state())
    }

    /// The name of the reserve.
    #[must_use]
    pub const fn name(&self) -> &ReserveName {
        &self.name
    }

    /// The highest epoch seen.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The role of the last directive.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What is reported.
    #[must_use]
    pub fn report(&self) -> ServiceRun {
        let first = |text: &dyn Fn(&Service) -> String| {
            let mut texts = self.services.iter().map(|s| (s, text(s)));
            let found = texts.find(|(_, text)| !text.is_empty());
            found.map_or_else(String::new, |(s, text)| format!("{}: {text}", s.name))
        };
        ServiceRun {
            reserve: self.name.clone(),
            epoch: self.epoch,
            running: (self.services.iter())
                .all(|s| matches!(s.machine.state(), State::Running { .. })),
            stopped: self.services.iter().all(|s| s.machine.is_stopped()),
            failed: first(&|s| s.machine.failed().unwrap_or_default().to_owned()),
            not_startable: first(&|s| s.not_startable.clone()),
            services: (self.services.iter())
                .map(|s| (s.name.clone(), s.machine.reported()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
