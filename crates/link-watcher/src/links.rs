//! What is known of the watched interfaces: pure, from messages to a report.
//!
//! The one thing to know: the kernel tells changes and answers the dump on one socket, but the
//! two can cross. What was told during a dump is never older than what the dump says, so the
//! dump fills in what was not told.

use std::collections::{BTreeMap, BTreeSet};

use haarb_model::LinkReport;

use crate::message::{IFF_LOWER_UP, IFF_UP, Link, Message};

/// The watched interfaces.
#[derive(Clone, Debug)]
pub struct Links {
    watched: Vec<String>,
    /// By index, every link of this network namespace: a rename may make any of them ours.
    known: BTreeMap<u32, Known>,
    dump: Option<Dump>,
    /// What the driver said about an interface without carrier.
    details: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Known {
    name: String,
    flags: u32,
}

#[derive(Clone, Debug)]
struct Dump {
    sequence: u32,
    /// Told by themselves while the dump runs, gone ones too.
    told: BTreeSet<u32>,
    dumped: BTreeSet<u32>,
}

/// What the shell has to do after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    Nothing,
    /// The dump is complete: what is known is all there is.
    Complete,
    /// The dump failed or was disturbed: ask again.
    DumpAgain,
}

impl Links {
    /// Watches these interfaces, in this order.
    #[must_use]
    pub const fn new(watched: Vec<String>) -> Self {
        Self {
            watched,
            known: BTreeMap::new(),
            dump: None,
            details: BTreeMap::new(),
        }
    }

    /// The watched interfaces, in their order.
    #[must_use]
    pub fn watched(&self) -> &[String] {
        &self.watched
    }

    /// A dump was asked for under this number.
    pub(crate) fn dump_begins(&mut self, sequence: u32) {
        self.dump = Some(Dump {
            sequence,
            told: BTreeSet::new(),
            dumped: BTreeSet::new(),
        });
    }

    /// Takes in a message.
    pub(crate) fn take(&mut self, message: Message) -> Next {
        match message {
            Message::Link { sequence, link } => {
                self.take_link(sequence, link);
                Next::Nothing
            }
            Message::Gone { index } => {
                if let Some(dump) = &mut self.dump {
                    dump.told.insert(index);
                }
                self.known.remove(&index);
                Next::Nothing
            }
            Message::Done {
                sequence,
                interrupted,
            } => self.dump_ends(sequence, interrupted),
            Message::Refused { sequence, .. } => self.dump_ends(sequence, true),
        }
    }

    fn take_link(&mut self, sequence: u32, link: Link) {
        let Link { index, flags, name } = link;
        if let Some(dump) = &mut self.dump {
            if sequence == dump.sequence {
                dump.dumped.insert(index);
                if dump.told.contains(&index) {
                    return;
                }
            } else {
                dump.told.insert(index);
            }
        }
        self.known.insert(index, Known { name, flags });
    }

    fn dump_ends(&mut self, sequence: u32, disturbed: bool) -> Next {
        let Some(dump) = self.dump.take_if(|d| d.sequence == sequence) else {
            return Next::Nothing; // of an older dump
        };
        if disturbed {
            return Next::DumpAgain;
        }
        self.known
            .retain(|index, _| dump.dumped.contains(index) || dump.told.contains(index));
        Next::Complete
    }

    /// What the driver says about an interface without carrier; empty: nothing.
    pub fn detail(&mut self, interface: &str, detail: String) {
        self.details.insert(interface.to_owned(), detail);
    }

    /// Interfaces without carrier about which the driver was not asked yet. Each is named
    /// once per loss of carrier.
    pub fn unexplained(&mut self) -> Vec<String> {
        let watched = self.watched.clone();
        let mut unexplained = Vec::new();
        for interface in watched {
            if self.state(&interface) != State::NoCarrier {
                self.details.remove(&interface);
            } else if !self.details.contains_key(&interface) {
                self.details.insert(interface.clone(), String::new());
                unexplained.push(interface);
            }
        }
        unexplained
    }

    /// All watched interfaces.
    #[must_use]
    pub fn report(&self) -> Vec<LinkReport> {
        let report = |interface: &String| {
            let state = self.state(interface);
            let detail = self.details.get(interface).filter(|d| !d.is_empty());
            LinkReport {
                interface: interface.clone(),
                up: state == State::Up,
                reason: match (state, detail) {
                    (State::Up, _) => String::new(),
                    (State::Absent, _) => "does not exist".into(),
                    (State::Down, _) => "administratively down".into(),
                    (State::NoCarrier, None) => "no carrier".into(),
                    (State::NoCarrier, Some(detail)) => format!("no carrier: {detail}"),
                },
            }
        };
        self.watched.iter().map(report).collect()
    }

    fn state(&self, interface: &str) -> State {
        let link = self.known.values().find(|k| k.name == interface);
        match link.map(|k| (k.flags & IFF_UP != 0, k.flags & IFF_LOWER_UP != 0)) {
            None => State::Absent,
            Some((false, _)) => State::Down,
            Some((true, false)) => State::NoCarrier,
            Some((true, true)) => State::Up,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Down,
    NoCarrier,
    Up,
}

#[cfg(test)]
mod tests;
