//! The status as JSON. The keys are a promise to scripts: more may come, none may go. A text
//! that is not there is empty; a number or moment that is not there is `null`.

use haarb_api::v1;
use haarb_model::{DirectoryState, ServiceState};
use serde_json::{Map, Value, json};

use super::text::{directory_state, kernel_lines, role, service_state, switch_answers};
use crate::when::rfc3339;

/// The whole status as one object.
pub(super) fn value(s: &v1::Status) -> Value {
    let automatic = s.mode() == v1::Mode::Automatic;
    json!({
        "cluster": s.cluster,
        "node": s.node,
        "mode": if automatic { "automatic" } else { "manual" },
        "mode_reason": s.mode_reason,
        "mode_ends": s.mode_ends,
        "mode_since": moment(s.mode_since_unix_ms),
        "profile": s.profile,
        "version": s.version,
        "links": s.links.iter().map(link).collect::<Vec<_>>(),
        "peers": s.neighbours.iter().map(peer).collect::<Vec<_>>(),
        "reserves": s.reserves.iter().map(reserve).collect::<Vec<_>>(),
        "alarms": s.alarms.iter().map(alarm).collect::<Vec<_>>(),
        "agents": s.agents.iter().map(agent).collect::<Vec<_>>(),
        "arbiter": s.arbiter.as_ref().map(agent),
        "watchdog": Some(&s.watchdog).filter(|text| !text.is_empty()),
        "dropped_datagrams": s.dropped_datagrams.iter().collect::<std::collections::BTreeMap<_, _>>(),
    })
}

/// `real_time`, `memory_locked` and their problem are `null` where a daemon does not say: it is
/// not attached, or is not on the path of a failover.
fn agent(a: &v1::AgentStatus) -> Value {
    let scheduling = a.scheduling.as_ref();
    json!({
        "name": a.name,
        "attached": a.attached,
        "pid": a.pid,
        "version": a.version,
        "real_time": scheduling.map(|s| s.real_time),
        "memory_locked": scheduling.map(|s| s.locked),
        "scheduling_problem": scheduling.map(|s| &s.problem),
    })
}

/// RFC 3339 in UTC; `null` where it never was.
fn moment(unix_ms: u64) -> Value {
    match unix_ms {
        0 => Value::Null,
        ms => rfc3339(ms).into(),
    }
}

fn link(l: &v1::LinkStatus) -> Value {
    json!({
        "network": l.network,
        "interface": l.interface,
        "up": l.up,
        "usable": l.usable,
        "switch_answers": switch_answers(l.switch_answer()),
        "switch_age_ms": l.switch_age_us.map(ms),
        "reason": l.reason,
    })
}

fn peer(n: &v1::NodeStatus) -> Value {
    let hears: Map<String, Value> = n
        .paths
        .iter()
        .map(|p| {
            let path = json!({
                "echo_age_ms": p.echo_age_us.map(ms),
                "datagram_age_ms": p.datagram_age_us.map(ms),
                "rtt_us": p.rtt_us,
                "loss": share(p.loss),
                "loss_in": p.loss_in.map(share),
                "loss_out": p.loss_out.map(share),
                "heard": p.heard,
                "hears_me": p.hears_me,
            });
            (p.network.clone(), path)
        })
        .collect();
    json!({
        "name": n.name,
        "hears": hears,
        "software_alive": n.software_alive,
        "kernel_alive": n.kernel_alive,
        "hears_me": n.hears_me,
        "silent": n.silent,
        "dead_after_ms": ms(n.dead_after_us),
    })
}

fn reserve(r: &v1::ReserveStatus) -> Value {
    json!({
        "name": r.name,
        "role": role(r.role()).to_string(),
        "epoch": r.epoch,
        "active_on": r.active_on,
        "since": moment(r.since_unix_ms),
        "vips": r.vips.iter().map(|v| json!({
            "address": v.address,
            "interface": v.interface,
            "held": v.held,
            "kernel_lines": kernel_lines(v.line()),
            "kernel_line_reason": v.line_reason,
        })).collect::<Vec<_>>(),
        "services": r.services.iter().map(|s| json!({
            "name": s.name,
            "state": service_state(s.state()).map_or("unknown", ServiceState::as_str),
        })).collect::<Vec<_>>(),
        "directories": r.directories.iter().map(|d| json!({
            "path": d.path,
            "state": directory_state(d.state()).map_or("unknown", DirectoryState::as_str),
            "lag_ms": d.lag_ms,
            "pending_files": d.pending_files,
            "held_deletions": d.held_deletions,
            "failing": d.failing,
            "error": d.error,
        })).collect::<Vec<_>>(),
        "data": super::text::data(r.data()),
        "conflicts": r.conflicts,
        "eligible": r.eligible,
        "not_eligible": r.not_eligible,
    })
}

pub(crate) fn alarm(a: &v1::Alarm) -> Value {
    json!({
        "severity": a.severity,
        "rule": a.rule,
        "reserve": a.reserve,
        "text": a.text,
        "since": moment(a.since_unix_ms),
    })
}

/// A share with four decimals.
fn share(share: f32) -> f64 {
    (f64::from(share) * 1e4).round() / 1e4
}

/// Milliseconds with three decimals.
fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}
