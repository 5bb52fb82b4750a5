//! The `haarb` command: what an operator types, and `haarb run`, which keeps the daemons of
//! one server going. It decides nothing about reserves; it asks the arbiter.
//!
//! Exit status: 0 done, 1 refused or failed (on standard error what, why and what to do),
//! 2 wrong usage.

mod args;
mod command;
mod config;
mod confirm;
mod conflicts;
mod control;
mod events;
mod failure;
mod pages;
mod run;
mod status;
mod sync;
mod when;
mod why;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command, ConfigCommand, ConflictsCommand, KeyCommand, SyncCommand};
use failure::{Failure, print};

fn main() -> ExitCode {
    let args = Args::parse();
    match act(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn act(args: Args) -> Result<(), Failure> {
    let Args { options, command } = args;
    match command {
        Command::Run { bin_dir } => run::run(&options, bin_dir.as_deref()),
        Command::Completions { shell } => pages::complete(shell),
        Command::Man { dir } => pages::man(&dir),
        Command::Leave => run::leave(&options),
        Command::Status { json, watch } => status::show(&options, json, watch),
        Command::Events {
            follow,
            json,
            since,
        } => events::show(&options, follow, json, since),
        Command::Why { reserve } => why::show(&options, reserve.as_deref()),
        Command::Config { command } => match command {
            ConfigCommand::Check { file } => config::check(&options, file.as_deref()),
            ConfigCommand::Show { file } => config::show(&options, file.as_deref()),
        },
        Command::Conflicts { command } => match command {
            ConflictsCommand::List => conflicts::list(&options),
            ConflictsCommand::Diff { version } => conflicts::diff(&options, &version),
            ConflictsCommand::Restore { versions } => conflicts::restore(&options, &versions),
            ConflictsCommand::Purge { versions, all } => conflicts::purge(&options, &versions, all),
        },
        Command::Sync {
            command: SyncCommand::Test { paths },
        } => sync::test(&options, &paths),
        Command::Sync {
            command: SyncCommand::Confirm { directory },
        } => confirm::confirm(&options, &directory),
        Command::Key {
            command: KeyCommand::Generate { file },
        } => {
            haarb_wire::ClusterKey::generate(&file).map_err(|e| Failure::new(e.to_string()))?;
            print(&format!(
                "{}: a new cluster key; copy this file to every server, readable by haarb alone\n",
                file.display()
            ))
        }
        Command::Switchover { .. }
        | Command::Promote { .. }
        | Command::Demote { .. }
        | Command::Maintenance { .. }
        | Command::Clear { .. } => command::send(&options, command),
        Command::Apply { .. } => Err(not_there(
            "apply",
            "edit the file on every server and restart haarb there, the standby first",
        )),
        Command::Resources { .. } => Err(not_there(
            "resources",
            "edit `reserves` in the configuration and check it with `haarb config check`",
        )),
        Command::Setup { .. } => Err(not_there(
            "setup",
            "write the configuration by hand and check it with `haarb config check`",
        )),
    }
}

fn not_there(name: &str, instead: &str) -> Failure {
    Failure::new(format!(
        "{name}: this command is not there yet; until then {instead}"
    ))
}
