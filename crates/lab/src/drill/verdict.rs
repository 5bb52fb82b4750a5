//! What came of a drill, and whether that is what must follow. Pure.

use serde::Serialize;

use super::{Active, Dual, Expect, SOFTWARE_DEAD_MARGIN_MS, Service};
use crate::{
    analysis::Report,
    bystander::Neighbour,
    cluster::Event,
    history,
    netlink::Mac,
    observer::AddressEvent,
    plan::{ServerId, VipId},
    server::FaultTimes,
};

/// A shorter outage proves nothing: a virtual CPU can be taken away for as long, from the
/// service, from the client or from the kernel between them. The measured numbers stand in the
/// table all the same, beside the stalls that the lab saw itself.
pub const STALL_MAX_MS: f64 = 250.0;

/// Two datagram intervals of the telecom profile: how long two active servers may need to sort it out
/// once they hear each other. Those of the lan profile are shorter than [`STALL_MAX_MS`].
pub const CONTACT_MAX_MS: f64 = 20.0;

/// One expectation and whether it was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was expected.
    pub what: String,
    /// Whether it was so.
    pub met: bool,
    /// What was the case.
    pub found: String,
}

/// The service's files after a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilesReport {
    /// What lies on the server that is active now.
    pub on_active: history::Found,
    /// Versions that the server active before had written and the one active now did not get: what an
    /// unplanned takeover costs. `None` when the active server did not change.
    pub not_copied: Option<u64>,
}

/// What came of a drill.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Name of the drill.
    pub name: &'static str,
    /// What was done.
    pub what: &'static str,
    /// Every expectation was met.
    pub passed: bool,
    /// When the fault was done; `None` when it was not reached.
    pub fault: Option<FaultTimes>,
    /// Active before, by name.
    pub active_before: Option<String>,
    /// Active afterwards, by name.
    pub active_after: Option<String>,
    /// What the clients saw.
    pub clients: Report,
    /// Time during which an address was on two servers with power, milliseconds.
    pub held_by_both_ms: f64,
    /// Longest time, on one virtual IP, during which two servers would have answered for it after they
    /// could hear each other again; `None` when nothing separated them.
    pub dual_after_contact_ms: Option<f64>,
    /// When the virtual IPs came to servers and left them.
    pub addresses: Vec<AddressEvent>,
    /// The rule that made the first change of role, or the first rule at all.
    pub rule: Option<String>,
    /// Everything the servers recorded meanwhile.
    pub events: Vec<Event>,
    /// What a host that is neither server nor measuring client knows of the virtual IPs afterwards.
    pub neighbours: Vec<Neighbour>,
    /// What the service's files look like on the active server; `None` where it writes none.
    pub files: Option<FilesReport>,
    /// The expectations.
    pub checks: Vec<Check>,
    /// From the beginning of the drill to its verdict, milliseconds.
    pub took_ms: f64,
}

/// The rule to show for a drill: an expected one that fired, else one that changed a role, else the first.
pub(super) fn headline(expect: &Expect, events: &[Event]) -> Option<String> {
    let expected = expect
        .rules
        .iter()
        .find(|rule| events.iter().any(|event| event.rule == **rule));
    expected
        .map(|rule| (*rule).to_owned())
        .or_else(|| {
            events
                .iter()
                .find(|event| event.changes_role())
                .map(|event| event.rule.clone())
        })
        .or_else(|| events.first().map(|event| event.rule.clone()))
}

