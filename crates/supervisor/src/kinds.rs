//! From a configured service to what a keeper runs and a check asks.
//!
//! Each kind is one file that answers three questions: how is it run, how is it asked
//! whether it runs, and could it start here. The one thing to know: an exit code
//! that nobody has defined means "cannot tell", never "does not run".

mod exec;
mod script;
mod systemd;

use haarb_config::{Service, ServiceKind};

use crate::check::{self, Answer};
use crate::order::Run;

/// How a service is run and asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Means {
    /// What its keeper runs.
    pub run: Run,
    /// The command that tells whether it runs; `None`: its keeper knows.
    pub status: Option<Vec<String>>,
    /// Exit codes of `status` that say for sure that it does not run.
    pub stopped_codes: &'static [i32],
}

/// LSB, "Init Script Actions": 1 and 2 dead, with something left over; 3 not running.
const LSB_STOPPED: &[i32] = &[1, 2, 3];

/// What a check says about a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It runs.
    Runs,
    /// It does not run.
    Stopped,
    /// It runs badly, or nobody can tell: why, in one line.
    Unclear(String),
}

/// How a service is run. One of a kind that is not there yet has no program: it cannot
/// start, and [`why_not_startable`] says why.
#[must_use]
pub fn means(service: &Service) -> Means {
    match &service.kind {
        ServiceKind::Exec { argv } => exec::means(argv),
        ServiceKind::Script {
            start,
            stop,
            status,
        } => script::means(start, stop, status),
        ServiceKind::Systemd { unit } => systemd::means(unit),
        ServiceKind::Init { .. } | ServiceKind::Ocf { .. } => exec::means(&[]),
    }
}

fn not_there(kind: &str) -> String {
    format!("kind {kind} is not there yet; use exec, script or systemd")
}

/// Why a service could not start here if it were asked to; empty if it could. Starts nothing.
/// May read the disk and ask systemd: not for the path of a failover.
pub async fn why_not_startable(service: &Service) -> String {
    match &service.kind {
        ServiceKind::Exec { argv } => exec::why_not_startable(argv),
        ServiceKind::Script { start, stop, .. } => script::why_not_startable(start, stop),
        ServiceKind::Systemd { unit } => {
            systemd::why_not_startable(unit, service.check_timeout.to_duration()).await
        }
        ServiceKind::Init { .. } => not_there("init"),
        ServiceKind::Ocf { .. } => not_there("ocf"),
    }
}

/// Asks whether a service runs; `None` where only its keeper knows.
pub async fn ask(
    service: &Service,
    means: &Means,
    environment: &[(String, String)],
) -> Option<Verdict> {
    let argv = means.status.as_ref()?;
    if matches!(service.kind, ServiceKind::Systemd { .. }) && !systemd::booted() {
        return Some(Verdict::Stopped);
    }
    let timeout = service.check_timeout.to_duration();
    let answer = check::ask(argv, environment, timeout).await;
    Some(verdict(means, &answer))
}

/// Reads the answer of a status command (LSB, section "Init Script Actions").
#[must_use]
pub fn verdict(means: &Means, answer: &Answer) -> Verdict {
    match answer {
        Answer::Exited { code: 0, .. } => Verdict::Runs,
        Answer::Exited { code, .. } if means.stopped_codes.contains(code) => Verdict::Stopped,
        Answer::Exited { code, output } if output.is_empty() => {
            Verdict::Unclear(format!("its status command exited with status {code}"))
        }
        Answer::Exited { code, output } => Verdict::Unclear(format!(
            "its status command exited with status {code}: {}",
            output.lines().next().unwrap_or_default()
        )),
        Answer::Killed(signal) => {
            Verdict::Unclear(format!("its status command was killed by signal {signal}"))
        }
        Answer::TimedOut => Verdict::Unclear("its status command did not end in time".into()),
        Answer::NotRun(why) => Verdict::Unclear(format!("its status command cannot run: {why}")),
    }
}

#[cfg(test)]
mod tests;
