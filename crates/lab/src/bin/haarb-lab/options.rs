//! Options that several commands share, and the segment they ask for.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use haarb_lab::{
    plan::Plan,
    sandbox::{self, Sandbox},
    segment::Segment,
    server::Programs,
    setup::{self, ClusterOptions},
};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RunOptions {
    /// Times of the cluster
    #[arg(long, value_enum, default_value_t = Profile::Telecom)]
    pub(crate) profile: Profile,
    /// Leave the replicated directory and its writer out
    #[arg(long)]
    pub(crate) without_files: bool,
    /// Write what the client saw in every drill, tick by tick, as CSV files into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) trace_dir: Option<PathBuf>,
    /// Print the results as JSON on standard output; the live view goes to standard error
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Profile {
    /// 10 ms probes, dead after 30 ms
    Telecom,
    /// 100 ms probes, dead after 400 ms
    Lan,
}

impl Profile {
    /// Its name in the configuration.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Telecom => "telecom",
            Self::Lan => "lan",
        }
    }
}

/// Enters the sandbox; `keep_visible` must stay so.
pub(crate) fn enter(programs: &Programs, keep_visible: &[&Path]) -> anyhow::Result<Sandbox> {
    setup::check_binaries(&programs.bin_dir)?;
    let mut visible = vec![programs.bin_dir.as_path()];
    visible.extend(keep_visible);
    Ok(sandbox::enter(&visible)?)
}

/// Builds a segment called `name` in the sandbox, all servers off.
pub(crate) fn build_on(
    sandbox: &Sandbox,
    name: &str,
    plan: Plan,
    programs: Programs,
    options: &RunOptions,
) -> anyhow::Result<Segment> {
    let options = ClusterOptions {
        profile: options.profile.name().into(),
        files: !options.without_files,
    };
    let dir = sandbox.dir.join(name);
    Ok(setup::build(plan, dir, programs, &options)?)
}

/// Enters the sandbox and builds the pair in it, all servers off.
pub(crate) fn build(programs: Programs, options: &RunOptions) -> anyhow::Result<Segment> {
    let sandbox = enter(&programs, &[])?;
    build_on(&sandbox, "segment", Plan::pair(), programs, options)
}
