//! The residual cases, as code: when may two servers offer a virtual IP, and why no rule can
//! prevent it. Whatever is not one of these is a defect.

use haarb_model::Mono;

/// Why two servers may offer a virtual IP at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Case {
    /// Nothing passes between the servers, though both see every switch.
    HoleOnBoth,
    /// One server has lost a link, and nothing passes through what is left.
    LinkAndHole,
    /// One direction is dead, and a prober began to speak since: it cannot be believed.
    NeverMet,
    /// One direction is dead, and user space, or a daemon of the path, stands still where the other one arrives.
    NotRead,
    /// Switches that cannot be asked hang: neither server can know that it is cut off.
    Unseen,
    /// Servers that never heard each other take within the time of one probe of the virtual IPs.
    SameMoment,
    /// A server that stood still as a whole wakes up with what it held.
    Pause,
    /// An operator gave the reserve to a server that cannot hear the one that serves.
    Forced,
}

impl Case {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 8] = [
        Self::HoleOnBoth,
        Self::LinkAndHole,
        Self::NeverMet,
        Self::NotRead,
        Self::Unseen,
        Self::SameMoment,
        Self::Pause,
        Self::Forced,
    ];

    /// Its name in section 8 of the design, or one of our own.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::HoleOnBoth => "R1",
            Self::LinkAndHole => "R2",
            Self::NeverMet => "R1a",
            Self::NotRead => "R1c",
            Self::Unseen => "R1b",
            Self::SameMoment => "R1d",
            Self::Pause => "R3",
            Self::Forced => "OP2",
        }
    }

    /// What it is.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::HoleOnBoth => {
                "nothing passes between the servers on either network, and both see every switch"
            }
            Self::LinkAndHole => {
                "one server has lost a link or a switch, and nothing passes between them through the rest"
            }
            Self::NeverMet => {
                "one direction is dead, and a server began to speak since: what it says cannot be told from a replay, so the other may not believe it"
            }
            Self::NotRead => {
                "one direction is dead and user space is frozen where the other one arrives: nobody can be told; the lease or the thaw ends it"
            }
            Self::Unseen => {
                "no switch address is configured and the switches hang with their carrier up: neither server can know that it was cut off, until they forward again"
            }
            Self::SameMoment => {
                "only ARP passes between the servers, and both find the virtual IPs free at the same moment"
            }
            Self::Pause => "a server that stood still as a whole wakes up with the VIP it had",
            Self::Forced => {
                "an operator gives the reserve by force to a server that cannot hear the one that serves"
            }
        }
    }
}

/// What the classifier knows of the moment at which a second server begins to offer.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now: Mono,
    /// No packet of any kind has passed in either direction, from when to when (now, if it
    /// still cannot): the last such time, and whether both servers were attached to a switch
    /// throughout.
    pub apart: Option<(Mono, Mono)>,
    /// The same, but in one direction packets pass whose sender has begun to speak since the
    /// other direction died.
    pub never_met: Option<(Mono, Mono)>,
    /// The same, but what passes in one direction meets, or comes from, a frozen user space.
    pub not_read: Option<(Mono, Mono)>,
    /// The same as `apart`, whether the servers were attached or not, where no switch can be
    /// asked: then a server cannot know which it is.
    pub unseen: Option<(Mono, Mono)>,
    /// How long silence must last before a server is taken for dead, in its shortest form.
    pub dead_after: haarb_model::Span,
    /// Two intervals: what was decided before contact takes effect within them.
    pub slack: haarb_model::Span,
    /// The other server has offered for less than a probe of the virtual IPs takes.
    pub same_moment: bool,
    /// On how many networks each server is attached, of how many.
    pub degrees: (usize, usize, usize),
    /// When a server that offers went on after it had stood still as a whole.
    pub resumed: Option<Mono>,
    /// An operator used force.
    pub forced: Option<Mono>,
    /// No datagram has passed in either direction, from when to when.
    pub unheard: Option<(Mono, Mono)>,
    /// How long force waits at most for a server that it does not hear.
    pub patience: haarb_model::Span,
}

/// The residual case of this moment; `None`: there is none, two servers offer by a defect.
#[must_use]
pub fn classify(moment: &Moment) -> Option<Case> {
    let Moment {
        now,
        apart,
        never_met,
        not_read,
        unseen,
        dead_after,
        slack,
        same_moment,
        degrees: (a, b, all),
        resumed,
        forced,
        unheard,
        patience,
    } = *moment;
    if resumed.is_some_and(|at| now.since(at) <= slack) {
        return Some(Case::Pause);
    }
    // Whoever took over must have heard nothing for long enough, until just now.
    let long = |span: Option<(Mono, Mono)>| {
        span.filter(|(_, until)| now.since(*until) <= slack)
            .filter(|(since, until)| until.since(*since) + slack >= dead_after)
            .is_some()
    };
    let recent = unheard.filter(|(_, until)| now.since(*until) <= slack);
    if recent.is_some() && forced.is_some_and(|at| now.since(at) <= patience + slack) {
        return Some(Case::Forced);
    }
    if !long(apart) {
        return if recent.is_some() && same_moment {
            Some(Case::SameMoment)
        } else if long(never_met) {
            Some(Case::NeverMet)
        } else if long(not_read) {
            Some(Case::NotRead)
        } else {
            long(unseen).then_some(Case::Unseen)
        };
    }
    Some(if a == all && b == all {
        Case::HoleOnBoth
    } else {
        Case::LinkAndHole
    })
}
