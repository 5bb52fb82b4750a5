//! Calls of cargo, and of what it built.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context as _, Result, bail};

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// A call of the cargo that runs us, in the repository's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Builds every program optimised and says where they are.
///
/// # Errors
/// The build fails; cargo has said why.
pub(crate) fn build() -> Result<PathBuf> {
    eprintln!("building haarb (the first time takes some minutes) ...");
    let status = cargo(&[
        "build",
        "--release",
        "--workspace",
        "--bins",
        "--exclude",
        "xtask",
    ])
    .status()
    .context("cargo cannot be started")?;
    if !status.success() {
        bail!("the build failed; its messages are above");
    }
    Ok(target().join("release"))
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    root().join(target)
}

/// Builds everything and runs one program with a subcommand (may be empty) and options.
///
/// # Errors
/// The build fails, or the program cannot be started.
pub(crate) fn run_built(program: &str, subcommand: &str, options: &[String]) -> Result<ExitCode> {
    let path = build()?.join(program);
    let mut command = Command::new(&path);
    if !subcommand.is_empty() {
        command.arg(subcommand);
    }
    let status = command
        .args(options)
        .status()
        .with_context(|| format!("{} cannot be started", path.display()))?;
    Ok(exit_code(status))
}

/// Builds everything and measures. The page that results are written to is this repository's.
///
/// # Errors
/// The build fails, or the program cannot be started.
pub(crate) fn run_bench(options: &[String]) -> Result<ExitCode> {
    let mut options = options.to_vec();
    // Without a subcommand the program says itself what there is.
    if options
        .first()
        .is_some_and(|first| first == "failover" || first == "sync")
    {
        let page = root().join("docs/benchmarks.md");
        options.push(format!("--docs={}", page.display()));
    }
    run_built("haarb-bench", "", &options)
}

/// Builds one program that depends on nothing outside, and runs it.
///
/// # Errors
/// cargo cannot be started.
pub(crate) fn run_pure(program: &str, options: &[String]) -> Result<ExitCode> {
    let mut command = cargo(&["run", "--release", "--quiet", "-p", program, "--"]);
    let status = command.args(options).status();
    Ok(exit_code(status.context("cargo cannot be started")?))
}

/// Regenerates, or checks, the pages and expectations that come from the code.
///
/// # Errors
/// cargo cannot be started.
pub(crate) fn generate(check: bool) -> Result<ExitCode> {
    let mut command = cargo(&["test", "--quiet", "-p", "haarb-decision", "-p", "haarb-sim"]);
    if !check {
        command.env("UPDATE_EXPECT", "1").env("REWRITE", "1");
    }
    Ok(exit_code(
        command.status().context("cargo cannot be started")?,
    ))
}

/// The exit code of a child; a child killed by a signal counts as failed.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
