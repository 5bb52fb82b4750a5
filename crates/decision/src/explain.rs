//! What is said to people: the sentence of a rule, the evidence of an event, the printed
//! table.

use std::fmt::Write as _;

use haarb_model::{Agent, Mono, NodeName};

use crate::clock::Clock;
use crate::facts::Cond;
use crate::neighbour::Neighbour;
use crate::reserve::ReserveState;
use crate::rule::{Outcome, Rule};
use crate::rules::RULES;
use crate::view::{LEASE_AGENTS, Network, View};

/// What happened, what was done, what to look at.
#[must_use]
pub(crate) fn sentence(rule: &Rule) -> String {
    if rule.look.is_empty() {
        rule.why.into()
    } else {
        format!("{} {}", rule.why, rule.look)
    }
}

/// The facts behind a change, with their ages.
#[must_use]
pub(crate) fn evidence(
    view: &View,
    reserve: &ReserveState,
    now: Mono,
) -> Vec<(&'static str, String)> {
    let mut list = vec![
        ("links", join(view.networks.iter().map(|n| link(n, now)))),
        (
            "neighbours",
            join(view.neighbours.iter().map(|n| neighbour(n, reserve, now))),
        ),
        ("data", view.data(&reserve.spec.name).as_str().into()),
    ];
    if let Some(since) = reserve.probing_since {
        let answer = reserve.facts.probe.as_str();
        list.push((
            "vip probe",
            format!("{answer}, asked for {}", now.since(since)),
        ));
    }
    match (&reserve.obstacle, reserve.eligible_since) {
        (Some(obstacle), _) if !reserve.role.serves() => {
            list.push(("eligible", format!("no: {obstacle}")));
        }
        (None, Some(since)) => list.push(("eligible", format!("for {}", now.since(since)))),
        _ => {}
    }
    if let Some(handing) = &reserve.handing {
        let what = format!("to {}, for {}", handing.to, now.since(handing.since));
        list.push(("hand-over", what));
    }
    if let Some(run) = view.services.get(&reserve.spec.name)
        && !run.failed.is_empty()
    {
        list.push(("service", run.failed.clone()));
    }
    if let Some(vip) = view.vips.get(&reserve.spec.name)
        && !vip.error.is_empty()
    {
        list.push(("vip", vip.error.clone()));
    }
    list
}

/// Why no neighbour can take a reserve now, one clause per server.
#[must_use]
pub(crate) fn no_heir(view: &View, reserve: &ReserveState, to: Option<&NodeName>) -> String {
    join(
        view.neighbours
            .iter()
            .filter(|n| to.is_none_or(|to| to == &n.name))
            .map(|n| match n.part(&reserve.spec.name) {
                None if n.heard() => format!("{} has not told its state yet", n.name),
                None => format!("{} is not heard", n.name),
                Some(_) if !n.hears_me => format!("{} does not hear this server", n.name),
                Some(part) if !part.eligible => {
                    format!("{} is not eligible (`haarb status` there says why)", n.name)
                }
                Some(part) => format!("the data of {} are {}", n.name, part.data.as_str()),
            }),
    )
}

/// Why nothing could be taken here by force: what a lease needs is not there, or somebody who
/// serves has not let go.
pub(crate) fn no_holder(view: &View, reserve: &ReserveState, clock: &mut Clock) -> String {
    let silent: Vec<Agent> = LEASE_AGENTS
        .into_iter()
        .filter(|agent| !view.fresh(*agent, clock))
        .collect();
    let holders = view.neighbours.iter();
    let holders = holders.filter(|n| n.serving(&reserve.spec.name).is_some());
    let missing = silent.iter().map(|agent| {
        format!(
            "haarb-{} gives no sign of life, and nothing can be held without it: look at its log",
            agent.as_str()
        )
    });
    join(missing.chain(holders.map(|n| format!("{} serves it and has not let go", n.name))))
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("; ")
}

fn link(network: &Network, now: Mono) -> String {
    let age = now.since(network.since);
    match (network.works, network.usable) {
        (None, _) => format!("{} not yet known", network.name),
        (Some(_), true) => format!("{} usable for {age}", network.name),
        (Some(true), false) => format!(
            "{} back for {}",
            network.name,
            now.since(network.works_since)
        ),
        (Some(false), false) => format!("{} down for {age} ({})", network.name, network.reason),
    }
}

fn neighbour(n: &Neighbour, reserve: &ReserveState, now: Mono) -> String {
    let mut text = format!("{} {}", n.name, n.contact.as_str());
    let _ = write!(text, " for {}", now.since(n.contact_since));
    if let Some(report) = &n.report {
        if let Some(sign) = report.last_sign {
            let _ = write!(text, ", last sign {} ago", now.since(sign));
        }
        let missing = report.paths.iter().map(|path| path.missing).min();
        if let Some(missing) = missing.filter(|missing| *missing > 0) {
            let _ = write!(text, ", {missing} ECHO missing");
        }
    }
    if n.heard() && !n.hears_me {
        text.push_str(", does not hear us");
    }
    if let Some(part) = n.part(&reserve.spec.name) {
        let _ = write!(text, ", {} epoch {}", part.role, part.epoch);
    }
    text
}

/// The table as a page, for `docs/rules.md`.
#[must_use]
pub fn rules_markdown() -> String {
    let mut page = String::from(
        "# The rules\n\n\
         Printed from `crates/decision/src/rules.rs` by its tests; do not edit by hand.\n\
         Rows are tried from top to bottom and the first that matches is taken. Alarms are\n\
         apart from that: every alarm that matches stands, with one event when it begins and\n\
         one when it ends. The names are in every event and in `haarb why`.\n\n\
         | rule | in the role | when | what |\n|---|---|---|---|\n",
    );
    for rule in RULES {
        let roles = rule.roles.iter().map(|role| role.as_str());
        let roles = roles.collect::<Vec<_>>().join(", ");
        let when = rule.when.iter().map(|cond| Cond::words(*cond));
        let when = when.collect::<Vec<_>>().join("; ");
        let when = if when.is_empty() {
            "otherwise".into()
        } else {
            when
        };
        let _ = writeln!(
            page,
            "| {} {} | {roles} | {when} | {} |",
            rule.id,
            rule.name,
            rule.then.words()
        );
    }
    page.push_str("\n## What each one means\n");
    for rule in RULES {
        let _ = write!(page, "\n### {} {}\n\n{}", rule.id, rule.name, rule.why);
        if matches!(rule.then, Outcome::Alarm | Outcome::Announce) {
            let _ = write!(page, " (Alarm: {}.)", rule.severity.as_str());
        }
        if !rule.look.is_empty() {
            let _ = write!(page, "\n\nLook: {}", rule.look);
        }
        page.push('\n');
    }
    page
}
