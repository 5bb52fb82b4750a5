//! Over which networks the other servers are heard, as the arbiter says.
//!
//! The prober knows within milliseconds that a cable is gone; TCP would learn it after a
//! second. Nothing here forbids a network: where nothing is heard, every one is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use haarb_model::{NetworkName, NodeName};

/// The networks on which each server is heard.
pub(crate) type Heard = BTreeMap<NodeName, BTreeSet<NetworkName>>;

/// What the arbiter said last, shared by all reserves.
#[derive(Debug, Default)]
pub(crate) struct Paths(Mutex<Heard>);

impl Paths {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the arbiter says. Answers whether it is anything new.
    pub(crate) fn note(&self, heard: &Heard) -> bool {
        let mut known = self.lock();
        let new = *known != *heard;
        if new {
            known.clone_from(heard);
        }
        new
    }

    /// In which order to try the networks to `node`: from `first` on, those on which it is
    /// heard before the others.
    pub(crate) fn order(
        &self,
        node: &NodeName,
        networks: &[NetworkName],
        first: usize,
    ) -> Vec<usize> {
        let known = self.lock();
        let heard = known.get(node);
        let mut order: Vec<usize> = (0..networks.len())
            .map(|turn| (first + turn) % networks.len())
            .collect();
        // Stable: among equals the order stays.
        order.sort_by_key(|&i| !heard.is_some_and(|heard| heard.contains(&networks[i])));
        order
    }

    /// Whether `node` is heard on some network, but not on this one.
    pub(crate) fn is_elsewhere(&self, node: &NodeName, network: &NetworkName) -> bool {
        let known = self.lock();
        let heard = known.get(node);
        heard.is_some_and(|heard| !heard.is_empty() && !heard.contains(network))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str) -> NetworkName {
        NetworkName::new(name).expect("a name")
    }

    #[test]
    fn networks_on_which_the_server_is_heard_come_first() {
        let beta = NodeName::new("beta").expect("a name");
        let all = ["red", "blue", "green"].map(network);
        let paths = Paths::default();
        assert_eq!(paths.order(&beta, &all, 1), [1, 2, 0]);
        assert!(!paths.is_elsewhere(&beta, &all[0]));

        let heard = |names: &[&str]| {
            Heard::from([(beta.clone(), names.iter().map(|n| network(n)).collect())])
        };
        assert!(paths.note(&heard(&["red", "green"])));
        assert!(!paths.note(&heard(&["red", "green"])));
        assert_eq!(paths.order(&beta, &all, 1), [2, 0, 1]);
        assert!(paths.is_elsewhere(&beta, &all[1]));
        assert!(!paths.is_elsewhere(&beta, &all[0]));

        // Heard nowhere: perhaps only its arbiter is silent, so every network is as good.
        assert!(paths.note(&heard(&[])));
        assert_eq!(paths.order(&beta, &all, 0), [0, 1, 2]);
        assert!(!paths.is_elsewhere(&beta, &all[1]));
    }
}
