//! Options that several commands share, and the segment they ask for.

use std::path::PathBuf;

use clap::ValueEnum;
use haarb_lab::{
    plan::Plan,
    sandbox,
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

/// Enters the sandbox and builds the pair in it, all servers off.
pub(crate) fn build(programs: Programs, options: &RunOptions) -> anyhow::Result<Segment> {
    setup::check_binaries(&programs.bin_dir)?;
    let sandbox = sandbox::enter(&[&programs.bin_dir])?;
    let profile = match options.profile {
        Profile::Telecom => "telecom",
        Profile::Lan => "lan",
    };
    let options = ClusterOptions {
        profile: profile.into(),
        files: !options.without_files,
    };
    Ok(setup::build(
        Plan::pair(),
        sandbox.dir.join("segment"),
        programs,
        &options,
    )?)
}
