//! What operators ask for. Every command is answered at once with one line: what was done
//! or begun, or why not and what to do.

use haarb_model::{
    Agent, Data, Epoch, Event, Mode, Mono, NodeName, Prefer, ReserveName, Role, Severity,
};

use crate::clock::Clock;
use crate::core::Core;
use crate::eligible;
use crate::explain;
use crate::facts::Heir;
use crate::reserve::{Asked, Obstacle};
use crate::view::LEASE_AGENTS;
use crate::{assess, facts};

/// An operator's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Move a reserve to another server in an orderly way.
    Switchover {
        /// The reserve.
        reserve: ReserveName,
        /// Its next server; `None`: whoever is first in line.
        to: Option<NodeName>,
        /// Only if it is still served under this epoch.
        expected_epoch: Option<Epoch>,
    },
    /// Take a reserve that nobody serves.
    Promote {
        /// The reserve.
        reserve: ReserveName,
        /// Whatever the others say.
        force: bool,
        /// Even with stale data where `prefer: consistency`.
        accept_stale: bool,
    },
    /// Give a reserve up and do not take it again before `haarb clear`.
    Demote {
        /// The reserve.
        reserve: ReserveName,
    },
    /// Switch nothing and stop nothing.
    Maintenance(bool),
    /// Failures are mended: forget them, and end manual modes that a person must end.
    Clear {
        /// The reserve.
        reserve: ReserveName,
    },
    /// This server stops: hand everything over or let go of it.
    Shutdown,
}

/// The answer to a command.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The reserve it was about.
    pub reserve: Option<ReserveName>,
    /// One line.
    pub result: Result<String, String>,
}

/// Runs a command. The role changes, if any, follow from the table in the same step.
pub(crate) fn run(core: &mut Core, command: Command, now: Mono) -> Answer {
    let (name, result) = match command {
        Command::Maintenance(on) => (None, Ok(maintenance(core, on))),
        Command::Shutdown => (None, Ok(shutdown(core, now))),
        Command::Switchover {
            reserve,
            to,
            expected_epoch,
        } => {
            let result =
                index(core, &reserve).and_then(|i| switchover(core, i, to, expected_epoch, now));
            (Some(reserve), result)
        }
        Command::Promote {
            reserve,
            force,
            accept_stale,
        } => {
            let result =
                index(core, &reserve).and_then(|i| promote(core, i, force, accept_stale, now));
            (Some(reserve), result)
        }
        Command::Demote { reserve } => {
            let result = index(core, &reserve).map(|i| demote(core, i, now));
            (Some(reserve), result)
        }
        Command::Clear { reserve } => {
            let result = index(core, &reserve).map(|i| clear(core, i, now));
            (Some(reserve), result)
        }
    };
    Answer {
        reserve: name,
        result,
    }
}

/// The event that says what an operator did.
#[must_use]
pub(crate) fn event(core: &Core, answer: &Answer) -> Event {
    let reserve = answer.reserve.as_ref().and_then(|name| core.reserve(name));
    Event {
        severity: Severity::Info,
        rule: "OP",
        reserve: reserve.map(|r| r.spec.name.clone()),
        from: reserve.map(|r| r.role),
        to: reserve.map(|r| r.role),
        epoch: reserve.map_or(Epoch(0), |r| r.epoch()),
        why: match &answer.result {
            Ok(text) => format!("An operator's command: {text}"),
            Err(text) => format!("An operator's command was refused: {text}"),
        },
        evidence: Vec::new(),
    }
}

fn index(core: &Core, name: &ReserveName) -> Result<usize, String> {
    let found = core.reserves.iter().position(|r| &r.spec.name == name);
    found.ok_or_else(|| {
        let known = core.reserves.iter().map(|r| r.spec.name.to_string());
        format!(
            "there is no reserve {name}; the configuration has: {}",
            known.collect::<Vec<_>>().join(", ")
        )
    })
}

