//! What replicates a directory: the systems that are compared, as data, and what their servers boot.
//!
//! The peers are set up as their manuals advise for one directory that is mirrored whole: all attributes,
//! deletions too. Nothing of what they write on the source's side is in the mirrored directory.

use haarb_lab::{
    guest::BootCommand,
    plan::{Plan, ServerId},
    setup::{self, ClusterOptions},
};

use crate::system::without_services;

/// What carries the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replica {
    /// haarb, profile telecom: the whole pair with all daemons.
    Haarb,
    /// `rsync` to an rsync daemon, then a second's pause, for ever. Not encrypted.
    RsyncDaemon,
    /// `rsync` over ssh, then a second's pause, for ever.
    RsyncSsh,
    /// lsyncd with `default.rsync` over ssh and a delay of one second.
    Lsyncd,
}

/// One row of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct System {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its name in the tables.
    pub title: &'static str,
    /// What it is.
    pub replica: Replica,
}

/// Every system, in the order of the tables.
pub const ALL: [System; 4] = [
    System {
        name: "haarb",
        title: "haarb",
        replica: Replica::Haarb,
    },
    System {
        name: "rsync-daemon",
        title: "rsync daemon, 1 s loop (not encrypted)",
        replica: Replica::RsyncDaemon,
    },
    System {
        name: "rsync-ssh",
        title: "rsync over ssh, 1 s loop",
        replica: Replica::RsyncSsh,
    },
    System {
        name: "lsyncd",
        title: "lsyncd over ssh, delay 1 s",
        replica: Replica::Lsyncd,
    },
];

/// The system called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static System> {
    ALL.iter().find(|system| system.name == name)
}

/// Names of all systems, for messages.
#[must_use]
pub fn names() -> String {
    let names: Vec<&str> = ALL.iter().map(|system| system.name).collect();
    names.join(", ")
}

/// The server whose directory is changed. haarb makes it active by switching it on first.
pub const SOURCE: ServerId = 0;
/// The server that receives.
pub const SINK: ServerId = 1;
/// The mirrored directory inside both servers.
pub const DIRECTORY: &str = "/srv/demo";
/// Where a server finds what was put on its disk for the peers.
const ETC: &str = "/etc/haarb";

