//! The supervisor: runs the services of the reserves, in order, under the arbiter's lease.
//!
//! Pure parts decide ([`restart`], [`machine`], [`plan`], [`reserve`]); [`supervisor`] is the
//! loop around them. The one thing to know: every service lives below a **keeper**, a small
//! process of its own ([`keeper`]) that outlives the supervisor. So a restart of the
//! supervisor has no effect on a service, and a service whose right to run ends is stopped
//! even when the supervisor is dead (`docs/decisions`, "A keeper per service").

mod cgroup;
pub mod check;
pub mod error;
mod hash;
pub mod keeper;
mod keepers;
pub mod kinds;
pub mod machine;
pub mod order;
pub mod plan;
pub mod reserve;
pub mod restart;
pub mod supervisor;
mod sweep;
pub mod watchdog;
