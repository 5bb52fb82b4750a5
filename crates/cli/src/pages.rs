//! Man pages and completions, made from the command line itself so that they cannot differ from it.

use std::fs;
use std::path::Path;

use clap::{Args as _, Command, CommandFactory as _};
use clap_complete::{Shell, generate};
use haarb_daemon::Options;

use crate::args::Args;
use crate::failure::{Failure, print};

/// Of haarb's pages: for those who run a system (man-pages(7)).
const SECTION: &str = "8";

/// The daemons: name, one line, and what their operator should know.
const DAEMONS: [(&str, &str, &str); 6] = [
    (
        "haarb-arbiter",
        "decides which server serves",
        "Takes the reports of the other daemons, decides by haarb's rules, and tells each daemon what to hold. \
         Listens on two Unix sockets in the run directory. A restart has no effect on what is held.",
    ),
    (
        "haarb-link-watcher",
        "watches the links of this server",
        "Reports carrier, state and addresses of its interfaces, and why a link is down.",
    ),
    (
        "haarb-prober",
        "asks neighbours and switches whether they live",
        "Sends ICMP ECHO requests and authenticated UDP datagrams over every network. Needs CAP_NET_RAW.",
    ),
    (
        "haarb-vip-agent",
        "holds the virtual IPs of this server",
        "Adds and removes virtual IPs, announces them, and has the kernel end them with their lease. SIGTERM \
         lets go of every virtual IP; SIGUSR1 ends the daemon and leaves them under their leases, for a \
         restart without an effect. Needs CAP_NET_ADMIN and CAP_NET_RAW, and CAP_BPF for the gate.",
    ),
    (
        "haarb-syncer",
        "replicates the directories of the reserves",
        "Sends changes to the other servers, or applies theirs. A version that would be lost is moved aside: \
         see haarb-conflicts(8). Runs as root, with the capabilities that files of any owner take.",
    ),
    (
        "haarb-supervisor",
        "runs the services of the reserves",
        "Starts, watches and stops services. A restart does not touch them: each one has a keeper of its own. \
         Runs as root.",
    ),
];

/// Prints a completion script.
pub(crate) fn complete(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(shell, &mut Args::command(), "haarb", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Writes the man pages of `haarb`, of its subcommands and of the daemons into a directory.
pub(crate) fn man(dir: &Path) -> Result<(), Failure> {
    let unwritable = |e| Failure::new(format!("{}: no man pages written ({e})", dir.display()));
    fs::create_dir_all(dir).map_err(unwritable)?;
    let mut haarb = Args::command();
    haarb.build();
    let mut commands = Vec::new();
    collect(&haarb, "", &mut commands);
    commands.extend(DAEMONS.map(daemon));
    for command in commands {
        let file = dir.join(format!("{}.{SECTION}", command.get_name()));
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .section(SECTION)
            .source(concat!("haarb ", env!("CARGO_PKG_VERSION")))
            .manual("haarb")
            .date("")
            .render(&mut page)
            .map_err(unwritable)?;
        fs::write(file, page).map_err(unwritable)?;
    }
    Ok(())
}

/// A command and all below it that are shown, each under its full name.
fn collect(command: &Command, before: &str, pages: &mut Vec<Command>) {
    let name = match before {
        "" => command.get_name().to_owned(),
        before => format!("{before}-{}", command.get_name()),
    };
    for below in command.get_subcommands() {
        if !below.is_hide_set() && below.get_name() != "help" {
            collect(below, &name, pages);
        }
    }
    pages.push(command.clone().name(name).disable_help_subcommand(true));
}

fn daemon((name, about, long): (&'static str, &'static str, &'static str)) -> Command {
    Options::augment_args(Command::new(name))
        .about(about)
        .long_about(long)
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(
            "SIGTERM ends it. Under systemd it says when it is ready and that its loop turns (sd_notify(3)). \
             What is logged: HAARB_LOG (error, warn, info, debug, trace). Exit status: 0 asked to stop, 1 \
             failed, 2 wrong usage, 101 a bug.",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_daemon_has_a_page() {
        let dir = tempfile::tempdir().expect("a directory");
        man(dir.path()).expect("pages");
        for (page, words) in [
            ("haarb.8", "haarb\\-switchover(8)"),
            ("haarb-switchover.8", "RESERVE"),
            ("haarb-config-check.8", "Examples"),
            ("haarb-vip-agent.8", "SIGUSR1"),
        ] {
            let text = fs::read_to_string(dir.path().join(page)).expect(page);
            assert!(text.contains(words), "{page} lacks {words}: {text}");
        }
        let pages: Vec<_> = fs::read_dir(dir.path()).expect("pages").flatten().collect();
        let hidden = |e: &fs::DirEntry| e.file_name().to_string_lossy().contains("haarb-man");
        assert!(!pages.iter().any(hidden));
        assert!(
            crate::run::DAEMONS
                .iter()
                .all(|d| DAEMONS.iter().any(|(name, ..)| *name == d.name))
        );
    }
}
