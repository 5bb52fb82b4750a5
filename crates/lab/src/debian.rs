//! The pair as an operator has it: two Debian servers that systemd boots, with haarb from its package.
//!
//! Everything is done as the pages for operators say: `dpkg`, `systemctl`, two files copied. What the
//! servers are made of is in [`crate::guest::debian`].

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cluster::{self, Goal},
    error::LabError,
    guest::debian::FROM_LAB,
    plan::{Plan, ServerId},
    roles::{HELPER, MARK},
    segment::Segment,
    server::{Output, Programs},
    setup::{self, ClusterOptions},
};

/// How long a command of an operator may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long a server takes to boot, at most.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// How long the pair takes to be whole.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// The unit of the measured service.
pub const MEASURED: &str = "measured.service";

/// The packages that servers are given.
#[derive(Debug, Clone, Default)]
pub struct Packages {
    /// Of haarb, the oldest version first.
    pub haarb: Vec<PathBuf>,
    /// Of services.
    pub services: Vec<PathBuf>,
}

impl Packages {
    /// Those in a directory and in `services` below it.
    ///
    /// # Errors
    /// There is none of haarb; says how to make one.
    pub fn find(dir: &Path) -> Result<Self, String> {
        let haarb = in_dir(dir, "haarb_");
        if haarb.is_empty() {
            return Err(format!(
                "no package of haarb in {}: make one with `cargo xtask dist`",
                dir.display()
            ));
        }
        Ok(Self {
            haarb,
            services: in_dir(&dir.join("services"), ""),
        })
    }

    /// Whether a package of this name is among those of services.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let start = format!("{name}_");
        self.services
            .iter()
            .any(|path| file_name(path).starts_with(&start))
    }
}

fn in_dir(dir: &Path, start: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = file_name(path);
            name.starts_with(start) && name.ends_with(".deb")
        })
        .collect();
    found.sort();
    found
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Builds the pair, booted, without haarb.
///
/// # Errors
/// As the kernel refuses, or where a server does not boot.
pub fn build(dir: &Path, programs: Programs) -> Result<Segment, LabError> {
    let mut lab = Segment::build(Plan::pair(), dir, programs, |_, _| Vec::new())?;
    lab.become_debian()?;
    for server in 0..lab.plan().servers.len() {
        lab.power_on(server)?;
    }
    for server in 0..lab.plan().servers.len() {
        booted(&lab, server)?;
    }
    Ok(lab)
}

/// Waits until a server has booted.
///
/// # Errors
/// It has not in time.
pub fn booted(lab: &Segment, server: ServerId) -> Result<(), LabError> {
    lab.until(
        "the server has booted",
        BOOT_LIMIT,
        Duration::from_millis(20),
        |lab| {
            let asked = lab.run(
                server,
                &["systemctl", "is-system-running", "--wait"],
                BOOT_LIMIT,
            );
            let said = asked.map_err(|error| error.to_string())?;
            match said.stdout.trim() {
                "running" | "degraded" => Ok(()),
                _ => Err(format!("{} {}", said.stdout.trim(), said.stderr.trim())),
            }
        },
    )
}

/// Runs a shell command on a server as its operator does; a status other than 0 is an error.
///
/// # Errors
/// The command's, with what it said.
pub fn sh(lab: &Segment, server: ServerId, command: &str) -> Result<String, LabError> {
    let output = try_sh(lab, server, command)?;
    if output.status == 0 {
        return Ok(output.stdout);
    }
    Err(LabError::Command {
        server: lab.server(server).name().to_owned(),
        command: command.to_owned(),
        reason: format!(
            "exit status {}: {}{}",
            output.status,
            output.stdout.trim(),
            output.stderr.trim()
        ),
    })
}

/// The same, whatever its status.
///
/// # Errors
/// It could not be run, or did not end in time.
pub fn try_sh(lab: &Segment, server: ServerId, command: &str) -> Result<Output, LabError> {
    lab.run(server, &["sh", "-c", command], COMMAND_LIMIT)
}

