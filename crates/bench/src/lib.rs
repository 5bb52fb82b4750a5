//! Benchmarks: haarb beside what people run today, in one laboratory, in turn.
//!
//! It measures and prints; it asserts no speed, and a peer that is not installed is a line in the table
//! and never an error. The one thing to know: every system has its own pair of servers in the same
//! sandbox, and one run of each system follows the other, so that all see the same noise of the machine.
//!
//! [`system`] says what is compared, [`fault`] what is done to it; [`pair`] is a running pair, [`run`]
//! one measured run, [`schedule`] the order of runs; [`result`](mod@result) and [`page`] are what comes of it.
//! All that is about failover; replicated directories are measured by [`sync`].

pub mod conditions;
pub mod cost;
pub mod failover;
pub mod fault;
pub mod kernel_watch;
pub mod page;
pub mod pair;
pub mod peers;
pub mod result;
pub mod run;
pub mod schedule;
pub mod sync;
pub mod system;
