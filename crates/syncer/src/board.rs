//! Where each reserve's worker leaves its state, and the daemon picks it up.

use std::sync::Arc;

use haarb_model::{SyncReport, SyncReserve};
use tokio::sync::watch;

/// The state of all reserves, in the order of the configuration.
#[derive(Clone)]
pub(crate) struct Board(Arc<watch::Sender<SyncReport>>);

impl Board {
    pub(crate) fn new(reserves: Vec<SyncReserve>) -> (Self, watch::Receiver<SyncReport>) {
        let (sender, receiver) = watch::channel(SyncReport { reserves });
        (Self(Arc::new(sender)), receiver)
    }

    /// Puts up the state of one reserve; whoever watches hears of it if it is another one.
    pub(crate) fn post(&self, state: SyncReserve) {
        self.0.send_if_modified(|report| {
            let place = report
                .reserves
                .iter_mut()
                .find(|old| old.reserve == state.reserve);
            match place {
                Some(old) if *old != state => {
                    *old = state;
                    true
                }
                Some(_) | None => false,
            }
        });
    }
}
