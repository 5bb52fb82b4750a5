//! The results as text: the same tables for the terminal and for the documentation.
//!
//! In the documentation they stand between two marks; the prose around them is written by hand.

use std::{fmt::Write as _, fs, io, path::Path};

use haarb_lab::table::Spread;

use crate::{
    cost::ServerCost,
    failover::in_words,
    fault,
    result::{Cell, Results, Sample},
    system::{self, REFERENCES},
};

/// Begins the part of the page that is written anew.
pub const BEGIN: &str = "<!-- measured: failover -->";
/// Ends it.
pub const END: &str = "<!-- end -->";

/// The whole report in Markdown, which is made to be read as it is.
#[must_use]
pub fn report(results: &Results) -> String {
    let mut text = conditions(results);
    for fault in fault::ALL {
        let cells: Vec<&Cell> = (results.cells.iter())
            .filter(|cell| cell.fault == fault.name())
            .collect();
        if !cells.is_empty() {
            // Writing into a string cannot fail, here and below.
            let _ = write!(
                text,
                "\n### {}\n\n{}",
                capitalised(fault.title()),
                fault_table(results, &cells)
            );
        }
    }
    if !results.costs.is_empty() {
        let _ = write!(
            text,
            "\n### CPU time and memory of one server's daemons\n\n{}",
            cost_table(results)
        );
    }
    text
}

fn conditions(results: &Results) -> String {
    let c = &results.conditions;
    let mut text = format!(
        "Measured {} on {}, {}; load before: {}.\n",
        c.when, c.cpu, c.kernel, c.load_before
    );
    let versions: Vec<&str> = c
        .versions
        .iter()
        .map(|(_, version)| version.as_str())
        .collect();
    let _ = writeln!(
        text,
        "Versions: {}{}.",
        versions.join("; "),
        match &c.revision {
            Some(revision) => format!(" (revision {revision})"),
            None => String::new(),
        }
    );
    let _ = write!(
        text,
        "{} rounds, {} of them with the slow ones; {:.0} s in all. The host took {:.1} % of the CPU time away.",
        c.runs.0, c.runs.1, c.took_s, c.steal_percent
    );
    if let Some(stalls) = &c.stalls {
        let _ = write!(
            text,
            " The client's own timer{} was late at worst by {} ms per run (median / p99 / max of {} runs).",
            if c.client_realtime {
                ", at real-time priority,"
            } else {
                ""
            },
            numbers(&[stalls.median, stalls.p99, stalls.max]),
            stalls.runs
        );
    }
    text.push('\n');
    text
}

fn fault_table(results: &Results, cells: &[&Cell]) -> String {
    let mut head = vec![
        "system".to_owned(),
        "n".into(),
        "gap, ms: min / median / p99 / max".into(),
    ];
    head.extend(REFERENCES.iter().map(|name| format!("÷ {name}")));
    head.extend(
        ["dual-active, ms", "requests lost", "stall, ms"]
            .map(|name| format!("{name}: median / max")),
    );
    let mut rows = vec![head];
    for cell in cells {
        rows.push(fault_row(results, cell));
    }
    table(&rows)
}

fn fault_row(results: &Results, cell: &Cell) -> Vec<String> {
    let mut row = vec![cell.title.to_owned()];
    let Some(stalls) = cell.spread(|sample| sample.stall_ms) else {
        let why = cell.absent.as_ref().map(in_words);
        let failed = || {
            format!(
                "failed: {}",
                cell.failed.first().map_or("no run", String::as_str)
            )
        };
        row.extend(["0".to_owned(), why.unwrap_or_else(failed)]);
        row.extend(std::iter::repeat_n("-".to_owned(), REFERENCES.len() + 3));
        return row;
    };
    row.push(match cell.failed.len() {
        0 => stalls.runs.to_string(),
        failed => format!("{} ({failed} failed)", stalls.runs),
    });
    let gap = cell.gap().map_or_else(
        || "never".into(),
        |gap| numbers(&[gap.min, gap.median, gap.p99, gap.max]),
    );
    row.push(match cell.without_takeover() {
        0 => gap,
        never if never == cell.samples.len() => "no takeover".into(),
        never => format!("{gap}; no takeover in {never}"),
    });
    for reference in REFERENCES {
        row.push(match results.ratio(cell, reference) {
            Some(ratio) if cell.system != reference => format!("{ratio:.2}"),
            _ => "-".into(),
        });
    }
    let two = |of: &dyn Fn(&Sample) -> f64| {
        cell.spread(of).map_or_else(String::new, |spread: Spread| {
            numbers(&[spread.median, spread.max])
        })
    };
    row.push(two(&|sample| sample.dual_active_ms));
    row.push(two(&|sample| sample.lost as f64));
    row.push(two(&|sample| sample.stall_ms));
    row
}

