//! One service as a state machine: orders and facts in, next state and action out.
//!
//! Pure: time is an argument. A fact alone never starts or stops anything; only an order
//! does, and orders come from [`crate::plan`] (so that maintenance, which gives none, stops
//! nothing). The one thing to know: `tests.rs` lists every state with every input.

use haarb_model::{Mono, ServiceState, Span};

use crate::restart::{Limits, Restarts};

/// Between two attempts to stop a service that does not stop.
const STOP_AGAIN_AFTER: Span = Span::from_secs(1);

/// Where a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not known yet: just found, or its keeper was lost. It may run.
    Unknown,
    /// Nothing of it runs.
    Stopped,
    /// Told to start.
    Starting,
    /// Runs.
    Running {
        /// Since when.
        since: Mono,
    },
    /// Failed; parts of it may still run.
    Broken {
        /// When it may be started again.
        until: Mono,
    },
    /// Failed; what is left of it is being stopped.
    Cleaning {
        /// When it may be started again.
        until: Mono,
    },
    /// Failed; nothing of it runs.
    Waiting {
        /// When it may be started again.
        until: Mono,
    },
    /// Told to stop.
    Stopping,
    /// Could not be stopped; may still run.
    Stuck {
        /// When it is tried again.
        until: Mono,
    },
}

