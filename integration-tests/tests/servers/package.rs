//! The package: it comes without effect, says what is missing, and goes without a trace.

use std::collections::BTreeSet;

use haarb_integration_tests::{Bench, Test};
use haarb_lab::{debian, segment::Segment};

use crate::pair::{ALPHA, DAEMONS, bare, packages, possible};

pub(crate) const TESTS: &[Test] = &[
    Test::new(
        "package::installs_explains_itself_and_purges_without_a_trace",
        installs_and_purges,
    )
    .needing(possible),
    Test::new("package::the_init_script_runs_a_server", init_script).needing(possible),
];

/// As on a system without systemd, with the exit statuses of the LSB. The redirection of Debian's scripts
/// to systemd is off.
fn init_script(bench: &Bench) -> anyhow::Result<()> {
    let lab = bare(bench)?;
    let packages = packages().map_err(anyhow::Error::msg)?;
    debian::install(&lab, ALPHA, &packages.haarb[..1])?;
    let script = |action: &str, expected: i32| -> anyhow::Result<()> {
        let command = format!("SYSTEMCTL_SKIP_REDIRECT=1 /etc/init.d/haarb {action} 2>&1");
        let output = debian::try_sh(&lab, ALPHA, &command)?;
        let log = "journalctl --no-pager -n 40 -t haarb";
        anyhow::ensure!(
            output.status == expected,
            "{action}: status {} instead of {expected}: {}{}",
            output.status,
            output.stdout,
            debian::sh(&lab, ALPHA, log)?
        );
        Ok(())
    };
    script("status", 3)?;
    script("start", 6)?;
    script("nonsense", 2)?;
    let yaml = debian::config(
        lab.plan(),
        &["{ name: idle, exec: [/bin/sleep, infinity] }".into()],
    );
    let place = lab.server(ALPHA).disk().join("haarb.yaml");
    std::fs::write(&place, yaml)?;
    debian::sh(
        &lab,
        ALPHA,
        "mkdir -p /srv/demo && cp /mnt/lab/haarb.yaml /etc/haarb/ && haarb key generate /etc/haarb/cluster.key",
    )?;
    script("start", 0)?;
    script("status", 0)?;
    script("start", 0)?;
    debian::sh(&lab, ALPHA, "haarb status")?;
    script("restart", 0)?;
    script("stop", 0)?;
    script("stop", 0)?;
    script("status", 3)?;
    let left = debian::try_sh(&lab, ALPHA, "pgrep -l haarb")?;
    anyhow::ensure!(left.stdout.is_empty(), "left: {}", left.stdout);
    Ok(())
}

fn installs_and_purges(bench: &Bench) -> anyhow::Result<()> {
    let lab = bare(bench)?;
    let packages = packages().map_err(anyhow::Error::msg)?;
    let before = everything(&lab)?;

    debian::install(&lab, ALPHA, &packages.haarb[..1])?;
    let sh = |command: &str| debian::sh(&lab, ALPHA, command);
    for daemon in DAEMONS {
        let state = sh(&format!("systemctl show -p ActiveState --value {daemon}"))?;
        anyhow::ensure!(state.trim() == "inactive", "{daemon} is {state}");
    }
    anyhow::ensure!(sh("systemctl is-enabled haarb.target")?.trim() == "enabled");
    let asked = debian::try_sh(&lab, ALPHA, "haarb status")?;
    for word in [
        "/etc/haarb/haarb.yaml",
        "/etc/haarb/cluster.key",
        "systemctl start haarb",
    ] {
        anyhow::ensure!(
            asked.status == 1 && asked.stderr.contains(word),
            "haarb status does not say {word}: {}",
            asked.stderr
        );
    }
    sh("man -w haarb >/dev/null 2>&1 || test -s /usr/share/man/man8/haarb.8.gz")?;
    sh("test -s /usr/share/bash-completion/completions/haarb")?;
    sh(
        "systemd-analyze verify /usr/lib/systemd/system/haarb.target /usr/lib/systemd/system/haarb*.service",
    )?;
    // What an operator writes belongs to haarb, too.
    sh(
        "haarb key generate /etc/haarb/cluster.key && cp /usr/share/doc/haarb/examples/haarb.yaml /etc/haarb/",
    )?;

    sh("DEBIAN_FRONTEND=noninteractive dpkg --purge haarb")?;
    let after = everything(&lab)?;
    let left: Vec<_> = after.difference(&before).collect();
    anyhow::ensure!(left.is_empty(), "a purge leaves {left:#?}");
    let gone: Vec<_> = before.difference(&after).collect();
    anyhow::ensure!(gone.is_empty(), "a purge takes away {gone:#?}");
    Ok(())
}

/// All files, users and processes of a server, but for the records that dpkg and systemd keep of their
/// own work.
fn everything(lab: &Segment) -> anyhow::Result<BTreeSet<String>> {
    let paths = "find /etc /usr /var /run /srv -xdev \
        -not -path '/var/lib/dpkg/*' -not -path '/var/cache/*' -not -path '/var/log/*' \
        -not -path '/run/systemd/*' -not -path '/run/log/*' -not -path '/var/lib/systemd/*' \
        -not -path '/usr/share/man/*' -not -name '*-' -not -name '.pwd.lock' \
        -not -path '/etc/.java*' -not -path '/var/lib/ucf/*'";
    let command = format!(
        "{paths}; getent passwd; getent group; ls -d /sys/fs/cgroup/system.slice/haarb* 2>/dev/null || true"
    );
    let text = debian::sh(lab, ALPHA, &command)?;
    Ok(text.lines().map(str::to_owned).collect())
}
