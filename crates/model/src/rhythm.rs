//! The rhythm of an idle server: the arbiter renews, and agents give signs of life, at the same
//! moments of the server's clock, the multiples of a fifth of the lease. So what is idle wakes the
//! machine seldom, and together.
//!
//! The one thing to know: an agent owes a sign at every second such moment. The renewal that wakes
//! it then is answered with the sign; only an agent that nothing wakes has to wake by itself, a
//! little later.

use crate::{Mono, Span};

/// Between two renewals of what the arbiter allows: four fifths of every lease are left for an
/// arbiter that starts anew.
#[must_use]
pub const fn renewal_interval(lease: Span) -> Span {
    lease.part(5)
}

/// How long the arbiter counts as alive for what its datagrams say: until the next renewal, and
/// half as long again.
#[must_use]
pub const fn advert_life(lease: Span) -> Span {
    renewal_interval(lease).part(2).times(3)
}

/// The longest that an agent is quiet where nothing is to be told: the arbiter renews nothing for
/// one that is silent for half a lease (rule A13).
#[must_use]
pub const fn sign_interval(lease: Span) -> Span {
    lease.part(50).times(21)
}

/// From when on an agent that last told something at `last` owes a sign of life. It gives it in
/// the first turn from then on, whatever the turn is for.
#[must_use]
pub fn sign_due(last: Mono, lease: Span) -> Mono {
    let slot = renewal_interval(lease);
    (last + slot).next_multiple(slot)
}

/// When that agent wakes by itself to give the sign, at most [`sign_interval`] after `last`: by
/// then a renewal of this moment would have woken it.
#[must_use]
pub fn sign_at_latest(last: Mono, lease: Span) -> Mono {
    sign_due(last, lease) + lease.part(50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_come_in_time_and_to_everybody_at_the_same_moments() {
        let lease = Span::from_millis(500);
        let slot = renewal_interval(lease);
        for last in (1_000_000..2_000_000).step_by(777).map(Mono::from_micros) {
            let due = sign_due(last, lease);
            assert_eq!(due.as_micros() % slot.as_micros(), 0);
            assert!(due > last + slot, "every second moment is enough");
            let latest = sign_at_latest(last, lease);
            assert!(
                latest > due && latest <= last + sign_interval(lease),
                "{last}"
            );
        }
    }

    #[test]
    fn a_sign_that_is_late_stops_no_renewal() {
        for lease in [500, 1_000, 3_000].map(Span::from_millis) {
            assert!(
                sign_interval(lease) + lease.part(20) < lease.part(2),
                "{lease}"
            );
            assert!(advert_life(lease) > renewal_interval(lease));
        }
    }
}
