//! `haarb-lab servers`: two Debian servers for a person, with haarb from its package.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use haarb_lab::{
    debian::{self, MEASURED, Packages},
    guest, sandbox,
    server::Programs,
};

/// Boots, installs, configures and starts the pair, and gives a shell on one of the servers.
pub(crate) fn servers(
    programs: Programs,
    packages: &Path,
    shell: &str,
    bare: bool,
) -> anyhow::Result<ExitCode> {
    let packages = Packages::find(packages).map_err(anyhow::Error::msg)?;
    if let Some(missing) = guest::debian::missing() {
        anyhow::bail!("no Debian server can be booted here: {missing}");
    }
    let visible: Vec<&Path> = packages.haarb.iter().map(|path| path.as_path()).collect();
    let sandbox = sandbox::enter(&visible)?;
    anyhow::ensure!(
        sandbox.privileged,
        "whole Debian servers take root; `cargo xtask lab up` does without"
    );
    let mut err = io::stderr();
    writeln!(err, "booting two Debian servers ...")?;
    let lab = debian::build(&sandbox.dir.join("servers"), programs)?;
    let server = lab
        .plan()
        .server(shell)
        .with_context(|| format!("no server called {shell}"))?;
    if !bare {
        writeln!(err, "installing haarb ...")?;
        let mut services = vec![format!("{{ name: echo, systemd: {MEASURED} }}")];
        if packages.has("nginx") {
            services.insert(0, "{ name: web, systemd: nginx.service }".into());
        }
        for server in 0..lab.plan().servers.len() {
            debian::install(&lab, server, &packages.services)?;
            debian::install(&lab, server, &packages.haarb[..1])?;
            debian::sh(
                &lab,
                server,
                "systemctl disable --now nginx 2>/dev/null || true",
            )?;
            debian::add_measured(&lab, server)?;
        }
        debian::configure(&lab, &debian::config(lab.plan(), &services))?;
        match debian::settled(&lab) {
            Ok(_) => writeln!(err, "the pair runs")?,
            Err(error) => writeln!(
                err,
                "the pair has not settled: {error}\n{}",
                debian::journals(&lab)
            )?,
        }
    }
    writeln!(
        err,
        "this shell is on {shell}; try `haarb status`, `systemctl status 'haarb*'`; packages lie in /mnt/lab; everything vanishes when it ends"
    )?;
    for package in &packages.haarb {
        let name = package.file_name().unwrap_or_default();
        std::fs::copy(package, lab.server(server).disk().join(name))?;
    }
    let helper = &lab.programs().helper;
    let status = lab
        .server(server)
        .command(helper, &["/bin/bash", "-l"])?
        .status()
        .context("cannot start /bin/bash")?;
    Ok(ExitCode::from(
        u8::try_from(status.code().unwrap_or(1)).unwrap_or(1),
    ))
}
