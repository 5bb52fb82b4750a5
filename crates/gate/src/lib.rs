//! The gate: the kernel itself ends a virtual IP at the end of its lease, to the moment, though
//! no process of ours may run any more.
//!
//! It never decides how long an address is held, and an address that it was not told of is none
//! of its business. First line: a program on each interface that compares an absolute
//! `CLOCK_BOOTTIME` deadline ([`program`], [`bpf`], `tc`). Where the kernel gives us no eBPF: an
//! nftables set whose elements time out (`nft`). [`Gate`] chooses, and says why (decision 0005).

#![warn(missing_docs)]

mod asm;
pub mod bpf;
mod gate;
pub mod netlink;
mod nft;
pub mod program;
mod tc;

pub use gate::{Door, Doors, Gate};
