//! The one source of chance in a simulation: SplitMix64 (Steele, Lea, Flood 2014). A seed
//! gives the same numbers on every machine, for ever.

use haarb_model::Span;

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that starts at a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
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
        Span::from_micros(self.range(low_us, high_us))
    }
}
