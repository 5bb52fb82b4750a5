//! The arbiter: the shell around `haarb-decision`. It collects what agents report, feeds it
//! to the decision one input at a time, and sends out what follows.
//!
//! It decides nothing itself and waits for nothing: files are written by threads of their
//! own, agents and operators are served by tasks that talk to the one loop through queues.
//!
//! ```text
//!  agents --Attach--> hub.rs --+                       +--> directives to agents
//!                              +--> inbox --> serve.rs +--> journal.rs (thread) --> events
//!  haarb --Control-> control.rs+    (one loop, Core)   +--> store.rs   (thread) --> record
//! ```

pub mod control;
pub mod hub;
pub mod inbox;
pub mod journal;
pub mod listen;
pub mod serve;
pub mod status;
pub mod store;
