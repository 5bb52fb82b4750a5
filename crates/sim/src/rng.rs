//! The one source of chance in a simulation: SplitMix64 (Steele, Lea, Flood 2014). A seed
//! gives the same numbers on every machine, for ever.

use haarb_model::Span;

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    steady: bool,
}

impl Rng {
    /// A generator that starts at a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            state: seed,
            steady: false,
        }
    }

    /// A generator for worlds without jitter: every span is the middle of its range, so a
    /// world's future depends on nothing but its state. Other numbers are drawn as usual.
    #[must_use]
    pub const fn steady(seed: u64) -> Self {
        Self {
            state: seed,
            steady: true,
        }
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to below `high`; `low` if the range is empty.
    pub const fn range(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            return low;
        }
        low + self.next_u64() % (high - low)
    }

    /// An index below `len`, which must not be zero.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.range(0, len as u64)).unwrap_or(0)
    }

    /// True with this chance.
    pub fn chance(&mut self, chance: f64) -> bool {
        // 53 bits are what a double holds.
        ((self.next_u64() >> 11) as f64 / (1u64 << 53) as f64) < chance
    }

    /// A span between two numbers of microseconds.
    pub const fn span(&mut self, low_us: u64, high_us: u64) -> Span {
        if self.steady {
            return Span::from_micros(low_us + high_us.saturating_sub(low_us) / 2);
        }
        Span::from_micros(self.range(low_us, high_us))
    }
}
