//! The lab is tested with failovers made by hand: what is known to have happened must be what the lab
//! reports. Nothing of haarb runs here.
//!
//! The machine may stall at any moment, so a number is compared with what the test itself measured, or
//! with a bound that a stall cannot reach (250 ms).

use std::time::Duration;

use haarb_integration_tests::{Bench, Test, with_logs};
use haarb_lab::{clock::Stamp, fake, segment::Segment};

pub(crate) const TESTS: &[Test] = &[
    (
        "lab::takeover_after_power_off_gives_its_gap",
        takeover_after_power_off_gives_its_gap,
    ),
    (
        "lab::two_holders_are_measured_as_dual_active",
        two_holders_are_measured_as_dual_active,
    ),
];

const ALPHA: usize = 0;
const BETA: usize = 1;
const LIMIT: Duration = Duration::from_secs(5);

/// Both servers on, all virtual IPs on alpha, and the clients have noticed.
fn alpha_serves(bench: &Bench) -> anyhow::Result<Segment> {
    let mut lab = bench.bare_segment()?;
    lab.power_on(ALPHA)?;
    lab.power_on(BETA)?;
    let since = Stamp::now();
    take_all(&lab, ALPHA)?;
    with_logs(&lab, lab.until_served_by(ALPHA, since, false, LIMIT))?;
    Ok(lab)
}

fn take_all(lab: &Segment, server: usize) -> anyhow::Result<Stamp> {
    for vip in 0..lab.plan().vips.len() {
        fake::take(lab, server, vip)?;
    }
    Ok(Stamp::now())
}

/// Lets the segment run, because a stretch of undisturbed time is what is measured.
fn run_on(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn takeover_after_power_off_gives_its_gap(bench: &Bench) -> anyhow::Result<()> {
    let mut lab = alpha_serves(bench)?;
    let from = Stamp::now();
    run_on(300);
    let fault = lab.power_off(ALPHA)?;
    run_on(50);
    let before_taking = Stamp::now();
    take_all(&lab, BETA)?;
    with_logs(&lab, lab.until_served_by(BETA, fault.done, false, LIMIT))?;
    run_on(300);
    let report = lab.report(from, fault.began);
    let least = before_taking.ms_since(fault.began);
    let gap = report
        .gap_ms
        .ok_or_else(|| anyhow::anyhow!("no gap in {report:?}"))?;
    anyhow::ensure!(
        gap >= least,
        "the gap {gap} cannot be below {least}, when the takeover began: {report:?}"
    );
    anyhow::ensure!(
        gap < least + 250.0,
        "the gap {gap} is far above {least}: {report:?}"
    );
    anyhow::ensure!(report.gap_all_ms >= report.gap_ms, "{report:?}");
    anyhow::ensure!(
        report.lost_on_all > 0 && report.longest_outage_ms >= least - 5.0,
        "{report:?}"
    );
    anyhow::ensure!(
        report.dual_active_ms == 0.0,
        "one server was dead: {report:?}"
    );
    anyhow::ensure!(
        lab.held_by_both_ms(from) == 0.0,
        "the dead server's addresses do not count"
    );
    anyhow::ensure!(report.served_by == [Some(BETA), Some(BETA)], "{report:?}");
    Ok(())
}

fn two_holders_are_measured_as_dual_active(bench: &Bench) -> anyhow::Result<()> {
    let lab = alpha_serves(bench)?;
    let from = Stamp::now();
    run_on(300);
    let quiet = lab.report(from, from.plus(Duration::from_millis(100)));
    anyhow::ensure!(
        quiet.dual_active_ms == 0.0 && quiet.gap_ms.is_none(),
        "{quiet:?}"
    );

    let taken = fake::take(&lab, BETA, 0)?;
    run_on(100);
    let dropping = Stamp::now();
    fake::drop_vip(&lab, ALPHA, 0)?;
    run_on(300);
    let report = lab.report(from, taken);
    let both = dropping.ms_since(taken);
    let stalls = report.stall_max_ms;
    anyhow::ensure!(
        report.dual_active_ms > both - 5.0 - 2.0 * stalls && report.dual_active_ms < both + 250.0,
        "both answered for {both} ms: {report:?}"
    );
    let held = lab.held_by_both_ms(from);
    anyhow::ensure!(
        held >= both - 5.0 && held < both + 250.0,
        "both held it for {both} ms, the lab says {held}"
    );
    anyhow::ensure!(
        report.lost_on_all == 0,
        "the other address was served all the time: {report:?}"
    );
    Ok(())
}
