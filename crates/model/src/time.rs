//! Time as the program uses it. Never shown to people: they get wall-clock time.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A moment, in microseconds of `CLOCK_BOOTTIME`.
///
/// All processes of one server share this clock, and it goes on while the machine is
/// suspended, so that a lease ends in time (clock_gettime(2)). It means nothing on
/// another server and is never sent there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(u64);

/// A length of time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Mono {
    /// The beginning: the boot of the machine.
    pub const ZERO: Self = Self(0);
    /// Later than anything that happens.
    pub const FAR: Self = Self(u64::MAX);

    /// From microseconds of `CLOCK_BOOTTIME`.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds of `CLOCK_BOOTTIME`.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is still to come.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// The next moment after this one that is a whole multiple of `span`: the same for everybody
    /// on this server.
    #[must_use]
    pub const fn next_multiple(self, span: Span) -> Self {
        let span = if span.0 == 0 { 1 } else { span.0 };
        Self((self.0 / span).saturating_add(1).saturating_mul(span))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From microseconds.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// From milliseconds, saturating.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// From seconds, saturating.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }

    /// As the standard library's duration.
    #[must_use]
    pub const fn to_duration(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0)
    }

    /// `self` x `factor`, saturating.
    #[must_use]
    pub const fn times(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }

    /// A fraction of it. `parts` must not be zero.
    #[must_use]
    pub const fn part(self, parts: u64) -> Self {
        Self(self.0 / parts)
    }
}

impl Add<Span> for Mono {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl AddAssign<Span> for Mono {
    fn add_assign(&mut self, span: Span) {
        *self = *self + span;
    }
}

impl Sub<Span> for Mono {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Span {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000_000, self.0 / 1000 % 1000)
    }
}

impl fmt::Display for Span {
    /// `30ms`, `2.5s`, `750us`: the shortest form that is exact to a tenth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0ms"),
            us if us < 1000 => write!(f, "{us}us"),
            us if us < 1_000_000 && us.is_multiple_of(1000) => write!(f, "{}ms", us / 1000),
            us if us < 1_000_000 => write!(f, "{:.1}ms", us as f64 / 1e3),
            us if us.is_multiple_of(1_000_000) => write!(f, "{}s", us / 1_000_000),
            us => write!(f, "{:.1}s", us as f64 / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_a_person_would_write_them() {
        for (micros, text) in [
            (0, "0ms"),
            (750, "750us"),
            (30_000, "30ms"),
            (1_500, "1.5ms"),
            (2_500_000, "2.5s"),
            (60_000_000, "60s"),
        ] {
            assert_eq!(Span::from_micros(micros).to_string(), text);
        }
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Mono::ZERO - Span::from_secs(1), Mono::ZERO);
        assert_eq!(Mono::FAR + Span::from_secs(1), Mono::FAR);
        assert_eq!(Mono::ZERO.since(Mono::FAR), Span::ZERO);
    }
}
