//! The test laboratory of haarb: servers, switches and a client on one machine, with real faults and
//! honest measurement.
//!
//! Everything is made of network, pid and mount namespaces inside one sandbox, by system calls and
//! rtnetlink, so it needs no command to be installed, runs for root and for ordinary users, and
//! vanishes with the program, however that ends. The lab never touches the machine's own networks.
//!
//! From the ground up: [`sandbox`], then [`segment`] with [`switch`], [`server`] and [`client`], which
//! know nothing of haarb; [`analysis`] judges what the client saw; [`setup`], [`cluster`] and [`drill`]
//! put haarb into it and try it. [`fake`] does failovers by hand, to test the lab itself.

pub mod analysis;
pub mod bad_cable;
pub mod bystander;
pub mod check;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod cost;
pub mod data;
pub mod debian;
pub mod drill;
pub mod drills;
pub mod error;
pub mod fake;
pub mod guest;
pub mod history;
pub mod live;
pub mod load;
mod machine;
pub mod netlink;
pub mod netns;
pub mod observer;
pub mod packet;
pub mod page;
pub mod picture;
pub mod plan;
mod realtime;
pub mod roles;
pub mod sandbox;
pub mod segment;
pub mod serve;
pub mod server;
pub mod setup;
pub mod switch;
pub mod table;
pub mod trace;
