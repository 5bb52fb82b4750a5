//! Who takes a reserve that nobody serves (section 7): claims, yields, and when a claim
//! has won. All of it travels as state in the adverts; nothing is asked or answered.

use std::cmp::Ordering;

use haarb_model::{AdvertReserve, Data, Mode, Mono, NodeName, Prefer, Role};

use crate::clock::Clock;
use crate::eligible;
use crate::facts::{Contact, Eligible, Probe, Turn, Vip};
use crate::mode::ModeState;
use crate::neighbour::Neighbour;
use crate::order::Standing;
use crate::reserve::ReserveState;
use crate::view::View;

/// What counts for our own place in the order.
#[must_use]
pub(crate) fn standing(view: &View, reserve: &ReserveState) -> Standing {
    Standing {
        data: view.data(&reserve.spec.name),
        epoch: reserve.epoch(),
        was_active: reserve.was_active(),
        networks: view.usable(),
        rank: view.rank,
    }
}

/// Whether this server may claim: as a standby it must be eligible, otherwise healthy, with
/// the networks that its role asks for and data that may go live.
pub(crate) fn candidate(
    view: &View,
    reserve: &ReserveState,
    mode: &ModeState,
    leaving: bool,
    clock: &mut Clock,
) -> bool {
    let networks = match reserve.role {
        Role::Standby => return reserve.obstacle.is_none(),
        Role::Waiting => {
            // A neighbour whose networks came back with ours may go before us.
            let wanted = waiting_for(view, reserve);
            let since = if wanted == 1 {
                view.networks.iter().map(|n| n.since).max()
            } else {
                view.whole_since()
            };
            if since.is_none_or(|since| !clock.passed(since, view.settle())) {
                return false;
            }
            wanted
        }
        Role::Starting if reserve.looked => 1,
        _ => return false,
    };
    let free = matches!(
        mode.mode,
        Mode::Automatic | Mode::OneNetwork | Mode::Operator
    );
    let data = match view.data(&reserve.spec.name) {
        Data::Current => true,
        Data::Stale => {
            reserve.spec.prefer == Prefer::Availability || eligible::newest(view, reserve)
        }
        Data::Inconsistent => false,
    };
    !leaving
        && free
        && reserve.operator.is_none()
        && data
        && view.usable() >= networks
        && !reserve.unable
}

/// Whether what serving takes is here. Who has just let go because the vip-agent or the prober
/// was gone (A14) could take nothing, though their restart is not overdue yet.
pub(crate) fn able(view: &View, reserve: &ReserveState, clock: &mut Clock) -> bool {
    eligible::by_software(view, reserve, clock).is_none() && view.can_hold(clock)
}

/// How many networks a waiting server needs before it may claim (rules W2 and W7).
fn waiting_for(view: &View, reserve: &ReserveState) -> usize {
    if reserve.spec.resume_on_one {
        1
    } else {
        view.networks.len()
    }
}

/// Whether a neighbour that we hear could claim, as far as its advert tells.
fn may_claim(
    view: &View,
    reserve: &ReserveState,
    neighbour: &Neighbour,
    part: &AdvertReserve,
) -> bool {
    let Some(advert) = neighbour.said() else {
        return false;
    };
    let networks = match part.role {
        Role::Standby => return part.eligible,
        Role::Waiting => waiting_for(view, reserve),
        Role::Starting => 1,
        Role::Taking | Role::Active | Role::Releasing | Role::Failed => return false,
    };
    let free = matches!(advert.mode, Mode::Automatic | Mode::OneNetwork);
    !advert.leaving
        && free
        && !part.unable
        && part.data != Data::Inconsistent
        && advert.usable.len() >= networks
}

/// The fact `turn`. Keeps `election_since` and forgets a claim that is not ours any more.
pub(crate) fn turn(
    view: &View,
    reserve: &mut ReserveState,
    candidate: bool,
    probe: Probe,
    clock: &mut Clock,
) -> Turn {
    let open = candidate && open(view, reserve);
    if !open || view.contact(clock) != Contact::Heard {
        reserve.election_since = None;
        reserve.claims = None;
        return Turn::No;
    }
    if let Some(claimed) = reserve.claims {
        let won = won(view, reserve, claimed, probe, clock);
        return if won { Turn::Won } else { Turn::Mine };
    }
    if reserve.yields_to.is_some() || too_young(view, reserve, clock) {
        reserve.election_since = None;
        return Turn::No;
    }
    let since = *reserve.election_since.get_or_insert(clock.now());
    let mine = standing(view, reserve);
    let ahead = view
        .neighbours
        .iter()
        .filter_map(|n| Some((n, n.part(&reserve.spec.name)?)))
        .filter(|(n, part)| n.standing(part).election(&mine) == Ordering::Less)
        .filter(|(n, part)| may_claim(view, reserve, n, part))
        .count() as u64;
    if clock.passed(since, view.segment.timing.claim_after.times(ahead)) {
        Turn::Mine
    } else {
        Turn::No
    }
}

