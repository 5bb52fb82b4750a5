//! Which datagrams of one neighbour count: protection against replay.
//!
//! A session is one run of a neighbour's prober, named by a random number. One session counts
//! at a time, and in it only counters that grow. Another session takes its place only by
//! proof: it must echo *our* session, which nothing recorded before our start can do, and a
//! higher counter of ours than the session that it replaces ever did, which nothing recorded
//! before that can do. A session without proof is remembered for one purpose: we echo it,
//! so that it can prove itself with its next datagram.
//!
//! ```text
//!   a (new)                                b (new)
//!   "session A"            ------------>   remembers A
//!   accepts B              <------------   "session B, heard A"
//!   "session A, heard B"   ------------>   accepts A
//! ```

use std::collections::VecDeque;

use crate::{Datagram, DropReason};

/// Sessions without proof that are echoed at a time: a start, a restart during it, and room
/// for replays that must not push the true one out for long.
const CANDIDATES: usize = 4;
/// After this many datagrams of ours a session without proof is echoed no more: by then it
/// has heard one of them, or never will.
const CANDIDATE_AGE: u64 = 64;
/// Replaced sessions that are remembered. Older ones are still kept out by the counters that
/// they echo; these only have the better name for it.
const RETIRED: usize = 64;

/// What was heard of one neighbour.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    current: Option<Current>,
    candidates: VecDeque<Candidate>,
    retired: VecDeque<u64>,
}

#[derive(Debug)]
struct Current {
    session: u64,
    /// The highest counter per network, in our order.
    highest: Vec<u64>,
    /// The highest counter on any network.
    newest: u64,
    /// The highest counter of ours that it ever echoed.
    echoed: u64,
}

#[derive(Debug)]
struct Candidate {
    session: u64,
    counter: u64,
    /// Our own counter when it was last heard.
    heard_at: u64,
}

/// A datagram that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// No later datagram arrived before it, on any network.
    pub(crate) newest: bool,
    /// The first of its session.
    pub(crate) new_session: bool,
}

/// Which of our networks a datagram arrived on, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) network: usize,
    pub(crate) networks: usize,
    /// Our own counter.
    pub(crate) own_counter: u64,
    /// The highest counter of our present session that the datagram echoes.
    pub(crate) echo: Option<u64>,
}

impl Sessions {
    /// Decides whether an authentic datagram counts, and remembers it if it does.
    pub(crate) fn judge(
        &mut self,
        datagram: &Datagram,
        arrival: Arrival,
    ) -> Result<Accepted, DropReason> {
        let &Datagram {
            session, counter, ..
        } = datagram;
        if let Some(current) = &mut self.current
            && current.session == session
        {
            return current.judge(counter, arrival);
        }
        if self.retired.contains(&session) {
            return Err(DropReason::OlderSession);
        }
        let proven = match (arrival.echo, &self.current) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(echo), Some(current)) => echo > current.echoed,
        };
        if !proven {
            self.remember(session, counter, arrival.own_counter);
            return Err(DropReason::NotProven);
        }
        self.replace(session, counter, arrival);
        Ok(Accepted {
            newest: true,
            new_session: true,
        })
    }

    /// The sessions to echo, each with its highest counter; the accepted one first.
    pub(crate) fn echoes(&self, own_counter: u64) -> impl Iterator<Item = (u64, u64)> {
        let fresh = move |c: &&Candidate| own_counter.saturating_sub(c.heard_at) <= CANDIDATE_AGE;
        let current = self.current.iter().map(|c| (c.session, c.newest));
        let candidates = self.candidates.iter().filter(fresh);
        current.chain(candidates.map(|c| (c.session, c.counter)))
    }

    /// The session that counts now.
    pub(crate) fn accepted(&self) -> Option<u64> {
        self.current.as_ref().map(|c| c.session)
    }

    fn replace(&mut self, session: u64, counter: u64, arrival: Arrival) {
        if let Some(old) = self.current.take() {
            if self.retired.len() == RETIRED {
                self.retired.pop_front();
            }
            self.retired.push_back(old.session);
        }
        self.candidates.clear();
        self.current = Some(Current {
            session,
            // What was sent earlier on the other networks may be a replay as well; losing
            // one datagram there is cheap.
            highest: vec![counter; arrival.networks],
            newest: counter,
            echoed: arrival.echo.unwrap_or(0),
        });
    }

    fn remember(&mut self, session: u64, counter: u64, own_counter: u64) {
        let counter = match self.candidates.iter().position(|c| c.session == session) {
            Some(at) => self
                .candidates
                .remove(at)
                .map_or(counter, |c| c.counter.max(counter)),
            None => counter,
        };
        if self.candidates.len() == CANDIDATES {
            self.candidates.pop_front();
        }
        self.candidates.push_back(Candidate {
            session,
            counter,
            heard_at: own_counter,
        });
    }
}

impl Current {
    fn judge(&mut self, counter: u64, arrival: Arrival) -> Result<Accepted, DropReason> {
        let highest = self
            .highest
            .get_mut(arrival.network)
            .ok_or(DropReason::WrongNetwork)?;
        if counter <= *highest {
            return Err(DropReason::Replay);
        }
        *highest = counter;
        let newest = counter > self.newest;
        self.newest = self.newest.max(counter);
        self.echoed = self.echoed.max(arrival.echo.unwrap_or(0));
        Ok(Accepted {
            newest,
            new_session: false,
        })
    }
}