/// What can happen to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Nothing of it runs, known for sure.
    Idle,
    /// It runs.
    Alive,
    /// It failed and nothing of it runs any more.
    Gone(&'a str),
    /// It failed, or failed its check, and parts of it may run.
    Sick(&'a str),
    /// It could not be stopped.
    StopFailed(&'a str),
    /// Its keeper died; what it was doing is lost.
    Lost(&'a str),
    /// The plan: start it.
    Start,
    /// The plan: stop it, or clean up after it.
    Stop,
}

/// What the service's keeper must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
}

/// One service.
#[derive(Clone, Debug)]
pub struct Machine {
    state: State,
    restarts: Restarts,
    stuck: Option<String>,
}

impl Machine {
    /// A service of which nothing is known.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            state: State::Unknown,
            restarts: Restarts::new(limits),
            stuck: None,
        }
    }

    /// Feeds one input and returns what must be done now.
    pub fn step(&mut self, now: Mono, input: Input<'_>) -> Option<Act> {
        use State::{
            Broken, Cleaning, Running, Starting, Stopped, Stopping, Stuck, Unknown, Waiting,
        };
        let (next, act) = match (self.state, input) {
            // Facts. A failure counts only for a service that was wanted.
            (Unknown | Stopped | Stopping | Stuck { .. }, Input::Idle) => (Stopped, None),
            // A keeper that stops by itself does so because the right to run ended.
            (Starting | Running { .. }, Input::Idle) => (Stopped, None),
            (Broken { until } | Cleaning { until } | Waiting { until }, Input::Idle) => {
                (Waiting { until }, None)
            }
            (
                Unknown | Stopped | Starting | Broken { .. } | Waiting { .. } | Stuck { .. },
                Input::Alive,
            ) => (Running { since: now }, None),
            (same @ (Running { .. } | Cleaning { .. } | Stopping), Input::Alive) => (same, None),
            (Unknown | Starting | Running { .. }, Input::Gone(why)) => {
                let until = self.restarts.note(now, why);
                (Waiting { until }, None)
            }
            (Broken { until } | Cleaning { until } | Waiting { until }, Input::Gone(_)) => {
                (Waiting { until }, None)
            }
            (Stopped | Stopping | Stuck { .. }, Input::Gone(_)) => (Stopped, None),
            (Unknown | Starting | Running { .. }, Input::Sick(why)) => {
                let until = self.restarts.note(now, why);
                (Broken { until }, None)
            }
            (Waiting { until }, Input::Sick(_)) => (Broken { until }, None),
            (
                same @ (Stopped | Broken { .. } | Cleaning { .. } | Stopping | Stuck { .. }),
                Input::Sick(_),
            ) => (same, None),
            (
                Unknown
                | Stopped
                | Starting
                | Running { .. }
                | Broken { .. }
                | Cleaning { .. }
                | Waiting { .. }
                | Stopping
                | Stuck { .. },
                Input::StopFailed(why),
            ) => {
                self.stuck = Some(why.to_owned());
                (
                    Stuck {
                        until: now + STOP_AGAIN_AFTER,
                    },
                    None,
                )
            }
            (Starting | Running { .. }, Input::Lost(why)) => {
                self.restarts.note(now, why);
                (Unknown, None)
            }
            (
                Unknown
                | Stopped
                | Broken { .. }
                | Cleaning { .. }
                | Waiting { .. }
                | Stopping
                | Stuck { .. },
                Input::Lost(_),
            ) => (Unknown, None),

            // Orders.
            (Stopped | Waiting { .. }, Input::Start) => (Starting, Some(Act::Start)),
            (
                same @ (Unknown
                | Starting
                | Running { .. }
                | Broken { .. }
                | Cleaning { .. }
                | Stopping
                | Stuck { .. }),
                Input::Start,
            ) => (same, None),
            (Broken { until }, Input::Stop) => (Cleaning { until }, Some(Act::Stop)),
            (Unknown | Starting | Running { .. } | Stuck { .. }, Input::Stop) => {
                (Stopping, Some(Act::Stop))
            }
            (same @ (Stopped | Cleaning { .. } | Stopping), Input::Stop) => (same, None),
            (Waiting { .. }, Input::Stop) => (Stopped, None),
        };
        if !matches!(next, Stuck { .. } | Stopping | Unknown) {
            self.stuck = None;
        }
        self.state = next;
        act
    }

    /// Takes over what a keeper was found doing.
    pub fn adopt(&mut self, state: State) {
        self.state = state;
    }

    /// A service that has run for a whole window is healthy again.
    pub fn tick(&mut self, now: Mono) {
        if let State::Running { since } = self.state {
            self.restarts.heal(since, now);
        }
    }

    /// Forgets failures; a delayed start is due at once.
    pub fn clear(&mut self, now: Mono) {
        self.restarts.forget();
        match &mut self.state {
            State::Broken { until }
            | State::Cleaning { until }
            | State::Waiting { until }
            | State::Stuck { until } => *until = now,
            State::Unknown
            | State::Stopped
            | State::Starting
            | State::Running { .. }
            | State::Stopping => {}
        }
    }

    /// Takes over limits that were changed in the configuration.
    pub fn set_limits(&mut self, limits: Limits) {
        self.restarts.set_limits(limits);
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Why it counts as failed; `None` otherwise.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.stuck.as_deref().or_else(|| self.restarts.failed())
    }

    /// When [`Machine::tick`] or the plan should look again; `None`: not by itself.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        match self.state {
            State::Waiting { until } | State::Stuck { until } => Some(until),
            State::Running { since } => self.restarts.heals_at(since),
            State::Unknown
            | State::Stopped
            | State::Starting
            | State::Broken { .. }
            | State::Cleaning { .. }
            | State::Stopping => None,
        }
    }

    /// The state as it is reported.
    #[must_use]
    pub const fn reported(&self) -> ServiceState {
        match self.state {
            State::Stopped => ServiceState::Stopped,
            State::Unknown | State::Starting => ServiceState::Starting,
            State::Running { .. } => ServiceState::Running,
            State::Stopping => ServiceState::Stopping,
            State::Broken { .. }
            | State::Cleaning { .. }
            | State::Waiting { .. }
            | State::Stuck { .. } => ServiceState::Failed,
        }
    }

    /// Whether it is certain that nothing of it runs.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped | State::Waiting { .. })
    }
}

#[cfg(test)]
mod tests;
