//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use haarb_daemon::Options;

use crate::when::Since;

/// Keeps services reachable when a server, a network or an operating system fails
#[derive(Debug, Parser)]
#[command(
    name = "haarb",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "\
Exit status: 0 done; 1 refused or failed, standard error says what, why and what to do;
2 wrong usage.

Every option also has an environment variable: HAARB_CONFIG, HAARB_NODE, HAARB_RUN_DIR,
HAARB_STATE_DIR, HAARB_KEY.

First steps on a new pair of servers:
  haarb key generate /etc/haarb/cluster.key     on one server; copy it to the other
  haarb config check /etc/haarb/haarb.yaml      the same file on both
  haarb run                                     on both
  haarb status"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start all daemons of this server in the foreground and keep them going
    #[command(after_help = "\
For containers, for systems without systemd, and for labs; on systemd hosts the units do this.

A daemon that dies is started again at once; if it goes on dying, after a pause that doubles up
to one second. The others go on meanwhile, and the restarted one picks up what is held.

SIGTERM or Ctrl-C stops the server in order: the arbiter hands over what the neighbour can take
and lets go of the rest, then the daemons stop one by one. A second signal does not wait.

If `haarb run` itself is killed (SIGKILL, out of memory), the kernel tells every daemon: the
vip-agent gets SIGTERM and removes the virtual IPs, the others end. Services are stopped when
their lease ends, half a second to three seconds later, depending on the profile. Should the
vip-agent be unable to act, the lifetime of the address in the kernel ends it.

Examples:
  haarb run
  haarb run --config ./haarb.yaml --node alpha --run-dir ./alpha/run --state-dir ./alpha/state")]
    Run {
        /// Where the daemons are [default: beside this program]
        #[arg(long, env = "HAARB_BIN_DIR", value_name = "DIR")]
        bin_dir: Option<PathBuf>,
    },
    /// Show who serves, how the networks and neighbours are, and what is wrong
    #[command(after_help = "\
Examples:
  haarb status
  haarb status --watch                          on every change, until Ctrl-C
  haarb status --json | jq -r '.reserves[] | .name + \" \" + .role'")]
    Status {
        /// As JSON; with --watch one object per line
        #[arg(long)]
        json: bool,
        /// Again after every change
        #[arg(long)]
        watch: bool,
    },
    /// Move a reserve to another server, in order and without loss
    #[command(after_help = "\
The active server stops the services, sends the rest of the replica, releases the virtual IPs;
the other one takes them. Refused where the other server could not take over: `haarb status`
says why.

Examples:
  haarb switchover sip
  haarb switchover sip --to beta")]
    Switchover {
        /// The reserve
        reserve: String,
        /// The server that is to serve [default: the first in line]
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
    },
    /// Make this server active for a reserve
    #[command(after_help = "\
For the cases that haarb leaves to a person: old data with `prefer: consistency`, or a
neighbour that cannot be judged. With --force it takes the reserve although a rule forbids it:
make sure first that the other server is off. It still waits for one that may hold the virtual
IPs, for as long as a lease can last, and needs the vip-agent and the prober of this server.

Examples:
  haarb promote sip
  haarb promote sip --accept-stale              go on with old data; newer ones are kept aside
  haarb promote sip --force")]
    Promote {
        /// The reserve
        reserve: String,
        /// Even where a rule forbids it
        #[arg(long)]
        force: bool,
        /// Even with a replica that is older than the last data of the other server
        #[arg(long)]
        accept_stale: bool,
    },
    /// Make this server let go of a reserve, and not take it back by itself
    Demote {
        /// The reserve
        reserve: String,
    },
    /// Hand over and let go of everything on this server, as before it is shut down
    #[command(after_help = "\
What a neighbour can take is handed over in order; the rest is let go of. This server takes nothing
again until its arbiter is restarted. The units do this when they are stopped.

Example:
  haarb leave && systemctl stop haarb")]
    Leave,
    /// Switch nothing over and stop nothing while you work
    #[command(after_help = "\
While maintenance is on, services and virtual IPs stay where they are, whatever happens.

