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

/// Where, in a server, lie the files that give services a mood (see `haarb-lab serve --mood`).
const MOODS: &str = "/etc/haarb";

/// The file on the server's disk that gives the service of a reserve a mood.
#[must_use]
pub fn mood_file(lab: &Segment, server: ServerId, reserve: &str) -> PathBuf {
    let etc = lab.server(server).disk().join("etc");
    etc.join(format!("{reserve}.mood"))
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
            "    services:\n      - {{ name: echo, exec: [{HELPER}, \"{MARK}\", serve, --port, \"{port}\", --mood, {MOODS}/{reserve}.mood{write}] }}"
        )?;
    }
    Ok(())
}

/// The reserves that the plan's virtual IPs belong to, in their order.
#[must_use]
pub fn reserves(plan: &Plan) -> Vec<&str> {
    plan.reserves()
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
    build_with_times(plan, dir, programs, options, &[])
}

/// The same with some times other than the profile's, as `timing` has them: key and value.
///
/// # Errors
/// See [`build`].
pub fn build_with_times(
    plan: Plan,
    dir: impl Into<PathBuf>,
    programs: Programs,
    options: &ClusterOptions,
    times: &[(&str, &str)],
) -> Result<Segment, LabError> {
    let yaml = with_times(&config_yaml(&plan, options), times);
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
    generate_key(&programs.bin_dir, &dir.join(KEY))?;
    let config = dir.join(CONFIG);
    fs::write(&config, yaml).map_err(LabError::file(config))?;
    let lab = Segment::build(plan, dir, programs, boot)?;
    for server in 0..lab.plan().servers.len() {
        restore(&lab, server)?;
        for reserve in reserves(lab.plan()) {
            let directory = lab.server(server).disk().join("srv").join(reserve);
            fs::create_dir_all(&directory).map_err(LabError::file(directory))?;
        }
    }
    Ok(lab)
}

/// The configuration with some times of its own.
fn with_times(yaml: &str, times: &[(&str, &str)]) -> String {
    let lines: String = times
        .iter()
        .map(|(key, value)| format!("  {key}: {value}\n"))
        .collect();
    yaml.replacen("timing:\n", &format!("timing:\n{lines}"), 1)
}

/// Names of the configuration and the key, in the lab's directory and on every server's disk.
const CONFIG: &str = "haarb.yaml";
const KEY: &str = "cluster.key";

/// `software-dead-after` of the lab's configuration: its profile's, as it is documented.
#[must_use]
pub fn software_dead_after_ms(lab: &Segment) -> f64 {
    let (_, original) = original(lab, 0, CONFIG);
    let yaml = fs::read_to_string(original).unwrap_or_default();
    let profile = yaml
        .lines()
        .find_map(|line| line.trim().strip_prefix("profile: "));
    match profile {
        Some("telecom") => 800.0,
        Some("wan") => 6_000.0,
        // lan is the default.
        _ => 2_000.0,
    }
}

/// What an operator put on a server's disk, and where the lab keeps the original.
fn original(lab: &Segment, server: ServerId, name: &str) -> (PathBuf, PathBuf) {
    let disk = lab.server(server).disk();
    // <lab>/<server>/disk
    let lab = disk.ancestors().nth(2).unwrap_or(&disk).join(name);
    (disk.join("etc").join(name), lab)
}

/// Puts configuration, key and a service without moods on a server's disk, where they are not there
/// already. Tells whether anything had to be changed that the server's programs have read.
///
/// # Errors
/// As the file system refuses.
pub fn restore(lab: &Segment, server: ServerId) -> Result<bool, LabError> {
    let mut changed = false;
    for name in [CONFIG, KEY] {
        let (place, original) = original(lab, server, name);
        let wanted = fs::read(&original).map_err(LabError::file(&original))?;
        if fs::read(&place).is_ok_and(|found| found == wanted) {
            continue;
        }
        // `copy` keeps the permissions of the key, which haarb checks.
        fs::copy(&original, &place).map_err(LabError::file(&place))?;
        changed = true;
    }
    for reserve in reserves(lab.plan()) {
        let mood = mood_file(lab, server, reserve);
        // A service in a mood keeps it until it is started anew.
        changed |= mood.exists() && fs::remove_file(mood).is_ok();
    }
    Ok(changed)
}

/// Makes a server's configuration another one than the others'.
///
/// # Errors
/// As the file system refuses.
pub fn change_config(lab: &Segment, server: ServerId) -> Result<(), LabError> {
    let (place, original) = original(lab, server, CONFIG);
    let yaml = fs::read_to_string(&original).map_err(LabError::file(original))?;
    fs::write(&place, with_times(&yaml, &[("drain-max", "6s")])).map_err(LabError::file(place))
}

/// Gives a server another cluster key than the others'.
///
/// # Errors
/// As the file system refuses.
pub fn change_key(lab: &Segment, server: ServerId) -> Result<(), LabError> {
    let (place, _) = original(lab, server, KEY);
    fs::remove_file(&place).map_err(LabError::file(&place))?;
    generate_key(&lab.programs().bin_dir, &place)
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
      - { name: echo, exec: [/opt/haarb/lab, \"@lab-role\", serve, --port, \"7000\", --mood, /etc/haarb/demo.mood, --write-dir, /srv/demo] }
";
        assert_eq!(config_yaml(&Plan::pair(), &options), expected);
    }
}
