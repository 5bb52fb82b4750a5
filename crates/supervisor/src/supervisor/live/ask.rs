//! What a reserve asks about its services: whether they run, and whether they could start.
//!
//! Questions run beside the loop and come back as events. The one thing to know: an answer
//! counts only if the service is still in the state in which the question was asked.

use haarb_model::{Mono, Span};

use super::super::{Event, Place};
use super::{Live, LiveReserve, number};
use crate::kinds::{self, Verdict};
use crate::machine::{Input, State};
use crate::order::ToKeeper;
use crate::plan::Want;

/// Between two looks whether a service could start here.
const STARTABLE_EVERY: Span = Span::from_secs(10);
/// A service that must not run is checked this much more seldom than one that runs.
const STOPPED_CHECK_FACTOR: u64 = 10;

impl LiveReserve {
    /// Asks whether a service runs, where that is due and can be asked.
    pub(super) fn check(&mut self, now: Mono, service: usize) {
        let state = self.reserve.state(service);
        let environment = self.environment(service);
        let live = &mut self.services[service];
        if live.means.status.is_none() {
            return;
        }
        if live.state_seen != state {
            live.state_seen = state;
            live.asked = number();
            live.check_due = match state {
                Some(State::Unknown | State::Stuck { .. }) => now,
                _ => now + live.every(state),
            };
        }
        let settled = matches!(
            state,
            Some(
                State::Unknown
                    | State::Stopped
                    | State::Running { .. }
                    | State::Broken { .. }
                    | State::Stuck { .. }
            )
        );
        if live.check.is_some() || !live.greeted || now < live.check_due || !settled {
            return;
        }
        let number = number();
        live.check = Some((number, live.asked));
        live.check_due = now + live.every(state);
        let (config, means) = (live.config.clone(), live.means.clone());
        let place = Place {
            reserve: self.place,
            service,
        };
        let inbox = self.context.inbox.clone();
        tokio::spawn(async move {
            if let Some(verdict) = kinds::ask(&config, &means, &environment).await {
                // Only a supervisor that ends does not listen.
                let _ = inbox.send(Event::Checked(place, number, verdict)).await;
            }
        });
    }

    /// A check has ended.
    pub(in super::super) fn checked(
        &mut self,
        now: Mono,
        service: usize,
        number: u64,
        verdict: &Verdict,
    ) {
        let Some(live) = self.services.get_mut(service) else {
            return;
        };
        let Some((_, about)) = live.check.take_if(|(running, _)| *running == number) else {
            return;
        };
        let state = self.reserve.state(service);
        // The state has changed since: the answer is about the past.
        if live.asked != about || live.state_seen != state {
            return;
        }
        let runs = matches!(state, Some(State::Running { .. }));
        let fact = match verdict {
            Verdict::Runs => Input::Alive,
            Verdict::Stopped if runs => Input::Sick("its status command says that it does not run"),
            Verdict::Stopped => Input::Idle,
            Verdict::Unclear(why) => Input::Sick(why),
        };
        if runs && *verdict != Verdict::Runs {
            tracing::warn!("service {}: check failed: {verdict:?}", live.label);
        }
        if !runs && *verdict == Verdict::Runs {
            tracing::warn!("service {}: found running", live.label);
        }
        self.reserve.note(now, service, fact);
        if !runs && *verdict == Verdict::Runs && self.reserve.want(now) != Want::Stop {
            // Its keeper must know, to stop it when the lease ends.
            let order = ToKeeper::Hold(self.recipe(service), self.lease());
            self.send(now, service, &order);
        }
    }

    /// Looks whether a service that does not run could be started, where that is due.
    pub(super) fn ask_startable(&mut self, now: Mono, service: usize) {
        let live = &mut self.services[service];
        if now < live.startable_due {
            return;
        }
        // Until the answer is there, nobody asks again.
        live.startable_due = Mono::FAR;
        let config = live.config.clone();
        let place = Place {
            reserve: self.place,
            service,
        };
        let inbox = self.context.inbox.clone();
        let runtime = tokio::runtime::Handle::current();
        // On a thread of its own: it may wait for a disk.
        tokio::task::spawn_blocking(move || {
            let why_not = runtime.block_on(kinds::why_not_startable(&config));
            let _ = inbox.blocking_send(Event::Startable(place, why_not));
        });
    }

    pub(in super::super) fn startable(&mut self, now: Mono, service: usize, why_not: String) {
        if let Some(live) = self.services.get_mut(service) {
            live.startable_due = now + STARTABLE_EVERY;
        }
        self.reserve.note_startable(service, why_not);
    }
}

impl Live {
    /// How often it is asked in a state.
    fn every(&self, state: Option<State>) -> Span {
        match state {
            Some(State::Stopped) => self.config.check_interval.times(STOPPED_CHECK_FACTOR),
            _ => self.config.check_interval,
        }
    }
}
