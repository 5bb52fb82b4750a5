//! Everything that can be known to be wrong before a daemon is started, all of it at once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use haarb_api::transport::{agent_socket, control_socket};
use haarb_config::Config;
use haarb_daemon::Options;
use haarb_model::NodeName;
use haarb_wire::ClusterKey;
use nix::fcntl::{Flock, FlockArg};

use super::DAEMONS;
use crate::config::interfaces;
use crate::failure::Failure;

/// The longest path of a Unix socket: `sun_path` has 108 bytes with a zero (unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// Bits of `CapEff` in proc(5) with their names (capability.h).
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW")];

/// A server that may be started.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) config: Config,
    pub(super) me: NodeName,
    pub(super) bin_dir: PathBuf,
    /// What is not as it should be, but does not keep the server from running.
    pub(super) warnings: Vec<String>,
    /// Keeps a second `haarb run` out of the run directory.
    _lock: Flock<File>,
}

/// Checks everything.
///
/// # Errors
/// One line per problem.
pub(super) fn check(options: &Options, bin_dir: Option<&Path>) -> Result<Ready, Failure> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let loaded = options.load_config();
    match &loaded {
        Ok((_, me)) => machine(options, me, &mut problems, &mut warnings),
        Err(lines) => problems.push(lines.clone()),
    }
    if let Err(e) = ClusterKey::load(&options.key) {
        problems.push(e.to_string());
    }
    let bin_dir = daemons(bin_dir, &mut problems);
    privileges(&mut problems);
    let lock = run_dir(&options.run_dir, &mut problems);
    if let Err(e) = create(&options.state_dir) {
        warnings.push(format!(
            "{}: cannot be created ({e}); the server runs, but forgets its epochs and events with a restart",
            options.state_dir.display()
        ));
    }
    match (loaded, bin_dir, lock) {
        (Ok((config, me)), Some(bin_dir), Some(lock)) if problems.is_empty() => Ok(Ready {
            config,
            me,
            bin_dir,
            warnings,
            _lock: lock,
        }),
        _ => Err(Failure::new(problems.join("\n"))),
    }
}

/// Whether the interfaces are there; a missing own address may still come.
fn machine(
    options: &Options,
    me: &NodeName,
    problems: &mut Vec<String>,
    warnings: &mut Vec<String>,
) {
    let compared = interfaces().map(|machine| Config::misfits(&options.config, me, &machine));
    match compared {
        Ok(Ok(misfits)) => {
            problems.extend(misfits.interfaces.iter().map(ToString::to_string));
            warnings.extend(misfits.addresses.iter().map(ToString::to_string));
        }
        Ok(Err(errors)) => problems.push(errors.to_string()),
        Err(Failure::Lines(lines)) => problems.push(lines),
        Err(Failure::NobodyReads | Failure::Said) => {}
    }
}

/// The directory of the daemons, if all of them are there.
fn daemons(bin_dir: Option<&Path>, problems: &mut Vec<String>) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent().map(PathBuf::from);
    let dir = bin_dir.map(PathBuf::from).or(beside)?;
    let runs = |name: &&str| {
        fs::metadata(dir.join(name))
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let missing: Vec<&str> = DAEMONS
        .iter()
        .map(|d| d.name)
        .filter(|n| !runs(n))
        .collect();
    if missing.is_empty() {
        return Some(dir);
    }
    problems.push(format!(
        "{}: these daemons are not there or not executable: {}; install them beside haarb, or name their directory with --bin-dir",
        dir.display(),
        missing.join(", ")
    ));
    None
}

/// Addresses and raw sockets need privileges, in whatever user namespace this is.
fn privileges(problems: &mut Vec<String>) {
    let Ok(status) = fs::read_to_string("/proc/self/status") else {
        // Without /proc nobody can say; the daemons will.
        return;
    };
    let missing = missing_capabilities(&status);
    if !missing.is_empty() {
        problems.push(format!(
            "this user may not do what a server needs: {} missing; run it as root, or with these capabilities",
            missing.join(" and ")
        ));
    }
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let Some(effective) = effective else {
        return Vec::new();
    };
    CAPABILITIES
        .iter()
        .filter(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect()
}

/// Makes the run directory ours alone.
fn run_dir(dir: &Path, problems: &mut Vec<String>) -> Option<Flock<File>> {
    let longest = agent_socket(dir)
        .as_os_str()
        .len()
        .max(control_socket(dir).as_os_str().len());
    if longest > SOCKET_PATH_MAX {
        problems.push(format!(
            "{}: too long a path for the sockets in it, by {} bytes; choose a shorter --run-dir",
            dir.display(),
            longest - SOCKET_PATH_MAX
        ));
        return None;
    }
    let cannot = |what: &str, e: &dyn std::fmt::Display| {
        format!(
            "{}: {what} ({e}); run it as root, or choose another --run-dir",
            dir.display()
        )
    };
    if let Err(e) = create(dir) {
        problems.push(cannot("the run directory cannot be created", &e));
        return None;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("run.lock"));
    let file = match file {
        Ok(file) => file,
        Err(e) => {
            problems.push(cannot("the run directory cannot be written", &e));
            return None;
        }
    };
    let taken = "haarb runs here already; stop it first (SIGTERM to `haarb run`, or `systemctl stop haarb.target`), or give this server its own --run-dir";
    let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        problems.push(format!("{}: {taken}", dir.display()));
        return None;
    };
    // Daemons that the units started take no lock, but they answer.
    if UnixStream::connect(control_socket(dir)).is_ok() {
        problems.push(format!("{}: {taken}", control_socket(dir).display()));
        return None;
    }
    Some(lock)
}

fn create(dir: &Path) -> std::io::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
    match made {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        for (effective, missing) in [
            ("000001ffffffffff", vec![]),
            ("0000000000003000", vec![]),
            ("0000000000001000", vec!["CAP_NET_RAW"]),
            ("0000000000000000", vec!["CAP_NET_ADMIN", "CAP_NET_RAW"]),
        ] {
            let status = format!("Name:\tx\nCapInh:\t0\nCapEff:\t{effective}\n");
            assert_eq!(missing_capabilities(&status), missing, "{effective}");
        }
    }
}
