//! Whether this server may take a reserve over: ONE predicate, which is advertised and
//! which permits. If the two ever differed, one-way loss would make two active servers in
//! three events; so there is no second function, and nobody else asks these questions.

use haarb_model::{Agent, Data, Epoch, Mode, Mono, Prefer, Role};

use crate::clock::Clock;
use crate::facts::{Contact, Eligible};
use crate::mode::ModeState;
use crate::reserve::{Obstacle, ReserveState};
use crate::view::View;

/// What stands in the way of a takeover by this server, the gravest first; `None`: nothing.
///
/// [`Obstacle::OldData`] is named only if nothing else stands in the way.
pub(crate) fn obstacle(
    view: &View,
    reserve: &ReserveState,
    mode: &ModeState,
    leaving: bool,
    clock: &mut Clock,
) -> Option<Obstacle> {
    if leaving {
        return Some(Obstacle::Leaving);
    }
    if reserve.role.serves() || reserve.role == Role::Failed {
        return Some(Obstacle::Role(reserve.role));
    }
    by_links(view)
        .or_else(|| by_mode(view, reserve, mode))
        .or_else(|| by_software(view, reserve, clock))
        .or_else(|| by_time(view, reserve, clock))
        .or_else(|| by_data(view, reserve))
}

/// The fact `eligible`: nothing has stood in the way for `lead`, so that whoever had to let
/// go because of it has had the time.
pub(crate) fn fact(view: &View, reserve: &ReserveState, clock: &mut Clock) -> Eligible {
    match (&reserve.obstacle, reserve.eligible_since) {
        (Some(Obstacle::OldData), _) => Eligible::OldData,
        (None, Some(since)) if clock.passed(since, view.segment.timing.lead) => Eligible::Yes,
        _ => Eligible::No,
    }
}

/// The record proves that no neighbour was active after us (rule S1).
#[must_use]
pub(crate) fn proven(view: &View) -> bool {
    view.neighbours.iter().all(|neighbour| neighbour.left)
}

fn by_links(view: &View) -> Option<Obstacle> {
    let (n, k) = (view.usable(), view.networks.len());
    let unknown = view.networks.iter().any(|network| network.works.is_none());
    (n < k || unknown).then_some(Obstacle::Links(n, k))
}

fn by_data(view: &View, reserve: &ReserveState) -> Option<Obstacle> {
    let unproven = reserve.role == Role::Starting && !proven(view);
    let doubtful = match view.data(&reserve.spec.name) {
        Data::Inconsistent => return Some(Obstacle::Inconsistent),
        Data::Current => unproven,
        Data::Stale => !newest(view, reserve),
    };
    (doubtful && reserve.spec.prefer == Prefer::Consistency).then_some(Obstacle::OldData)
}

/// Nobody can have newer data, whatever a replica that was just opened thinks of itself: we
/// served last as far as everybody knows, or nobody ever did.
pub(crate) fn newest(view: &View, reserve: &ReserveState) -> bool {
    let all_heard = view
        .neighbours
        .iter()
        .all(|n| n.part(&reserve.spec.name).is_some());
    let everybody = all_heard || (reserve.role == Role::Starting && proven(view));
    everybody && (reserve.was_active() || (all_heard && reserve.known == Epoch(0)))
}

/// A standby has looked around; the others must have been alone for as long as their rule
/// asks, less `lead`.
fn by_time(view: &View, reserve: &ReserveState, clock: &mut Clock) -> Option<Obstacle> {
    let timing = view.segment.timing;
    let wait = match reserve.role {
        Role::Standby => return None,
        Role::Starting if !reserve.looked => return Some(Obstacle::TooEarly),
        Role::Starting if !proven(view) => timing.cold_start,
        _ => timing.claim_after,
    };
    let since = lonely_since(view, clock);
    match since {
        Some(since) if clock.passed(since, wait + view.slot() - timing.lead) => None,
        _ => Some(Obstacle::TooEarly),
    }
}

/// Since when nobody has been heard while all our networks counted.
fn lonely_since(view: &View, clock: &mut Clock) -> Option<Mono> {
    if !matches!(view.contact(clock), Contact::Quiet | Contact::Silent) {
        return None;
    }
    let unheard = view.neighbours.iter().map(|n| n.unheard_since).max();
    Some(view.whole_since()?.max(unheard.unwrap_or(Mono::ZERO)))
}

fn by_mode(view: &View, reserve: &ReserveState, mode: &ModeState) -> Option<Obstacle> {
    if let Some(by) = &reserve.operator {
        return Some(Obstacle::Operator(by.clone()));
    }
    let starts = matches!(reserve.role, Role::Waiting | Role::Starting);
    match mode.mode {
        Mode::Automatic | Mode::Operator => {}
        Mode::OneNetwork if starts => {}
        other => return Some(Obstacle::Mode(other)),
    }
    view.neighbours
        .iter()
        .find(|n| {
            n.advert
                .as_ref()
                .is_some_and(|(_, advert)| advert.mode == Mode::Maintenance)
        })
        .map(|n| Obstacle::NeighbourMaintenance(n.name.clone()))
}

/// The agents and what they say about services and addresses. Also asked of candidates in
/// an election, who need not be whole.
pub(crate) fn by_software(
    view: &View,
    reserve: &ReserveState,
    clock: &mut Clock,
) -> Option<Obstacle> {
    for agent in Agent::ALL {
        let needed = match agent {
            Agent::Syncer => reserve.spec.directories > 0,
            Agent::Supervisor => reserve.spec.services > 0,
            Agent::LinkWatcher | Agent::Prober | Agent::VipAgent => true,
        };
        let never = view
            .agent(agent)
            .is_none_or(|a| !a.attached && a.last == a.since);
        if needed && (never || view.gone(agent, clock)) {
            return Some(Obstacle::Agent(agent));
        }
    }
    if let Some(run) = view.services.get(&reserve.spec.name) {
        let why = [&run.not_startable, &run.failed]
            .into_iter()
            .find(|why| !why.is_empty());
        if let Some(why) = why {
            return Some(Obstacle::Services(why.clone()));
        }
    } else if reserve.spec.services > 0 {
        return Some(Obstacle::Agent(Agent::Supervisor));
    }
    let vip = view.vips.get(&reserve.spec.name)?;
    (!vip.error.is_empty()).then(|| Obstacle::Vip(vip.error.clone()))
}
