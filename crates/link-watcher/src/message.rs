//! What the kernel says about links, read by hand.
//!
//! Of each message only the index, the flags and the name are needed. A general parser reads
//! every attribute and may refuse the whole message for one that a newer kernel added; here
//! that would be a lost carrier that nobody hears of.

/// One message of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A link is there, new or changed.
    Link {
        /// The request that it answers; 0: told by itself.
        sequence: u32,
        link: Link,
    },
    /// A link is gone.
    Gone { index: u32 },
    /// The end of a dump. It is of no use if something changed meanwhile.
    Done { sequence: u32, interrupted: bool },
    /// The kernel refused a request, with its errno.
    Refused { sequence: u32, errno: i32 },
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    /// `IFF_*` (netdevice(7)).
    pub(crate) flags: u32,
    pub(crate) name: String,
}

/// Administratively up (netdevice(7)).
pub(crate) const IFF_UP: u32 = 1;
/// The driver signals carrier (netdevice(7)).
pub(crate) const IFF_LOWER_UP: u32 = 1 << 16;

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const IFLA_IFNAME: u16 = 3;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// Bridges send messages of their own family about their ports, which say nothing of carrier.
const AF_UNSPEC: u8 = 0;

/// Asks for all links.
pub(crate) fn dump_request(sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    bytes.extend_from_slice(&40_u32.to_ne_bytes());
    bytes.extend_from_slice(&RTM_GETLINK.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]); // the kernel fills in our port
    bytes.extend_from_slice(&[0; 16]); // ifinfomsg: any family, any link
    bytes.extend_from_slice(&8_u16.to_ne_bytes());
    bytes.extend_from_slice(&IFLA_EXT_MASK.to_ne_bytes());
    bytes.extend_from_slice(&RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    bytes
}

/// Asks for one link by its name. The answer tells its flags of this moment.
pub(crate) fn link_request(sequence: u32, interface: &str) -> Vec<u8> {
    let mut name = interface.as_bytes().to_vec();
    name.push(0);
    let attribute = 4 + name.len();
    let length = HEADER + 16 + attribute.next_multiple_of(4);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&(length as u32).to_ne_bytes());
    bytes.extend_from_slice(&RTM_GETLINK.to_ne_bytes());
    bytes.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&(attribute as u16).to_ne_bytes());
    bytes.extend_from_slice(&IFLA_IFNAME.to_ne_bytes());
    bytes.extend_from_slice(&name);
    bytes.resize(length, 0);
    bytes
}

/// Splits a datagram of the kernel. Total: what cannot be read is passed over, the rest of the
/// datagram with it if its lengths make no sense.
pub(crate) fn parse(datagram: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while let Some((length, header)) = u32_at(rest, 0).zip(rest.get(..HEADER)) {
        let Some(whole) = usize::try_from(length).ok().and_then(|l| rest.get(..l)) else {
            break;
        };
        let Some(body) = whole.get(HEADER..) else {
            break;
        };
        messages.extend(read(header, body));
        rest = rest.get(whole.len().next_multiple_of(4)..).unwrap_or(&[]);
    }
    messages
}

fn read(header: &[u8], body: &[u8]) -> Option<Message> {
    let kind = u16_at(header, 4)?;
    let flags = u16_at(header, 6)?;
    let sequence = u32_at(header, 8)?;
    match kind {
        NLMSG_DONE => Some(Message::Done {
            sequence,
            interrupted: flags & NLM_F_DUMP_INTR != 0,
        }),
        NLMSG_OVERRUN => Some(Message::Done {
            sequence,
            interrupted: true,
        }),
        NLMSG_ERROR => Some(Message::Refused {
            sequence,
            errno: u32_at(body, 0)?.cast_signed().wrapping_neg(),
        }),
        RTM_NEWLINK | RTM_DELLINK if body.first() == Some(&AF_UNSPEC) => {
            let index = u32_at(body, 4)?;
            if kind == RTM_DELLINK {
                return Some(Message::Gone { index });
            }
            Some(Message::Link {
                sequence,
                link: Link {
                    index,
                    flags: u32_at(body, 8)?,
                    name: name(body.get(16..)?)?,
                },
            })
        }
        _ => None,
    }
}

/// The interface's name among the attributes.
fn name(mut attributes: &[u8]) -> Option<String> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)?;
        let value = attributes.get(4..length)?;
        if kind == IFLA_IFNAME {
            let text = value.split(|&byte| byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let chunk = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let chunk = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests;