fn switchover(
    core: &mut Core,
    i: usize,
    to: Option<NodeName>,
    expected: Option<Epoch>,
    now: Mono,
) -> Result<String, String> {
    let name = core.reserves[i].spec.name.clone();
    if let Some(to) = &to
        && core.view.segment.rank(to).is_none()
    {
        return Err(format!("there is no server {to} in the configuration"));
    }
    let serves = core.reserves[i].role.serves();
    let (active, epoch) = if serves {
        (core.view.me.clone(), core.reserves[i].own)
    } else {
        let neighbour = assess::active_neighbour(&core.view, &core.reserves[i]);
        let part = neighbour.and_then(|n| Some((n.name.clone(), n.part(&name)?.epoch)));
        part.ok_or_else(|| {
            format!("nobody serves {name} as far as this server hears; `haarb promote {name}` takes it here")
        })?
    };
    if let Some(expected) = expected
        && expected != epoch
    {
        return Err(format!(
            "{name} is served under epoch {epoch} by now, not {expected}: somebody switched it before; look at `haarb status`"
        ));
    }
    if to.as_ref() == Some(&active) {
        return Ok(format!(
            "{name} is served by {active} already; nothing to do"
        ));
    }
    if serves {
        hand_over(core, i, to, now)
    } else {
        ask(core, i, to, &active, epoch, now)
    }
}

fn hand_over(core: &mut Core, i: usize, to: Option<NodeName>, now: Mono) -> Result<String, String> {
    let name = core.reserves[i].spec.name.clone();
    if core.reserves[i].role == Role::Releasing {
        return Err(format!("{name} is being handed over already"));
    }
    let before = core.reserves[i]
        .asked
        .replace((Asked::HandOver(to.clone()), now));
    let heir = assess::heir(&core.view, &core.reserves[i], &mut Clock::at(now))
        .map(|(n, heir)| (n.name.clone(), heir));
    match heir {
        Some((node, Heir::Ready)) => Ok(format!("{name} is being handed over to {node} (A12)")),
        Some((node, _)) => Ok(format!(
            "{name} will be handed over to {node} as soon as its data are current, within {} (A12)",
            core.view.segment.timing.drain_max
        )),
        None => {
            core.reserves[i].asked = before;
            Err(format!(
                "{name} stays here, nobody can take it: {}",
                explain::no_heir(&core.view, &core.reserves[i], to.as_ref())
            ))
        }
    }
}

fn ask(
    core: &mut Core,
    i: usize,
    to: Option<NodeName>,
    active: &NodeName,
    epoch: Epoch,
    now: Mono,
) -> Result<String, String> {
    let name = core.reserves[i].spec.name.clone();
    let to = to.unwrap_or_else(|| core.view.me.clone());
    // Manual switchover is what is left when a network is lost.
    let manual = |obstacle: &&Obstacle| {
        !matches!(
            obstacle,
            Obstacle::Links(1.., _) | Obstacle::Mode(Mode::OneNetwork)
        )
    };
    if to == core.view.me
        && let Some(obstacle) = core.reserves[i].obstacle.as_ref().filter(manual)
    {
        return Err(format!(
            "{name} stays on {active}: {to} is not eligible: {obstacle}"
        ));
    }
    core.reserves[i].asks = Some((to.clone(), epoch, now));
    Ok(format!(
        "{active} is asked to hand {name} over to {to} (A12)"
    ))
}