/// What happened.
pub(super) struct Facts<'a> {
    /// Active for the first reserve before.
    pub(super) before: Option<ServerId>,
    /// And afterwards.
    pub(super) after: Option<ServerId>,
    /// Who serves each virtual IP by right afterwards.
    pub(super) rightful: &'a [Option<ServerId>],
    /// Virtual IPs of other reserves, which stayed where they were.
    pub(super) untouched: &'a [VipId],
    /// What the clients saw.
    pub(super) clients: &'a Report,
    /// See [`Outcome::dual_after_contact_ms`].
    pub(super) dual_after_contact_ms: Option<f64>,
    /// What the bystander knows of each virtual IP; `None` where it was not asked.
    pub(super) neighbours: &'a [Option<Neighbour>],
    /// The service's files.
    pub(super) files: Option<&'a FilesReport>,
    /// `software-dead-after` of the cluster, milliseconds.
    pub(super) software_dead_after_ms: f64,
    /// What the servers recorded.
    pub(super) events: &'a [Event],
    /// Names of servers.
    pub(super) name: &'a dyn Fn(Option<ServerId>) -> Option<String>,
    /// The hardware address of a server on the network of a virtual IP.
    pub(super) mac: &'a dyn Fn(ServerId, VipId) -> Mac,
}

/// Compares what was expected with what happened. Pure.
pub(super) fn checks(expect: &Expect, facts: &Facts<'_>) -> Vec<Check> {
    let mut checks = vec![active(expect, facts)];
    checks.extend(dual(expect, facts));
    checks.extend(service(expect, facts));
    checks.extend(expect.as_software_dead.then(|| as_software_dead(facts)));
    checks.extend(others(facts));
    // Where nobody serves, or two do, no table can be right.
    let apart = expect.dual != Dual::Never && facts.dual_after_contact_ms.is_none();
    if expect.service != Service::Stops && !apart {
        checks.extend(bystander(facts));
    }
    if let Some(files) = facts.files {
        let found = &files.on_active;
        checks.push(Check {
            what: "every file version on the active server is whole".into(),
            met: found.is_whole(),
            found: format!(
                "state torn: {}, torn lines: {}",
                found.state_torn, found.log_torn
            ),
        });
    }
    checks.extend(rules(expect, facts));
    checks
}

fn active(expect: &Expect, facts: &Facts<'_>) -> Check {
    let (before, after) = (facts.before, facts.after);
    let shown = |server| (facts.name)(server).unwrap_or_else(|| "nobody".into());
    let (what, met) = match expect.active {
        Active::Stays => (
            format!("{} stays active", shown(before)),
            after.is_some() && after == before,
        ),
        Active::Moves => (
            "another server becomes active".into(),
            after.is_some() && after != before,
        ),
        Active::Someone => ("a server becomes active".into(), after.is_some()),
        Active::Nobody => ("nobody is active".into(), after.is_none()),
    };
    Check {
        what,
        met,
        found: format!("active: {}", shown(after)),
    }
}

fn dual(expect: &Expect, facts: &Facts<'_>) -> Vec<Check> {
    let dual = facts.clients.dual_active_ms;
    match (expect.dual, facts.dual_after_contact_ms) {
        (Dual::Never, _) => vec![Check {
            what: "no two servers answer for one address".into(),
            met: dual == 0.0,
            found: format!("{dual:.1} ms"),
        }],
        // Separated to the end: nothing can be asked of them.
        (Dual::UntilContact(_), None) => Vec::new(),
        (Dual::UntilContact(case), Some(after)) => vec![Check {
            what: format!(
                "{case}: once they hear each other, two servers answer for one address for at most {CONTACT_MAX_MS} ms (stalls below {STALL_MAX_MS} ms aside)"
            ),
            met: after < CONTACT_MAX_MS + STALL_MAX_MS,
            found: format!("{after:.1} ms"),
        }],
    }
}

fn service(expect: &Expect, facts: &Facts<'_>) -> Option<Check> {
    let clients = facts.clients;
    let lost = format!(
        "{} requests lost on every address, longest {:.1} ms",
        clients.lost_on_all, clients.longest_outage_ms
    );
    let (what, met) = match expect.service {
        Service::Uninterrupted => (
            format!("the clients are served all the time (stalls below {STALL_MAX_MS} ms aside)"),
            clients.longest_outage_ms < STALL_MAX_MS,
        ),
        Service::Resumes => {
            let served = clients.served_by.iter().zip(facts.rightful);
            let by_right = served.fold(true, |all, (served, rightful)| {
                all && served.is_some() && served == rightful
            });
            ("the active server serves every address".into(), by_right)
        }
        Service::Stops => ("the service stops".into(), clients.silent_at_end_ms > 0.0),
        Service::Whatever => return None,
    };
    Some(Check {
        what,
        met,
        found: lost,
    })
}

