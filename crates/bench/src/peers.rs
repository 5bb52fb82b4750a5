//! How the peers are set up: as their manuals advise for two servers, one virtual IP on each network.
//!
//! Nothing is grouped over the networks (keepalived's sync groups turn one dead switch into an outage
//! on both servers), and nobody takes a virtual IP back by himself, as with haarb.

use std::{fmt::Write as _, fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use haarb_lab::{
    guest::BootCommand,
    plan::{Plan, ServerId},
};

/// One setting of keepalived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalived {
    /// `advert_int`, milliseconds.
    pub advert_ms: u32,
    /// VRRP version 3 (which sub-second adverts need), real-time priority, locked memory.
    pub tuned: bool,
}

/// What one gets who sets nothing.
pub const DEFAULT: Keepalived = Keepalived {
    advert_ms: 1000,
    tuned: false,
};
/// The fastest that the protocol has: it counts in hundredths of a second.
pub const FASTEST: Keepalived = Keepalived {
    advert_ms: 10,
    tuned: true,
};

/// Where a server finds these files: its disk's `etc`.
const IN_SERVER: &str = "/etc/haarb";

/// `keepalived.conf` of a server. The first server wins where both begin at once.
#[must_use]
pub fn keepalived_conf(plan: &Plan, server: ServerId, how: Keepalived) -> String {
    let mut text = String::from("global_defs {\n");
    if how.tuned {
        // Without the last line the kernel kills it at a takeover: by default keepalived may not
        // compute for more than 10 ms at real-time priority.
        text.push_str(
            "    vrrp_version 3\n    vrrp_rt_priority 50\n    vrrp_no_swap\n    vrrp_rlimit_rttime 1000000\n",
        );
    }
    text.push_str("}\n");
    for (number, vip) in plan.vips.iter().enumerate() {
        let interface = plan.interface(vip.network);
        let priority = 101_usize.saturating_sub(server);
        let seconds = f64::from(how.advert_ms) / 1000.0;
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "vrrp_instance V{number} {{\n    state BACKUP\n    nopreempt\n    interface {interface}\n    \
             virtual_router_id {}\n    priority {priority}\n    advert_int {seconds}\n    \
             virtual_ipaddress {{\n        {}/{} dev {interface}\n    }}\n}}",
            number + 1,
            vip.address,
            vip.prefix
        );
    }
    text
}

/// Starts keepalived in the foreground, VRRP alone, logging to its output.
#[must_use]
pub fn boot_keepalived() -> Vec<BootCommand> {
    let config = format!("--use-file={IN_SERVER}/keepalived.conf");
    let argv = [
        "keepalived",
        "--vrrp",
        "--dont-fork",
        "--log-console",
        "--pid=/run/keepalived.pid",
        "--vrrp_pid=/run/keepalived_vrrp.pid",
        &config,
    ];
    vec![command("keepalived", &argv)]
}

/// Starts one ucarp for each virtual IP.
#[must_use]
pub fn boot_ucarp(plan: &Plan, server: ServerId, dead_ratio: u32) -> Vec<BootCommand> {
    let one = |(number, vip): (usize, &haarb_lab::plan::Vip)| {
        let argv = [
            "ucarp".to_owned(),
            format!("--interface={}", plan.interface(vip.network)),
            format!(
                "--srcip={}",
                plan.server_addresses(server, vip.network)[0].0
            ),
            format!("--addr={}", vip.address),
            format!("--vhid={}", number + 1),
            "--pass=lab".into(),
            "--advbase=1".into(),
            format!("--advskew={}", 10 * server),
            format!("--deadratio={dead_ratio}"),
            format!("--upscript={IN_SERVER}/vip-up"),
            format!("--downscript={IN_SERVER}/vip-down"),
            format!("--xparam={}", vip.prefix),
        ];
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        command(&format!("ucarp-{number}"), &argv)
    };
    plan.vips.iter().enumerate().map(one).collect()
}

fn command(name: &str, argv: &[&str]) -> BootCommand {
    BootCommand {
        name: name.to_owned(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
    }
}

/// Puts keepalived's file on a server's disk.
///
/// # Errors
/// As the file system refuses.
pub fn install_keepalived(
    disk: &Path,
    plan: &Plan,
    server: ServerId,
    how: Keepalived,
) -> io::Result<()> {
    let path = disk.join("etc/keepalived.conf");
    fs::write(&path, keepalived_conf(plan, server, how))?;
    // It refuses a file that others may execute or write.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// Puts ucarp's scripts on a server's disk: called with the interface, the address and the prefix length.
///
/// # Errors
/// As the file system refuses.
pub fn install_ucarp(disk: &Path) -> io::Result<()> {
    for (name, verb) in [("vip-up", "replace"), ("vip-down", "del")] {
        let path = disk.join("etc").join(name);
        fs::write(
            &path,
            format!("#!/bin/sh\nexec ip address {verb} \"$2/$3\" dev \"$1\"\n"),
        )?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_configuration_is_as_documented() {
        let expected = "\
global_defs {
    vrrp_version 3
    vrrp_rt_priority 50
    vrrp_no_swap
    vrrp_rlimit_rttime 1000000
}
vrrp_instance V0 {
    state BACKUP
    nopreempt
    interface eth0
    virtual_router_id 1
    priority 100
    advert_int 0.01
    virtual_ipaddress {
        10.77.1.100/24 dev eth0
    }
}
vrrp_instance V1 {
    state BACKUP
    nopreempt
    interface eth1
    virtual_router_id 2
    priority 100
    advert_int 0.01
    virtual_ipaddress {
        10.77.2.100/24 dev eth1
    }
}
";
        assert_eq!(keepalived_conf(&Plan::pair(), 1, FASTEST), expected);
    }

    #[test]
    fn every_virtual_ip_has_its_ucarp() {
        let all = boot_ucarp(&Plan::pair(), 1, 2);
        assert_eq!(all.len(), 2);
        let argv = all[1].argv.join(" ");
        for part in [
            "--interface=eth1",
            "--srcip=10.77.2.2",
            "--addr=10.77.2.100",
            "--deadratio=2",
        ] {
            assert!(argv.contains(part), "{argv}");
        }
    }
}