/// Installs packages on a server.
///
/// # Errors
/// dpkg's.
pub fn install(lab: &Segment, server: ServerId, packages: &[PathBuf]) -> Result<String, LabError> {
    let mut names = Vec::new();
    for package in packages {
        let name = file_name(package);
        let place = lab.server(server).disk().join(&name);
        fs::copy(package, &place).map_err(LabError::file(&place))?;
        names.push(format!("'{FROM_LAB}/{name}'"));
    }
    let said = sh(
        lab,
        server,
        &format!(
            "DEBIAN_FRONTEND=noninteractive dpkg -i {} 2>&1",
            names.join(" ")
        ),
    )?;
    for package in packages {
        let _ = fs::remove_file(lab.server(server).disk().join(file_name(package)));
    }
    Ok(said)
}

/// Gives a server the measured service, as a unit that nobody starts by itself.
///
/// # Errors
/// systemd's.
pub fn add_measured(lab: &Segment, server: ServerId) -> Result<(), LabError> {
    let port = lab.plan().port;
    let unit = format!(
        "[Unit]\\nDescription=answers the clients of the lab\\n[Service]\\nExecStart={HELPER} {MARK} serve --port {port}\\n"
    );
    sh(
        lab,
        server,
        &format!("printf '{unit}' > /etc/systemd/system/{MEASURED} && systemctl daemon-reload"),
    )
    .map(drop)
}

/// The configuration of the pair, with these services instead of the lab's own.
#[must_use]
pub fn config(plan: &Plan, services: &[String]) -> String {
    let options = ClusterOptions {
        profile: "telecom".into(),
        files: true,
    };
    let yaml = setup::config_yaml(plan, &options);
    let (before, _) = yaml.split_once("    services:\n").unwrap_or((&yaml, ""));
    let services: String = services
        .iter()
        .map(|service| format!("      - {service}\n"))
        .collect();
    format!("{before}    services:\n{services}")
}

/// Configures every server as docs/install.md says, and starts haarb: the key is made on the first
/// server and copied to the others.
///
/// # Errors
/// Those of the commands.
pub fn configure(lab: &Segment, yaml: &str) -> Result<(), LabError> {
    let first = "haarb key generate /etc/haarb/cluster.key && cat /etc/haarb/cluster.key";
    let said = sh(lab, 0, first)?;
    let key = said.lines().last().unwrap_or_default();
    for server in 0..lab.plan().servers.len() {
        let place = lab.server(server).disk().join("haarb.yaml");
        fs::write(&place, yaml).map_err(LabError::file(&place))?;
        if server > 0 {
            sh(
                lab,
                server,
                &format!("umask 077 && echo {key} > /etc/haarb/cluster.key"),
            )?;
        }
        sh(
            lab,
            server,
            &format!(
                "mkdir -p /srv/demo && cp {FROM_LAB}/haarb.yaml /etc/haarb/ && haarb config check && systemctl start haarb"
            ),
        )?;
    }
    Ok(())
}

/// Waits until one server serves and the other could take over.
///
/// # Errors
/// [`LabError::Deadline`], with what the servers log.
pub fn settled(lab: &Segment) -> Result<ServerId, LabError> {
    cluster::reach(lab, Goal::Settled, SETTLE_LIMIT)?.ok_or_else(|| LabError::Deadline {
        what: "one server serves".into(),
        waited_ms: 0.0,
        seen: "nobody".into(),
    })
}

/// What the servers' journals say of haarb, for a failure report.
#[must_use]
pub fn journals(lab: &Segment) -> String {
    let journal = |server| {
        let command = "systemctl --no-pager --full status 'haarb*' | head -100; journalctl --no-pager -n 80 -o short-precise";
        let said = try_sh(lab, server, command)
            .map_or_else(|error| error.to_string(), |output| output.stdout);
        format!("--- {}\n{said}", lab.server(server).name())
    };
    lab.powered().map(journal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_stand_where_the_labs_own_one_stood() {
        let yaml = config(
            &Plan::pair(),
            &["{ name: web, systemd: nginx.service }".into()],
        );
        assert!(
            yaml.ends_with("      - { path: /srv/demo }\n    services:\n      - { name: web, systemd: nginx.service }\n"),
            "{yaml}"
        );
    }
}
