//! The decision: who takes, keeps and gives up a reserve, and by which rule.
//!
//! [`Core`] is one server's decision. Inputs come in with their time, a [`Step`] comes out;
//! what must be held is a function of the role ([`Core::duties`]). The rules are data
//! ([`RULES`]), tried over small closed sets of facts.
//!
//! Never here: I/O, async, a clock, randomness, logging, and anything that blocks. The
//! arbiter, the simulator and a replay run this same code.

#![warn(missing_docs)]

mod alarm;
mod assess;
mod clock;
mod command;
mod core;
mod duties;
mod election;
mod eligible;
mod explain;
pub mod facts;
mod flaps;
mod mode;
mod neighbour;
mod order;
mod protocol;
mod record;
mod reserve;
mod rule;
mod rules;
mod view;

pub use alarm::Alarm;
pub use command::Command;
pub use core::{Core, Input, Step, UnknownNode};
pub use duties::{Holds, holds};
pub use explain::rules_markdown;
pub use mode::ModeState;
pub use neighbour::Neighbour;
pub use order::Standing;
pub use protocol::{PROTOCOL, PROTOCOLS, Protocols};
pub use record::{Record, RecordReserve};
pub use reserve::{Asked, Fit, Handing, Obstacle, ReserveState};
pub use rule::{Outcome, Rule, decide, standing};
pub use rules::RULES;
pub use view::{AgentView, Network, View};
