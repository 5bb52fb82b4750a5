//! `docs/drills.md`: what the drills gave, for operators. Made from outcomes, never by hand. Pure but for
//! [`Conditions::here`].

use std::{fmt::Write as _, fs, time::Duration};

use crate::{
    drill::{Drill, Dual, Service, verdict::Outcome},
    drills,
    table::Spread,
};

/// Under which conditions the numbers were taken.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Processors and memory of the machine.
    pub machine: String,
    /// Its kernel.
    pub kernel: String,
    /// `timing.profile`.
    pub profile: String,
    /// Runs of each drill.
    pub repeat: u32,
    /// Duration of the long ones.
    pub long: Duration,
    /// Whether the lab's client ran at real-time priority.
    pub realtime: bool,
}

impl Conditions {
    /// Those of this machine and this run.
    #[must_use]
    pub fn here(profile: &str, repeat: u32, long: Duration, realtime: bool) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let model = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or_else(|| "unknown processor".into(), |(_, name)| name.to_owned());
        let memory_kib: u64 = read("/proc/meminfo")
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next())
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        Self {
            machine: format!("{cpus} x {model}, {} GiB", memory_kib >> 20),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            profile: profile.into(),
            repeat,
            long,
            realtime,
        }
    }
}

/// The table that a metrocluster would show: the question, and the drills that answer it.
const METRO: [(&str, &[&str], &str); 7] = [
    (
        "Planned migration",
        &["switchover"],
        "Services stop, the rest of the data is sent, the addresses move; nothing is lost.",
    ),
    (
        "Hard power-off of the active server",
        &["power-off-active"],
        "The other server takes over by itself. What was written last and not yet sent stays on the dead server's disk and is kept aside when it returns.",
    ),
    (
        "Storage of a site fails for writing (here: it is full)",
        &["disk-full-active", "disk-full-standby"],
        "Every server has its own copy of the directories; there is no shared storage whose loss would stop both. haarb itself needs no disk to act.",
    ),
    (
        "A site is lost, both switches still known at the other one",
        &["power-off-active"],
        "As a power-off.",
    ),
    (
        "A site is lost, and with it one of the two switch addresses",
        &["site-lost"],
        "From the other site this looks as a cut cable does, so it waits; an operator who knows that the site is dead promotes the other one.",
    ),
    (
        "The cable between the sites is cut, one switch address at each site",
        &["cut-between-sites", "cut-between-sites-mended"],
        "The active server stays, the other one waits; nothing is served twice.",
    ),
    (
        "The cable between the sites is cut, both switch addresses known at both sites",
        &["hole-on-both-networks", "hole-mended"],
        "Residual case R1: both sites serve until they hear each other again; then one lets go at once, and what it wrote is kept aside. A witness or `strict` closes it.",
    ),
];

const INTRO: &str = "\
# Drills

What happens when something fails, tried with real daemons on a real kernel. Written by
`cargo xtask drill --all --repeat N --write-docs`; do not edit by hand. Every drill is also a test
(`cargo xtask test`).
";

const HOW: &str = "\
## How it is measured

A client asks every virtual IP once per millisecond, and every server directly once per
millisecond; the kernel stamps the answers. *Gap*: from the fault until the new server has
answered on every virtual IP. *Handover*: from the last answer of the old server to the first of
the new one, on the slowest virtual IP. *Without service*: the longest time in which no virtual IP
answered; a request counts as lost after 200 ms. *Dual-active*: how long two servers would have
answered for the same virtual IP, summed over the virtual IPs. *Stall*: the latest wake-up of the
client's own timer. The machine took that much time away from the client, and it takes as much from
the servers: numbers below it say nothing about haarb.

After every drill a host that is neither server nor client, which asked once before the drill and
kept silent since, must have the active server's MAC address in its neighbour table, and its
packets must arrive there.
";

const ABSENT: &str = "\
## What is not here

*Jumps of the wall clock.* `CLOCK_REALTIME` belongs to the whole machine: time namespaces cover
only the monotonic and boot clocks, and to set the clock of the machine that carries the lab would
disturb everything else on it. Instead a test looks at every timer that the kernel keeps for every
daemon (`/proc/<pid>/fdinfo`, `/proc/<pid>/timers`): none may run on the wall clock.

*Paused virtual machines* are imitated: user space stands still and nothing passes the cables, but
the kernel's own timers run on, which those of a paused machine would not.
";

/// The page.
#[must_use]
pub fn page(outcomes: &[Outcome], conditions: &Conditions) -> String {
    let mut out = String::from(INTRO);
    // Writing into a string cannot fail.
    let _ = write_page(&mut out, outcomes, conditions);
    out
}

