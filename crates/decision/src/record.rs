//! What should survive a restart. The shell stores it in the background and hands it back;
//! it may be empty (a server without a disk), and then everything is learnt from others.

use std::collections::{BTreeMap, BTreeSet};

use haarb_model::{Epoch, NodeName, ReserveName};

/// The record of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Per reserve.
    pub reserves: BTreeMap<ReserveName, RecordReserve>,
    /// Servers that left cleanly and have not come back since: they cannot have been active
    /// after us (rule S1).
    pub left: BTreeSet<NodeName>,
    /// `haarb maintenance on` is in force.
    pub maintenance: bool,
}

/// The record of one reserve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordReserve {
    /// The highest epoch known.
    pub epoch: Epoch,
    /// The epoch under which this server served last; zero: never.
    pub own: Epoch,
    /// Manual by an operator's command, and which.
    pub operator: Option<String>,
    /// Failed: `haarb clear` is needed.
    pub failed: bool,
}
