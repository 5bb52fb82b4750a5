//! The report of a search, for people and as JSON.

use std::fmt::Write as _;

use haarb_sim::options::Options;
use serde_json::{Value, json};

use crate::found::{Finding, Found, Seen};
use crate::residual::Case;
use crate::walk::Plan;

/// For people.
#[must_use]
pub fn text(plan: &Plan, found: &Found, took: std::time::Duration) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}\n{} events, waits: none, {}until settled; from: {}",
        plan.options,
        found.events,
        plan.waits
            .iter()
            .fold(String::new(), |t, w| t + &w.to_string() + ", "),
        plan.starts
            .iter()
            .map(|s| s.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    );
    let _ = writeln!(text, "events  sequences  new states  mended from  time");
    for (depth, level) in found.levels.iter().enumerate() {
        let _ = writeln!(
            text,
            "{depth:>6}  {:>9}  {:>10}  {:>11}  {:.1} s",
            level.tried,
            level.states,
            level.mended,
            level.took.as_secs_f64()
        );
    }
    let _ = writeln!(
        text,
        "{} states, {} sequences, depth {}{}, {:.0} s",
        found.states(),
        found.sequences(),
        found.depth,
        if found.depth < plan.depth {
            " (out of time)"
        } else {
            ""
        },
        took.as_secs_f64()
    );
    if found.cases.is_empty() {
        text.push_str("never two servers that offer the VIP\n");
    } else {
        text.push_str("two servers offered the VIP only in these cases:\n");
    }
    for case in Case::ALL {
        let Some(seen) = found.cases.get(&case) else {
            continue;
        };
        let _ = writeln!(text, "  {:<3}  {}", case.id(), case.what());
        let _ = writeln!(text, "       shortest: {}", shortest(seen));
        let _ = writeln!(
            text,
            "       {} times; after contact ({} times) both offered for at most {}",
            seen.count, seen.met, seen.after_contact
        );
    }
    for finding in found.findings.values() {
        let _ = writeln!(
            text,
            "WRONG: {} ({} times); the shortest way, as a scenario:\n\n{}",
            finding.what,
            finding.count,
            scenario(&plan.options, finding)
        );
    }
    if found.findings.is_empty() {
        text.push_str("nothing else: no defect\n");
    }
    text
}

/// The events of a case's shortest way, without the beginning that all have.
fn shortest(seen: &Seen) -> String {
    let Some((events, lines)) = &seen.shortest else {
        return String::new();
    };
    format!("{} ({events} events)", lines.join(", "))
}

/// As JSON.
#[must_use]
pub fn json(plan: &Plan, found: &Found, took: std::time::Duration) -> Value {
    let levels: Vec<Value> = found
        .levels
        .iter()
        .map(|level| {
            json!({
                "sequences": level.tried,
                "states": level.states,
                "mended": level.mended,
                "seconds": level.took.as_secs_f64(),
            })
        })
        .collect();
    let cases: Vec<Value> = found
        .cases
        .iter()
        .map(|(case, seen)| {
            let (events, lines) = seen.shortest.clone().unwrap_or_default();
            json!({
                "case": case.id(),
                "what": case.what(),
                "times": seen.count,
                "met": seen.met,
                "after_contact_us": seen.after_contact.as_micros(),
                "shortest_events": events,
                "shortest": lines,
            })
        })
        .collect();
    let findings: Vec<Value> = found
        .findings
        .values()
        .map(|finding| {
            json!({
                "what": finding.what,
                "times": finding.count,
                "events": finding.events,
                "scenario": scenario(&plan.options, finding),
            })
        })
        .collect();
    json!({
        "options": plan.options.to_string(),
        "events": found.events,
        "depth": found.depth,
        "whole": found.depth == plan.depth,
        "states": found.states(),
        "sequences": found.sequences(),
        "seconds": took.as_secs_f64(),
        "levels": levels,
        "residual_cases": cases,
        "findings": findings,
        "rules": found.fired,
    })
}

/// A finding as a file that `haarb-sim --scenario` runs.
#[must_use]
pub fn scenario(options: &Options, finding: &Finding) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut text = format!("# Found by the search: {}.\n\n", finding.what);
    let _ = write!(
        text,
        "cluster nodes={} profile={} steady=yes cold-start={} rearm-alone={}",
        options.nodes.join(","),
        options.profile,
        crate::events::time(options.timing.cold_start),
        crate::events::time(options.timing.rearm_alone),
    );
    if !options.services {
        text.push_str(" services=no");
    }
    if !options.directories {
        text.push_str(" directories=no");
    }
    if !options.switch_answers {
        let _ = write!(text, " switch-addresses={}", yes(options.switch_answers));
    }
    if options.prefer == haarb_model::Prefer::Consistency {
        text.push_str(" prefer=consistency");
    }
    text.push('\n');
    for line in &finding.lines {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str("run 100ms\nstatus\ncheck\n----\n");
    text
}