fn promote(
    core: &mut Core,
    i: usize,
    force: bool,
    accept_stale: bool,
    now: Mono,
) -> Result<String, String> {
    let reserve = &core.reserves[i];
    let name = reserve.spec.name.clone();
    if reserve.role.serves() {
        return Ok(format!("{name} is served here already; nothing to do"));
    }
    let detached = |agent: &Agent| core.view.agent(*agent).is_none_or(|a| !a.attached);
    if let Some(agent) = LEASE_AGENTS.into_iter().find(detached) {
        return Err(format!(
            "{name} cannot be taken: haarb-{} does not run; look at its log",
            agent.as_str()
        ));
    }
    if core.leaving.is_some() {
        return Err(format!("{name} cannot be taken: this server is stopping"));
    }
    if force {
        core.reserves[i].asked = Some((Asked::Force, now));
        return Ok(format!(
            "{name} is being taken by force (OP2); automatic switchover of it is off here until `haarb clear {name}`"
        ));
    }
    if let Some(active) = assess::active_neighbour(&core.view, reserve) {
        return Err(format!(
            "{0} serves {name}; `haarb switchover {name} --to {1}` moves it",
            active.name, core.view.me
        ));
    }
    if reserve.role == Role::Failed {
        return Err(format!(
            "{}; `haarb promote {name} --force` overrides it",
            Obstacle::Role(Role::Failed)
        ));
    }
    match (core.view.data(&name), reserve.spec.prefer) {
        (Data::Inconsistent, _) => {
            return Err(format!(
                "the replica of {name} is not complete here; `--force` takes it all the same"
            ));
        }
        (Data::Stale, Prefer::Consistency) if !accept_stale => {
            return Err(format!(
                "the data of {name} here are stale; `haarb promote {name} --accept-stale` takes it with them"
            ));
        }
        (Data::Current | Data::Stale, _) => {}
    }
    if let Some(obstacle) = eligible::by_software(&core.view, reserve, &mut Clock::at(now)) {
        return Err(format!("{name} cannot be taken: {obstacle}"));
    }
    if core.view.links(&mut Clock::at(now)) == facts::Links::None {
        return Err(format!(
            "{name} cannot be taken: no network is usable here; `--force` takes it all the same"
        ));
    }
    let reserve = &mut core.reserves[i];
    reserve.operator = None;
    reserve.asked = Some((Asked::Take, now));
    Ok(format!(
        "{name} is taken as soon as nobody has answered for its virtual IPs for {} (OP3)",
        core.view.segment.timing.vip_probe
    ))
}

fn demote(core: &mut Core, i: usize, now: Mono) -> String {
    let reserve = &mut core.reserves[i];
    let name = reserve.spec.name.clone();
    reserve.operator = Some(format!("haarb demote {name}"));
    if !reserve.role.serves() {
        reserve.asked = None;
        return format!("{name} will not be taken here until `haarb clear {name}`");
    }
    reserve.asked = Some((Asked::GiveUp, now));
    let heir = assess::heir(&core.view, &core.reserves[i], &mut Clock::at(now))
        .map(|(neighbour, _)| neighbour.name.clone());
    match heir {
        Some(node) => format!(
            "{name} is being handed over to {node}, and not taken here until `haarb clear {name}`"
        ),
        None => format!(
            "{name} is being let go and nobody can take it; it is not taken here until `haarb clear {name}`"
        ),
    }
}

fn maintenance(core: &mut Core, on: bool) -> String {
    core.mode.maintenance = on;
    if on {
        "maintenance is on: nothing is switched and nothing is stopped, on any server, until `haarb maintenance off`".into()
    } else {
        "maintenance is off: rules act again".into()
    }
}

fn clear(core: &mut Core, i: usize, now: Mono) -> String {
    core.mode.clear();
    // The cable was mended, too.
    for network in &mut core.view.networks {
        network.flaps.forgive();
    }
    let reserve = &mut core.reserves[i];
    let name = reserve.spec.name.clone();
    reserve.operator = None;
    reserve.asked = None;
    reserve.stale_since = None;
    reserve.clear += 1;
    // What failed before must fail again to count: the supervisor forgets it a moment later.
    if let Some(run) = core.view.services.get_mut(&name) {
        run.failed.clear();
    }
    // The same where a hand-over because of the failure is under way.
    if let Some(handing) = &mut reserve.handing
        && handing.then == Role::Failed
    {
        handing.then = Role::Standby;
    }
    if reserve.role == Role::Failed {
        core.reserves[i].role = Role::Starting;
        core.reserves[i].since = now;
        core.reserves[i].looked = true;
        return format!(
            "{name}: failures are forgotten; this server looks around and may serve again"
        );
    }
    format!("{name}: failures and manual modes are forgotten")
}

fn shutdown(core: &mut Core, now: Mono) -> String {
    core.leaving.get_or_insert(now);
    let served: Vec<String> = core
        .reserves
        .iter()
        .filter(|r| r.role.serves())
        .map(|r| r.spec.name.to_string())
        .collect();
    if served.is_empty() {
        "nothing is served here; this server leaves".into()
    } else {
        format!("handing over or letting go of {}", served.join(", "))
    }
}
