//! Facts about moving a reserve: who could have it, who asked for it, how far it is.

use haarb_model::{DirectoryReport, DirectoryState, Span};

use super::*;

/// The neighbour to which we could hand over, and whether its data are good enough: both
/// hear each other, it is fit for what is asked, it is the one that was named if one was.
pub(crate) fn heir<'a>(
    view: &'a View,
    reserve: &ReserveState,
    clock: &mut Clock,
) -> Option<(&'a Neighbour, Heir)> {
    if !reserve.role.serves() {
        return None;
    }
    let wanted = wanted(view, reserve);
    let fit = wanted.map_or(Fit::Eligible, |wanted| wanted.fit);
    let (neighbour, part) = view
        .neighbours
        .iter()
        .filter(|n| wanted.and_then(|w| w.to).is_none_or(|to| to == &n.name))
        .filter_map(|n| Some((n, n.part(&reserve.spec.name)?)))
        .filter(|(n, part)| fits(n, part, fit))
        .min_by(|(a, x), (b, y)| a.standing(x).election(&b.standing(y)))?;
    let rested = wanted.is_some() || clock.reached(reserve.retry_after);
    let current = part.data == Data::Current || fit == Fit::Forced;
    let heir = if current && rested {
        Heir::Ready
    } else {
        Heir::Behind
    };
    Some((neighbour, heir))
}

/// Whether a neighbour may be given the reserve.
fn fits(neighbour: &Neighbour, part: &AdvertReserve, fit: Fit) -> bool {
    let advert = neighbour.said();
    let one_network = advert.is_some_and(|advert| {
        advert.mode == Mode::OneNetwork && !advert.leaving && !advert.usable.is_empty()
    });
    neighbour.hears_me
        && !part.role.serves()
        && match fit {
            Fit::Eligible => part.eligible,
            Fit::Asked => part.eligible || (part.role == Role::Standby && one_network),
            Fit::Forced => true,
        }
}

/// A wish to hand over.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    /// To whom; `None`: whoever is first in line.
    to: Option<&'a NodeName>,
    fit: Fit,
}

/// What an operator asked for here, or on a neighbour that tells us.
fn wanted<'a>(view: &'a View, reserve: &'a ReserveState) -> Option<Wanted<'a>> {
    let fit = Fit::Asked;
    match &reserve.asked {
        Some((Asked::HandOver(to), _)) => {
            return Some(Wanted {
                to: to.as_ref(),
                fit,
            });
        }
        Some((Asked::GiveUp, _)) => return Some(Wanted { to: None, fit }),
        Some((Asked::Take | Asked::Force, _)) | None => {}
    }
    view.neighbours
        .iter()
        .filter_map(|n| Some((n, n.part(&reserve.spec.name)?)))
        .filter(|(_, part)| part.epoch == reserve.own && !part.role.serves())
        .filter_map(|(n, part)| Some((n, part, part.asks_for.as_ref()?)))
        .find(|(_, _, to)| **to != view.me)
        .map(|(n, part, to)| Wanted {
            to: Some(to),
            // Nobody claims what is served, unless by force.
            fit: if part.claims && *to == n.name {
                Fit::Forced
            } else {
                fit
            },
        })
}

pub(super) fn wish(
    around: Around<'_>,
    reserve: &ReserveState,
    probe: Probe,
    clock: &mut Clock,
) -> Wish {
    let view = around.view;
    if !reserve.role.serves() {
        return match reserve.asked {
            Some((Asked::Force, since)) if follows(view, reserve, since, probe, clock) => {
                Wish::None
            }
            Some((Asked::Force, _)) => Wish::Force,
            Some((Asked::Take, _)) => Wish::Take,
            Some((Asked::HandOver(_) | Asked::GiveUp, _)) | None => Wish::None,
        };
    }
    let drain_max = view.segment.timing.drain_max;
    let give_up = match (around.leaving, &reserve.asked) {
        (Some(since), _) => Some(since),
        (None, Some((Asked::GiveUp, since))) => Some(*since),
        _ => None,
    };
    if let Some(since) = give_up {
        let heir = heir(view, reserve, clock).is_some();
        return if heir && !clock.passed(since, drain_max) {
            Wish::HandOver
        } else {
            Wish::LetGo
        };
    }
    match wanted(view, reserve) {
        Some(_) => Wish::HandOver,
        None => Wish::None,
    }
}

