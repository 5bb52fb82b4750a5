//! Durations as the file spells them: `10ms`, `2.5s`, `1m`.

use haarb_model::Span;

/// Units and their microseconds.
const UNITS: [(&str, u64); 5] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
];

/// Longer durations are refused: surely a mistake.
pub(crate) const LONGEST: Span = Span::from_secs(24 * 3600);

/// Parses a number with a unit, exact to a microsecond; the error is the reason.
pub(crate) fn parse(text: &str) -> Result<Span, &'static str> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| (1..=9).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err("is not a duration");
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.is_empty() {
            "has no unit"
        } else {
            "has an unknown unit"
        });
    };
    let scale = 10u64.pow(fraction.len() as u32);
    let (Ok(whole), Ok(fraction)) = (whole.parse::<u64>(), fraction.parse::<u64>()) else {
        return Err("is not a duration");
    };
    // Nine digits each and at most an hour: far below u128::MAX.
    let scaled =
        (u128::from(whole) * u128::from(scale) + u128::from(fraction)) * u128::from(*factor);
    if scaled % u128::from(scale) != 0 {
        return Err("is finer than a microsecond");
    }
    u64::try_from(scaled / u128::from(scale))
        .map(Span::from_micros)
        .map_err(|_| "is too long")
}

/// The shortest spelling that [`parse`] reads back exactly.
pub(crate) fn exact(span: Span) -> String {
    match span.as_micros() {
        us if us % 1_000_000 == 0 => format!("{}s", us / 1_000_000),
        us if us % 1_000 == 0 => format!("{}ms", us / 1_000),
        us if us < 1_000 => format!("{us}us"),
        us => {
            let fraction = format!("{:03}", us % 1_000);
            format!("{}.{}ms", us / 1_000, fraction.trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, micros) in [
            ("10ms", 10_000),
            ("2.5s", 2_500_000),
            ("1m", 60_000_000),
            ("0.5ms", 500),
            ("37.5ms", 37_500),
            ("1.001ms", 1_001),
            ("750us", 750),
            ("1h", 3_600_000_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Span::from_micros(micros)), "{text}");
            assert_eq!(parse(&exact(Span::from_micros(micros))), parse(text));
        }
    }

    #[test]
    fn anything_else_has_a_reason() {
        for (text, reason) in [
            ("10", "has no unit"),
            ("10 ms", "has an unknown unit"),
            ("10sec", "has an unknown unit"),
            ("ms", "is not a duration"),
            ("-1s", "is not a duration"),
            ("1.2.3s", "is not a duration"),
            ("1.", "is not a duration"),
            ("0.5us", "is finer than a microsecond"),
            ("99999999999s", "is not a duration"),
        ] {
            assert_eq!(parse(text), Err(reason), "{text}");
        }
    }
}
