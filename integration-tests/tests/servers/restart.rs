//! Restarts and upgrades under a client that asks every millisecond: nothing moves.

use haarb_integration_tests::{Bench, Test};
use haarb_lab::{debian, plan::ServerId, segment::Segment};

use crate::pair::{self, ALPHA, BETA, DAEMONS, LIMIT, packages, possible, role, seen};

pub(crate) const TESTS: &[Test] = &[
    Test::new(
        "restart::of_each_daemon_on_both_servers_moves_nothing",
        each_daemon,
    )
    .needing(possible),
    Test::new("upgrade::server_by_server_moves_nothing", upgrade).needing(possible),
];

fn each_daemon(bench: &Bench) -> anyhow::Result<()> {
    pair::with(bench, |lab| {
        let roles = (role(lab, ALPHA)?, role(lab, BETA)?);
        for (server, daemon) in [BETA, ALPHA]
            .into_iter()
            .flat_map(|s| DAEMONS.map(|d| (s, d)))
        {
            let before = main_pid(lab, server, daemon)?;
            let report = seen(lab, |lab| {
                debian::sh(lab, server, &format!("systemctl restart {daemon}"))?;
                debian::settled(lab)?;
                Ok(())
            })?;
            let name = lab.server(server).name();
            println!(
                "restart of {daemon} on {name}: {} requests lost on all, longest silence of an address {:.1} ms",
                report.lost_on_all, report.longest_outage_ms
            );
            anyhow::ensure!(
                main_pid(lab, server, daemon)? != before,
                "{daemon} was not restarted"
            );
            anyhow::ensure!(
                (role(lab, ALPHA)?, role(lab, BETA)?) == roles,
                "the restart of {daemon} on {name} changed a role"
            );
            anyhow::ensure!(
                report.longest_outage_ms < 250.0 && report.dual_active_ms == 0.0,
                "the restart of {daemon} on {name} was noticed: {report:?}"
            );
        }
        Ok(())
    })
}

/// The standby first, then the active one, as docs/upgrade.md says.
fn upgrade(bench: &Bench) -> anyhow::Result<()> {
    pair::with(bench, |lab| {
        let packages = packages().map_err(anyhow::Error::msg)?;
        let (Some(old), Some(new)) = (packages.haarb.first(), packages.haarb.last()) else {
            anyhow::bail!("no packages");
        };
        anyhow::ensure!(old != new, "one version of the package only");
        let roles = (role(lab, ALPHA)?, role(lab, BETA)?);
        for server in [BETA, ALPHA] {
            let name = lab.server(server).name().to_owned();
            let before = pids(lab, server)?;
            let report = seen(lab, |lab| {
                debian::install(lab, server, std::slice::from_ref(new))?;
                debian::settled(lab)?;
                Ok(())
            })?;
            println!(
                "upgrade of {name}: {} requests lost on all, longest silence of an address {:.1} ms",
                report.lost_on_all, report.longest_outage_ms
            );
            let after = pids(lab, server)?;
            anyhow::ensure!(
                before.iter().zip(&after).all(|(old, new)| old != new),
                "not every daemon was restarted on {name}: {before:?} {after:?}"
            );
            anyhow::ensure!(
                (role(lab, ALPHA)?, role(lab, BETA)?) == roles,
                "the upgrade of {name} changed a role"
            );
            anyhow::ensure!(
                report.longest_outage_ms < 250.0 && report.dual_active_ms == 0.0,
                "the upgrade of {name} was noticed: {report:?}"
            );
        }
        Ok(())
    })
}

fn main_pid(lab: &Segment, server: ServerId, daemon: &str) -> anyhow::Result<u32> {
    lab.until(
        &format!("{daemon} runs"),
        LIMIT,
        std::time::Duration::from_millis(20),
        |lab| {
            let command = format!("systemctl show -p MainPID --value {daemon}");
            let said = debian::sh(lab, server, &command).map_err(|error| error.to_string())?;
            match said.trim().parse() {
                Ok(pid) if pid != 0 => Ok(pid),
                _ => Err(said),
            }
        },
    )
    .map_err(Into::into)
}

fn pids(lab: &Segment, server: ServerId) -> anyhow::Result<Vec<u32>> {
    DAEMONS
        .iter()
        .map(|daemon| main_pid(lab, server, daemon))
        .collect()
}
