//! The payload of the datagrams: `haarb_model::Advert` as protobuf bytes.

use haarb_model::{Advert, AdvertReserve, Epoch, ReserveName};
use prost::Message as _;

use crate::convert::{FromWire as _, Invalid, mac, parse, parse_optional, text_or_empty};
use crate::v1;

/// The bytes that travel in a datagram.
#[must_use]
pub fn encode_advert(advert: &Advert) -> Vec<u8> {
    v1::Advert::from(advert).encode_to_vec()
}

/// Reads the bytes of a datagram. Total: any bytes give an advert or an error.
///
/// # Errors
/// [`Invalid`] names the field that makes no sense.
pub fn decode_advert(bytes: &[u8]) -> Result<Advert, Invalid> {
    let wire = v1::Advert::decode(bytes)
        .map_err(|e| Invalid::new("advert", format!("is garbled: {e}")))?;
    wire.try_into()
}

impl From<&Advert> for v1::Advert {
    fn from(advert: &Advert) -> Self {
        let Advert {
            protocol,
            protocol_oldest,
            config_digest,
            usable,
            confirms,
            mode,
            leaving,
            macs,
            lease_exact,
            reserves,
        } = advert;
        Self {
            protocol: *protocol,
            protocol_oldest: *protocol_oldest,
            config_digest: *config_digest,
            usable: usable.iter().map(ToString::to_string).collect(),
            confirms: confirms.iter().map(ToString::to_string).collect(),
            mode: v1::Mode::from(*mode).into(),
            leaving: *leaving,
            macs: macs.iter().map(|mac| mac.to_vec()).collect(),
            lease_exact: *lease_exact,
            reserves: reserves
                .iter()
                .map(|(name, part)| reserve_to_wire(name, part))
                .collect(),
        }
    }
}

fn reserve_to_wire(name: &ReserveName, part: &AdvertReserve) -> v1::AdvertReserve {
    let AdvertReserve {
        role,
        epoch,
        eligible,
        unable,
        data,
        was_active,
        released_to,
        claims,
        yields_to,
        asks_for,
    } = part;
    v1::AdvertReserve {
        name: name.to_string(),
        role: v1::Role::from(*role).into(),
        epoch: epoch.0,
        eligible: *eligible,
        unable: *unable,
        data: v1::Data::from(*data).into(),
        was_active: *was_active,
        released_to: text_or_empty(released_to.as_ref()),
        claims: *claims,
        yields_to: text_or_empty(yields_to.as_ref()),
        asks_for: text_or_empty(asks_for.as_ref()),
    }
}

impl TryFrom<v1::Advert> for Advert {
    type Error = Invalid;

    fn try_from(wire: v1::Advert) -> Result<Self, Invalid> {
        Ok(Self {
            protocol: wire.protocol,
            protocol_oldest: wire.protocol_oldest,
            config_digest: wire.config_digest,
            usable: wire
                .usable
                .iter()
                .map(|n| parse("usable", n))
                .collect::<Result<_, _>>()?,
            confirms: wire
                .confirms
                .iter()
                .map(|n| parse("confirms", n))
                .collect::<Result<_, _>>()?,
            mode: haarb_model::Mode::from_wire(wire.mode)?,
            leaving: wire.leaving,
            macs: wire
                .macs
                .iter()
                .map(|m| mac("macs", m))
                .collect::<Result<_, _>>()?,
            lease_exact: wire.lease_exact,
            reserves: wire
                .reserves
                .iter()
                .map(reserve_from_wire)
                .collect::<Result<_, _>>()?,
        })
    }
}

fn reserve_from_wire(wire: &v1::AdvertReserve) -> Result<(ReserveName, AdvertReserve), Invalid> {
    Ok((
        parse("reserves.name", &wire.name)?,
        AdvertReserve {
            role: haarb_model::Role::from_wire(wire.role)?,
            epoch: Epoch(wire.epoch),
            eligible: wire.eligible,
            unable: wire.unable,
            data: haarb_model::Data::from_wire(wire.data)?,
            was_active: wire.was_active,
            released_to: parse_optional("reserves.released_to", &wire.released_to)?,
            claims: wire.claims,
            yields_to: parse_optional("reserves.yields_to", &wire.yields_to)?,
            asks_for: parse_optional("reserves.asks_for", &wire.asks_for)?,
        },
    ))
}
