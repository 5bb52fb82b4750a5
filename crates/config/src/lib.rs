//! The configuration: one YAML file, the same on every server of a cluster.
//!
//! [`Config::load`] reads it, fills in defaults, checks it and reports every problem at once
//! as `FILE:LINE:COL: what; what to do`. It never touches the machine it runs on: whether an
//! interface exists is asked elsewhere. The one thing to know: [`Config::to_yaml`] writes the
//! effective configuration, [`Config::digest`] is its hash, and servers with different digests
//! switch nothing over (rule X5).

#![warn(missing_docs)]

mod check;
mod duration;
mod excludes;
mod fields;
mod load;
mod machine;
mod problem;
mod query;
mod read;
mod show;
mod timing;
mod tree;
mod types;

pub use excludes::{Decision, Excludes};
pub use machine::{Interfaces, Misfits};
pub use problem::{Errors, Problem};
pub use timing::{Inequality, Margins};
pub use types::{
    Attachment, Config, DeletionLimit, Directory, Network, Node, Profile, Reserve, ScrubRate,
    Service, ServiceKind, Watchdog,
};
