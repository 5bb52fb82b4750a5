//! The prober: does a neighbour live, does a switch answer, and what do the servers tell each
//! other.
//!
//! It measures and carries; it decides nothing and holds nothing. What is measured is pure
//! ([`detector`], [`switch`]), what ties it together knows neither clock nor socket
//! ([`engine`]), and a thin loop around it owns both.

#![warn(missing_docs)]

pub mod detector;
mod echoes;
pub mod engine;
mod icmp;
mod loss;
mod port;
mod run;
pub mod switch;

pub use run::{run, serve};
