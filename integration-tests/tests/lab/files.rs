//! The service's files through a failover: what was acknowledged is whole on the other server, what was
//! not is kept aside when the old one returns.

use std::{fs, path::Path, time::Duration};

use haarb_integration_tests::{Bench, Test, daemons_are_built, with_logs};
use haarb_lab::{
    clock::Stamp,
    cluster::{self, Goal},
    error::LabError,
    history,
    roles::HELPER,
    segment::Segment,
};
use nix::sys::signal::Signal;

use crate::support::{ALPHA, BETA, LIMIT};

pub(crate) const TESTS: &[Test] = &[
    Test::new(
        "files::what_was_acknowledged_is_whole_on_the_other_server",
        acknowledged_is_whole,
    )
    .needing(daemons_are_built),
    Test::new(
        "files::what_was_not_copied_is_found_among_the_conflicts",
        not_copied_is_kept,
    )
    .needing(daemons_are_built),
];

/// The replicated directory on a server's disk.
fn directory(lab: &Segment, server: usize) -> std::path::PathBuf {
    lab.server(server).disk().join("srv/demo")
}

/// The active server and the other one.
fn active_and_standby(lab: &Segment) -> anyhow::Result<(usize, usize)> {
    let active = with_logs(lab, cluster::reach(lab, Goal::Settled, LIMIT))?;
    Ok(if active == Some(ALPHA) {
        (ALPHA, BETA)
    } else {
        (BETA, ALPHA)
    })
}

/// Waits until the writer on a server has come past `number`.
fn written(lab: &Segment, server: usize, number: u64) -> Result<u64, LabError> {
    lab.until(
        "versions are written",
        LIMIT,
        Duration::from_millis(10),
        |lab| {
            let found =
                history::inspect(&directory(lab, server)).map_err(|error| error.to_string())?;
            let last = found
                .last_by
                .get(lab.server(server).name())
                .copied()
                .unwrap_or(0);
            if last > number {
                Ok(last)
            } else {
                Err(format!("version {last}"))
            }
        },
    )
}

/// What the replica on a server still lacks, by the active server's own account.
fn pending(lab: &Segment, server: usize) -> Result<u64, String> {
    let text =
        cluster::haarb(lab, server, &["status", "--json"]).map_err(|error| error.to_string())?;
    let status: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let directory = &status["reserves"][0]["directories"][0];
    match (
        directory["state"].as_str(),
        directory["pending_files"].as_u64(),
    ) {
        (Some("in-sync"), Some(files)) => Ok(files),
        _ => Err(directory.to_string()),
    }
}

fn acknowledged_is_whole(bench: &Bench) -> anyhow::Result<()> {
    let mut lab = bench.cluster()?;
    let (active, standby) = active_and_standby(&lab)?;
    with_logs(&lab, written(&lab, active, 50))?;
    // The service stands still, so that "nothing pending" means the very last version.
    let service = HELPER.rsplit('/').next().unwrap_or(HELPER);
    lab.server(active)
        .signal_program(service, Signal::SIGSTOP)?;
    let copied = lab.until(
        "everything is acknowledged",
        LIMIT,
        Duration::from_millis(20),
        |lab| match pending(lab, active)? {
            0 => Ok(()),
            files => Err(format!("{files} files are pending")),
        },
    );
    with_logs(&lab, copied)?;
    let there = history::inspect(&directory(&lab, active))?;
    let fault = lab.power_off(active)?;
    with_logs(&lab, lab.until_served_by(standby, fault.done, false, LIMIT))?;
    let here = history::inspect(&directory(&lab, standby))?;
    anyhow::ensure!(
        here.is_whole() && there.is_whole(),
        "torn: {here:?} of {there:?}"
    );
    anyhow::ensure!(
        lab_last(&lab, active, &here) == lab_last(&lab, active, &there),
        "acknowledged and not there: {here:?} of {there:?}"
    );
    Ok(())
}

fn lab_last(lab: &Segment, server: usize, found: &history::Found) -> Option<u64> {
    found.last_by.get(lab.server(server).name()).copied()
}

fn not_copied_is_kept(bench: &Bench) -> anyhow::Result<()> {
    let mut lab = bench.cluster()?;
    let (active, standby) = active_and_standby(&lab)?;
    let number = with_logs(&lab, written(&lab, active, 20))?;
    // The syncer hangs while the service writes on; then the power goes.
    lab.server(active)
        .signal_program("haarb-syncer", Signal::SIGSTOP)?;
    with_logs(&lab, written(&lab, active, number + 20))?;
    let fault = lab.power_off(active)?;
    let there = history::inspect(&directory(&lab, active))?;
    with_logs(&lab, lab.until_served_by(standby, fault.done, false, LIMIT))?;
    let lost = lab_last(&lab, active, &there);
    let here = history::inspect(&directory(&lab, standby))?;
    anyhow::ensure!(here.is_whole(), "torn: {here:?}");
    anyhow::ensure!(
        lost > lab_last(&lab, active, &here),
        "the test needs versions that were not copied: {here:?}"
    );

    lab.power_on(active)?;
    with_logs(&lab, cluster::reach(&lab, Goal::Settled, LIMIT * 2))?;
    let last_line = format!(
        "version {} of {} ",
        lost.unwrap_or(0),
        lab.server(active).name()
    );
    let kept = lab.until(
        "the version that was not copied is kept aside",
        LIMIT,
        Duration::from_millis(50),
        |lab| {
            let place = directory(lab, active).join(".haarb/conflicts");
            let found = files_with(&place, &last_line);
            if found.is_empty() {
                Err(format!("none in {}", place.display()))
            } else {
                Ok(())
            }
        },
    );
    with_logs(&lab, kept)?;
    let replica = history::inspect(&directory(&lab, active))?;
    anyhow::ensure!(
        replica.is_whole(),
        "the returned replica is whole: {replica:?}"
    );
    let since = Stamp::now();
    with_logs(&lab, lab.until_served_by(standby, since, false, LIMIT))
}

/// The files below a directory that contain a text.
fn files_with(dir: &Path, text: &str) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                return files_with(&path, text);
            }
            let has =
                fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text));
            if has { vec![path] } else { Vec::new() }
        })
        .collect()
}
