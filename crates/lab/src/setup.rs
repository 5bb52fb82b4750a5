//! What an operator would put on the servers: the configuration file and the cluster key.
//!
//! Written in the form that the product documents, from the lab's [`Plan`]. The key is made by `haarb`
//! itself, as an operator would.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::LabError,
    guest::{BIN_DIR, BootCommand},
    plan::{Plan, ServerId},
    roles::{HELPER, MARK},
    segment::Segment,
    server::Programs,
};

/// Programs without which a server of haarb cannot run.
pub const NEEDED: [&str; 7] = [
    "haarb",
    "haarb-arbiter",
    "haarb-link-watcher",
    "haarb-prober",
    "haarb-vip-agent",
    "haarb-syncer",
    "haarb-supervisor",
];

/// What the lab lets a user choose about the cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// `timing.profile`: telecom, lan or wan.
    pub profile: String,
    /// Give the reserve a replicated directory and let the service write a file version every 10 ms
    /// into it.
    pub files: bool,
}

/// The replicated directory of a reserve.
#[must_use]
pub fn directory_of(reserve: &str) -> String {
    format!("/srv/{reserve}")
}

/// The configuration file for the whole cluster.
#[must_use]
pub fn config_yaml(plan: &Plan, options: &ClusterOptions) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write_config(&mut text, plan, options);
    text
}

fn write_config(out: &mut String, plan: &Plan, options: &ClusterOptions) -> std::fmt::Result {
    writeln!(
        out,
        "cluster: lab\ntiming:\n  profile: {}\nnetworks:",
        options.profile
    )?;
    for (network, name) in plan.networks.iter().enumerate() {
        writeln!(
            out,
            "  - {{ name: {name}, switch: {} }}",
            plan.switch_addresses(network)[0].0
        )?;
    }
    writeln!(out, "nodes:")?;
    for (server, name) in plan.servers.iter().enumerate() {
        writeln!(out, "  - name: {name}\n    networks:")?;
        for (network, net) in plan.networks.iter().enumerate() {
            let address = plan.server_addresses(server, network)[0].0;
            writeln!(
                out,
                "      {net}: {{ interface: {}, address: {address} }}",
                plan.interface(network)
            )?;
        }
    }
    writeln!(out, "reserves:")?;
    for (number, reserve) in reserves(plan).into_iter().enumerate() {
        writeln!(out, "  - name: {reserve}\n    vips:")?;
        for vip in plan.vips.iter().filter(|vip| vip.reserve == reserve) {
            let interface = plan.interface(vip.network);
            writeln!(
                out,
                "      - {{ address: {}/{}, interface: {interface} }}",
                vip.address, vip.prefix
            )?;
        }
        let mut write = String::new();
        if options.files {
            let directory = directory_of(reserve);
            writeln!(out, "    directories:\n      - {{ path: {directory} }}")?;
            write = format!(", --write-dir, {directory}");
        }
        let port = usize::from(plan.port) + number;
        writeln!(
            out,
            "    services:\n      - {{ name: echo, exec: [{HELPER}, \"{MARK}\", serve, --port, \"{port}\"{write}] }}"
        )?;
    }
    Ok(())
}

/// The reserves that the plan's virtual IPs belong to, in their order.
#[must_use]
pub fn reserves(plan: &Plan) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for vip in &plan.vips {
        if !names.contains(&vip.reserve.as_str()) {
            names.push(&vip.reserve);
        }
    }
    names
}

/// What a server of haarb starts when it is switched on.
#[must_use]
pub fn boot(plan: &Plan, server: ServerId) -> Vec<BootCommand> {
    let argv = [
        &format!("{BIN_DIR}/haarb"),
        "run",
        "--config",
        "/etc/haarb/haarb.yaml",
        "--node",
        &plan.servers[server],
        "--run-dir",
        "/run/haarb",
        "--state-dir",
        "/var/lib/haarb",
        "--key",
        "/etc/haarb/cluster.key",
    ];
    vec![BootCommand {
        name: "haarb".into(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
    }]
}

/// Checks that all binaries under test are there.
///
/// # Errors
/// [`LabError::Binaries`] with those that are missing.
pub fn check_binaries(dir: &Path) -> Result<(), LabError> {
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|name| !dir.join(name).is_file())
        .map(|name| (*name).to_owned())
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(LabError::Binaries {
            dir: dir.to_owned(),
            names: missing,
        })
    }
}

/// Builds a segment whose servers run haarb, with configuration, key and directories on their disks;
/// all servers are off.
///
/// # Errors
/// When a binary is missing, the key cannot be made, or the kernel refuses something.
pub fn build(
    plan: Plan,
    dir: impl Into<PathBuf>,
    programs: Programs,
    options: &ClusterOptions,
) -> Result<Segment, LabError> {
    let yaml = config_yaml(&plan, options);
    build_with(plan, dir, programs, &yaml, boot)
}

/// Like [`build`], with this configuration file and with servers that start what `boot` says.
///
/// # Errors
/// See [`build`].
pub fn build_with(
    plan: Plan,
    dir: impl Into<PathBuf>,
    programs: Programs,
    yaml: &str,
    boot: impl Fn(&Plan, ServerId) -> Vec<BootCommand>,
) -> Result<Segment, LabError> {
    let dir = dir.into();
    check_binaries(&programs.bin_dir)?;
    fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
    let key = dir.join("cluster.key");
    generate_key(&programs.bin_dir, &key)?;
    let lab = Segment::build(plan, dir, programs, boot)?;
    for server in 0..lab.plan().servers.len() {
        let disk = lab.server(server).disk();
        let config = disk.join("etc/haarb.yaml");
        fs::write(&config, yaml).map_err(LabError::file(config))?;
        // `copy` keeps the permissions, which haarb checks.
        let place = disk.join("etc/cluster.key");
        fs::copy(&key, &place).map_err(LabError::file(place))?;
        for reserve in reserves(lab.plan()) {
            let directory = disk.join("srv").join(reserve);
            fs::create_dir_all(&directory).map_err(LabError::file(directory))?;
        }
    }
    Ok(lab)
}

fn generate_key(bin_dir: &Path, key: &Path) -> Result<(), LabError> {
    let failed = |reason: String| LabError::Command {
        server: "this machine".into(),
        command: format!("haarb key generate {}", key.display()),
        reason,
    };
    let output = Command::new(bin_dir.join("haarb"))
        .args(["key", "generate"])
        .arg(key)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() && key.is_file() {
        return Ok(());
    }
    Err(failed(format!(
        "{}, {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pairs_configuration_is_as_documented() {
        let options = ClusterOptions {
            profile: "telecom".into(),
            files: true,
        };
        let expected = "\
cluster: lab
timing:
  profile: telecom
networks:
  - { name: red, switch: 10.77.1.254 }
  - { name: blue, switch: 10.77.2.254 }
nodes:
  - name: alpha
    networks:
      red: { interface: eth0, address: 10.77.1.1 }
      blue: { interface: eth1, address: 10.77.2.1 }
  - name: beta
    networks:
      red: { interface: eth0, address: 10.77.1.2 }
      blue: { interface: eth1, address: 10.77.2.2 }
reserves:
  - name: demo
    vips:
      - { address: 10.77.1.100/24, interface: eth0 }
      - { address: 10.77.2.100/24, interface: eth1 }
    directories:
      - { path: /srv/demo }
    services:
      - { name: echo, exec: [/opt/haarb/lab, \"@lab-role\", serve, --port, \"7000\", --write-dir, /srv/demo] }
";
        assert_eq!(config_yaml(&Plan::pair(), &options), expected);
    }
}
