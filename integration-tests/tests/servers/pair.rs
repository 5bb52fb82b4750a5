//! The pair that the tests share: installed, configured and settled once, because that takes longer than
//! most tests. A test that fails leaves none to the next.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use haarb_integration_tests::Bench;
use haarb_lab::{
    analysis::Report,
    clock::Stamp,
    cluster,
    debian::{self, MEASURED, Packages},
    guest,
    plan::ServerId,
    sandbox::Sandbox,
    segment::Segment,
};

pub(crate) const ALPHA: ServerId = 0;
pub(crate) const BETA: ServerId = 1;
/// Far above anything that a stall of this machine adds.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The daemons in the order in which a package restarts them.
pub(crate) const DAEMONS: [&str; 6] = [
    "haarb-link-watcher",
    "haarb-prober",
    "haarb-syncer",
    "haarb-supervisor",
    "haarb-vip-agent",
    "haarb-arbiter",
];

static SHARED: Mutex<Option<Segment>> = Mutex::new(None);

/// Where packages are: beside the programs under test, or where the environment says.
pub(crate) fn packages() -> Result<Packages, String> {
    let dir = std::env::var_os("HAARB_PACKAGES").map(PathBuf::from);
    let dir = dir.or_else(|| {
        // target/<profile>/deps/<test> -> target/dist
        let own = std::env::current_exe().ok()?;
        Some(own.ancestors().nth(3)?.join("dist"))
    });
    Packages::find(&dir.unwrap_or_default())
}

/// What a test of Debian servers needs.
pub(crate) fn possible(sandbox: &Sandbox) -> Result<(), String> {
    if !sandbox.privileged {
        return Err("whole Debian servers take root".into());
    }
    if let Some(missing) = guest::debian::missing() {
        return Err(missing);
    }
    packages().map(drop)
}

/// Switches the shared pair off.
pub(crate) fn release() {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// Two booted servers without haarb.
pub(crate) fn bare(bench: &Bench) -> anyhow::Result<Segment> {
    release();
    Ok(debian::build(&bench.dir(), bench.programs()?)?)
}

/// Runs a test on the shared pair, settled, with alpha active.
pub(crate) fn with(
    bench: &Bench,
    test: impl FnOnce(&mut Segment) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lab = match shared.take() {
        Some(lab) => lab,
        None => set_up(bench)?,
    };
    let outcome = whole(&lab).and_then(|()| test(&mut lab));
    if let Err(error) = outcome {
        return Err(anyhow::anyhow!("{error:#}\n{}", debian::journals(&lab)));
    }
    *shared = Some(lab);
    Ok(())
}

fn set_up(bench: &Bench) -> anyhow::Result<Segment> {
    let packages = packages().map_err(anyhow::Error::msg)?;
    let lab = debian::build(&bench.dir(), bench.programs()?)?;
    let mut services = vec![format!("{{ name: echo, systemd: {MEASURED} }}")];
    if packages.has("nginx") {
        services.insert(0, "{ name: web, systemd: nginx.service }".into());
    }
    let installed = || -> anyhow::Result<()> {
        for server in [ALPHA, BETA] {
            debian::install(&lab, server, &packages.services)?;
            debian::sh(
                &lab,
                server,
                "systemctl disable --now nginx 2>/dev/null || true",
            )?;
            debian::install(&lab, server, &packages.haarb[..1])?;
            debian::add_measured(&lab, server)?;
        }
        debian::configure(&lab, &debian::config(lab.plan(), &services))?;
        debian::settled(&lab)?;
        Ok(())
    };
    installed().map_err(|error| anyhow::anyhow!("{error:#}\n{}", debian::journals(&lab)))?;
    Ok(lab)
}

/// Both servers run, the pair is settled, and alpha serves.
fn whole(lab: &Segment) -> anyhow::Result<()> {
    let active = debian::settled(lab)?;
    if active != ALPHA {
        cluster::haarb(lab, active, &["switchover", "demo", "--to", "alpha"])?;
        debian::settled(lab)?;
    }
    let since = Stamp::now();
    lab.until_served_by(ALPHA, since, false, LIMIT)?;
    Ok(())
}

/// Does something and says what the clients saw of it, a moment before and behind included.
pub(crate) fn seen(
    lab: &mut Segment,
    act: impl FnOnce(&mut Segment) -> anyhow::Result<()>,
) -> anyhow::Result<Report> {
    let from = Stamp::now();
    answered(lab, from)?;
    let began = Stamp::now();
    act(lab)?;
    // Whatever was lost has been noticed once a later request is answered.
    answered(lab, Stamp::now())?;
    Ok(lab.report(from, began))
}

/// Waits until every virtual IP has been answered by somebody since then.
fn answered(lab: &Segment, since: Stamp) -> anyhow::Result<()> {
    let what = "the clients are answered";
    lab.until(what, LIMIT, Duration::from_millis(1), |lab| {
        let vips = 0..lab.plan().vips.len();
        let last = |vip| lab.client().last_answer(vip);
        let all = vips
            .into_iter()
            .all(|vip| last(vip).is_some_and(|(_, at)| at > since));
        if all {
            Ok(())
        } else {
            Err(lab.describe_service(since))
        }
    })?;
    Ok(())
}

/// Role and epoch of a server, which a restart must not change.
pub(crate) fn role(lab: &Segment, server: ServerId) -> anyhow::Result<(String, u64)> {
    let status = cluster::status(lab, server)?;
    let reserve = status.reserves.first();
    let reserve = reserve.ok_or_else(|| anyhow::anyhow!("no reserve in the status"))?;
    Ok((reserve.role.clone(), reserve.epoch))
}
