//! Why an interface has no carrier, as far as its driver tells: ethtool over generic netlink
//! (the kernel's Documentation/networking/ethtool-netlink.rst, LINKSTATE_GET).
//!
//! It never runs on the loop: the kernel answers under a lock that anybody may hold for long.

use std::iter::once;

use neli::consts::genl::{Cmd, NlAttrType};
use neli::consts::nl::NlmF;
use neli::consts::socket::NlFamily;
use neli::genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, NlattrBuilder, NoUserHeader};
use neli::neli_enum;
use neli::nl::NlPayload;
use neli::router::synchronous::NlRouter;
use neli::types::{Buffer, GenlBuffer};
use neli::utils::Groups;

/// Messages of the ethtool family that are used here.
#[neli_enum(serialized_type = "u8")]
pub enum Command {
    /// `ETHTOOL_MSG_LINKSTATE_GET`; its reply has the same number.
    LinkState = 6,
}

impl Cmd for Command {}

/// Attributes of LINKSTATE.
#[neli_enum(serialized_type = "u16")]
pub enum Attribute {
    /// `ETHTOOL_A_LINKSTATE_HEADER`
    Header = 1,
    /// `ETHTOOL_A_LINKSTATE_EXT_STATE`
    ExtState = 5,
    /// `ETHTOOL_A_LINKSTATE_EXT_SUBSTATE`
    ExtSubstate = 6,
}

impl NlAttrType for Attribute {}

/// Attributes of the header.
#[neli_enum(serialized_type = "u16")]
pub enum HeaderAttribute {
    /// `ETHTOOL_A_HEADER_DEV_NAME`
    DevName = 2,
}

impl NlAttrType for HeaderAttribute {}

/// What the driver says; `None` where it says nothing, as most do.
///
/// Blocks: for threads of their own only.
pub(crate) fn ask(interface: &str) -> Option<String> {
    let answer = query(interface);
    if let Err(error) = &answer {
        tracing::debug!("{interface}: no reason from the driver: {error}");
    }
    let (state, substate) = answer.ok()??;
    Some(words(state, substate))
}

type Answer = Option<(u8, Option<u8>)>;

fn query(interface: &str) -> Result<Answer, Box<dyn std::error::Error>> {
    let (router, _) = NlRouter::connect(NlFamily::Generic, None, Groups::empty())?;
    let family = router.resolve_genl_family("ethtool")?;
    let name = NlattrBuilder::default()
        .nla_type(
            AttrTypeBuilder::default()
                .nla_type(HeaderAttribute::DevName)
                .build()?,
        )
        .nla_payload(interface)
        .build()?;
    let header = NlattrBuilder::default()
        .nla_type(
            AttrTypeBuilder::default()
                .nla_type(Attribute::Header)
                .nla_nested(true)
                .build()?,
        )
        .nla_payload(Buffer::new())
        .build()?
        .nest(&name)?;
    let request = GenlmsghdrBuilder::<Command, Attribute, NoUserHeader>::default()
        .cmd(Command::LinkState)
        .version(1)
        .attrs(once(header).collect::<GenlBuffer<_, _>>())
        .build()?;
    let answers = router.send::<_, _, u16, Genlmsghdr<Command, Attribute>>(
        family,
        NlmF::ACK,
        NlPayload::Payload(request),
    )?;
    for answer in answers {
        if let NlPayload::Payload(answer) = answer?.nl_payload() {
            let attributes = answer.attrs().get_attr_handle();
            let state = attributes.get_attr_payload_as::<u8>(Attribute::ExtState);
            let substate = attributes.get_attr_payload_as::<u8>(Attribute::ExtSubstate);
            return Ok(state.ok().map(|state| (state, substate.ok())));
        }
    }
    Ok(None)
}

/// `enum ethtool_link_ext_state` and the substates that help, in words for an operator.
fn words(state: u8, substate: Option<u8>) -> String {
    let state_words = match (state, substate) {
        (0, Some(1 | 4)) => "auto-negotiation finds no partner",
        (0, Some(6)) => "auto-negotiation finds no common speed",
        (0, _) => "auto-negotiation fails",
        (1, Some(4)) => "link training fails: the other end reports a fault",
        (1, _) => "link training fails",
        (2, _) => "the two ends do not agree (lanes or error correction)",
        (3, _) => "the signal is bad",
        (4, _) => "no cable",
        (5, Some(1)) => "the cable is not supported",
        (5, _) => "something is wrong with the cable",
        (6, _) => "the module's memory cannot be read",
        (7, _) => "calibration fails",
        (8, _) => "the module asks for more power than there is",
        (9, _) => "too hot",
        (10, _) => "the module is not ready",
        _ => return format!("reason {state} of the driver"),
    };
    state_words.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_words() {
        for state in 0..=10 {
            assert!(!words(state, None).contains("reason"), "{state}");
        }
        assert_eq!(words(4, None), "no cable");
        assert_eq!(words(77, None), "reason 77 of the driver");
    }

    #[test]
    fn who_has_nothing_to_say_gives_none() {
        // The loopback interface of any machine has no such state; a missing one is an error.
        assert_eq!(query("lo").expect("the kernel answers"), None);
        assert_eq!(ask("nosuchlink0"), None);
        assert!(query("nosuchlink0").is_err());
    }
}
