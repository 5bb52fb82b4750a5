//! What is compared: the systems, as data.

use haarb_lab::{
    fake,
    guest::BootCommand,
    plan::{Plan, ServerId},
    setup::{self, ClusterOptions},
};

use crate::{fault::Fault, peers};

/// What keeps the virtual IPs of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// haarb, profile telecom. `cold`: it also starts the service that answers; otherwise that one runs
    /// on both servers already, as it does with the others.
    Haarb {
        /// The service is started at the takeover.
        cold: bool,
    },
    /// keepalived.
    Keepalived(peers::Keepalived),
    /// ucarp, one process for each virtual IP.
    Ucarp {
        /// `--deadratio`.
        dead_ratio: u32,
    },
}

/// One row of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct System {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its name in the tables.
    pub title: &'static str,
    /// What it is.
    pub stack: Stack,
    /// Detects in seconds: measured less often.
    pub slow: bool,
}

/// The systems to which the others are compared, in this order.
pub const REFERENCES: [&str; 2] = ["keepalived-10ms", "keepalived"];

/// Every system, in the order of the tables.
pub const ALL: [System; 6] = [
    System {
        name: "haarb",
        title: "haarb, service running (warm)",
        stack: Stack::Haarb { cold: false },
        slow: false,
    },
    System {
        name: "haarb-cold",
        title: "haarb, service started too (cold)",
        stack: Stack::Haarb { cold: true },
        slow: false,
    },
    System {
        name: "keepalived-10ms",
        title: "keepalived, adverts 10 ms",
        stack: Stack::Keepalived(peers::FASTEST),
        slow: false,
    },
    System {
        name: "keepalived",
        title: "keepalived, default (adverts 1 s)",
        stack: Stack::Keepalived(peers::DEFAULT),
        slow: true,
    },
    System {
        name: "ucarp-2",
        title: "ucarp, dead ratio 2",
        stack: Stack::Ucarp { dead_ratio: 2 },
        slow: true,
    },
    System {
        name: "ucarp",
        title: "ucarp, default (dead ratio 3)",
        stack: Stack::Ucarp { dead_ratio: 3 },
        slow: true,
    },
];

/// The system called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static System> {
    ALL.iter().find(|system| system.name == name)
}

impl System {
    /// The command that must be installed; `None`: it is our own.
    #[must_use]
    pub const fn command(&self) -> Option<&'static str> {
        match self.stack {
            Stack::Haarb { .. } => None,
            Stack::Keepalived(_) => Some("keepalived"),
            Stack::Ucarp { .. } => Some("ucarp"),
        }
    }

    /// How the names of its daemons begin.
    #[must_use]
    pub const fn daemons(&self) -> &'static str {
        match self.stack {
            Stack::Haarb { .. } => "haarb",
            Stack::Keepalived(_) => "keepalived",
            Stack::Ucarp { .. } => "ucarp",
        }
    }

    /// Whether this fault is tried on it. The start of a service adds nothing to the rare long runs,
    /// and a service that is started needs daemons that live.
    #[must_use]
    pub const fn takes(&self, fault: Fault) -> bool {
        !matches!(
            (self.stack, fault),
            (Stack::Haarb { cold: true }, Fault::Kill | Fault::Freeze)
        )
    }

    /// What a server starts when it is switched on.
    #[must_use]
    pub fn boot(&self, plan: &Plan, server: ServerId) -> Vec<BootCommand> {
        let service = || fake::boot_service(plan, server);
        match self.stack {
            Stack::Haarb { cold: true } => setup::boot(plan, server),
            Stack::Haarb { cold: false } => [service(), setup::boot(plan, server)].concat(),
            Stack::Keepalived(_) => [service(), peers::boot_keepalived()].concat(),
            Stack::Ucarp { dead_ratio } => {
                [service(), peers::boot_ucarp(plan, server, dead_ratio)].concat()
            }
        }
    }

    /// haarb's configuration file; `None` for the others.
    #[must_use]
    pub fn haarb_yaml(&self, plan: &Plan) -> Option<String> {
        let Stack::Haarb { cold } = self.stack else {
            return None;
        };
        let options = ClusterOptions {
            profile: "telecom".into(),
            files: false,
        };
        let yaml = setup::config_yaml(plan, &options);
        Some(if cold { yaml } else { without_services(&yaml) })
    }
}

/// The configuration with nothing but virtual IPs in its reserves.
pub(crate) fn without_services(yaml: &str) -> String {
    let mut inside = false;
    let mut text = String::new();
    for line in yaml.lines() {
        inside = line == "    services:" || (inside && line.starts_with("      "));
        if !inside {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_references_exist() {
        let names: std::collections::BTreeSet<&str> =
            ALL.iter().map(|system| system.name).collect();
        assert_eq!(names.len(), ALL.len());
        for name in REFERENCES {
            assert!(find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn warm_leaves_the_services_out_and_nothing_else() {
        let plan = Plan::new(&["red", "blue"], &["alpha", "beta"], &["one", "two"]);
        let cold = ALL[1].haarb_yaml(&plan).expect("a configuration");
        let warm = ALL[0].haarb_yaml(&plan).expect("a configuration");
        assert!(cold.contains("services:") && !warm.contains("services:"));
        let left_out = cold.lines().count() - warm.lines().count();
        assert_eq!(left_out, 4, "two reserves, two lines each:\n{warm}");
        assert!(warm.contains("  - name: two\n    vips:\n      - {"));
    }
}