fn write_page(out: &mut String, outcomes: &[Outcome], conditions: &Conditions) -> std::fmt::Result {
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    let stalls = Spread::of(
        outcomes
            .iter()
            .map(|outcome| outcome.clients.stall_max_ms)
            .collect(),
    );
    writeln!(out, "\n## Conditions\n")?;
    writeln!(
        out,
        "- {}, {}; two servers, two switches and the clients all on it, in namespaces",
        conditions.machine, conditions.kernel
    )?;
    writeln!(
        out,
        "- profile `{}`; n = {} of each drill, {} in all, {failed} not as expected",
        conditions.profile,
        conditions.repeat,
        outcomes.len()
    )?;
    writeln!(
        out,
        "- drills under lasting loss, flapping or load: {} s each",
        conditions.long.as_secs()
    )?;
    if let Some(stalls) = stalls {
        writeln!(
            out,
            "- stalls of the machine per drill: median {:.1} ms, max {:.1} ms{}",
            stalls.median,
            stalls.max,
            if conditions.realtime {
                ""
            } else {
                " (client without real-time priority)"
            }
        )?;
    }
    writeln!(out, "\n## Two sites\n")?;
    writeln!(
        out,
        "| what fails | what the clients see | dual-active | what happens |\n|---|---|---|---|"
    )?;
    for (question, names, answer) in METRO {
        let mut seen = Vec::new();
        let mut dual = Vec::new();
        for name in names {
            let Some((drill, runs)) = runs_of(name, outcomes) else {
                continue;
            };
            seen.push(clients(&drill, &runs));
            dual.push(dual_active(&drill, &runs));
        }
        dual.dedup();
        writeln!(
            out,
            "| {question} ({}) | {} | {} | {answer} |",
            names.join(", "),
            or_dash(&seen),
            or_dash(&dual)
        )?;
    }
    writeln!(out, "\n## Every drill\n")?;
    writeln!(
        out,
        "| drill | what it does | what the clients see (median, max) | dual-active | rule | stall max | what to do |\n|---|---|---|---|---|---|---|"
    )?;
    for drill in drills::all() {
        let Some((drill, runs)) = runs_of(drill.name, outcomes) else {
            continue;
        };
        let after = drill
            .after
            .map_or_else(String::new, |after| format!(" (after {after})"));
        let stall = runs.iter().map(|run| run.clients.stall_max_ms);
        writeln!(
            out,
            "| {}{} | {}{after} | {} | {} | {} | {:.0} ms | {} |",
            drill.name,
            if runs.iter().all(|run| run.passed) {
                String::new()
            } else {
                let count = runs.iter().filter(|run| !run.passed).count();
                format!(" (**{count} of {} not as expected**)", runs.len())
            },
            drill.what,
            clients(&drill, &runs),
            dual_active(&drill, &runs),
            rules(&runs),
            stall.fold(0.0, f64::max),
            drill.advice,
        )?;
    }
    writeln!(out, "\n{HOW}\n{}", ABSENT.trim_end())
}

fn runs_of<'a>(name: &str, outcomes: &'a [Outcome]) -> Option<(Drill, Vec<&'a Outcome>)> {
    let runs: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| outcome.name == name)
        .collect();
    Some((drills::find(name)?, runs)).filter(|(_, runs)| !runs.is_empty())
}

fn or_dash(texts: &[String]) -> String {
    if texts.is_empty() {
        "-".into()
    } else {
        texts.join("; then ")
    }
}

/// What the clients see, over all runs.
fn clients(drill: &Drill, runs: &[&Outcome]) -> String {
    let series = |value: &dyn Fn(&Outcome) -> Option<f64>| {
        Spread::of(runs.iter().filter_map(|run| value(run)).collect())
    };
    let outage = series(&|run| Some(run.clients.longest_outage_ms));
    let (what, spread) = match drill.expect.service {
        Service::Stops => return "no service".into(),
        Service::Whatever => return "each reaches the server on its side".into(),
        Service::Uninterrupted => ("without service", outage),
        Service::Resumes if drill.is_planned() => {
            ("handover", series(&|run| run.clients.handover_ms))
        }
        Service::Resumes => match series(&|run| run.clients.gap_all_ms) {
            Some(gap) if gap.runs == runs.len() => ("gap", Some(gap)),
            _ => ("without service", outage),
        },
    };
    match spread {
        None => "nothing".into(),
        Some(spread) if spread.max == 0.0 => "nothing".into(),
        Some(spread) => format!("{what} {:.1}, {:.1} ms", spread.median, spread.max),
    }
}

fn dual_active(drill: &Drill, runs: &[&Outcome]) -> String {
    let most =
        |value: &dyn Fn(&Outcome) -> f64| runs.iter().map(|run| value(run)).fold(0.0, f64::max);
    let all = most(&|run| run.clients.dual_active_ms);
    match drill.expect.dual {
        Dual::Never => format!("{all:.0} ms"),
        Dual::UntilContact(case) if drill.after.is_none() => {
            format!("{case}: until mended")
        }
        Dual::UntilContact(case) => {
            let after = most(&|run| run.dual_after_contact_ms.unwrap_or(0.0));
            format!("{case}: {after:.1} ms after contact")
        }
    }
}

/// The rules that made it, most frequent first.
fn rules(runs: &[&Outcome]) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for rule in runs.iter().filter_map(|run| run.rule.clone()) {
        match counts.iter_mut().find(|(known, _)| *known == rule) {
            Some((_, count)) => *count += 1,
            None => counts.push((rule, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let names: Vec<String> = counts.into_iter().map(|(rule, _)| rule).collect();
    if names.is_empty() {
        "-".into()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drill_that_the_table_of_two_sites_names_exists() {
        for (_, names, _) in METRO {
            for name in names {
                assert!(drills::find(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn a_page_without_outcomes_still_tells_the_conditions() {
        let conditions = Conditions::here("telecom", 3, Duration::from_secs(10), true);
        let page = page(&[], &conditions);
        assert!(page.contains("n = 3 of each drill, 0 in all"), "{page}");
    }
}
