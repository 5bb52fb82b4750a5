//! Every process below the keeper, and signals to all of them.
//!
//! Nothing escapes by forking away: the keeper is the subreaper of all of it (prctl(2),
//! PR_SET_CHILD_SUBREAPER), so an orphan becomes its child. Reads /proc only when something
//! has to be stopped.

use std::collections::BTreeMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One process below the keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(super) session: i32,
    /// Its name and state, for a person.
    pub(super) name: String,
    state: char,
    parent: i32,
}

/// All live processes below this one, parents before children.
pub(super) fn descendants() -> Vec<Process> {
    below(nix::unistd::getpid())
}

/// All live processes below `root`, parents before children.
pub(crate) fn below(root: Pid) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in processes() {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut parents = vec![root.as_raw()];
    while let Some(parent) = parents.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            parents.push(process.pid.as_raw());
            if !matches!(process.state, 'Z' | 'X') {
                found.push(process);
            }
        }
    }
    found
}

/// Sends a signal to every process below this one, except those of one session.
pub(super) fn signal_all(signal: Signal, except: Option<Pid>) {
    for process in descendants() {
        if except.is_none_or(|session| session.as_raw() != process.session) {
            // Gone in between: that is what is wanted.
            let _ = kill(process.pid, signal);
        }
    }
}

/// Whether a process does nothing at all: stopped by a signal or a tracer, or stuck in the kernel.
pub(crate) fn stands_still(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    parse(&stat).is_some_and(|process| matches!(process.state, 'T' | 't' | 'D'))
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        })
        .filter_map(|entry| fs::read(entry.path().join("stat")).ok())
        .filter_map(|stat| parse(&String::from_utf8_lossy(&stat)))
        .collect()
}

/// Reads a line of /proc/PID/stat (proc_pid_stat(5)). The name in it may contain anything,
/// also parentheses and spaces.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let _group = fields.next()?;
    let session = fields.next()?.parse().ok()?;
    Some(Process {
        pid: Pid::from_raw(pid.parse().ok()?),
        session,
        name: format!("{pid} ({name}) in state {state}"),
        state: state.chars().next()?,
        parent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_and_spaces_are_read() {
        let process = parse("42 (a) R 1 (b) S 7 42 40 0 -1").expect("a line of stat");
        assert_eq!(process.pid, Pid::from_raw(42));
        assert_eq!(process.parent, 7);
        assert_eq!(process.session, 40);
        assert_eq!(process.name, "42 (a) R 1 (b) in state S");
        for broken in ["", "42", "42 (x", "42 (x) ", "x (y) S 1 1 1", "42 (x) S 1"] {
            assert_eq!(parse(broken), None, "{broken:?}");
        }
    }
}