Examples:
  haarb maintenance on
  haarb maintenance off")]
    Maintenance {
        /// on or off
        state: OnOff,
    },
    /// Forget the failures of a reserve's services and try again
    Clear {
        /// The reserve
        reserve: String,
    },
    /// List what happened: changes of role with their rule, alarms, commands
    #[command(after_help = "\
Examples:
  haarb events --since 1h
  haarb events --since '2026-03-01 08:00'
  haarb events --follow --json")]
    Events {
        /// Go on with new ones, until Ctrl-C
        #[arg(long)]
        follow: bool,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
        /// From here on: 10m, 2h, 1d ago, a time of today, a date, or both
        #[arg(long, value_name = "T")]
        since: Option<Since>,
    },
    /// Explain the last change of role: the rule, what was seen, and what is wrong now
    Why {
        /// The reserve [default: all]
        reserve: Option<String>,
    },
    /// Check or show the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Show, restore or delete the versions that were moved aside on this server
    Conflicts {
        #[command(subcommand)]
        command: ConflictsCommand,
    },
    /// Explain what is replicated
    Sync {
        #[command(subcommand)]
        command: SyncCommand,
    },
    /// Bring a changed configuration to the cluster (not there yet)
    #[command(hide = true)]
    Apply {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Show, add and remove what a reserve contains (not there yet)
    #[command(hide = true)]
    Resources {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Set up a new cluster step by step (not there yet)
    #[command(hide = true)]
    Setup {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Print a completion script for a shell
    #[command(after_help = "\
The packages install them. Example:
  haarb completions bash > /etc/bash_completion.d/haarb")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man {
        /// Where to write them
        dir: PathBuf,
    },
    /// Make the cluster key
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnOff {
    On,
    Off,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a file and compute the inequalities of its times
    #[command(after_help = "\
With --node (or HAARB_NODE) the interfaces and own addresses of that server are compared with
this machine.

Examples:
  haarb config check haarb.yaml
  haarb config check haarb.yaml --node alpha    on alpha")]
    Check {
        /// The file [default: --config]
        file: Option<PathBuf>,
    },
    /// Show the effective configuration, defaults included
    Show {
        /// The file [default: --config]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConflictsCommand {
    /// List them: what, of which directory, and why
    List,
    /// Compare one with what stands in its place now
    Diff {
        /// As `haarb conflicts list` calls it
        version: String,
    },
    /// Put versions back in their places; what stood there is kept instead
    #[command(after_help = "\
Only on the server that serves the reserve; on another one the way there is told. Nothing is
overwritten: the two are exchanged, and the same command takes it back.

Example:
  haarb conflicts restore 7-20260301T080000.000Z/spool/job")]
    Restore {
        /// As `haarb conflicts list` calls them
        #[arg(required = true, value_name = "VERSION")]
        versions: Vec<String>,
    },
    /// Delete versions for good
    Purge {
        /// As `haarb conflicts list` calls them
        #[arg(required_unless_present = "all", value_name = "VERSION")]
        versions: Vec<String>,
        /// Every one on this server
        #[arg(long, conflicts_with = "versions")]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SyncCommand {
    /// Say whether a path is replicated, and which pattern of `exclude` decides
    #[command(after_help = "\
Asks the configuration alone. A path that is not there is a directory if it ends in /.

Examples:
  haarb sync test /srv/sip/spool/a.tmp
  haarb sync test /srv/sip/cache/")]
    Test {
        /// The paths
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
    /// Say that a mass deletion which is held back is meant so
    #[command(after_help = "\
When more files vanish at once than `deletion-limit` of the directory allows, the standbys keep
them until you say this on the active server. What vanishes later is judged anew.

Example:
  haarb sync confirm /srv/sip")]
    Confirm {
        /// The replicated directory
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Write a new random key to a file that does not exist yet
    #[command(after_help = "\
Servers of one cluster share one key. Whoever has it can speak as one of them, so it is
readable by its owner alone. Make it on one server and copy it to the others.

Example:
  haarb key generate /etc/haarb/cluster.key")]
    Generate {
        /// Where to write it
        file: PathBuf,
    },
}
