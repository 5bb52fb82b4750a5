//! What the supervisor and a keeper say to each other: one JSON object per line.
//!
//! A keeper outlives its supervisor, so the two may be of different versions: unknown fields
//! are ignored, a new field needs a default, a field is never renamed. The one thing to
//! know: times are microseconds of CLOCK_BOOTTIME, which all processes of a server share.

use std::collections::BTreeMap;

use haarb_model::{Mono, Span};
use serde::{Deserialize, Serialize};

/// How a service is started and stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Run {
    /// A program in the foreground: it runs as long as the program does.
    Program(Vec<String>),
    /// Two commands that return when it is done.
    Commands {
        /// Starts it; must do no harm when it runs already.
        start: Vec<String>,
        /// Stops it; must succeed when it does not run.
        stop: Vec<String>,
    },
}

/// Everything that a keeper must know about its service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// How it is run.
    pub run: Run,
    /// Added to the environment of everything that is run.
    pub environment: BTreeMap<String, String>,
    /// The longest start, in microseconds.
    pub start_timeout_us: u64,
    /// The longest stop before everything is killed, in microseconds.
    pub stop_timeout_us: u64,
}

/// The right to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its end.
    pub until_us: u64,
    /// After its end, until what still runs is killed.
    pub grace_us: u64,
    /// The epoch under which it was given.
    pub epoch: u64,
}

impl Lease {
    /// Its end.
    #[must_use]
    pub const fn until(&self) -> Mono {
        Mono::from_micros(self.until_us)
    }

    /// When everything is killed.
    #[must_use]
    pub fn kill_at(&self) -> Mono {
        self.until() + self.grace()
    }

    /// Between its end and the kill.
    #[must_use]
    pub const fn grace(&self) -> Span {
        Span::from_micros(self.grace_us)
    }
}

/// From the supervisor to a keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToKeeper {
    /// Start it; nothing happens if it runs.
    Start(Recipe, Lease),
    /// It was found running without a keeper's doing: hold it under this lease.
    Hold(Recipe, Lease),
    /// Stop it and everything below the keeper. With the recipe, because the keeper of a
    /// service that was found running has none yet.
    Stop(Recipe),
    /// Let it run on.
    Renew(Lease),
    /// Stop it with what it was started with, then end.
    Retire,
}

/// What a keeper's service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// Nothing: nothing runs below the keeper.
    Idle,
    /// Its start command runs.
    Starting,
    /// It runs.
    Running,
    /// It is being stopped, or what it left behind is.
    Stopping,
}

/// From a keeper to its supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromKeeper {
    /// First message on every connection.
    Hello {
        /// The keeper's process.
        pid: i32,
        /// What it does.
        doing: Doing,
        /// The service's first process; 0: none known.
        main: i32,
        /// Since when, in microseconds.
        since_us: u64,
        /// The lease in force.
        lease: Lease,
    },
    /// It runs. For a program: its exec succeeded.
    Started {
        /// Its first process; 0 for commands.
        main: i32,
    },
    /// The start failed. Nothing runs below the keeper if `clean`.
    StartFailed {
        /// One line.
        why: String,
        /// Nothing of it is left.
        clean: bool,
    },
    /// The program ended by itself, and nothing of it is left.
    Ended {
        /// One line.
        why: String,
    },
    /// Every process that the start command left behind is gone: check it.
    Emptied,
    /// It is stopped: nothing is left below the keeper.
    Stopped {
        /// The keeper did it by itself, because the lease ended.
        lapsed: bool,
    },
    /// It could not be stopped for now.
    StopFailed {
        /// One line.
        why: String,
    },
    /// Another supervisor has connected; this connection ends.
    Replaced,
}
