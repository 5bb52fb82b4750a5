//! From the view to the facts of one reserve: every "long enough", "somebody", "everybody"
//! is decided here, so that the table has only to name it.
//!
//! With several neighbours, holding back asks for any of them and going ahead for all.

mod handover;

use std::cmp::Ordering;

use haarb_model::{AdvertReserve, Agent, Data, Mode, Mono, NodeName, Role};

use crate::clock::Clock;
use crate::election;
use crate::eligible;
use crate::facts::{
    Alone, Contact, Deaf, Drain, Epochs, Facts, Found, Hands, Health, Heir, Lease, Links, Probe,
    Proof, Ready, Released, Rival, Software, Stall, Strict, Turn, Vip, Wish,
};
use crate::mode::ModeState;
use crate::neighbour::Neighbour;
use crate::reserve::{Asked, Fit, Handing, ReserveState};
use crate::view::{View, kernel_margin};

use handover::{drain, wish};
pub(crate) use handover::{handing, heir};

/// What concerns the whole server and not one reserve.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    /// What is known.
    pub view: &'a View,
    /// The mode.
    pub mode: &'a ModeState,
    /// This server is stopping since then.
    pub leaving: Option<Mono>,
}

/// The facts of one reserve at this moment.
///
/// Keeps the memory that goes with them in `reserve`: since when it is eligible, the state
/// of an election, what was found at the start.
pub(crate) fn facts(around: Around<'_>, reserve: &mut ReserveState, clock: &mut Clock) -> Facts {
    let Around {
        view,
        mode,
        leaving,
    } = around;
    let found = found(view, reserve, clock);
    if found == Found::Nothing {
        reserve.looked = true;
    }
    learn_epoch(view, reserve);
    let vip = vip(view, reserve, clock);
    reserve.obstacle = eligible::obstacle(view, reserve, mode, leaving.is_some(), clock);
    match reserve.obstacle {
        None => _ = reserve.eligible_since.get_or_insert(clock.now()),
        Some(_) => reserve.eligible_since = None,
    }
    let eligible = eligible::fact(view, reserve, clock);
    reserve.unable = match reserve.role {
        Role::Starting | Role::Waiting => !election::able(view, reserve, clock),
        // Until the lease ends it holds what it cannot let go.
        role if role.serves() => !view.fresh(Agent::VipAgent, clock),
        // A standby says it by not being eligible.
        _ => false,
    };
    let candidate = election::candidate(view, reserve, mode, leaving.is_some(), clock);
    let probe = probe(view, reserve, clock);
    let turn = if reserve.role.serves() || reserve.role == Role::Failed {
        reserve.claims = None;
        Turn::No
    } else {
        election::turn(view, reserve, candidate, probe, clock)
    };
    reserve.yields_to = election::yields(view, reserve, vip);
    handover::hurry(view, reserve);
    Facts {
        links: view.links(clock),
        contact: view.contact(clock),
        rival: rival(view, reserve),
        deaf: deaf(view, reserve, clock),
        heir: heir(view, reserve, clock).map_or(Heir::None, |(_, heir)| heir),
        strict: if reserve.spec.strict {
            Strict::Yes
        } else {
            Strict::No
        },
        health: health(view, reserve, clock),
        lease: lease(reserve, clock),
        stall: if reserve.stalled {
            Stall::Yes
        } else {
            Stall::No
        },
        found,
        hands: hands(reserve, mode),
        wish: wish(around, reserve, probe, clock),
        eligible,
        probe,
        software: software(view, clock),
        alone: alone(view, clock),
        proof: if eligible::proven(view) {
            Proof::Yes
        } else {
            Proof::No
        },
        released: released(view, reserve, clock),
        turn,
        vip,
        ready: ready(view, reserve, vip),
        drain: drain(view, reserve, vip, clock),
        epochs: if reserve.known > reserve.epoch() {
            Epochs::Higher
        } else {
            Epochs::Ours
        },
    }
}

/// The highest epoch that anybody we hear, or any agent of ours, has seen.
fn learn_epoch(view: &View, reserve: &mut ReserveState) {
    let name = &reserve.spec.name;
    let told = view
        .neighbours
        .iter()
        .filter_map(|n| Some(n.part(name)?.epoch));
    let agents = [
        view.vips.get(name).map(|part| part.epoch),
        view.replicas.get(name).map(|part| part.epoch),
        view.services.get(name).map(|part| part.epoch),
    ];
    if let Some(highest) = told.chain(agents.into_iter().flatten()).max() {
        reserve.known = reserve.known.max(highest);
    }
    // A release is good for one taking: who took it and let go again is not offered it twice.
    if reserve.known > reserve.own {
        reserve.released = None;
    }
}

