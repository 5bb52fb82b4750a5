//! Hosts that are not the measuring client: a bystander and a stranger.
//!
//! The bystander is a client that asked once and then says nothing. Its kernel keeps an entry for every
//! virtual IP in its neighbour table, which only the servers' own announcements can put right: after a
//! drill the entry must name the rightful server, and a packet sent by it must arrive there.
//!
//! The stranger takes a virtual IP that is not its own.

use std::{
    io,
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use serde::Serialize;

use crate::{
    clock::Stamp,
    error::LabError,
    fake,
    machine::{self, Identity},
    netlink::Mac,
    netns::NetNs,
    packet::{ANSWER_LEN, Answer, Question},
    plan::{Plan, VipId},
    switch::Switch,
};

/// How long one question may stay without an answer. An entry that names the wrong machine is not put
/// right by the kernel before five seconds (`delay_first_probe_time`).
const PATIENCE: Duration = Duration::from_millis(100);
/// Questions that a check asks: some may be lost on a bad cable.
const QUESTIONS: u32 = 15;

/// What the bystander knows of one virtual IP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Neighbour {
    /// The virtual IP.
    pub address: IpAddr,
    /// The hardware address in its table; `None` without an entry that could be used.
    pub mac: Option<Mac>,
    /// The server that answered a packet sent by it.
    pub answered_by: Option<String>,
}

/// A host of the segment that is neither server nor client.
pub struct Bystander {
    netns: NetNs,
}

impl Bystander {
    /// Builds it and cables it to every switch.
    pub(crate) fn build(plan: &Plan, switches: &mut [Switch]) -> Result<Self, LabError> {
        let who = Identity {
            name: "bystander",
            mac: &|network| plan.bystander_mac(network),
            addresses: &|network| plan.bystander_addresses(network),
        };
        let netns = machine::build(plan, switches, &who)?;
        Ok(Self { netns })
    }

    /// Asks every virtual IP until it is answered, a second at most: from then on its kernel has an
    /// entry for each that is served.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn learn(&self, plan: &Plan) -> Result<(), LabError> {
        for vip in 0..plan.vips.len() {
            self.ask(plan, vip, 10)?;
        }
        Ok(())
    }

    /// Reads the entry of a virtual IP, then sends packets until one is answered.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn look(&self, plan: &Plan, vip: VipId) -> Result<Neighbour, LabError> {
        let place = &plan.vips[vip];
        let mut netlink = self.netns.netlink().map_err(LabError::Client)?;
        let interface = netlink.index_of(&plan.interface(place.network))?;
        let mac = netlink
            .neighbours()?
            .into_iter()
            .find(|(index, address, _)| *index == interface && *address == place.address)
            .and_then(|(_, _, mac)| mac);
        Ok(Neighbour {
            address: place.address,
            mac,
            answered_by: self.ask(plan, vip, QUESTIONS)?,
        })
    }

    fn ask(&self, plan: &Plan, vip: VipId, questions: u32) -> Result<Option<String>, LabError> {
        let to = (plan.vips[vip].address, plan.port_of(vip));
        self.netns
            .run(|| ask(to, questions))
            .map_err(LabError::Client)
    }
}

/// Asks up to `questions` times, each with [`PATIENCE`]; the name in the first answer.
fn ask(to: (IpAddr, u16), questions: u32) -> io::Result<Option<String>> {
    let any = if to.0.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let question = Question {
        number: 0,
        vip: 0,
        probe: None,
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    for _ in 0..questions {
        let end = Stamp::now().plus(PATIENCE);
        // No way there, or nobody listens: an answer like any other, and the next question is asked.
        let sent = socket.send_to(&question.encode(), to);
        let mut bytes = [0; ANSWER_LEN];
        if sent.is_ok()
            && let Ok((length, _)) = socket.recv_from(&mut bytes)
            && let Some(answer) = Answer::decode(&bytes[..length])
        {
            return Ok(Some(answer.node));
        }
        std::thread::sleep(end.since(Stamp::now()));
    }
    Ok(None)
}

/// A machine that takes a virtual IP although it is no server. Dropping it takes it off the networks.
pub struct Stranger {
    netns: NetNs,
}

impl Stranger {
    /// Builds it and cables it to every switch.
    pub(crate) fn build(plan: &Plan, switches: &mut [Switch]) -> Result<Self, LabError> {
        let who = Identity {
            name: "stranger",
            mac: &|network| plan.stranger_mac(network),
            addresses: &|network| plan.stranger_addresses(network),
        };
        let netns = machine::build(plan, switches, &who)?;
        Ok(Self { netns })
    }

    /// Takes a virtual IP and announces it, as a misconfigured host does.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn take(&self, plan: &Plan, vip: VipId) -> Result<(), LabError> {
        let mac = plan.stranger_mac(plan.vips[vip].network);
        fake::claim(&self.netns, plan, vip, mac)
    }
}
