//! The datagrams between servers: layout, authentication, protection against replay; and
//! the cluster key on which they, and every other secret of a cluster, rest.
//!
//! No sockets and no clock. What the arbiter says travels as opaque bytes behind a header that
//! the prober writes, so that a prober whose arbiter is silent still tells the truth about
//! itself. The one thing to know: [`Endpoint::receive`] is total, any bytes give a
//! [`Received`] or a named [`DropReason`], and a datagram of an older run never has an effect.

#![warn(missing_docs)]

mod arrivals;
mod cursor;
mod datagram;
mod drop_reason;
mod endpoint;
mod key;
mod sessions;

pub use datagram::{Datagram, Hears, MAX_DATAGRAM, MAX_NETWORKS, NEWS, Seal, TooLarge};
pub use drop_reason::DropReason;
pub use endpoint::{Endpoint, Outgoing, Received};
pub use key::{ClusterKey, KeyError};