/// Somebody whom we hear has only just begun to speak: what it says of its data and its past
/// may not be all of it yet.
fn too_young(view: &View, reserve: &ReserveState, clock: &mut Clock) -> bool {
    let claim_after = view.segment.timing.claim_after;
    view.neighbours.iter().filter(|n| n.heard()).any(|n| {
        let part = n.part(&reserve.spec.name);
        let begins = part.is_none_or(|part| part.role == Role::Starting);
        begins && !clock.passed(n.contact_since, claim_after)
    })
}

/// Nobody whom we hear serves, claims before us, or will take over without hearing us.
fn open(view: &View, reserve: &ReserveState) -> bool {
    let mine = standing(view, reserve);
    view.neighbours.iter().all(|neighbour| {
        let Some(part) = neighbour.part(&reserve.spec.name) else {
            return true;
        };
        let outranked = part.claims && neighbour.standing(part).election(&mine) == Ordering::Less;
        let deaf = part.eligible && !neighbour.hears_me;
        !part.role.serves() && !outranked && !deaf
    })
}

/// Whether our claim of `claimed` has won: everybody consents, or whoever cannot is out of
/// the way and nobody answers for the virtual IPs.
///
/// Where everybody consents, an address that cannot be probed (its network is down here)
/// holds nothing up for longer than a few probes take.
fn won(
    view: &View,
    reserve: &ReserveState,
    claimed: Mono,
    probe: Probe,
    clock: &mut Clock,
) -> bool {
    let silent = probe == Probe::Silent;
    let patience = view.segment.timing.vip_probe.times(4);
    let unknown = probe == Probe::Unknown && clock.passed(claimed, patience);
    let consent = |n: &Neighbour| {
        n.part(&reserve.spec.name)
            .is_some_and(|part| part.yields_to.as_ref() == Some(&view.me) && !part.role.serves())
    };
    if view.neighbours.iter().all(consent) {
        return silent || unknown;
    }
    silent
        && view
            .neighbours
            .iter()
            .all(|n| consent(n) || out_of_the_way(view, reserve, n, claimed, clock))
}

/// Whether a neighbour that does not consent cannot take the reserve either.
fn out_of_the_way(
    view: &View,
    reserve: &ReserveState,
    neighbour: &Neighbour,
    claimed: Mono,
    clock: &mut Clock,
) -> bool {
    let timing = view.segment.timing;
    match neighbour.contact {
        // It cannot yield to a claim that it does not hear; it cannot take either.
        Contact::Heard => neighbour.part(&reserve.spec.name).is_some_and(|part| {
            let unable = !neighbour.hears_me && !part.eligible && !part.role.serves();
            unable && clock.passed(claimed, timing.claim_after)
        }),
        Contact::Silent if reserve.role == Role::Standby => {
            eligible::fact(view, reserve, clock) == Eligible::Yes
        }
        Contact::Silent => clock.passed(neighbour.contact_since.max(claimed), timing.claim_after),
        Contact::Quiet => clock.passed(
            neighbour.unheard_since.max(claimed),
            view.software_dead_after(neighbour),
        ),
        Contact::Unknown => false,
    }
}

/// Whom we let go first: the claimant that we hear and that goes first in the order, if we
/// surely hold nothing, hear nobody who serves, and do not claim before it ourselves.
///
/// Who was yielded to once keeps it for as long as it claims: it may take at any moment.
#[must_use]
pub(crate) fn yields(view: &View, reserve: &ReserveState, vip: Vip) -> Option<NodeName> {
    let name = &reserve.spec.name;
    let served = view.neighbours.iter().any(|n| n.serving(name).is_some());
    if reserve.role.serves() || vip != Vip::Down || !reserve.looked || served {
        return None;
    }
    let claimants = || {
        view.neighbours
            .iter()
            .filter_map(|n| Some((n, n.part(name)?)))
            .filter(|(_, part)| part.claims)
    };
    if let Some(promised) = &reserve.yields_to
        && reserve.claims.is_none()
        && claimants().any(|(n, _)| n.name == *promised)
    {
        return Some(promised.clone());
    }
    let best = claimants().min_by(|(a, x), (b, y)| a.standing(x).election(&b.standing(y)))?;
    let (neighbour, part) = best;
    let mine_first = reserve.claims.is_some()
        && standing(view, reserve).election(&neighbour.standing(part)) == Ordering::Less;
    (!mine_first).then(|| neighbour.name.clone())
}
