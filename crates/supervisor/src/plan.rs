//! The order of the services of one reserve: which one gets which order now.
//!
//! Pure and without memory. Started in the listed order, each when the one before it runs;
//! stopped in reverse, each when the one after it is gone. The one thing to know: a service
//! that cannot be stopped does not keep the ones before it running.

use haarb_model::Mono;

use crate::machine::State;

/// What should become of the services of a reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// They should run.
    Run,
    /// They must not run.
    Stop,
    /// Nothing is started and nothing is stopped: maintenance, or nobody has said anything yet
    /// and what runs is still allowed to.
    Hold,
}

/// An order for one service, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start it.
    Start(usize),
    /// Stop it, or clean up after it.
    Stop(usize),
}

/// The next order, or `None` when nothing is to be done before something changes.
/// Call again after obeying it.
#[must_use]
pub fn next(want: Want, states: &[State], now: Mono) -> Option<Order> {
    match want {
        Want::Run => next_start(states, now),
        Want::Stop => next_stop(states, now),
        Want::Hold => None,
    }
}

fn next_start(states: &[State], now: Mono) -> Option<Order> {
    // What failed is cleaned up wherever it stands; that holds up nobody.
    if let Some(broken) = states
        .iter()
        .position(|s| matches!(s, State::Broken { .. }))
    {
        return Some(Order::Stop(broken));
    }
    let stuck = |s: &State| matches!(s, State::Stuck { until } if *until <= now);
    if let Some(stuck) = states.iter().position(stuck) {
        return Some(Order::Stop(stuck));
    }
    let first = states
        .iter()
        .position(|s| !matches!(s, State::Running { .. }))?;
    match states[first] {
        State::Stopped => Some(Order::Start(first)),
        State::Waiting { until } if until <= now => Some(Order::Start(first)),
        State::Waiting { .. }
        | State::Unknown
        | State::Starting
        | State::Running { .. }
        | State::Broken { .. }
        | State::Cleaning { .. }
        | State::Stopping
        | State::Stuck { .. } => None,
    }
}

fn next_stop(states: &[State], now: Mono) -> Option<Order> {
    for (place, state) in states.iter().enumerate().rev() {
        match state {
            // What is not known yet is found out within one check; the others do not wait for it.
            State::Stopped | State::Unknown => {}
            State::Starting
            | State::Running { .. }
            | State::Broken { .. }
            | State::Waiting { .. } => return Some(Order::Stop(place)),
            State::Stuck { until } if *until <= now => return Some(Order::Stop(place)),
            State::Stuck { .. } => {}
            State::Stopping | State::Cleaning { .. } => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests;
