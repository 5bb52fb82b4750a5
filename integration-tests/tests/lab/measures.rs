//! The lab is tested with failovers made by hand: what is known to have happened must be what the lab
//! reports. Nothing of haarb runs here.
//!
//! The machine may stall at any moment, so a number is compared with what the test itself measured, or
//! with a bound that a stall cannot reach (250 ms).

use std::time::Duration;

use haarb_integration_tests::{Bench, Test, with_logs};
use haarb_lab::{
    clock::Stamp,
    fake,
    plan::{Plan, Vip},
    segment::Segment,
};

use crate::support::{ALPHA, BETA, LIMIT, RED, alpha_serves, run_on, take_all};

pub(crate) const TESTS: &[Test] = &[
    Test::new(
        "lab::takeover_after_power_off_gives_its_gap",
        takeover_after_power_off_gives_its_gap,
    ),
    Test::new(
        "lab::a_handover_is_measured_without_a_fault",
        a_handover_is_measured_without_a_fault,
    ),
    Test::new(
        "lab::an_ipv6_address_is_measured_too",
        an_ipv6_address_is_measured_too,
    ),
    Test::new(
        "lab::a_frozen_server_is_silent_and_counts_again_when_it_wakes",
        a_frozen_server_is_silent_and_counts_again_when_it_wakes,
    ),
    Test::new(
        "lab::two_holders_are_measured_as_dual_active",
        two_holders_are_measured_as_dual_active,
    ),
];

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

fn a_handover_is_measured_without_a_fault(bench: &Bench) -> anyhow::Result<()> {
    let lab = alpha_serves(bench)?;
    let from = Stamp::now();
    run_on(300);
    let began = Stamp::now();
    for vip in 0..lab.plan().vips.len() {
        fake::drop_vip(&lab, ALPHA, vip)?;
    }
    run_on(20);
    let done = take_all(&lab, BETA)?;
    with_logs(&lab, lab.until_served_by(BETA, done, false, LIMIT))?;
    run_on(300);
    let report = lab.report(from, began);
    let handover = report.handover_ms.unwrap_or(0.0);
    anyhow::ensure!(
        handover >= 20.0,
        "nobody held the addresses for 20 ms: {report:?}"
    );
    anyhow::ensure!(handover < done.ms_since(began) + 250.0, "{report:?}");
    anyhow::ensure!(
        report.dual_active_ms == 0.0 && lab.held_by_both_ms(from) == 0.0,
        "{report:?}"
    );
    Ok(())
}

fn an_ipv6_address_is_measured_too(bench: &Bench) -> anyhow::Result<()> {
    let address = "fd77::100".parse()?;
    let mut plan = Plan::pair();
    plan.vips = vec![Vip {
        reserve: "demo".into(),
        address,
        prefix: 64,
        network: RED,
    }];
    let mut lab = Segment::build(plan, bench.dir(), bench.programs()?, fake::boot_service)?;
    lab.power_on(ALPHA)?;
    lab.power_on(BETA)?;
    let from = Stamp::now();
    take_all(&lab, ALPHA)?;
    with_logs(&lab, lab.until_served_by(ALPHA, from, false, LIMIT))?;
    run_on(100);
    let taken = take_all(&lab, BETA)?;
    run_on(100);
    let report = lab.report(from, taken);
    anyhow::ensure!(
        report.dual_active_ms > 50.0,
        "both answer over IPv6: {report:?}"
    );
    anyhow::ensure!(lab.holders(address) == [ALPHA, BETA], "both hold it");
    Ok(())
}

fn a_frozen_server_is_silent_and_counts_again_when_it_wakes(bench: &Bench) -> anyhow::Result<()> {
    let lab = alpha_serves(bench)?;
    let from = Stamp::now();
    run_on(300);
    let fault = lab.freeze(ALPHA, true)?;
    run_on(400);
    take_all(&lab, BETA)?;
    with_logs(&lab, lab.until_served_by(BETA, fault.done, false, LIMIT))?;
    run_on(300);
    let asleep = lab.report(from, fault.began);
    anyhow::ensure!(
        asleep.dual_active_ms == 0.0,
        "a frozen server answers nobody: {asleep:?}"
    );
    anyhow::ensure!(asleep.gap_ms.is_some_and(|gap| gap >= 400.0), "{asleep:?}");
    let held = lab.held_by_both_ms(from);
    anyhow::ensure!(held > 100.0, "its kernel still holds the addresses: {held}");

    let woken = lab.freeze(ALPHA, false)?;
    run_on(300);
    let awake = lab.report(from, fault.began);
    let most = 2.0 * (Stamp::now().ms_since(woken.began)) + 250.0;
    anyhow::ensure!(
        awake.dual_active_ms > 100.0 && awake.dual_active_ms < most,
        "awake, it answers again: {awake:?}"
    );
    Ok(())
}
