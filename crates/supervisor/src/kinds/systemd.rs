//! `systemd`: a unit of this server's systemd, by the `systemctl` command.
//!
//! Its processes are systemd's, not the keeper's: what the keeper can do at the end of a
//! lease is to ask systemd to stop the unit.

use std::path::Path;
use std::time::Duration;

use super::Means;
use crate::check::{Answer, ask};
use crate::order::Run;

/// Whether systemd runs this server: no unit runs where it does not (sd_booted(3)).
pub(super) fn booted() -> bool {
    Path::new("/run/systemd/system").exists()
}

pub(super) fn means(unit: &str) -> Means {
    Means {
        run: Run::Commands {
            start: systemctl(&["start", unit]),
            stop: systemctl(&["stop", unit]),
        },
        status: Some(systemctl(&["is-active", unit])),
        // 4: no such unit (systemctl(1)).
        stopped_codes: &[3, 4],
    }
}

fn systemctl(arguments: &[&str]) -> Vec<String> {
    ["systemctl", "--no-ask-password"]
        .iter()
        .chain(arguments)
        .map(|&word| word.to_owned())
        .collect()
}

pub(super) async fn why_not_startable(unit: &str, timeout: Duration) -> String {
    if !booted() {
        return "systemd does not run this server; use exec or script".into();
    }
    let question = systemctl(&["show", "--property=LoadState", "--value", unit]);
    match ask(&question, &[], timeout).await {
        Answer::Exited { code: 0, output } => load_state(unit, &output),
        Answer::Exited { code, .. } => format!("systemctl show {unit} exited with status {code}"),
        Answer::Killed(signal) => format!("systemctl show {unit} was killed by signal {signal}"),
        Answer::TimedOut => format!("systemctl show {unit} did not end in time"),
        Answer::NotRun(why) => format!("systemctl cannot run: {why}"),
    }
}

pub(super) fn load_state(unit: &str, state: &str) -> String {
    match state {
        "loaded" => String::new(),
        "masked" => format!("unit {unit} is masked; systemctl unmask {unit}"),
        "not-found" => format!("there is no unit {unit}; install it"),
        other => format!("unit {unit} is {other}; systemctl status {unit}"),
    }
}
