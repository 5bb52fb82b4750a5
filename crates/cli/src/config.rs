//! `haarb config`: a file judged before it is used.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use haarb_config::{Config, Interfaces};
use haarb_daemon::Options;

use crate::failure::{Failure, print};

/// Checks a file, and with `--node` whether this machine can be that server.
pub(crate) fn check(options: &Options, file: Option<&Path>) -> Result<(), Failure> {
    let file = file.unwrap_or(&options.config);
    let config = load(file)?;
    if options.node.is_some() {
        let me = options.node_name().map_err(Failure::new)?;
        if config.node(&me).is_none() {
            return Err(unknown_node(file, &config, me.as_str()));
        }
        let machine = interfaces()?;
        let misfits =
            Config::misfits(file, &me, &machine).map_err(|e| Failure::new(e.to_string()))?;
        let mut problems: Vec<_> = misfits
            .interfaces
            .into_iter()
            .chain(misfits.addresses)
            .collect();
        if !problems.is_empty() {
            problems.sort_by_key(|p| (p.line, p.column));
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(Failure::new(lines.join("\n")));
        }
    }
    print(&verdict(file, &config))
}

/// Prints the effective configuration.
pub(crate) fn show(options: &Options, file: Option<&Path>) -> Result<(), Failure> {
    let config = load(file.unwrap_or(&options.config))?;
    print(&format!(
        "# digest {:016x}\n{}",
        config.digest,
        config.to_yaml()
    ))
}

fn load(file: &Path) -> Result<Config, Failure> {
    Config::load(file).map_err(|errors| Failure::new(errors.to_string()))
}

pub(crate) fn unknown_node(file: &Path, config: &Config, me: &str) -> Failure {
    let known: Vec<&str> = config.nodes.iter().map(|n| n.name.as_str()).collect();
    Failure::new(format!(
        "{}: {me} is not among its nodes ({}); give --node NAME",
        file.display(),
        known.join(", ")
    ))
}

/// What a good file means for the operator.
fn verdict(file: &Path, config: &Config) -> String {
    let mut out = format!(
        "{}: good; cluster {}, {} nodes, {} networks, {} reserves, profile {}, digest {:016x}\n",
        file.display(),
        config.cluster,
        config.nodes.len(),
        config.networks.len(),
        config.reserves.len(),
        config.profile.as_str(),
        config.digest
    );
    let m = config.profile.margins();
    let _ = writeln!(
        out,
        "times, with jitter {}, delay {}, drop {}, give way {}, granularity {}, misses {}:",
        m.jitter, m.delay, m.drop, m.give_way, m.granularity, m.switch_misses
    );
    for i in config.inequalities() {
        let _ = writeln!(
            out,
            "  {:<30} {:>7} {} {:<8} {}   {}",
            i.name,
            i.left.to_string(),
            if i.or_equal { ">=" } else { "> " },
            i.right.to_string(),
            if i.holds() { "holds" } else { "BROKEN" },
            i.formula
        );
    }
    let _ = writeln!(
        out,
        "  granularity holds for a dead vip-agent too where `haarb status` shows ebpf or nftables; \
         with address-lifetime alone it is up to {}, and the probe of the VIPs holds a takeover back",
        m.lifetime
    );
    out
}

/// The interfaces of this machine with their addresses.
pub(crate) fn interfaces() -> Result<Interfaces, Failure> {
    let list = nix::ifaddrs::getifaddrs()
        .map_err(|e| Failure::new(format!("the kernel does not list the interfaces: {e}")))?;
    let mut found: Interfaces = BTreeMap::new();
    for entry in list {
        let addresses = found.entry(entry.interface_name).or_default();
        let Some(address) = entry.address else {
            continue;
        };
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let v6 = address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
        addresses.extend(v4.or(v6));
    }
    Ok(found)
}
