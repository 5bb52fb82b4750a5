//! `haarb status`: what the arbiter knows, for a person at a glance or for a script.

mod json;
mod text;

pub(crate) use text::alarms;

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use haarb_api::v1;
use haarb_daemon::Options;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::control::{answer, connect, connect_or_explain, refused, with};
use crate::failure::{Failure, print};

/// Between two attempts to reach an arbiter that went away under a watch.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Shows the status once, or after every change until the reader goes away.
pub(crate) fn show(options: &Options, json: bool, watch: bool) -> Result<(), Failure> {
    with(async {
        if watch {
            return self::watch(options, json).await;
        }
        let mut client = connect_or_explain(options).await?;
        let status = answer(options, client.get_status(v1::StatusRequest {})).await?;
        print(&render(&status, json, false))
    })
}

/// Follows one arbiter after the other: a restart of it does not end a watch. The first
/// attempt must succeed, so that a wrong directory is told at once.
async fn watch(options: &Options, json: bool) -> Result<(), Failure> {
    let screen = !json && std::io::stdout().is_terminal();
    let mut client = connect_or_explain(options).await?;
    loop {
        let lost = match client.watch_status(v1::StatusRequest {}).await {
            Ok(stream) => follow(stream.into_inner(), json, screen).await?,
            Err(status) => refused(&status),
        };
        if !json && let Failure::Lines(reason) = &lost {
            let clear = if screen { CLEAR } else { "" };
            print(&format!("{clear}{reason}\ntrying again until Ctrl-C\n"))?;
        }
        client = loop {
            tokio::time::sleep(AGAIN_AFTER).await;
            if let Ok(client) = connect(options).await {
                break client;
            }
        };
    }
}

/// Prints every status of a stream; returns why it ended.
async fn follow(
    mut stream: tonic::Streaming<v1::Status>,
    json: bool,
    screen: bool,
) -> Result<Failure, Failure> {
    loop {
        match stream.message().await {
            Ok(Some(status)) => print(&render(&status, json, screen))?,
            Ok(None) => return Ok(Failure::new("the arbiter has gone")),
            Err(status) => return Ok(refused(&status)),
        }
    }
}

/// Home, and everything below cleared (ECMA-48 CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

fn render(status: &v1::Status, json: bool, screen: bool) -> String {
    if json {
        return format!("{}\n", json::value(status));
    }
    let colour = screen || std::io::stdout().is_terminal();
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    let mut out = String::from(if screen { CLEAR } else { "" });
    let _ = writeln!(
        out,
        "{}",
        text::page(status, now, &TimeZone::system(), colour)
    );
    out
}

#[cfg(test)]
mod tests;