impl System {
    /// Commands that must be installed, and the package each is in.
    #[must_use]
    pub const fn needs(&self) -> &'static [(&'static str, &'static str)] {
        match self.replica {
            Replica::Haarb => &[],
            Replica::RsyncDaemon => &[("rsync", "rsync")],
            Replica::RsyncSsh => &[
                ("rsync", "rsync"),
                ("sshd", "openssh-server"),
                ("ssh", "openssh-client"),
            ],
            Replica::Lsyncd => &[
                ("lsyncd", "lsyncd"),
                ("rsync", "rsync"),
                ("sshd", "openssh-server"),
                ("ssh", "openssh-client"),
            ],
        }
    }

    /// Whether what goes over the network is encrypted.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        !matches!(self.replica, Replica::RsyncDaemon)
    }

    /// Whether it is the one under test.
    #[must_use]
    pub const fn is_haarb(&self) -> bool {
        matches!(self.replica, Replica::Haarb)
    }

    /// How the names of the processes begin that are its replica; `None`: everything in its servers is.
    #[must_use]
    pub const fn processes(&self) -> Option<&'static str> {
        match self.replica {
            Replica::Haarb => Some("haarb-syncer"),
            _ => None,
        }
    }

    /// What a server starts when it is switched on. `exact_times`: rsync compares nanoseconds.
    #[must_use]
    pub fn boot(&self, plan: &Plan, server: ServerId, exact_times: bool) -> Vec<BootCommand> {
        let target = plan.server_addresses(SINK, 0)[0].0;
        let rsync = "rsync -aHAX --numeric-ids --delete";
        let window = if exact_times {
            " --modify-window=-1"
        } else {
            ""
        };
        let script = match (self.replica, server) {
            (Replica::Haarb, _) => return setup::boot(plan, server),
            (Replica::RsyncDaemon, SOURCE) => looped(&format!(
                "{rsync}{window} {DIRECTORY}/ rsync://{target}/data/"
            )),
            (Replica::RsyncDaemon, _) => {
                format!("exec rsync --daemon --no-detach --config={ETC}/rsyncd.conf")
            }
            (Replica::RsyncSsh, SOURCE) => looped(&format!(
                "{rsync} -e '{}' {DIRECTORY}/ {target}:{DIRECTORY}/",
                ssh()
            )),
            (Replica::Lsyncd, SOURCE) => format!("exec lsyncd -nodaemon {ETC}/lsyncd.conf"),
            (Replica::RsyncSsh | Replica::Lsyncd, _) => {
                format!("mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e -f {ETC}/sshd_config")
            }
        };
        vec![BootCommand {
            name: "replica".into(),
            argv: ["sh", "-c", &script].map(str::to_owned).to_vec(),
        }]
    }

    /// Files on a server's disk (name in its `etc`, text).
    #[must_use]
    pub fn files(&self, plan: &Plan) -> Vec<(&'static str, String)> {
        let target = plan.server_addresses(SINK, 0)[0].0;
        match self.replica {
            Replica::Haarb => Vec::new(),
            Replica::RsyncDaemon => vec![(
                "rsyncd.conf",
                format!(
                    "uid = root\ngid = root\nuse chroot = yes\nmunge symlinks = no\nlog file = /var/log/rsyncd.log\n\
                     [data]\n    path = {DIRECTORY}\n    read only = no\n"
                ),
            )],
            Replica::RsyncSsh => vec![("sshd_config", sshd_config())],
            Replica::Lsyncd => vec![
                ("sshd_config", sshd_config()),
                (
                    "lsyncd.conf",
                    format!(
                        "settings {{ logfile = \"/var/log/lsyncd.log\", statusFile = \"/run/lsyncd.status\", insist = true }}\n\
                         sync {{ default.rsync, source = \"{DIRECTORY}\", target = \"{target}:{DIRECTORY}\", delay = 1, delete = true,\n\
                         \x20 rsync = {{ archive = true, hard_links = true, acls = true, xattrs = true, _extra = {{ \"--numeric-ids\" }}, rsh = \"{}\" }} }}\n",
                        ssh()
                    ),
                ),
            ],
        }
    }

    /// haarb's configuration file; `None` for the others.
    #[must_use]
    pub fn haarb_yaml(&self, plan: &Plan) -> Option<String> {
        let options = ClusterOptions {
            profile: "telecom".into(),
            files: true,
        };
        self.is_haarb()
            .then(|| unguarded(&without_services(&setup::config_yaml(plan, &options))))
    }
}

/// C8 deletes everything, which haarb would ask about.
fn unguarded(yaml: &str) -> String {
    yaml.replace("/srv/demo }", "/srv/demo, deletion-limit: none }")
}

fn looped(command: &str) -> String {
    format!("while :; do {command}; sleep 1; done")
}

fn ssh() -> String {
    format!(
        "/usr/bin/ssh -i {ETC}/ssh_key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    )
}

fn sshd_config() -> String {
    format!(
        "HostKey {ETC}/ssh_key\nAuthorizedKeysFile {ETC}/ssh_key.pub\nPermitRootLogin prohibit-password\n\
         PasswordAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\nLogLevel ERROR\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_daemon_compares_nanoseconds_and_only_when_asked() {
        let plan = Plan::pair();
        let script = |system: &str, exact| {
            let system = find(system).expect("a system");
            system.boot(&plan, SOURCE, exact)[0].argv.join(" ")
        };
        assert!(script("rsync-daemon", true).contains("--modify-window=-1"));
        assert!(!script("rsync-daemon", false).contains("--modify-window"));
        assert!(!script("rsync-ssh", true).contains("--modify-window"));
        assert!(script("rsync-ssh", false).contains("10.77.1.2:/srv/demo/"));
    }

    #[test]
    fn haarb_has_the_directory_and_no_service() {
        let yaml = ALL[0].haarb_yaml(&Plan::pair()).expect("a configuration");
        assert!(
            yaml.contains("{ path: /srv/demo, deletion-limit: none }")
                && !yaml.contains("services")
        );
        assert!(ALL[1].haarb_yaml(&Plan::pair()).is_none());
    }
}
