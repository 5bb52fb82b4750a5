use proptest::prelude::*;

use super::*;

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).expect("short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link(family: u8, index: u32, flags: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![family, 0, 1, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&flags.to_ne_bytes());
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&attributes.concat());
    body
}

#[test]
fn a_link_is_read_whatever_else_the_kernel_says_about_it() {
    let strange = attribute(0x7abc, b"from a newer kernel");
    let attributes = [strange, attribute(IFLA_IFNAME, b"eth0\0")];
    let datagram = [
        message(
            RTM_NEWLINK,
            0,
            7,
            &link(0, 3, IFF_UP | IFF_LOWER_UP, &attributes),
        ),
        message(RTM_DELLINK, 0, 0, &link(0, 4, 0, &[])),
        message(NLMSG_DONE, NLM_F_DUMP_INTR, 7, &[0; 4]),
        message(NLMSG_ERROR, 0, 8, &(-16_i32).to_ne_bytes()),
    ]
    .concat();
    assert_eq!(
        parse(&datagram),
        [
            Message::Link {
                sequence: 7,
                link: Link {
                    index: 3,
                    flags: IFF_UP | IFF_LOWER_UP,
                    name: "eth0".into()
                }
            },
            Message::Gone { index: 4 },
            Message::Done {
                sequence: 7,
                interrupted: true
            },
            Message::Refused {
                sequence: 8,
                errno: 16
            },
        ]
    );
}

#[test]
fn what_bridges_say_of_their_ports_is_not_about_links() {
    const AF_BRIDGE: u8 = 7;
    let body = link(AF_BRIDGE, 3, 0, &[attribute(IFLA_IFNAME, b"eth0\0")]);
    assert_eq!(parse(&message(RTM_NEWLINK, 0, 0, &body)), []);
    // Taking a port from a bridge is not taking it away.
    assert_eq!(parse(&message(RTM_DELLINK, 0, 0, &body)), []);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_body_is_read_without_harm(
        kind in 0..20_u16,
        body in prop::collection::vec(0..40_u8, 0..100),
    ) {
        let _ = parse(&message(kind, 0, 1, &body));
    }
}