fn found(view: &View, reserve: &ReserveState, clock: &mut Clock) -> Found {
    if reserve.looked || reserve.role != Role::Starting {
        return Found::Nothing;
    }
    let Some(vip) = view.vips.get(&reserve.spec.name) else {
        let late = clock.passed(reserve.since, view.segment.timing.lease.times(2));
        return if late { Found::Nothing } else { Found::Unknown };
    };
    let some = vip.vips.is_empty() || vip.vips.iter().any(|address| address.held);
    if some && vip.epoch >= reserve.known && !clock.reached(vip.lease_until) {
        Found::Held
    } else {
        Found::Nothing
    }
}

/// Neighbours that serve the reserve and are heard, with their part in it.
fn serving<'a>(
    view: &'a View,
    reserve: &'a ReserveState,
) -> impl Iterator<Item = (&'a Neighbour, &'a AdvertReserve)> {
    view.neighbours
        .iter()
        .filter_map(|n| Some((n, n.serving(&reserve.spec.name)?)))
}

/// The neighbour that serves and goes first among those that do, if we hear one.
#[must_use]
pub(crate) fn active_neighbour<'a>(
    view: &'a View,
    reserve: &'a ReserveState,
) -> Option<&'a Neighbour> {
    serving(view, reserve)
        .min_by(|(a, x), (b, y)| a.standing(x).serving(&b.standing(y)))
        .map(|(neighbour, _)| neighbour)
}

/// Whether we hear somebody who serves. A higher epoch that we are told while another server
/// is not heard counts as that server's: the teller follows it.
fn rival(view: &View, reserve: &ReserveState) -> Rival {
    let heard = view.neighbours.iter().filter(|n| n.heard()).count();
    let told = reserve.role.serves() && reserve.known > reserve.own;
    if told && heard > 0 && heard < view.neighbours.len() {
        return Rival::Above;
    }
    let mine = election::standing(view, reserve);
    serving(view, reserve)
        .map(|(neighbour, part)| {
            let above = neighbour.standing(part).serving(&mine) == Ordering::Less;
            if above || !reserve.role.serves() {
                Rival::Above
            } else {
                Rival::Below
            }
        })
        .max()
        .unwrap_or(Rival::None)
}

/// A neighbour that may take over does not hear us, or one that serves goes on not hearing us:
/// only we can know that both serve, so it is we who let go.
fn deaf(view: &View, reserve: &ReserveState, clock: &mut Clock) -> Deaf {
    if !reserve.role.serves() {
        return Deaf::No;
    }
    let reply = view.reply_time();
    let deaf = |n: &Neighbour| {
        let part = n.part(&reserve.spec.name);
        !n.hears_me
            && view.speaks_to(n, clock)
            && part.is_some_and(|part| {
                if part.role.serves() {
                    clock.passed(n.contact_since, reply)
                } else {
                    part.eligible && clock.reached(n.met_until)
                }
            })
    };
    if view.neighbours.iter().any(deaf) {
        Deaf::Yes
    } else {
        Deaf::No
    }
}

fn health(view: &View, reserve: &ReserveState, clock: &mut Clock) -> Health {
    if !reserve.role.serves() {
        return Health::Well;
    }
    let name = &reserve.spec.name;
    let broken = view
        .services
        .get(name)
        .is_some_and(|run| !run.failed.is_empty())
        // An address that cannot be added at once may be a moment later.
        || view
            .vip_failed_since
            .get(name)
            .is_some_and(|since| clock.passed(*since, view.segment.timing.lease))
        || view.gone(Agent::LinkWatcher, clock)
        || (reserve.spec.services > 0 && view.gone(Agent::Supervisor, clock));
    if broken { Health::Failed } else { Health::Well }
}

fn lease(reserve: &ReserveState, clock: &mut Clock) -> Lease {
    if reserve.role.serves() && clock.reached(reserve.lease_until) {
        Lease::Lapsed
    } else {
        Lease::Valid
    }
}

fn hands(reserve: &ReserveState, mode: &ModeState) -> Hands {
    match mode.mode {
        Mode::Maintenance => Hands::Frozen,
        _ if reserve.operator.is_some() => Hands::Tied,
        Mode::Flapping | Mode::ConfigDiffers | Mode::VersionDiffers => Hands::Tied,
        Mode::Automatic | Mode::OneNetwork | Mode::Operator => Hands::Free,
    }
}

