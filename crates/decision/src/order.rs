//! Who goes first (section 7): one order of servers, the same wherever it is computed.

use std::cmp::Ordering;

use haarb_model::{Data, Epoch};

/// What counts for the order, of one server and one reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its replica.
    pub data: Data,
    /// The highest epoch it knows; the one it serves under if it serves.
    pub epoch: Epoch,
    /// It was the active one of that epoch.
    pub was_active: bool,
    /// How many networks it can use.
    pub networks: usize,
    /// Its place in the configuration; names there are unique, so nothing ties.
    pub rank: usize,
}

impl Standing {
    /// The order of candidates in an election: `Less` goes first.
    ///
    /// Current data, then the higher epoch, who was active last, more networks, the earlier
    /// place in the configuration.
    #[must_use]
    pub fn election(&self, other: &Self) -> Ordering {
        self.data
            .cmp(&other.data)
            .then(other.epoch.cmp(&self.epoch))
            .then(other.was_active.cmp(&self.was_active))
            .then(other.networks.cmp(&self.networks))
            .then(self.rank.cmp(&other.rank))
    }

    /// The order of servers that serve at the same time: `Less` stays (rules A1, A2).
    ///
    /// The higher epoch, then the order of candidates.
    #[must_use]
    pub fn serving(&self, other: &Self) -> Ordering {
        other
            .epoch
            .cmp(&self.epoch)
            .then_with(|| self.election(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Standing> {
        let mut list = Vec::new();
        for data in [Data::Current, Data::Stale, Data::Inconsistent] {
            for epoch in [0, 1, 2].map(Epoch) {
                for was_active in [false, true] {
                    for networks in 0..=2 {
                        for rank in 0..3 {
                            list.push(Standing {
                                data,
                                epoch,
                                was_active,
                                networks,
                                rank,
                            });
                        }
                    }
                }
            }
        }
        list
    }

    #[test]
    fn of_two_servers_exactly_one_goes_first() {
        for a in all() {
            for b in all() {
                if a.rank == b.rank {
                    continue;
                }
                assert_eq!(a.election(&b), b.election(&a).reverse(), "{a:?} {b:?}");
                assert_ne!(a.election(&b), Ordering::Equal, "{a:?} {b:?}");
                assert_eq!(a.serving(&b), b.serving(&a).reverse(), "{a:?} {b:?}");
                assert_ne!(a.serving(&b), Ordering::Equal, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn current_data_go_before_a_higher_epoch_but_not_among_serving_ones() {
        let old = Standing {
            data: Data::Stale,
            epoch: Epoch(9),
            was_active: true,
            networks: 2,
            rank: 0,
        };
        let good = Standing {
            data: Data::Current,
            epoch: Epoch(8),
            was_active: false,
            networks: 1,
            rank: 1,
        };
        assert_eq!(good.election(&old), Ordering::Less);
        assert_eq!(good.serving(&old), Ordering::Greater);
    }
}
