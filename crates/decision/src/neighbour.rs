//! What we know of one other server: the prober's verdicts and its last state.
//!
//! A state is judged only while its sender is heard; how old it may be is the prober's
//! business. Nothing here decides anything.

use haarb_model::{
    Advert, AdvertReserve, Mono, NeighbourReport, NetworkName, NodeName, ReserveName, Span,
};

use crate::facts::Contact;
use crate::order::Standing;

/// One other server.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Its name.
    pub name: NodeName,
    /// Its place in the configuration.
    pub rank: usize,
    /// How we hear it.
    pub contact: Contact,
    /// Since when.
    pub contact_since: Mono,
    /// Since when it has not been heard; the start of this run if never.
    pub unheard_since: Mono,
    /// About to be called silent.
    pub suspect: bool,
    /// It says that it hears us: we can talk to it.
    pub hears_me: bool,
    /// Since when it has answered what we say since we began to speak, or were mute.
    pub answered_since: Option<Mono>,
    /// It says that it does not hear us, and no ECHO reply proves the contrary (rule A4).
    pub deaf: bool,
    /// Before this moment its word that it does not hear us means nothing: we met after a
    /// silence that was longer than it takes to take over, and it has not had time to hear us.
    pub met_until: Mono,
    /// Its last word was that it does not hear us: that it does not answer proves nothing.
    pub unasked: bool,
    /// Its software had been silent for longer than `dead-after` when its kernel fell silent too,
    /// or it had said that it cannot let go: two faults, and the second may be one of the network.
    pub hung: bool,
    /// The last report of the prober.
    pub report: Option<NeighbourReport>,
    /// Its last state, and when that arrived.
    pub advert: Option<(Mono, Advert)>,
    /// It said that it leaves, and served nothing then.
    pub left: bool,
}

impl Neighbour {
    /// A server of which nothing is known yet.
    #[must_use]
    pub const fn new(name: NodeName, rank: usize, left: bool, now: Mono) -> Self {
        Self {
            name,
            rank,
            contact: Contact::Unknown,
            contact_since: now,
            unheard_since: now,
            suspect: false,
            hears_me: false,
            answered_since: None,
            deaf: false,
            met_until: Mono::ZERO,
            unasked: false,
            hung: false,
            report: None,
            advert: None,
            left,
        }
    }

    /// Takes over what the prober says. `reply`: how long a server that hears us needs to say
    /// so.
    pub fn note_report(&mut self, now: Mono, report: NeighbourReport, reply: Span) {
        let heard = !report.arbiter_silent && report.paths.iter().any(|path| path.heard);
        // After a shorter silence it may be about to take over, and counts at once.
        if heard && !self.heard() && now.since(self.unheard_since) > report.dead_after.times(2) {
            self.met_until = now + reply;
        }
        let contact = match (heard, report.silent) {
            (true, _) => Contact::Heard,
            (false, true) => Contact::Silent,
            (false, false) => Contact::Quiet,
        };
        self.suspect = !heard && (report.suspect || report.silent);
        self.hears_me = heard && report.paths.iter().any(|path| path.hears_me);
        if self.hears_me {
            self.answered_since.get_or_insert(now);
        }
        self.deaf = heard && !report.hears_me;
        self.unasked =
            report.last_heard.is_some() && !report.paths.iter().any(|path| path.hears_me);
        let quiet_for = now.since(self.unheard_since);
        match (self.contact, contact) {
            (_, Contact::Heard) => self.hung = false,
            (Contact::Heard, Contact::Silent) => self.hung = self.cannot_let_go(),
            (Contact::Quiet, Contact::Silent) => {
                let late = report.last_heard.is_some() && quiet_for > report.dead_after;
                self.hung = late || self.cannot_let_go();
            }
            _ => {}
        }
        self.report = Some(report);
        self.note_contact(now, contact);
    }

    /// It said that its kernel ends what it holds at the end of the lease, to the moment.
    #[must_use]
    pub fn lease_exact(&self) -> bool {
        let advert = self.advert.as_ref();
        advert.is_some_and(|(_, advert)| advert.lease_exact)
    }

    /// It last said that it serves and has no vip-agent that could end it.
    fn cannot_let_go(&self) -> bool {
        let mut parts = self
            .advert
            .iter()
            .flat_map(|(_, said)| said.reserves.values());
        parts.any(|part| part.role.serves() && part.unable)
    }

    /// Takes over its state.
    pub fn note_advert(&mut self, at: Mono, advert: Advert) {
        self.left = advert.leaving && !advert.reserves.values().any(|part| part.role.serves());
        self.advert = Some((at, advert));
    }

    fn note_contact(&mut self, now: Mono, contact: Contact) {
        if contact == self.contact {
            return;
        }
        if self.contact == Contact::Heard {
            self.unheard_since = now;
        }
        self.contact = contact;
        self.contact_since = now;
    }

    /// It is heard now.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.contact == Contact::Heard
    }

    /// Its state, while it is heard.
    #[must_use]
    pub fn said(&self) -> Option<&Advert> {
        let (_, advert) = self.advert.as_ref()?;
        self.heard().then_some(advert)
    }

    /// Its part in a reserve, while it is heard.
    #[must_use]
    pub fn part(&self, reserve: &ReserveName) -> Option<&AdvertReserve> {
        self.said()?.reserves.get(reserve)
    }

    /// Its part in a reserve if it serves it and is heard.
    #[must_use]
    pub fn serving(&self, reserve: &ReserveName) -> Option<&AdvertReserve> {
        self.part(reserve).filter(|part| part.role.serves())
    }

    /// It is heard on this network.
    #[must_use]
    pub fn heard_on(&self, network: &NetworkName) -> bool {
        self.report.as_ref().is_some_and(|report| {
            !report.arbiter_silent
                && report
                    .paths
                    .iter()
                    .any(|path| path.heard && &path.network == network)
        })
    }

    /// What counts for the order of servers, of a part that it told us.
    #[must_use]
    pub fn standing(&self, part: &AdvertReserve) -> Standing {
        Standing {
            data: part.data,
            epoch: part.epoch,
            was_active: part.was_active,
            networks: self.said().map_or(0, |advert| advert.usable.len()),
            rank: self.rank,
        }
    }
}
