//! The results as text: the same tables for the terminal and for the documentation.

use std::fmt::Write as _;

use super::{
    case::{self, Case, bytes},
    result::{Cell, Results, Run, short},
};
use crate::{failover::in_words, page};

/// Begins the part of the page that is written anew.
pub const BEGIN: &str = "<!-- measured: sync -->";

/// The whole report in Markdown.
#[must_use]
pub fn report(results: &Results) -> String {
    let mut text = conditions(results);
    // Writing into a string cannot fail, here and below.
    let _ = write!(text, "\n### Targets\n\n{}", targets(results));
    for case in &case::ALL {
        let cells: Vec<&Cell> = (results.cells.iter())
            .filter(|cell| cell.case == case.name)
            .collect();
        if !cells.is_empty() {
            let _ = write!(
                text,
                "\n### {}: {}\n\n{}",
                case.name,
                case.title,
                table(case, &cells)
            );
        }
    }
    text
}

fn conditions(results: &Results) -> String {
    let c = &results.conditions;
    let versions: Vec<&str> = (c.versions.iter())
        .map(|(_, version)| version.as_str())
        .collect();
    let scale = if (results.scale - 1.0).abs() < 1e-9 {
        "Full sizes.".to_owned()
    } else {
        format!("**Sizes and counts multiplied by {}.**", results.scale)
    };
    format!(
        "Measured {} on {}, {}, {}; load before: {}, after: {}.\nVersions: {}{}.\n\
         {} runs of each system in each case, in turn; {:.0} s in all. The host took {:.1} % of the CPU time away. {scale}\n",
        c.when,
        c.cpu,
        c.kernel,
        results.file_system,
        c.load_before,
        c.load_after,
        versions.join("; "),
        c.revision
            .as_ref()
            .map_or_else(String::new, |revision| format!(" (revision {revision})")),
        c.runs.0,
        c.took_s,
        c.steal_percent,
    )
}

fn targets(results: &Results) -> String {
    let mut rows = vec![
        ["case", "target", "found", "met"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for verdict in &results.verdicts {
        rows.push(vec![
            verdict.case.to_owned(),
            verdict.target.clone(),
            verdict.found.clone(),
            match verdict.met {
                Some(true) => "yes",
                Some(false) => "**NO**",
                None => "-",
            }
            .to_owned(),
        ]);
    }
    page::table(&rows)
}

fn table(case: &Case, cells: &[&Cell]) -> String {
    let mut rows = vec![vec![
        "system".to_owned(),
        "runs".into(),
        format!("{}: min / median / p99 / max", case.unit),
        "÷ best peer".into(),
        "sent, median".into(),
        "CPU, s".into(),
        "memory, MiB".into(),
        "torn".into(),
        "note".into(),
    ]];
    let columns = rows[0].len();
    for cell in cells {
        rows.push(row(case, cell, cells, columns));
    }
    page::table(&rows)
}

fn row(case: &Case, cell: &Cell, cells: &[&Cell], columns: usize) -> Vec<String> {
    let mut row = vec![cell.title.to_owned()];
    let Some(spread) = cell.spread() else {
        let why = cell.absent.as_ref().map(in_words);
        let failed = || {
            let first = cell.failed.first().map_or("no run", String::as_str);
            format!("FAILED: {first}")
        };
        row.extend(["0".to_owned(), why.unwrap_or_else(failed)]);
        row.resize(columns, "-".to_owned());
        return row;
    };
    row.push(match cell.failed.len() {
        0 => cell.runs.len().to_string(),
        failed => format!("{} ({failed} FAILED)", cell.runs.len()),
    });
    row.push(
        [spread.min, spread.median, spread.p99, spread.max]
            .map(short)
            .join(" / "),
    );
    let best = best_peer(case, cell, cells);
    row.push(match best.filter(|best| *best > 0.0) {
        Some(best) => format!("{:.2}", spread.median / best),
        None => "-".into(),
    });
    let median = |of: &dyn Fn(&Run) -> f64| cell.of_runs(of).map_or(0.0, |all| all.median);
    row.push(bytes(median(&|run| run.sent as f64)));
    row.push(format!("{:.2}", median(&|run| run.cpu_s)));
    row.push(format!(
        "{:.1}",
        median(&|run| run.memory_kib as f64 / 1024.0)
    ));
    row.push(
        cell.runs
            .iter()
            .map(|run| run.torn)
            .sum::<usize>()
            .to_string(),
    );
    let note = cell
        .failed
        .first()
        .or_else(|| cell.runs.last().map(|run| &run.note));
    row.push(note.cloned().unwrap_or_default().replace('|', "/"));
    row
}

/// The best median of the others that are no haarb.
fn best_peer(case: &Case, cell: &Cell, cells: &[&Cell]) -> Option<f64> {
    cells
        .iter()
        .filter(|other| other.system != cell.system && other.system != "haarb")
        .filter_map(|other| Some(other.spread()?.median))
        .reduce(if case.more_is_better {
            f64::max
        } else {
            f64::min
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conditions::Conditions,
        result::Absent,
        sync::result::{judge, tests::cell},
    };

    #[test]
    fn verdicts_ratios_failures_and_what_is_missing_are_shown() {
        let mut absent = cell("C1", "lsyncd", &[]);
        absent.absent = Some(Absent::NotInstalled);
        let mut failed = cell("C1", "rsync-ssh", &[]);
        failed.failed.push("the replica differs: content: 1".into());
        let cells = vec![
            cell("C1", "haarb", &[2.0, 4.0, 30.0]),
            cell("C1", "rsync-daemon", &[400.0]),
            failed,
            absent,
        ];
        let text = report(&Results {
            conditions: Conditions::default(),
            file_system: "ext4".into(),
            scale: 0.5,
            verdicts: judge(&cells, 0.5),
            cells,
        });
        let line = |beginning: &str| {
            let found = text.lines().find(|line| line.starts_with(beginning));
            found
                .unwrap_or_else(|| panic!("no {beginning} in\n{text}"))
                .to_owned()
        };
        assert!(text.contains("multiplied by 0.5") && text.contains("ext4"));
        assert!(line("| haarb ").contains("2.00 / 4.00 / 30.0 / 30.0"));
        assert!(line("| haarb ").contains("| 0.01 "));
        assert!(line("| lsyncd ").contains("not installed"));
        assert!(line("| rsync-ssh ").contains("FAILED: the replica differs"));
        assert!(line("| C1   | median at most 5 ms ").contains("yes"));
        assert!(line("| C1   | p99 at most 15 ms ").contains("**NO**"));
    }
}
