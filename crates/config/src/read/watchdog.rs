//! The hardware watchdog.

use haarb_model::Span;

use super::reserve::absolute;
use crate::Watchdog;
use crate::check::Positions;
use crate::fields::{self, Fields, Problems};

/// The time-out where none is given.
const TIMEOUT: Span = Span::from_secs(10);
/// The longest one: a server that may not hold what it holds is not left alone for longer.
const TIMEOUT_MAX: Span = Span::from_secs(600);

pub(super) fn watchdog(top: &Fields<'_>, p: &mut Problems, at: &mut Positions) -> Option<Watchdog> {
    let tree = top.get("watchdog")?;
    let f = Fields::new(tree, "watchdog", &["device", "timeout"], p)?;
    let device = f.need("device", "/dev/watchdog", p).and_then(|t| {
        let todo = "write an absolute path without . and .., such as /dev/watchdog";
        fields::parsed(t, "device", todo, p, absolute)
    });
    let timeout = f.get("timeout").map(|t| {
        at.watchdog_timeout = Some(t.pos);
        let read = fields::span(t, "timeout", p);
        if let Some(span) = read
            && (!(Span::from_secs(1)..=TIMEOUT_MAX).contains(&span)
                || !span.as_micros().is_multiple_of(1_000_000))
        {
            p.add(
                t.pos,
                "the watchdog's timeout is out of range or has a fraction of a second",
                "devices count whole seconds: write 1s to 10m",
            );
        }
        read
    });
    at.watchdog_timeout.get_or_insert(tree.pos);
    Some(Watchdog {
        device: device?,
        timeout: timeout.flatten().unwrap_or(TIMEOUT),
    })
}