/// What the vip-agent found out since we last asked. After an answer the silence must last:
/// an address that somebody removed by hand is put back in a moment, and everybody who asked
/// sees its end at the same moment, so that each server waits for its slot again.
fn probe(view: &View, reserve: &mut ReserveState, clock: &mut Clock) -> Probe {
    use haarb_model::ProbeAnswer as Answer;
    let vip = view.vips.get(&reserve.spec.name);
    if reserve.role.serves() {
        let foreign = vip.is_some_and(|vip| vip.probe == Answer::Foreign);
        return if foreign {
            Probe::Foreign
        } else {
            Probe::Unknown
        };
    }
    if reserve.spec.vips.is_empty() {
        return Probe::Silent;
    }
    let (Some(asked), Some(vip)) = (reserve.probing_since, vip) else {
        return Probe::Unknown;
    };
    if vip.probe_since.is_none_or(|since| since < asked) {
        return Probe::Unknown;
    }
    match vip.probe {
        Answer::Unknown => Probe::Unknown,
        Answer::Silent => {
            if std::mem::take(&mut reserve.answers) {
                reserve.answered = Some(clock.now());
            }
            let pause = view.segment.timing.lease.part(5) + view.slot();
            match reserve.answered {
                Some(at) if !clock.passed(at, pause) => Probe::Unknown,
                _ => Probe::Silent,
            }
        }
        Answer::Neighbour => {
            reserve.answered = Some(clock.now());
            reserve.answers = true;
            Probe::Neighbour
        }
        Answer::Foreign => Probe::Foreign,
    }
}

fn software(view: &View, clock: &mut Clock) -> Software {
    let dead = view.neighbours.iter().all(|n| {
        let limit = view.software_dead_after(n) + view.slot();
        !n.heard() && clock.passed(n.unheard_since, limit)
    });
    if dead {
        Software::Dead
    } else {
        Software::Recent
    }
}

fn alone(view: &View, clock: &mut Clock) -> Alone {
    let timing = view.segment.timing;
    let (Some(silent), Some(whole)) = (view.silent_since(), view.whole_since()) else {
        return Alone::Short;
    };
    let since = silent.max(whole);
    if !clock.passed(since, timing.claim_after) {
        Alone::Short
    } else if !clock.passed(since, timing.cold_start) {
        Alone::Long
    } else {
        Alone::Cold
    }
}

/// A release counts once we have looked around: what is read first after a stall may have been
/// said before it, and the reserve may have been taken back since.
fn released(view: &View, reserve: &ReserveState, clock: &mut Clock) -> Released {
    let looked = view.contact(clock) == Contact::Heard;
    let to_us = view
        .neighbours
        .iter()
        .filter_map(|n| n.part(&reserve.spec.name))
        .any(|part| {
            part.released_to.as_ref() == Some(&view.me)
                && !part.role.serves()
                && part.epoch >= reserve.known
        });
    if looked && to_us {
        Released::Yes
    } else {
        Released::No
    }
}

fn vip(view: &View, reserve: &ReserveState, clock: &mut Clock) -> Vip {
    if reserve.spec.vips.is_empty() {
        let serves = matches!(reserve.role, Role::Taking | Role::Active);
        return if serves { Vip::Up } else { Vip::Down };
    }
    if view.gone(Agent::VipAgent, clock) {
        // Nobody can say what is held; the kernel ends it by itself.
        let over = clock.passed(reserve.lease_until, kernel_margin(view.lease_exact()));
        return if over { Vip::Down } else { Vip::Between };
    }
    let Some(vip) = view.vips.get(&reserve.spec.name) else {
        return Vip::Between;
    };
    let held = vip.vips.iter().filter(|address| address.held).count();
    // Who has not heard of our taking yet, or is to hold, may just be putting one into the kernel.
    let lets_go = vip.seen >= reserve.own && vip.lease_until == Mono::ZERO;
    if held == 0 && lets_go {
        Vip::Down
    } else if held > 0 && held == vip.vips.len() && vip.epoch == reserve.own {
        Vip::Up
    } else {
        Vip::Between
    }
}

fn ready(view: &View, reserve: &ReserveState, vip: Vip) -> Ready {
    let services = reserve.spec.services == 0
        || view
            .services
            .get(&reserve.spec.name)
            .is_some_and(|run| run.running && run.epoch == reserve.own);
    if vip == Vip::Up && services {
        Ready::Yes
    } else {
        Ready::No
    }
}

/// Whether the vip-agent should ask who answers for the virtual IPs: where a rule needs
/// the answer, or will within the last part of `dead-after`.
pub(crate) fn wants_probe(view: &View, reserve: &ReserveState, facts: &Facts) -> bool {
    let asked = matches!(reserve.asked, Some((Asked::Take | Asked::Force, _)));
    let failed = reserve.role == Role::Failed && !asked;
    if reserve.role.serves() || failed || facts.rival != Rival::None {
        return false;
    }
    if reserve.claims.is_some() || facts.turn != Turn::No || asked {
        return true;
    }
    let deserted = match facts.contact {
        Contact::Silent => true,
        Contact::Quiet => {
            facts.software == Software::Dead || view.neighbours.iter().all(|n| n.suspect)
        }
        Contact::Heard | Contact::Unknown => false,
    };
    let able = facts.links == Links::All && facts.hands == Hands::Free;
    deserted && able
}