/// What is promised where a server's software stops and its kernel lives on.
fn as_software_dead(facts: &Facts<'_>) -> Check {
    let limit = facts.software_dead_after_ms + SOFTWARE_DEAD_MARGIN_MS;
    let clients = facts.clients;
    let gap = clients.gap_all_ms.unwrap_or(clients.longest_outage_ms);
    Check {
        what: format!(
            "every address is served again within {limit:.0} ms (stalls below {STALL_MAX_MS} ms aside)"
        ),
        met: gap < limit + STALL_MAX_MS,
        found: format!("after {gap:.1} ms"),
    }
}

/// A reserve that stays where it is does not suffer from another one that moves.
fn others(facts: &Facts<'_>) -> Option<Check> {
    let outage = |vip: &VipId| {
        let vip = facts.clients.vips.get(*vip);
        vip.map_or(f64::INFINITY, |vip| vip.longest_outage_ms)
    };
    let longest = facts.untouched.iter().map(outage).reduce(f64::max)?;
    Some(Check {
        what: format!(
            "the reserve that stays is served all the time (stalls below {STALL_MAX_MS} ms aside)"
        ),
        met: longest < STALL_MAX_MS,
        found: format!("longest outage {longest:.1} ms"),
    })
}

/// A third party's neighbour table names the rightful server (or nothing, which asks anew), and a packet
/// that it sends arrives there.
fn bystander(facts: &Facts<'_>) -> Option<Check> {
    let known = facts.neighbours.iter().zip(facts.rightful).enumerate();
    let asked: Vec<(VipId, &Neighbour, ServerId)> = known
        .filter_map(|(vip, (known, rightful))| Some((vip, known.as_ref()?, (*rightful)?)))
        .collect();
    if asked.is_empty() {
        return None;
    }
    let right = |vip: VipId, known: &Neighbour, rightful: ServerId| {
        known
            .mac
            .is_none_or(|mac| mac == (facts.mac)(rightful, vip))
            && known.answered_by == (facts.name)(Some(rightful))
    };
    let found: Vec<String> = asked.iter().map(|(_, known, _)| said(known)).collect();
    Some(Check {
        what: "a third host's neighbour table points to the active server, and its packets arrive there"
            .into(),
        met: asked
            .iter()
            .all(|(vip, known, rightful)| right(*vip, known, *rightful)),
        found: found.join(", "),
    })
}

fn said(known: &Neighbour) -> String {
    let mac = known.mac.map_or_else(
        || "no entry".into(),
        |mac| mac.map(|byte| format!("{byte:02x}")).join(":"),
    );
    let by = known.answered_by.as_deref().unwrap_or("nobody");
    format!("{} at {mac}, answered by {by}", known.address)
}

fn rules(expect: &Expect, facts: &Facts<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    if !expect.rules.is_empty() {
        let fired: Vec<&str> = facts
            .events
            .iter()
            .map(|event| event.rule.as_str())
            .collect();
        checks.push(Check {
            what: format!("rule {} fires", expect.rules.join(" or ")),
            met: expect.rules.iter().any(|rule| fired.contains(rule)),
            found: if fired.is_empty() {
                "no event".into()
            } else {
                fired.join(" ")
            },
        });
    }
    if let Some(most) = expect.takeovers {
        let took = |event: &&Event| event.changes_role() && event.to == "taking";
        let count = facts.events.iter().filter(took).count();
        checks.push(Check {
            what: format!("the reserve moves {most} times at most"),
            met: count <= most,
            found: count.to_string(),
        });
    }
    checks
}

#[cfg(test)]
mod tests;
