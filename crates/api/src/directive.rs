//! What the arbiter tells one agent, as one value that may be repeated.

use std::collections::{BTreeMap, BTreeSet};

use haarb_model::{Mono, NetworkName, NodeName, ReserveDuties};

use crate::convert::{Invalid, parse};
use crate::v1;

/// What an agent must hold now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directive {
    /// Digest of the configuration under which it was made; an agent that has read another
    /// one reads its file again before it acts.
    pub config_digest: u64,
    /// For the prober: the encoded advert that its datagrams carry. Empty for others.
    pub payload: Vec<u8>,
    /// For the prober: until when the payload counts as built by a live arbiter.
    pub payload_until: Mono,
    /// For vip-agent, syncer and supervisor: every reserve, in the order of the configuration.
    pub reserves: Vec<ReserveDuties>,
    /// For the syncer: over which networks each other server is heard now. Empty for others.
    pub heard: BTreeMap<NodeName, BTreeSet<NetworkName>>,
    /// For the prober: switches to ask at once, whose next answer is news. Empty for others.
    pub ask_switches: BTreeSet<NetworkName>,
}

impl From<&Directive> for v1::Directive {
    fn from(directive: &Directive) -> Self {
        let Directive {
            config_digest,
            payload,
            payload_until,
            reserves,
            heard,
            ask_switches,
        } = directive;
        let heard = heard.iter().map(|(node, networks)| v1::Heard {
            node: node.to_string(),
            networks: networks.iter().map(ToString::to_string).collect(),
        });
        Self {
            config_digest: *config_digest,
            payload: payload.clone(),
            payload_until: payload_until.as_micros(),
            reserves: reserves.iter().map(Into::into).collect(),
            heard: heard.collect(),
            ask_switches: ask_switches.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<v1::Directive> for Directive {
    type Error = Invalid;

    fn try_from(wire: v1::Directive) -> Result<Self, Invalid> {
        let heard = wire.heard.iter().map(|heard| {
            let networks = heard.networks.iter().map(|n| parse("heard.networks", n));
            Ok((
                parse("heard.node", &heard.node)?,
                networks.collect::<Result<_, _>>()?,
            ))
        });
        let ask_switches = wire.ask_switches.iter().map(|n| parse("ask_switches", n));
        Ok(Self {
            config_digest: wire.config_digest,
            payload: wire.payload,
            payload_until: Mono::from_micros(wire.payload_until),
            heard: heard.collect::<Result<_, Invalid>>()?,
            ask_switches: ask_switches.collect::<Result<_, _>>()?,
            reserves: wire
                .reserves
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
        })
    }
}
