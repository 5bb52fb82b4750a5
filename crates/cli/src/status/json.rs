//! The status as JSON. The keys are a promise to scripts: more may come, none may go. A text
//! that is not there is empty; a number or moment that is not there is `null`.

use haarb_api::v1;
use haarb_model::{DirectoryState, ServiceState};
use serde_json::{Map, Value, json};

use super::text::{directory_state, role, service_state, switch_answers};
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
        "agents": s.agents.iter().map(|a| json!({
            "name": a.name,
            "attached": a.attached,
            "pid": a.pid,
            "version": a.version,
        })).collect::<Vec<_>>(),
        "dropped_datagrams": s.dropped_datagrams.iter().collect::<std::collections::BTreeMap<_, _>>(),
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
                "loss": (f64::from(p.loss) * 1e4).round() / 1e4,
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

/// Milliseconds with three decimals.
fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}
