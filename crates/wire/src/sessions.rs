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

use crate::arrivals::Arrivals;
use crate::{Datagram, DropReason};

/// Sessions without proof that are echoed at a time: a start, a restart during it, and room
/// for replays that must not push the true one out for long.
const CANDIDATES: usize = 4;
/// After this many datagrams of ours a session without proof is echoed no more: by then it
/// has heard one of them, or never will.
const CANDIDATE_AGE: u64 = 64;
/// For this many datagrams of ours a session without proof counts as heard where it was. It was
/// heard, and who has just started must not be told that it is not: it would take that for a
/// broken network.
const CANDIDATE_HEARD: u64 = 8;
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
    /// What arrived per network, in our order; `None` before it said how much it sent.
    arrivals: Vec<Option<Arrivals>>,
}

#[derive(Debug)]
struct Candidate {
    session: u64,
    counter: u64,
    /// Our own counter when it was last heard.
    heard_at: u64,
    /// Bit i: it was heard on our i-th network.
    networks: u16,
}

/// A session to echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Echo {
    pub(crate) session: u64,
    pub(crate) counter: u64,
    /// Where it was heard lately; `None` for the accepted session, of which others know better.
    pub(crate) heard: Option<u16>,
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
            self.remember(session, counter, arrival);
            return Err(DropReason::NotProven);
        }
        self.replace(session, counter, arrival);
        Ok(Accepted {
            newest: true,
            new_session: true,
        })
    }

    /// The sessions to echo; the accepted one first.
    pub(crate) fn echoes(&self, own_counter: u64) -> impl Iterator<Item = Echo> {
        let current = self.current.iter().map(|c| Echo {
            session: c.session,
            counter: c.newest,
            heard: None,
        });
        let candidates = self.candidates.iter().filter_map(move |c| {
            let age = own_counter.saturating_sub(c.heard_at);
            let heard = if age < CANDIDATE_HEARD { c.networks } else { 0 };
            (age <= CANDIDATE_AGE).then_some(Echo {
                session: c.session,
                counter: c.counter,
                heard: Some(heard),
            })
        });
        current.chain(candidates)
    }

    /// An accepted datagram says how many were sent. `places` tells where each of our networks
    /// is among the sender's.
    pub(crate) fn note_sent(
        &mut self,
        network: usize,
        places: &[Option<usize>],
        datagram: &Datagram,
    ) {
        let Some(current) = &mut self.current else {
            return;
        };
        let ours = current.arrivals.iter_mut().zip(places).enumerate();
        for (i, (arrivals, place)) in ours {
            let Some(&sent) = place.and_then(|at| datagram.sent.get(at)) else {
                continue;
            };
            match arrivals {
                None => *arrivals = Some(Arrivals::starting(sent)),
                Some(arrivals) if i == network => arrivals.arrived(sent),
                Some(arrivals) => arrivals.sent(sent),
            }
        }
    }

    /// Share of lost datagrams on one of our networks.
    pub(crate) fn loss_in(&self, network: usize) -> Option<f32> {
        let arrivals = &self.current.as_ref()?.arrivals;
        arrivals.get(network)?.as_ref()?.loss()
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
            arrivals: vec![None; arrival.networks],
        });
    }

    fn remember(&mut self, session: u64, counter: u64, arrival: Arrival) {
        let known = self.candidates.iter().position(|c| c.session == session);
        let before = known.and_then(|at| self.candidates.remove(at));
        if self.candidates.len() == CANDIDATES {
            self.candidates.pop_front();
        }
        let bit = u32::try_from(arrival.network)
            .ok()
            .and_then(|network| 1_u16.checked_shl(network));
        self.candidates.push_back(Candidate {
            session,
            counter: before.as_ref().map_or(counter, |c| c.counter.max(counter)),
            heard_at: arrival.own_counter,
            networks: before.map_or(0, |c| c.networks) | bit.unwrap_or(0),
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
            return Err(DropReason::Late);
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
