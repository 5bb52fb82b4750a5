//! Which version of the protocol two servers speak with each other (rule X6): the newest one
//! that all of them know. Nothing here knows what a version means.

use std::fmt;

use haarb_model::Advert;

/// The versions that a server speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

/// What this code speaks. A release that changes the protocol raises `newest` and keeps
/// `oldest` at what the release before it spoke, so that servers are upgraded one by one.
pub const PROTOCOLS: Protocols = Protocols {
    oldest: 1,
    newest: 1,
};

/// The newest version that this code speaks.
pub const PROTOCOL: u32 = PROTOCOLS.newest;

impl Protocols {
    /// What a server says that it speaks.
    #[must_use]
    pub const fn of(advert: &Advert) -> Self {
        let newest = advert.protocol;
        let oldest = match advert.protocol_oldest {
            0 => newest,
            oldest => oldest,
        };
        Self { oldest, newest }
    }

    /// The versions that both speak; `None`: there is none.
    #[must_use]
    pub fn common(self, other: Self) -> Option<Self> {
        let both = Self {
            oldest: self.oldest.max(other.oldest),
            newest: self.newest.min(other.newest),
        };
        (both.oldest <= both.newest).then_some(both)
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "version {}", self.newest)
        } else {
            write!(f, "versions {} to {}", self.oldest, self.newest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Protocols;

    #[test]
    fn the_newest_that_both_know() {
        let speaks = |oldest, newest| Protocols { oldest, newest };
        assert_eq!(speaks(1, 2).common(speaks(1, 1)), Some(speaks(1, 1)));
        assert_eq!(speaks(2, 4).common(speaks(1, 3)), Some(speaks(2, 3)));
        assert_eq!(speaks(3, 3).common(speaks(1, 2)), None);
        assert_eq!(speaks(1, 2).common(speaks(3, 3)), None);
    }
}
