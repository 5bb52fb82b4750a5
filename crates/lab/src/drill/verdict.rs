//! What came of a drill, and whether that is what must follow. Pure.

use serde::Serialize;

use super::{Active, Expect, Service};
use crate::{
    analysis::Report, cluster::Event, history, observer::AddressEvent, plan::ServerId,
    server::FaultTimes,
};

/// A shorter outage proves nothing: a virtual CPU can be taken away for as long, from the
/// service, from the client or from the kernel between them. The measured numbers stand in the
/// table all the same, beside the stalls that the lab saw itself.
const STALL_MAX_MS: f64 = 250.0;

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
    /// When the virtual IPs came to servers and left them.
    pub addresses: Vec<AddressEvent>,
    /// The rule that made the first change of role, or the first rule at all.
    pub rule: Option<String>,
    /// Everything the servers recorded meanwhile.
    pub events: Vec<Event>,
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

/// Compares what was expected with what happened. Pure.
pub(super) fn checks(
    expect: &Expect,
    before: Option<ServerId>,
    after: Option<ServerId>,
    clients: &Report,
    files: Option<&FilesReport>,
    events: &[Event],
    name: &dyn Fn(Option<ServerId>) -> Option<String>,
) -> Vec<Check> {
    let shown = |server| name(server).unwrap_or_else(|| "nobody".into());
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
    let mut checks = vec![Check {
        what,
        met,
        found: format!("active: {}", shown(after)),
    }];
    checks.push(Check {
        what: "no two servers answer for one address".into(),
        met: clients.dual_active_ms == 0.0,
        found: format!("{:.1} ms", clients.dual_active_ms),
    });
    let lost = format!(
        "{} requests lost on every address, longest {:.1} ms",
        clients.lost_on_all, clients.longest_outage_ms
    );
    let served = clients
        .served_by
        .iter()
        .all(|server| server.is_some() && *server == after);
    checks.push(match expect.service {
        Service::Uninterrupted => Check {
            what: format!(
                "the clients are served all the time (stalls below {STALL_MAX_MS} ms aside)"
            ),
            met: clients.longest_outage_ms < STALL_MAX_MS,
            found: lost,
        },
        Service::Resumes => Check {
            what: "the active server serves every address".into(),
            met: served,
            found: lost,
        },
        Service::Stops => {
            let silent = clients.silent_at_end_ms > 0.0;
            Check {
                what: "the service stops".into(),
                met: silent,
                found: lost,
            }
        }
    });
    if let Some(files) = files {
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
    if !expect.rules.is_empty() {
        let fired: Vec<&str> = events.iter().map(|event| event.rule.as_str()).collect();
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
    checks
}

#[cfg(test)]
mod tests;
