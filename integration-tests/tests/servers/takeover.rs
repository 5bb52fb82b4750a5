//! Units under faults: who runs as whom, a power cut, a planned switchover, a daemon that is dead for good,
//! a server that is shut down.

use std::time::Duration;

use haarb_integration_tests::{Bench, Test};
use haarb_lab::{clock::Stamp, cluster, debian};

use crate::pair::{self, ALPHA, BETA, DAEMONS, LIMIT, possible, seen};

pub(crate) const TESTS: &[Test] = &[
    Test::new("units::daemons_run_as_their_own_users", users).needing(possible),
    Test::new("units::a_switchover_moves_units_of_systemd", switchover).needing(possible),
    Test::new("units::stopping_haarb_hands_over_and_leaves_nothing", stop).needing(possible),
    Test::new(
        "units::a_vip_agent_that_cannot_start_leaves_no_address",
        no_vip_agent,
    )
    .needing(possible),
    Test::new("units::power_off_is_taken_over", power_off).needing(possible),
];

/// Each daemon and its user; root only where that takes it.
const USERS: [(&str, &str); 6] = [
    ("haarb-arbiter", "haarb"),
    ("haarb-link-watcher", "haarb-link"),
    ("haarb-prober", "haarb-prober"),
    ("haarb-vip-agent", "haarb-vip"),
    ("haarb-syncer", "root"),
    ("haarb-supervisor", "root"),
];

fn users(bench: &Bench) -> anyhow::Result<()> {
    pair::with(bench, |lab| {
        for (daemon, user) in USERS {
            let said = debian::sh(
                lab,
                ALPHA,
                &format!("ps -o user:32= -p $(systemctl show -p MainPID --value {daemon})"),
            )?;
            anyhow::ensure!(said.trim() == user, "{daemon} runs as {said}");
        }
        let vips = debian::sh(lab, ALPHA, "haarb status --json")?;
        anyhow::ensure!(vips.contains("\"held\":true"), "{vips}");
        let log = debian::sh(lab, ALPHA, "journalctl --no-pager -u 'haarb-*'")?;
        anyhow::ensure!(!log.contains("CAP_BPF"), "the vip-agent has no gate: {log}");
        // A container that may not raise limits (CAP_SYS_RESOURCE) cannot grant what the units ask for.
        let granted = !log.contains("no real-time priority") && !log.contains("is not locked");
        let status = std::fs::read_to_string("/proc/self/status")?;
        let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let set = u64::from_str_radix(set.unwrap_or_default().trim(), 16)?;
        anyhow::ensure!(
            granted || set & (1 << 24) == 0,
            "a daemon misses something: {log}"
        );
        Ok(())
    })
}

fn switchover(bench: &Bench) -> anyhow::Result<()> {
    pair::with(bench, |lab| {
        let report = seen(lab, |lab| {
            cluster::haarb(lab, ALPHA, &["switchover", "demo"])?;
            anyhow::ensure!(debian::settled(lab)? == BETA, "beta serves");
            Ok(())
        })?;
        println!(
            "planned switchover, units of systemd: handover {:?} ms",
            report.handover_ms
        );
        anyhow::ensure!(report.dual_active_ms == 0.0, "{report:?}");
        let state = debian::try_sh(lab, ALPHA, "systemctl is-active measured.service")?;
        anyhow::ensure!(
            state.stdout.trim() == "inactive",
            "on alpha it is {}",
            state.stdout
        );
        Ok(())
    })
}

/// `systemctl stop haarb` on the active server; then it starts again.
fn stop(bench: &Bench) -> anyhow::Result<()> {
    pair::with(bench, |lab| {
        let report = seen(lab, |lab| {
            debian::sh(lab, ALPHA, "systemctl stop haarb")?;
            Ok(())
        })?;
        println!(
            "systemctl stop haarb on the active server: handover {:?} ms",
            report.handover_ms
        );
        anyhow::ensure!(
            report.served_by.iter().all(|server| *server == Some(BETA)),
            "{report:?}"
        );
        for daemon in DAEMONS {
            let state = debian::try_sh(lab, ALPHA, &format!("systemctl is-active {daemon}"))?;
            anyhow::ensure!(
                state.stdout.trim() == "inactive",
                "{daemon} is {}",
                state.stdout
            );
        }
        let groups =
            "find /sys/fs/cgroup/system.slice -path '*haarb-*' -name cgroup.procs -exec cat {} +";
        let left = debian::sh(lab, ALPHA, groups)?;
        anyhow::ensure!(left.trim().is_empty(), "processes are left: {left}");
        debian::sh(lab, ALPHA, "systemctl start haarb")?;
        debian::settled(lab)?;
        Ok(())
    })
}

/// Killed and gone from the disk: systemd tries for ever, the kernel ends the address, beta serves.
fn no_vip_agent(bench: &Bench) -> anyhow::Result<()> {
    pair::with(bench, |lab| {
        let report = seen(lab, |lab| {
            let began = Stamp::now();
            debian::sh(
                lab,
                ALPHA,
                "mv /usr/sbin/haarb-vip-agent /usr/sbin/kept && systemctl kill -s KILL haarb-vip-agent",
            )?;
            lab.until_served_by(BETA, began, false, LIMIT)?;
            Ok(())
        })?;
        println!("vip-agent dead for good: gap {:?} ms", report.gap_all_ms);
        anyhow::ensure!(report.dual_active_ms == 0.0, "two served: {report:?}");
        let what = "no address is left on alpha";
        lab.until(what, LIMIT, Duration::from_millis(50), |lab| {
            let mut vips = lab.plan().vips.iter();
            let held = vips.any(|vip| lab.holders(vip.address).contains(&ALPHA));
            if held { Err("one is".into()) } else { Ok(()) }
        })?;
        debian::sh(lab, ALPHA, "mv /usr/sbin/kept /usr/sbin/haarb-vip-agent")?;
        debian::settled(lab)?;
        Ok(())
    })
}

fn power_off(bench: &Bench) -> anyhow::Result<()> {
    pair::with(bench, |lab| {
        let report = seen(lab, |lab| {
            let began = Stamp::now();
            lab.power_off(ALPHA)?;
            lab.until_served_by(BETA, began, false, LIMIT)?;
            Ok(())
        })?;
        println!(
            "power-off, units of systemd started cold: gap {:?} ms",
            report.gap_all_ms
        );
        anyhow::ensure!(report.dual_active_ms == 0.0, "{report:?}");
        lab.power_on(ALPHA)?;
        debian::booted(lab, ALPHA)?;
        // Enabled: it comes back by itself, as the standby.
        anyhow::ensure!(debian::settled(lab)? == BETA, "beta serves");
        Ok(())
    })
}
