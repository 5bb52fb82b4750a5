//! What every daemon of haarb needs: options, logging, the clock and its timer, the link
//! to the arbiter, readiness, real-time priority, shutdown.
//!
//! A daemon is `run(agent, |context| async { ... })`; what it decides lives elsewhere. The
//! one thing to know: nothing here ever waits for a disk, a name service or a full pipe
//! once the daemon has started.

#![warn(missing_docs)]

pub mod clock;
mod link;
mod log;
pub mod notify;
mod options;
mod realtime;
mod start;
pub mod timer;
mod voice;

pub use link::{ArbiterLink, FromArbiter};
pub use options::Options;
pub use realtime::{
    RealTime, granted as granted_real_time, prepare as prepare_real_time,
    schedule as schedule_real_time,
};
pub use start::{Context, Shutdown, run};
pub use voice::Voice;
