//! What a replica costs on one server, from `/proc`: bytes sent, CPU time, memory.
//!
//! CPU time counts children that have ended with those who waited for them, because a loop starts its
//! programs anew every second. Its unit is the kernel's clock tick (10 ms as a rule).

use std::{fs, time::Duration};

use haarb_lab::{cost::usage, roles};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Everything until now, summed over the servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Bytes that the interfaces have sent.
    pub sent: u64,
    /// CPU time.
    pub cpu: Duration,
    /// Memory, shared pages in parts (PSS).
    pub memory_kib: u64,
}

impl Reading {
    /// Of the processes of one server; `prefix`: only of those whose names begin so.
    #[must_use]
    pub fn of(processes: &[Pid], prefix: Option<&str>) -> Self {
        let counted: Vec<Pid> = (processes.iter())
            .filter(|pid| prefix.is_none_or(|prefix| is_called(**pid, prefix)))
            .copied()
            .collect();
        let in_memory: Vec<Pid> = (counted.iter())
            .filter(|pid| !is_helper(**pid))
            .copied()
            .collect();
        Self {
            sent: processes.first().map_or(0, |pid| sent_bytes(*pid)),
            cpu: counted.iter().filter_map(|pid| cpu_time(*pid)).sum(),
            memory_kib: usage(&in_memory).memory_kib,
        }
    }

    /// The sum of two servers.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            cpu: self.cpu + other.cpu,
            memory_kib: self.memory_kib + other.memory_kib,
        }
    }
}

fn words(pid: Pid) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

fn is_called(pid: Pid, prefix: &str) -> bool {
    let words = words(pid);
    let program = words.first().map_or(&b""[..], Vec::as_slice);
    let name = program.rsplit(|byte| *byte == b'/').next();
    name.is_some_and(|name| name.starts_with(prefix.as_bytes()))
}

/// The lab's own programs in a server.
fn is_helper(pid: Pid) -> bool {
    words(pid)
        .get(1)
        .is_some_and(|word| word == roles::MARK.as_bytes())
}

/// Own time and that of children that were waited for: `utime`, `stime`, `cutime`, `cstime` (proc(5)).
fn cpu_time(pid: Pid) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Some(Duration::from_secs_f64(
        ticks(&stat)? as f64 / per_second.max(1) as f64,
    ))
}

fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields = fields.split_whitespace().skip(11).take(4);
    fields.map(|field| field.parse::<u64>().ok()).sum()
}

/// Bytes that the cables of the process's server have sent.
#[must_use]
pub fn sent_bytes(pid: Pid) -> u64 {
    transmitted(&fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default())
}

/// The ninth number of each line but the loopback's (proc(5)).
fn transmitted(dev: &str) -> u64 {
    (dev.lines())
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() != "lo")
        .filter_map(|(_, numbers)| numbers.split_whitespace().nth(8)?.parse::<u64>().ok())
        .sum()
}

/// Whether somebody listens on a TCP port in the process's server.
#[must_use]
pub fn listens(pid: Pid, port: u16) -> bool {
    ["tcp", "tcp6"].iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        has_listener(&text, port)
    })
}

/// State `0A` is LISTEN; the local address ends in the port, in hexadecimal digits.
fn has_listener(table: &str, port: u16) -> bool {
    let end = format!(":{port:04X}");
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&end)) && fields.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_the_right_columns() {
        let dev = "Inter-|   Receive  |  Transmit\n face |bytes packets errs\n    lo: 9 9 0 0 0 0 0 0 99 9 0 0 0 0 0 0\n  \
                   eth0: 1 2 0 0 0 0 0 0 300 4 0 0 0 0 0 0\n  eth1:5 6 0 0 0 0 0 0 70 8 0 0 0 0 0 0\n";
        assert_eq!(transmitted(dev), 370);
        assert_eq!(
            ticks("1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 2 3 40 50 0 0"),
            Some(95)
        );
        assert_eq!(ticks("1 (a"), None);
    }

    #[test]
    fn only_a_listener_listens() {
        let line =
            |state: &str| format!("   0: 00000000:0369 00000000:0000 {state} 00000000:00000000\n");
        assert!(has_listener(&line("0A"), 873));
        assert!(!has_listener(&line("01"), 873));
        assert!(!has_listener(&line("0A"), 874));
    }

    #[test]
    fn a_process_that_works_is_seen() {
        let me = [Pid::this()];
        let mut spin = 0_u64;
        // Until the kernel has counted a tick.
        while Reading::of(&me, None).cpu == Duration::ZERO {
            spin = spin.wrapping_add(1);
        }
        assert!(Reading::of(&me, None).memory_kib > 0, "{spin}");
        assert_eq!(Reading::of(&me, Some("no-such-name")).memory_kib, 0);
    }
}
