//! `haarb events`: the log of what happened, one line each.

use std::collections::BTreeMap;

use haarb_api::v1;
use haarb_daemon::Options;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::control::{answer, connect, refused, with};
use crate::failure::{Failure, print};
use crate::when::{Since, local, rfc3339};

/// Prints the stored events, and with `follow` the new ones until the reader goes away.
pub(crate) fn show(
    options: &Options,
    follow: bool,
    json: bool,
    since: Option<Since>,
) -> Result<(), Failure> {
    let zone = TimeZone::system();
    let since_unix_ms = since.map_or(0, |s| s.unix_ms(Timestamp::now(), &zone));
    with(async {
        let mut client = connect(options).await?;
        let request = v1::EventsRequest {
            follow,
            since_unix_ms,
        };
        let mut stream = answer(options, client.events(request)).await?;
        loop {
            match stream.message().await {
                Ok(Some(event)) if json => print(&format!("{}\n", value(&event)))?,
                Ok(Some(event)) => print(&line(&event, &zone))?,
                Ok(None) if follow => {
                    return Err(Failure::new(
                        "the arbiter has gone; run the command again once it is back",
                    ));
                }
                Ok(None) => return Ok(()),
                Err(status) => return Err(refused(&status)),
            }
        }
    })
}

fn line(e: &v1::EventRecord, zone: &TimeZone) -> String {
    let change = match change(e) {
        Some(change) => format!("{change}, epoch {}: ", e.epoch),
        None => String::new(),
    };
    format!(
        "{} {:<8} {:<8} {:<4} {:<8} {change}{}\n",
        local(e.at_unix_us, zone),
        e.node,
        e.severity,
        e.rule,
        e.reserve,
        e.why
    )
}

/// `standby -> active`, where the role changed.
pub(crate) fn change(e: &v1::EventRecord) -> Option<String> {
    (!e.to.is_empty() && e.from != e.to).then(|| match e.from.as_str() {
        "" => e.to.clone(),
        from => format!("{from} -> {}", e.to),
    })
}

fn value(e: &v1::EventRecord) -> serde_json::Value {
    let evidence: BTreeMap<_, _> = e.evidence.iter().map(|p| (&p.name, &p.value)).collect();
    json!({
        "seq": e.seq,
        "at": rfc3339(e.at_unix_us / 1000),
        "at_unix_us": e.at_unix_us,
        "node": e.node,
        "severity": e.severity,
        "rule": e.rule,
        "reserve": e.reserve,
        "from": e.from,
        "to": e.to,
        "epoch": e.epoch,
        "why": e.why,
        "evidence": evidence,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use expect_test::expect;

    use super::*;

    pub(crate) fn takeover() -> v1::EventRecord {
        let evidence = [
            ("beta red echo", "41.2ms ago"),
            ("beta blue echo", "40.9ms ago"),
            ("echo replies missing", "4"),
        ];
        v1::EventRecord {
            seq: 41,
            at_unix_us: 1_772_366_400_123_456,
            node: "alpha".into(),
            severity: "major".into(),
            rule: "B7".into(),
            reserve: "sip".into(),
            from: "standby".into(),
            to: "taking".into(),
            epoch: 13,
            why: "beta is silent on every network and the VIP is free".into(),
            evidence: evidence
                .map(|(name, value)| v1::Evidence {
                    name: name.into(),
                    value: value.into(),
                })
                .into(),
        }
    }

    #[test]
    fn an_event_is_one_line() {
        let plain = v1::EventRecord {
            reserve: String::new(),
            from: String::new(),
            to: String::new(),
            ..takeover()
        };
        let zone = TimeZone::UTC;
        expect![[r#"
            2026-03-01 12:00:00.123 alpha    major    B7   sip      standby -> taking, epoch 13: beta is silent on every network and the VIP is free
            2026-03-01 12:00:00.123 alpha    major    B7            beta is silent on every network and the VIP is free
        "#]].assert_eq(&(line(&takeover(), &zone) + &line(&plain, &zone)));
        expect![[r#"{"at":"2026-03-01T12:00:00.123Z","at_unix_us":1772366400123456,"epoch":13,"evidence":{"beta blue echo":"40.9ms ago","beta red echo":"41.2ms ago","echo replies missing":"4"},"from":"standby","node":"alpha","reserve":"sip","rule":"B7","seq":41,"severity":"major","to":"taking","why":"beta is silent on every network and the VIP is free"}"#]].assert_eq(&value(&takeover()).to_string());
    }
}