fn cost_table(results: &Results) -> String {
    let head = [
        "system",
        "processes",
        "memory, MiB",
        "CPU idle: active / standby",
        "CPU of the active, all cores busy",
        "switched over meanwhile",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let percent = |cost: &ServerCost| format!("{:.2} %", cost.cpu_percent);
    for cost in &results.costs {
        rows.push(vec![
            cost.title.to_owned(),
            cost.idle_active.processes.to_string(),
            format!("{:.1}", cost.idle_active.memory_mib),
            format!(
                "{} / {}",
                percent(&cost.idle_active),
                percent(&cost.idle_standby)
            ),
            percent(&cost.busy_active),
            if cost.moves_when_busy > 0 {
                "YES"
            } else {
                "no"
            }
            .to_owned(),
        ]);
    }
    table(&rows)
}

/// One decimal below a hundred, none above: more would pretend a precision that is not there.
fn numbers(values: &[f64]) -> String {
    let one = |value: &f64| {
        if *value == 0.0 || *value >= 99.95 {
            format!("{value:.0}")
        } else if *value < 0.05 {
            "<0.1".into()
        } else {
            format!("{value:.1}")
        }
    };
    values.iter().map(one).collect::<Vec<_>>().join(" / ")
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// A Markdown table with aligned columns.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        (rows.iter())
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// Writes the part of a page between `begin` and [`END`] anew.
///
/// # Errors
/// The page cannot be read or written, or has no marks.
pub fn write(path: &Path, begin: &str, part: &str) -> io::Result<()> {
    let page = fs::read_to_string(path)?;
    let page = replaced(&page, begin, part).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it has no {begin} ... {END}: nothing was written"),
        )
    })?;
    fs::write(path, page)
}

fn replaced(page: &str, begin: &str, part: &str) -> Option<String> {
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n\n{part}\n{END}{after}"))
}

/// Names of all systems, for messages.
#[must_use]
pub fn system_names() -> String {
    let names: Vec<&str> = system::ALL.iter().map(|system| system.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conditions::Conditions,
        result::{Absent, tests::cell},
    };

    #[test]
    fn a_table_names_medians_ratios_and_what_is_missing() {
        let mut absent = cell("ucarp", &[]);
        absent.absent = Some(Absent::NotInstalled);
        let results = Results {
            conditions: Conditions::default(),
            cells: vec![
                cell("haarb", &[Some(30.0), Some(20.0), None]),
                cell("keepalived-10ms", &[Some(40.0)]),
                absent,
            ],
            costs: Vec::new(),
        };
        let text = report(&results);
        let line = |name: &str| {
            let found = text
                .lines()
                .find(|line| line.starts_with(&format!("| {name} ")));
            found
                .unwrap_or_else(|| panic!("no line for {name} in\n{text}"))
                .to_owned()
        };
        assert!(line("haarb").contains("20.0 / 20.0 / 30.0 / 30.0; no takeover in 1"));
        assert!(line("haarb").contains("| 0.50 "));
        assert!(line("keepalived-10ms").contains("40.0 / 40.0 / 40.0 / 40.0"));
        assert!(line("ucarp").contains("not installed"));
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter {END}\n");
        let expected = format!("before\n{BEGIN}\n\nnew\n{END}\nafter {END}\n");
        assert_eq!(replaced(&page, BEGIN, "new"), Some(expected));
        assert_eq!(replaced("no marks", BEGIN, "new"), None);
    }

    #[test]
    fn numbers_show_no_precision_that_is_not_there() {
        assert_eq!(
            numbers(&[0.0, 0.001, 12.34, 1234.5]),
            "0 / <0.1 / 12.3 / 1234"
        );
    }
}
