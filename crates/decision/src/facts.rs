//! What a rule may look at: small closed sets, never raw measurements.
//!
//! [`crate::assess`] turns the view into one [`Facts`] per reserve and moment; the table in
//! [`crate::rules`] sees nothing else. Every set is closed, so tests walk all combinations.

/// Declares every fact once: its values, the field in [`Facts`], the condition on it in
/// [`Cond`], and what is needed to enumerate it.
macro_rules! facts {
    ($(
        $(#[$doc:meta])*
        $field:ident: $name:ident {
            $( $(#[$vdoc:meta])* $variant:ident = $text:literal, )+
        }
    )+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub enum $name { $( $(#[$vdoc])* #[doc = $text] $variant, )+ }

            impl $name {
                /// Every value, the harmless one first.
                pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

                /// The words for it in events and in the table of rules.
                #[must_use]
                pub const fn as_str(self) -> &'static str {
                    match self { $( Self::$variant => $text, )+ }
                }
            }

            impl Default for $name {
                fn default() -> Self { Self::ALL[0] }
            }
        )+

        /// All that the table sees of one reserve on one server at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct Facts { $( $(#[$doc])* pub $field: $name, )+ }

        /// A condition of a rule: the fact has one of these values.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Cond { $( $(#[$doc])* $name(&'static [$name]), )+ }

        /// Which fact a condition is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $( $(#[$doc])* $name, )+ }

        impl Cond {
            /// Whether it holds.
            #[must_use]
            pub fn holds(self, facts: &Facts) -> bool {
                match self { $( Self::$name(allowed) => allowed.contains(&facts.$field), )+ }
            }

            /// The fact that it is about.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $( Self::$name(_) => Kind::$name, )+ }
            }

            /// The condition in words: `links: one network, all`.
            #[must_use]
            pub fn words(self) -> String {
                match self { $( Self::$name(allowed) => {
                    let words: Vec<&str> = allowed.iter().map(|v| v.as_str()).collect();
                    format!("{}: {}", stringify!($field).replace('_', " "), words.join(" / "))
                } )+ }
            }
        }

        impl Kind {
            /// Every fact.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )+ ];

            /// How many values it has.
            #[must_use]
            pub const fn len(self) -> usize {
                match self { $( Self::$name => $name::ALL.len(), )+ }
            }

            /// Facts always have values.
            #[must_use]
            pub const fn is_empty(self) -> bool { false }

            /// Sets the fact to its value number `index`, counted modulo the number of values.
            pub fn set(self, facts: &mut Facts, index: usize) {
                match self {
                    $( Self::$name => facts.$field = $name::ALL[index % $name::ALL.len()], )+
                }
            }
        }

        impl Facts {
            /// Name and value of every fact, in words.
            #[must_use]
            pub fn words(&self) -> Vec<(&'static str, &'static str)> {
                vec![ $( (stringify!($field), self.$field.as_str()), )+ ]
            }
        }
    };
}

facts! {
    /// Our own usable networks (n of the design).
    links: Links {
        Unknown = "not yet known",
        None = "none (n = 0)",
        Fresh = "some, one lost just now",
        Some = "some (0 < n < K)",
        All = "all (n = K)",
    }
    /// The best contact with any neighbour.
    contact: Contact {
        Unknown = "not yet known",
        Heard = "heard",
        Quiet = "not heard, its kernel not silent",
        Silent = "silent",
    }
    /// A neighbour that we hear serves the same reserve.
    rival: Rival {
        None = "nobody serves",
        Below = "one serves, it comes after us",
        Above = "one serves, it comes before us",
    }
    /// A neighbour that we hear and that may take over says it does not hear us.
    deaf: Deaf {
        No = "no",
        Yes = "an eligible neighbour does not hear us",
    }
    /// The neighbour to which we could hand over.
    heir: Heir {
        None = "nobody eligible",
        Behind = "eligible, its data not current",
        Ready = "eligible and current",
    }
    /// What the configuration says of an active server alone on one network.
    strict: Strict {
        No = "serves on",
        Yes = "gives way",
    }
    /// What is needed to serve here: services, addresses, the agents behind them.
    health: Health {
        Well = "well",
        Failed = "failed",
    }
    /// The right to hold, renewed while the agents it depends on are fresh.
    lease: Lease {
        Valid = "valid",
        Lapsed = "lapsed",
    }
    /// We or an agent were frozen for longer than the lease.
    stall: Stall {
        No = "no",
        Yes = "frozen for longer than the lease",
    }
    /// What the vip-agent held when this arbiter started.
    found: Found {
        Unknown = "not yet reported",
        Nothing = "nothing",
        Held = "the VIP, within its lease",
    }
    /// Whether the mode lets rules hand over by themselves.
    hands: Hands {
        Free = "free",
        Tied = "tied by a manual mode",
        Frozen = "maintenance",
    }
    /// What an operator asked for.
    wish: Wish {
        None = "nothing",
        HandOver = "hand over",
        LetGo = "let go",
        Take = "take",
        Force = "take by force",
    }
    /// The one predicate that is advertised and that permits a takeover, for `lead`.
    eligible: Eligible {
        No = "no",
        OldData = "but for its data",
        Yes = "yes",
    }
    /// Who answers for the virtual IPs.
    probe: Probe {
        Unknown = "not yet known",
        Silent = "nobody",
        Neighbour = "a neighbour",
        Foreign = "a stranger",
    }
    /// How long no neighbour's software was heard.
    software: Software {
        Recent = "shorter than software-dead-after",
        Dead = "longer than software-dead-after",
    }
    /// How long every neighbour has been silent while all our networks were usable.
    alone: Alone {
        Short = "shorter than claim-after",
        Long = "longer than claim-after",
        Cold = "longer than cold-start",
    }
    /// The record proves that nobody can have been active after us.
    proof: Proof {
        No = "none",
        Yes = "every neighbour left cleanly",
    }
    /// A neighbour released the reserve to us.
    released: Released {
        No = "no",
        Yes = "to us",
    }
    /// Where an election stands for us.
    turn: Turn {
        No = "not ours",
        Mine = "ours to claim",
        Won = "everybody yields",
    }
    /// The virtual IPs here.
    vip: Vip {
        Down = "none held",
        Between = "some held, or not sure",
        Up = "all held under our epoch",
    }
    /// Virtual IPs held and services running under our epoch.
    ready: Ready {
        No = "no",
        Yes = "yes",
    }
    /// The hand-over that is under way.
    drain: Drain {
        Going = "going on",
        Done = "services stopped, replica drained",
        Overdue = "longer than drain-max",
        Lost = "its receiver is gone",
    }
    /// The highest epoch known.
    epochs: Epochs {
        Ours = "not above ours",
        Higher = "above the one we serve under",
    }
}
