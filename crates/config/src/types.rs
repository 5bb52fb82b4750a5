//! The configuration after parsing: every default filled in, every name and address checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use haarb_model::{NetworkName, NodeName, Prefer, ReserveName, Span, Timing, VipSpec};

use crate::Excludes;

/// The effective configuration of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the cluster; part of every datagram. Spelled like the other names.
    pub cluster: String,
    /// The profile on which [`Config::timing`] is based.
    pub profile: Profile,
    /// All times, overrides applied; every inequality of the decision table holds.
    pub timing: Timing,
    /// UDP port of the datagrams between the servers (default 7950).
    pub port: u16,
    /// TCP port of the sync between the servers (default 7951).
    pub sync_port: u16,
    /// Networks, one per switch, in the order of the file.
    pub networks: Vec<Network>,
    /// Servers in the order of the file; earlier is preferred.
    pub nodes: Vec<Node>,
    /// Reserves in the order of the file.
    pub reserves: Vec<Reserve>,
    /// The hardware watchdog, where one is used.
    pub watchdog: Option<Watchdog>,
    /// Stable hash of all of the above; comments and the order of keys do not change it.
    pub digest: u64,
}

/// A device that resets the server unless it is fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// The device, an absolute path such as `/dev/watchdog`.
    pub device: PathBuf,
    /// From the last feeding to the reset; 1 s to 10 min in whole seconds, and at least two leases
    /// (default 10 s).
    pub timeout: Span,
}

/// A named set of times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// 10 ms probes, dead after 30 ms.
    Telecom,
    /// 100 ms probes, dead after 400 ms.
    #[default]
    Lan,
    /// 500 ms probes, dead after 2.5 s.
    Wan,
}

/// One network: a switch and what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// The switch's own address, where it has one that answers ECHO requests.
    pub switch: Option<IpAddr>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// How it is attached; has every network of [`Config::networks`].
    pub networks: BTreeMap<NetworkName, Attachment>,
}

/// The place of one server in one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The interface; probes and datagrams are bound to it.
    pub interface: String,
    /// The server's own address there. Not a virtual one.
    pub address: IpAddr,
}

/// What moves as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Its name.
    pub name: ReserveName,
    /// What to do with old data.
    pub prefer: Prefer,
    /// Alone on one network the active server gives way (default: it serves on).
    pub strict: bool,
    /// After both were cut off, one network that both have is enough to serve again (default:
    /// both networks are waited for).
    pub resume_on_one: bool,
    /// Virtual IPs; at least one.
    pub vips: Vec<VipSpec>,
    /// Replicated directories.
    pub directories: Vec<Directory>,
    /// Services, started in this order and stopped in reverse.
    pub services: Vec<Service>,
}

/// One replicated directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Absolute, normalised, not `/`; neither twice nor nested in another one.
    pub path: PathBuf,
    /// What is left out of it.
    pub exclude: Excludes,
    /// How many files may vanish from it at once without a question (default 50%).
    pub deletion_limit: DeletionLimit,
    /// How fast a standby reads everything again to compare it with its checksums (default 4MB/s).
    pub scrub_rate: ScrubRate,
}

/// How fast a standby reads its directory again, in megabytes (10^6 bytes) a second; 0: not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubRate(pub u16);

impl ScrubRate {
    /// In bytes a second.
    #[must_use]
    pub const fn bytes_per_second(self) -> u64 {
        self.0 as u64 * 1_000_000
    }
}

impl Default for ScrubRate {
    fn default() -> Self {
        Self(4)
    }
}

impl std::fmt::Display for ScrubRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("none"),
            megabytes => write!(f, "{megabytes}MB/s"),
        }
    }
}

impl std::str::FromStr for ScrubRate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(0));
        }
        let megabytes = text.strip_suffix("MB/s").map(str::parse);
        match megabytes {
            Some(Ok(megabytes @ 1..)) => Ok(Self(megabytes)),
            _ => Err("is neither a number of megabytes a second, 1MB/s to 65535MB/s, nor none"),
        }
    }
}

/// How many files may vanish from a directory at once before the deletions are held back on the
/// active server, until an operator confirms them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionLimit {
    /// Every deletion is carried out: a spool that is emptied in one go.
    None,
    /// This part of the files, 1 to 99 per cent; a directory with fewer than
    /// [`DeletionLimit::FEW`] files is too small to be judged by it.
    Percent(u8),
    /// So many files, however many there are.
    Files(u64),
}

impl DeletionLimit {
    /// Below so many files a part of them says nothing.
    pub const FEW: u64 = 1000;

    /// How many of `files` may vanish; `None`: all.
    #[must_use]
    pub fn of(self, files: u64) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Percent(_) if files < Self::FEW => None,
            Self::Percent(percent) => {
                let most = u128::from(files) * u128::from(percent) / 100;
                Some(u64::try_from(most).unwrap_or(u64::MAX))
            }
            Self::Files(most) => Some(most),
        }
    }
}

impl Default for DeletionLimit {
    fn default() -> Self {
        Self::Percent(50)
    }
}

impl std::fmt::Display for DeletionLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Files(files) => write!(f, "{files}"),
        }
    }
}

impl std::str::FromStr for DeletionLimit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::None);
        }
        if let Some(percent) = text.strip_suffix('%') {
            return match percent.parse() {
                Ok(percent @ 1..=99) => Ok(Self::Percent(percent)),
                _ => Err("is not between 1% and 99%"),
            };
        }
        match text.parse() {
            Ok(files @ 1..) => Ok(Self::Files(files)),
            _ => Err("is neither a part of the files, nor a number of them, nor none"),
        }
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, unique in the reserve.
    pub name: String,
    /// How it is started, stopped and checked.
    pub kind: ServiceKind,
    /// How long a start may take before it counts as failed (default 30 s).
    pub start_timeout: Span,
    /// How long a stop may take before the service is killed (default 10 s).
    pub stop_timeout: Span,
    /// Between two checks of a running service (default 1 s).
    pub check_interval: Span,
    /// How long one check may take before it counts as failed (default 5 s).
    pub check_timeout: Span,
    /// How many restarts within `restart_window` are tried before the service counts as
    /// failed, which lets the reserve move (rule A10; default 3).
    pub restarts: u32,
    /// The window of `restarts` (default 60 s).
    pub restart_window: Span,
}

/// How a service is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// A program that stays in the foreground; it runs as long as the program does.
    Exec {
        /// The program (absolute path) and its arguments.
        argv: Vec<String>,
    },
    /// Three shell commands (`/bin/sh -c`); status 0 means done, or running.
    Script {
        /// Starts the service and returns.
        start: String,
        /// Stops it and returns once it is stopped.
        stop: String,
        /// 0: it runs.
        status: String,
    },
    /// A systemd unit.
    Systemd {
        /// Its name with suffix, `kamailio.service`.
        unit: String,
    },
    /// A SysV init script; parsed, not run yet.
    Init {
        /// Its absolute path.
        path: PathBuf,
    },
    /// An OCF resource agent; parsed, not run yet.
    Ocf {
        /// `provider:type`.
        agent: String,
        /// Its parameters, passed as `OCF_RESKEY_*`.
        parameters: BTreeMap<String, String>,
    },
}
