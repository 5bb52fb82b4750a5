//! Outcomes as text: the table at the end of the demo, and statistics over repeated drills.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    drill::{Service, verdict::Outcome},
    drills,
};

/// Statistics of a series, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// How many.
    pub runs: usize,
    /// Smallest.
    pub min: f64,
    /// Middle one (the lower of two).
    pub median: f64,
    /// 99th percentile, nearest rank.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// The spread of `values`; `None` when there are none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let rank = |percent: usize| {
            values
                .get((values.len() * percent).div_ceil(100).max(1) - 1)
                .copied()
        };
        Some(Self {
            runs: values.len(),
            min: rank(0)?,
            median: rank(50)?,
            p99: rank(99)?,
            max: rank(100)?,
        })
    }
}

/// What the clients saw, in words.
#[must_use]
pub fn what_clients_saw(outcome: &Outcome) -> String {
    let clients = &outcome.clients;
    let drill = drills::find(outcome.name);
    let service = drill.as_ref().map(|drill| drill.expect.service);
    let lost = clients.lost_on_all;
    let planned = drill.is_some_and(|drill| drill.is_planned());
    if let (Some(handover), true) = (clients.handover_ms, planned) {
        return format!("handover {handover:.1} ms, {lost} lost");
    }
    if let (Some(gap), Some(all)) = (clients.gap_ms, clients.gap_all_ms) {
        return format!("gap {gap:.1} ms ({all:.1} on all), {lost} lost");
    }
    if clients.silent_at_end_ms > 0.0 || service == Some(Service::Stops) {
        return format!(
            "no service for {:.0} ms, {lost} lost",
            clients.silent_at_end_ms
        );
    }
    let worst = clients
        .vips
        .iter()
        .map(|vip| vip.longest_outage_ms)
        .fold(0.0, f64::max);
    match (lost, worst) {
        (0, 0.0) => "nothing".into(),
        (0, worst) => format!("served all the time, one address silent {worst:.0} ms"),
        (lost, _) => format!("{lost} lost, longest {:.1} ms", clients.longest_outage_ms),
    }
}

/// The table of a series of drills, ending with a line of totals.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let head = [
        "drill",
        "what the clients saw",
        "dual-active",
        "files",
        "stall",
        "rule",
        "verdict",
    ]
    .map(str::to_owned);
    let mut rows = vec![head];
    for outcome in outcomes {
        let dual = outcome.clients.dual_active_ms;
        let stall = outcome.clients.stall_max_ms;
        rows.push([
            outcome.what.to_owned(),
            what_clients_saw(outcome),
            format!("{dual:.1} ms"),
            files(outcome),
            format!("{stall:.1} ms"),
            outcome.rule.clone().unwrap_or_else(|| "-".into()),
            if outcome.passed { "passed" } else { "FAILED" }.to_owned(),
        ]);
    }
    aligned(&rows) + &totals(outcomes)
}

/// The service's files on the active server, in a few words.
fn files(outcome: &Outcome) -> String {
    let Some(files) = &outcome.files else {
        return "-".into();
    };
    let state = if files.on_active.is_whole() {
        "whole"
    } else {
        "TORN"
    };
    match files.not_copied {
        None | Some(0) => state.into(),
        Some(count) => format!("{state}, last {count} not copied"),
    }
}

/// How many passed, and for those that did not, why.
#[must_use]
pub fn totals(outcomes: &[Outcome]) -> String {
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.passed).collect();
    let passed = outcomes.len() - failed.len();
    let mut text = format!(
        "{} {}, {passed} passed, {} failed\n",
        outcomes.len(),
        if outcomes.len() == 1 {
            "drill"
        } else {
            "drills"
        },
        failed.len()
    );
    for outcome in failed {
        for check in outcome.checks.iter().filter(|check| !check.met) {
            text.push_str(&format!(
                "  {}: expected that {}; found: {}\n",
                outcome.name, check.what, check.found
            ));
        }
    }
    text
}

/// Gap statistics per drill, for drills that were repeated.
#[must_use]
pub fn spreads(outcomes: &[Outcome]) -> BTreeMap<&'static str, BTreeMap<&'static str, Spread>> {
    let mut all: BTreeMap<&'static str, BTreeMap<&'static str, Vec<f64>>> = BTreeMap::new();
    for outcome in outcomes {
        let clients = &outcome.clients;
        let series = all.entry(outcome.name).or_default();
        let mut add = |name, value: Option<f64>| series.entry(name).or_default().extend(value);
        add("gap_ms", clients.gap_ms);
        add("gap_all_ms", clients.gap_all_ms);
        add("handover_ms", clients.handover_ms);
        add("dual_active_ms", Some(clients.dual_active_ms));
        add("held_by_both_ms", Some(outcome.held_by_both_ms));
        let files = outcome.files.as_ref();
        add(
            "versions_not_copied",
            files
                .and_then(|files| files.not_copied)
                .map(|count| count as f64),
        );
        add("stall_max_ms", Some(clients.stall_max_ms));
    }
    let spread = |(name, values)| Spread::of(values).map(|spread| (name, spread));
    all.into_iter()
        .map(|(drill, series)| (drill, series.into_iter().filter_map(spread).collect()))
        .collect()
}

/// The statistics as a table.
#[must_use]
pub fn spread_table(outcomes: &[Outcome]) -> String {
    let mut rows =
        vec![["drill", "measure", "runs", "min", "median", "p99", "max"].map(str::to_owned)];
    for (drill, series) in spreads(outcomes) {
        for (measure, spread) in series {
            let ms = |value: f64| format!("{value:.1}");
            rows.push([
                drill.to_owned(),
                measure.to_owned(),
                spread.runs.to_string(),
                ms(spread.min),
                ms(spread.median),
                ms(spread.p99),
                ms(spread.max),
            ]);
        }
    }
    aligned(&rows)
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}", width = *width))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
        if number == 0 {
            text.push_str(&"-".repeat(widths.iter().sum::<usize>() + 2 * (N - 1)));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_uses_nearest_ranks() {
        assert_eq!(Spread::of(Vec::new()), None);
        let one = Spread::of(vec![7.0]).expect("one value");
        assert_eq!(
            (one.min, one.median, one.p99, one.max),
            (7.0, 7.0, 7.0, 7.0)
        );
        let many = Spread::of((1..=100).rev().map(f64::from).collect()).expect("values");
        assert_eq!(
            (many.runs, many.min, many.median, many.p99, many.max),
            (100, 1.0, 50.0, 99.0, 100.0)
        );
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "bb"], ["ccc", "d"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), "a    bb\n-------\nccc  d\n");
    }
}
