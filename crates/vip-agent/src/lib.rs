//! The vip-agent: holds the virtual IPs of this server under the arbiter's lease.
//!
//! It never decides who holds them. [`plan`] is its whole mind, pure; the other modules are
//! its hands: [`arp`] and [`ndp`] make and read frames, the rest talks to the kernel.

#![warn(missing_docs)]

pub mod agent;
pub mod arp;
pub mod claim;
pub mod error;
pub mod kernel;
pub mod lease;
pub mod ndp;
pub mod packet;
pub mod plan;
pub mod system;