/// Before we take by force, whoever may still hold the virtual IPs is given the time to let
/// go, and what a lease here depends on must be there: it would be lost again at once.
fn follows(
    view: &View,
    reserve: &ReserveState,
    since: Mono,
    probe: Probe,
    clock: &mut Clock,
) -> bool {
    let mut neighbours = view.neighbours.iter();
    !view.can_hold(clock)
        || neighbours.any(|n| {
            may_hold(view, reserve, n, since, probe)
                .is_some_and(|(from, span)| !clock.passed(from, span))
        })
}

/// From when and for how long a neighbour may still hold the virtual IPs after a promotion by
/// force was asked for; `None`: it surely holds nothing.
///
/// One that serves and hears us follows the command. One that does not hear us yet may do so a
/// reply later. One whose software is silent while its kernel lives, of which we know nothing
/// yet, or whose arbiter has just started and does not know itself what it holds, holds them no
/// longer than its lease lasts, or until nobody answers for them.
fn may_hold(
    view: &View,
    reserve: &ReserveState,
    neighbour: &Neighbour,
    since: Mono,
    probe: Probe,
) -> Option<(Mono, Span)> {
    let lease = view.segment.timing.lease;
    let unsaid = match neighbour.contact {
        Contact::Silent => return None,
        Contact::Quiet | Contact::Unknown => true,
        Contact::Heard => match neighbour.part(&reserve.spec.name)?.role {
            role if role.serves() && neighbour.hears_me => {
                return Some((since.max(neighbour.contact_since), lease.times(2)));
            }
            role if role.serves() => return Some((neighbour.contact_since, view.reply_time())),
            role => role == Role::Starting,
        },
    };
    let over = lease + kernel_margin(neighbour.lease_exact());
    (unsaid && probe != Probe::Silent).then_some((since, over))
}

/// An operator's force counts for a hand-over that goes on, too: to whom, and that nothing is
/// waited for.
pub(super) fn hurry(view: &View, reserve: &mut ReserveState) {
    let forced = wanted(view, reserve).filter(|wanted| wanted.fit == Fit::Forced);
    let to = forced.and_then(|wanted| wanted.to.cloned());
    if let (Some(to), Some(handing)) = (to, &mut reserve.handing) {
        handing.to = to;
        handing.fit = Fit::Forced;
    }
}

pub(super) fn drain(view: &View, reserve: &ReserveState, vip: Vip, clock: &mut Clock) -> Drain {
    let Some(handing) = reserve.handing.as_ref() else {
        return Drain::Going;
    };
    let name = &reserve.spec.name;
    let receiver = view
        .neighbours
        .iter()
        .find(|n| n.name == handing.to)
        .and_then(|n| Some((n, n.part(name)?)));
    if receiver.is_none_or(|(n, part)| !fits(n, part, handing.fit)) {
        return Drain::Lost;
    }
    let overdue = clock.passed(handing.since, view.segment.timing.drain_max);
    // By force nothing waits for the replica, and for the services only as long as a lease.
    let lease = view.segment.timing.lease;
    let forced = handing.fit == Fit::Forced && clock.passed(handing.since, lease);
    let done = handing.sealed || forced || written(view, reserve, clock);
    match (done, overdue) {
        (true, true) if vip != Vip::Down => Drain::Overdue,
        (true, _) => Drain::Done,
        (false, true) => Drain::Overdue,
        (false, false) => Drain::Going,
    }
}

/// Services have stopped and everything they wrote is acknowledged.
fn written(view: &View, reserve: &ReserveState, clock: &mut Clock) -> bool {
    let name = &reserve.spec.name;
    let lease = view.segment.timing.lease;
    // Without a supervisor, services end by themselves with the lease it was last given.
    let ended = view
        .agent(Agent::Supervisor)
        .is_none_or(|agent| clock.passed(agent.last, lease.times(2)));
    let stopped = reserve.spec.services == 0
        || ended
        || view
            .services
            .get(name)
            .is_some_and(|run| run.stopped && run.epoch == reserve.own);
    // A sink that is not connected has acknowledged nothing.
    let drained = reserve.spec.directories == 0
        || view.replicas.get(name).is_some_and(|replica| {
            let connected = |dir: &DirectoryReport| dir.state != DirectoryState::WaitingForPeer;
            replica.drained
                && replica.epoch == reserve.own
                && replica.directories.iter().all(connected)
        });
    stopped && drained
}

/// The hand-over that begins now.
#[must_use]
pub(crate) fn handing(
    view: &View,
    reserve: &ReserveState,
    then: Role,
    clock: &mut Clock,
) -> Option<Handing> {
    let (neighbour, _) = heir(view, reserve, clock)?;
    Some(Handing {
        to: neighbour.name.clone(),
        then,
        since: clock.now(),
        sealed: false,
        fit: wanted(view, reserve).map_or(Fit::Eligible, |wanted| wanted.fit),
    })
}
