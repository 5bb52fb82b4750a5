//! Moments as people give and read them.

use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// From when on: a length of time before now, or a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    SecondsAgo(i64),
    At(Timestamp),
    /// A time of the local day, or a local date.
    Local(Local),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    Today(Time),
    At(DateTime),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(seconds) = ago(text) {
            return Ok(Self::SecondsAgo(seconds));
        }
        if let Ok(moment) = text.parse::<Timestamp>() {
            return Ok(Self::At(moment));
        }
        if let Ok(moment) = text.parse::<DateTime>() {
            return Ok(Self::Local(Local::At(moment)));
        }
        if let Ok(date) = text.parse::<Date>() {
            return Ok(Self::Local(Local::At(date.at(0, 0, 0, 0))));
        }
        if text.contains(':')
            && let Ok(time) = text.parse::<Time>()
        {
            return Ok(Self::Local(Local::Today(time)));
        }
        Err(
            "write 30s, 10m, 2h or 1d, a time such as 14:30, a date such as 2026-03-01, or both"
                .into(),
        )
    }
}

impl Since {
    /// Milliseconds since 1970, for a clock that shows `now` in `zone`.
    pub(crate) fn unix_ms(self, now: Timestamp, zone: &TimeZone) -> u64 {
        let local = |moment: DateTime| moment.to_zoned(zone.clone()).map(|z| z.timestamp());
        let moment = match self {
            Self::SecondsAgo(seconds) => {
                let ms = now
                    .as_millisecond()
                    .saturating_sub(seconds.saturating_mul(1000));
                return u64::try_from(ms).unwrap_or(0);
            }
            Self::At(moment) => Ok(moment),
            Self::Local(Local::At(moment)) => local(moment),
            Self::Local(Local::Today(time)) => {
                local(now.to_zoned(zone.clone()).date().to_datetime(time))
            }
        };
        // A local moment that no time zone has: from the beginning.
        moment.map_or(0, |m| u64::try_from(m.as_millisecond()).unwrap_or(0))
    }
}

/// `90s`, `10m`, `2h`, `1d` in seconds.
fn ago(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
    Some(i64::from(number).saturating_mul(factor))
}

/// A moment in local time to the millisecond.
pub(crate) fn local(unix_us: u64, zone: &TimeZone) -> String {
    zoned(unix_us, zone).map_or_else(
        || format!("{unix_us} us"),
        |z| z.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
    )
}

/// A moment as RFC 3339 in UTC, to the millisecond.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    zoned(unix_ms.saturating_mul(1000), &TimeZone::UTC).map_or_else(String::new, |z| {
        z.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    })
}

fn zoned(unix_us: u64, zone: &TimeZone) -> Option<Zoned> {
    let us = i64::try_from(unix_us).ok()?;
    Some(Timestamp::from_microsecond(us).ok()?.to_zoned(zone.clone()))
}

/// How long something lasts, in two units at most: `3h 2m`.
pub(crate) fn lasting(ms: u64) -> String {
    let seconds = ms / 1000;
    let (d, h, m, s) = (
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) => format!("{m}m {s}s"),
        (0, _, _) => format!("{h}h {m}m"),
        _ => format!("{d}d {h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_understood_as_people_give_them() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (text, moment) in [
            ("90s", "2026-03-01T11:58:30Z"),
            ("2h", "2026-03-01T10:00:00Z"),
            ("1d", "2026-02-28T12:00:00Z"),
            ("08:30", "2026-03-01T08:30:00Z"),
            ("2026-02-28", "2026-02-28T00:00:00Z"),
            ("2026-02-28 23:00", "2026-02-28T23:00:00Z"),
            ("2026-02-28T23:00:00+01:00", "2026-02-28T22:00:00Z"),
        ] {
            let since: Since = text.parse().unwrap();
            let expected: Timestamp = moment.parse().unwrap();
            let expected = u64::try_from(expected.as_millisecond()).unwrap();
            assert_eq!(since.unix_ms(now, &TimeZone::UTC), expected, "{text}");
        }
        for bad in ["", "10", "soon", "-5m", "5 m", "2026-13-01", "5ä"] {
            assert!(bad.parse::<Since>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ages_and_moments_read_well() {
        for (ms, text) in [
            (999, "0s"),
            (61_000, "1m 1s"),
            (3_720_000, "1h 2m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(lasting(ms), text);
        }
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.500Z");
        assert_eq!(local(1_500_999, &TimeZone::UTC), "1970-01-01 00:00:01.500");
    }
}
