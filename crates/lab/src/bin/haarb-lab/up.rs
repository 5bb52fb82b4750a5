//! `haarb-lab up`: a segment for a person, with a shell in one of its machines.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use haarb_lab::{
    cluster::{self, Goal},
    plan::Plan,
    roles,
    server::Programs,
};

use crate::options::{RunOptions, build};

/// A segment for a person, with a shell in one of its machines.
pub(crate) fn up(
    programs: Programs,
    options: &RunOptions,
    shell: &str,
) -> anyhow::Result<ExitCode> {
    let plan = Plan::pair();
    let server = plan.server(shell);
    anyhow::ensure!(
        server.is_some() || shell == "client",
        "no machine called {shell}; there is {}, client",
        plan.servers.join(", ")
    );
    let mut lab = build(programs, options)?;
    for server in 0..lab.plan().servers.len() {
        lab.power_on(server)?;
    }
    let mut err = io::stderr();
    writeln!(err, "waiting for the pair to settle ...")?;
    match cluster::reach(&lab, Goal::Settled, Duration::from_secs(60)) {
        Ok(_) => writeln!(err, "the pair runs")?,
        Err(error) => writeln!(err, "the pair has not settled: {error}")?,
    }
    let hint = if server.is_some() {
        "`haarb status`".to_owned()
    } else {
        format!("`ping {}`", lab.plan().vips[0].address)
    };
    writeln!(
        err,
        "this shell is on {shell}; try {hint}; everything vanishes when it ends"
    )?;
    let program = std::env::var("SHELL")
        .ok()
        .filter(|shell| in_every_machine(Path::new(shell)))
        .unwrap_or_else(|| "/bin/sh".into());
    let helper = &lab.programs().helper;
    let mut command = match server {
        Some(server) => lab.server(server).command(helper, &[&program])?,
        None => {
            let mut command = std::process::Command::new(helper);
            command
                .args([roles::MARK, "enter", "-"])
                .arg(lab.client_netns().path())
                .arg(&program);
            command
        }
    };
    let status = command
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    Ok(ExitCode::from(
        u8::try_from(status.code().unwrap_or(1)).unwrap_or(1),
    ))
}

/// Whether a program of this machine is in every server, too: only its system directories are.
fn in_every_machine(program: &Path) -> bool {
    program.exists() && ["/bin", "/usr"].iter().any(|dir| program.starts_with(dir))
}
