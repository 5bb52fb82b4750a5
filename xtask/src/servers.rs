//! What the two Debian servers of the lab are given: haarb's package in two versions, and the packages
//! of services that they run.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::cargo::{run_built, target};
use crate::dist;

/// A real service of Debian as a systemd unit.
const SERVICES: [&str; 1] = ["nginx"];
/// Packages of the same programs: an upgrade is one from the first to the second.
const REVISIONS: [&str; 2] = ["1", "2"];

/// Makes and fetches the packages, and starts `haarb-lab servers`.
///
/// # Errors
/// The build fails, or a package cannot be made.
pub(crate) fn run(options: &[String]) -> Result<ExitCode> {
    crate::cargo::build()?;
    prepare()?;
    let dir = target().join("dist");
    let mut options = options.to_vec();
    options.push(format!("--packages={}", dir.display()));
    run_built("haarb-lab", "", &options)
}

/// Makes both packages of haarb from the programs that are there, and fetches those of services where
/// this machine has apt. Nothing is installed on this machine.
///
/// # Errors
/// A package of haarb cannot be made.
pub(crate) fn prepare() -> Result<()> {
    for revision in REVISIONS {
        dist::package(revision)?;
    }
    let place = target().join("dist/services");
    if let Err(error) = fetch(&place) {
        eprintln!("no packages of services ({error:#}): what needs them is skipped");
    }
    Ok(())
}

/// Has apt fetch packages with all that they need beyond what this machine has, once.
fn fetch(place: &Path) -> Result<()> {
    let there = |name: &&str| {
        let start = format!("{name}_");
        fs::read_dir(place)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(&start))
    };
    if SERVICES.iter().all(there) {
        return Ok(());
    }
    fs::create_dir_all(place.join("partial")).with_context(|| place.display().to_string())?;
    let status = Command::new("apt-get")
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(["--download-only", "--option"])
        .arg(format!("Dir::Cache::archives={}", place.display()))
        .args(["--option", "APT::Sandbox::User=root"])
        .args(SERVICES)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("apt-get cannot be started")?;
    anyhow::ensure!(status.success(), "apt-get: {status}");
    Ok(())
}
