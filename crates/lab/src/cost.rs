//! What processes cost: CPU time and memory, from `/proc`.
//!
//! CPU time is what the scheduler counted, to the nanosecond where the kernel keeps it
//! (`/proc/PID/task/*/schedstat`), otherwise in clock ticks. Work that the kernel does for a process in
//! interrupts (packets that arrive) is nobody's and is not in it.

use std::{fs, path::Path, time::Duration};

use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::Serialize;

/// What some processes have used until now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// CPU time of all their threads that still live.
    pub cpu: Duration,
    /// Memory in KiB; a page that several processes share counts in parts (PSS, proc(5)).
    pub memory_kib: u64,
    /// Processes that could be read.
    pub processes: usize,
}

/// Adds up what `processes` have used. Those that have ended meanwhile are left out.
#[must_use]
pub fn usage(processes: &[Pid]) -> Usage {
    let mut sum = Usage::default();
    for pid in processes {
        let dir = Path::new("/proc").join(pid.to_string());
        let Some(cpu) = cpu_time(&dir) else {
            continue;
        };
        sum.cpu += cpu;
        sum.memory_kib += memory_kib(&dir).unwrap_or(0);
        sum.processes += 1;
    }
    sum
}

/// The share of one CPU that was used from `before` to `after`, which are `wall` apart; 1.0 is one whole
/// CPU.
#[must_use]
pub fn cpu_share(before: &Usage, after: &Usage, wall: Duration) -> f64 {
    let used = after.cpu.saturating_sub(before.cpu);
    used.as_secs_f64() / wall.as_secs_f64().max(1e-9)
}

fn cpu_time(dir: &Path) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(dir.join("task")).ok()?.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        match text
            .split_whitespace()
            .next()
            .and_then(|ns| ns.parse().ok())
        {
            Some(ns) => sum += Duration::from_nanos(ns),
            None => return ticks(&fs::read_to_string(dir.join("stat")).ok()?),
        }
    }
    Some(sum)
}

/// `utime` and `stime` of `/proc/PID/stat`; the name before them may contain anything.
fn ticks(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number)?.parse::<u64>().ok();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let ticks = field(11)? + field(12)?;
    Some(Duration::from_secs_f64(
        ticks as f64 / per_second.max(1) as f64,
    ))
}

fn memory_kib(dir: &Path) -> Option<u64> {
    let text = fs::read_to_string(dir.join("smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_and_holds_memory_shows_both() {
        let me = [Pid::this()];
        let before = usage(&me);
        let mut held = vec![0_u8; 8 << 20];
        let mut round = 0_u8;
        // Until the kernel has seen it work; its counters may lag behind by a tick.
        while cpu_share(&before, &usage(&me), Duration::from_millis(20)) < 1.0 {
            round = round.wrapping_add(1);
            held.iter_mut().for_each(|byte| *byte = round);
        }
        let after = usage(&me);
        assert_eq!(after.processes, 1);
        assert!(after.memory_kib >= 8 << 10, "{after:?}");
        assert!(held.iter().all(|byte| *byte == round));
    }

    #[test]
    fn a_name_with_blanks_and_brackets_hides_no_number() {
        let stat = "12 (a) b (c) S 1 1 1 0 -1 4194560 1 2 3 4 200 300 0 0 20 0";
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        let expected = Duration::from_secs_f64(500.0 / per_second as f64);
        assert_eq!(ticks(stat), Some(expected));
        assert_eq!(ticks("12 (a"), None);
    }

    #[test]
    fn processes_that_are_gone_cost_nothing() {
        assert_eq!(usage(&[Pid::from_raw(i32::MAX)]), Usage::default());
    }
}
