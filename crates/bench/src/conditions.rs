//! Where and under what it was measured: machine, versions, how much of the machine others took.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use haarb_lab::table::Spread;
use serde::Serialize;

use crate::schedule::Counts;

/// What a reader must know to judge the numbers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Conditions {
    /// Day and hour, UTC.
    pub when: String,
    /// The revision of this repository, where git knows it.
    pub revision: Option<String>,
    /// Model of the CPUs, and how many.
    pub cpu: String,
    /// The kernel.
    pub kernel: String,
    /// Name and version of everything compared.
    pub versions: Vec<(String, String)>,
    /// Runs of what takes a second, and of what takes several.
    pub runs: (u32, u32),
    /// Whether the client ran at real-time priority.
    pub client_realtime: bool,
    /// The 1, 5 and 15 minute load when it began.
    pub load_before: String,
    /// And when it ended.
    pub load_after: String,
    /// Share of the CPU time that the host of this machine took away meanwhile, percent.
    pub steal_percent: f64,
    /// How late the client's timer was at worst in each run, milliseconds.
    pub stalls: Option<Spread>,
    /// How long it took, seconds.
    pub took_s: f64,
}

/// A command, and the option that makes it print its version.
pub type Peer = (&'static str, &'static str);

/// Takes the conditions from beginning to end.
#[derive(Debug)]
pub struct Watch {
    conditions: Conditions,
    began: Instant,
    cpu_before: Option<CpuTimes>,
}

#[derive(Debug, Clone, Copy)]
struct CpuTimes {
    all: u64,
    stolen: u64,
}

impl Watch {
    /// Looks at the machine before anything is started on it. `repository`: where git is asked.
    #[must_use]
    pub fn start(bin_dir: &Path, repository: &Path, counts: Counts, peers: &[Peer]) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut versions = Vec::new();
        let ours = bin_dir.join("haarb");
        versions.extend(version("haarb", &ours, "--version"));
        for (name, option) in peers {
            versions.extend(installed(name).and_then(|path| version(name, &path, option)));
        }
        Self {
            conditions: Conditions {
                when: jiff::Timestamp::now()
                    .strftime("%Y-%m-%d %H:%M UTC")
                    .to_string(),
                revision: revision(repository),
                cpu: cpu(&read("/proc/cpuinfo")),
                kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
                versions,
                runs: (counts.runs, counts.slow_runs),
                load_before: first_words(&read("/proc/loadavg"), 3),
                ..Conditions::default()
            },
            began: Instant::now(),
            cpu_before: cpu_times(&read("/proc/stat")),
        }
    }

    /// The conditions until now.
    #[must_use]
    pub fn finish(mut self) -> Conditions {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        if let (Some(before), Some(after)) = (self.cpu_before, cpu_times(&stat)) {
            let all = after.all.saturating_sub(before.all).max(1);
            let stolen = after.stolen.saturating_sub(before.stolen);
            self.conditions.steal_percent = 100.0 * stolen as f64 / all as f64;
        }
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        self.conditions.load_after = first_words(&load, 3);
        self.conditions.took_s = self.began.elapsed().as_secs_f64();
        self.conditions
    }
}

fn first_words(text: &str, count: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().take(count).collect();
    words.join(" ")
}

/// Where a command is, also where the search path of an ordinary user does not lead.
#[must_use]
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// The first line that a command prints when it is asked for its version.
fn version(name: &str, path: &Path, option: &str) -> Option<(String, String)> {
    let output = Command::new(path).arg(option).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some((name.to_owned(), line.to_owned()))
}

fn revision(repository: &Path) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(["describe", "--always", "--dirty", "--abbrev=10"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn cpu(cpuinfo: &str) -> String {
    let values = |key: &str| {
        (cpuinfo.lines())
            .filter(|line| line.starts_with(key))
            .filter_map(|line| Some(line.split_once(':')?.1.trim().to_owned()))
            .collect::<Vec<_>>()
    };
    let count = values("processor").len();
    let model = values("model name").into_iter().next();
    let guest = values("flags")
        .first()
        .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    format!(
        "{count} {} of {}",
        if guest { "virtual CPUs" } else { "CPUs" },
        model.as_deref().unwrap_or("an unknown model")
    )
}

/// The first line of `/proc/stat` (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal; guest
/// time is in user time already.
fn cpu_times(stat: &str) -> Option<CpuTimes> {
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .take(8)
        .collect();
    Some(CpuTimes {
        all: fields.iter().sum(),
        stolen: *fields.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_the_eighth_field() {
        let times = cpu_times("cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 1\n").expect("a line");
        assert_eq!((times.all, times.stolen), (36, 8));
        assert!(cpu_times("cpu 1 2").is_none());
        assert!(cpu_times("").is_none());
    }

    #[test]
    fn the_machine_is_named_with_its_count() {
        let text =
            "processor\t: 0\nmodel name\t: Fast 3000\nflags\t\t: fpu hypervisor\nprocessor\t: 1\n";
        assert_eq!(cpu(text), "2 virtual CPUs of Fast 3000");
        assert_eq!(cpu(""), "0 CPUs of an unknown model");
    }
}
