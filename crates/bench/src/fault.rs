//! What is done to the active server, and how long it is watched.

use std::time::Duration;

use haarb_lab::{error::LabError, plan::ServerId, server::FaultTimes};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    pair::Pair,
    system::{Stack, System},
};

/// A fault, always of the active server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Its power is cut.
    PowerOff,
    /// One of its cables is pulled.
    Cable,
    /// All daemons of the system are killed at once, and nobody starts them again.
    Kill,
    /// Its whole user space stands still for [`FROZEN`]; the kernel lives.
    Freeze,
    /// The operator moves its virtual IPs to the other.
    Switchover,
}

/// How long a user space is frozen.
pub const FROZEN: Duration = Duration::from_secs(5);

/// Every fault, in the order of the tables.
pub const ALL: [Fault; 5] = [
    Fault::PowerOff,
    Fault::Cable,
    Fault::Kill,
    Fault::Freeze,
    Fault::Switchover,
];

impl Fault {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::Cable => "cable",
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Switchover => "switchover",
        }
    }

    /// Its name in the tables.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::PowerOff => "power-off of the active server",
            Self::Cable => "a cable of the active server pulled",
            Self::Kill => "all daemons of the active server killed, not started again",
            Self::Freeze => "user space of the active server frozen for 5 s, then thawed",
            Self::Switchover => "planned switchover",
        }
    }

    /// The fault called `name`.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// Whether one run takes so long that it is done less often.
    #[must_use]
    pub const fn is_long(self) -> bool {
        matches!(self, Self::Freeze)
    }

    /// How long it is watched at least after the fault, and after the takeover. Where daemons are
    /// dead or asleep, what happens next is as telling as the takeover.
    #[must_use]
    pub const fn watch(self) -> (Duration, Duration) {
        let short = Duration::from_millis(400);
        match self {
            Self::PowerOff | Self::Cable | Self::Switchover => (short, short),
            Self::Kill => (Duration::from_secs(3), short),
            Self::Freeze => (Duration::from_secs(7), short),
        }
    }

    /// Whether the time from the old server's last answer counts, not the time from the request.
    #[must_use]
    pub const fn is_planned(self) -> bool {
        matches!(self, Self::Switchover)
    }

    /// Does it to `active`.
    ///
    /// # Errors
    /// As the lab or the system refuses.
    pub fn strike(self, pair: &mut Pair, active: ServerId) -> Result<FaultTimes, LabError> {
        let system = *pair.system();
        match self {
            Self::PowerOff => pair.lab_mut().power_off(active),
            Self::Cable => pair.lab_mut().plug(active, 0, false),
            Self::Kill => {
                let victims = pair.daemons(active)?;
                FaultTimes::of(|| {
                    // Stopped first: a parent that dies may tell its children to end in good order.
                    signal_all(&victims, Signal::SIGSTOP);
                    signal_all(&victims, Signal::SIGKILL);
                    Ok(())
                })
            }
            Self::Freeze => pair.lab().freeze(active, true),
            Self::Switchover => switchover(pair, &system, active),
        }
    }
}

/// Moves the virtual IPs in the way that the system's own documentation names: `haarb switchover`,
/// keepalived is stopped, ucarp is demoted by SIGUSR2.
fn switchover(pair: &Pair, system: &System, active: ServerId) -> Result<FaultTimes, LabError> {
    let lab = pair.lab();
    let signal = match system.stack {
        Stack::Haarb { .. } => {
            let reserve = lab.plan().vips[0].reserve.clone();
            let to = lab.plan().servers[pair.other(active)].clone();
            return FaultTimes::of(|| {
                let arguments = ["switchover", &reserve, "--to", &to];
                haarb_lab::cluster::haarb(lab, active, &arguments).map(drop)
            });
        }
        Stack::Keepalived(_) => Signal::SIGTERM,
        Stack::Ucarp { .. } => Signal::SIGUSR2,
    };
    let daemons = pair.daemons(active)?;
    FaultTimes::of(|| {
        signal_all(&daemons, signal);
        Ok(())
    })
}

fn signal_all(victims: &[Pid], signal: Signal) {
    for pid in victims {
        // Gone already (a child of one that was killed before it) is as good.
        let _ = kill(*pid, signal);
    }
}
