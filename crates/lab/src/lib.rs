//! The test laboratory of haarb: servers, switches and a client on one machine, with real faults and
//! honest measurement.
//!
//! Everything is made of network, pid and mount namespaces inside one sandbox, by system calls and
//! rtnetlink, so it needs no command to be installed, runs for root and for ordinary users, and
//! vanishes with the program, however that ends. The lab never touches the machine's own networks.
//!
//! Start with [`sandbox::enter`], then [`segment::Segment`].

pub mod analysis;
pub mod client;
pub mod clock;
pub mod error;
pub mod fake;
pub mod guest;
pub mod history;
mod machine;
pub mod netlink;
pub mod netns;
pub mod observer;
pub mod packet;
pub mod plan;
pub mod roles;
pub mod sandbox;
pub mod segment;
pub mod serve;
pub mod server;
pub mod switch;
pub mod trace;
