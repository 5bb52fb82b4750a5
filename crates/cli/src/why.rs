//! `haarb why`: the last change of role, the rule behind it, what was seen, what stands.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use haarb_api::v1;
use haarb_daemon::Options;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::control::{answer, connect, with};
use crate::events::change;
use crate::failure::{Failure, print};
use crate::status::alarms;
use crate::when::{lasting, local};

/// Explains one reserve, or all.
pub(crate) fn show(options: &Options, reserve: Option<&str>) -> Result<(), Failure> {
    with(async {
        let mut client = connect(options).await?;
        let request = v1::WhyRequest {
            reserve: reserve.unwrap_or_default().to_owned(),
        };
        let why = answer(options, client.why(request)).await?;
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        let colour = std::io::stdout().is_terminal();
        print(&page(&why, now, &TimeZone::system(), colour))
    })
}

fn page(why: &v1::WhyAnswer, now: u64, zone: &TimeZone, colour: bool) -> String {
    let mut out = String::new();
    if why.last.is_empty() {
        out.push_str("no role has changed since the event log begins\n");
    }
    for e in &why.last {
        let change = change(e).unwrap_or_else(|| e.to.clone());
        let age = lasting(now.saturating_sub(e.at_unix_us / 1000));
        let _ = writeln!(out, "{}: {change}, epoch {}", e.reserve, e.epoch);
        let _ = writeln!(
            out,
            "  when      {} ({age} ago) on {}",
            local(e.at_unix_us, zone),
            e.node
        );
        let _ = writeln!(out, "  rule      {} ({})", e.rule, e.severity);
        let _ = writeln!(out, "  why       {}", e.why);
        let width = e
            .evidence
            .iter()
            .map(|p| p.name.chars().count())
            .max()
            .unwrap_or(0);
        for (i, p) in e.evidence.iter().enumerate() {
            let head = if i == 0 { "seen" } else { "" };
            let _ = writeln!(out, "  {head:<9} {:<width$}  {}", p.name, p.value);
        }
        out.push('\n');
    }
    out.push_str(alarms(&why.alarms, now, zone, colour).trim_start());
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::events::tests::takeover;

    #[test]
    fn a_takeover_is_explained_with_its_evidence() {
        let why = v1::WhyAnswer {
            last: vec![takeover()],
            alarms: vec![v1::Alarm {
                severity: "major".into(),
                rule: "A9".into(),
                reserve: "sip".into(),
                text: "alpha serves alone: bring beta back".into(),
                since_unix_ms: 1_772_366_400_200,
            }],
        };
        expect![[r#"
            sip: standby -> taking, epoch 13
              when      2026-03-01 12:00:00.123 (1m 0s ago) on alpha
              rule      B7 (major)
              why       beta is silent on every network and the VIP is free
              seen      beta red echo         41.2ms ago
                        beta blue echo        40.9ms ago
                        echo replies missing  4

            alarms
              MAJOR     A9   sip   since 2026-03-01 12:00:00.200 (1m 0s)
                        alpha serves alone: bring beta back
        "#]]
        .assert_eq(&page(&why, 1_772_366_461_000, &TimeZone::UTC, false));
        expect![[r#"
            no role has changed since the event log begins
            no alarms
        "#]]
        .assert_eq(&page(&v1::WhyAnswer::default(), 0, &TimeZone::UTC, false));
    }
}
