//! The link-watcher: which of the interfaces that haarb uses can carry traffic, and if not,
//! why.
//!
//! It observes and holds nothing. The kernel tells every change by itself (rtnetlink(7),
//! multicast), so nothing is polled and a lost carrier is known within microseconds. What the
//! driver has to say about it is asked afterwards, in a thread of its own, because that
//! question can wait behind whatever holds the kernel's network lock.

#![warn(missing_docs)]

mod events;
pub mod links;
mod message;
mod reason;
mod run;

pub use run::{run, serve};
