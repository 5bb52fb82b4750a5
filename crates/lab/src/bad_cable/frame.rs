//! What a frame is, as far as a bad cable must know: who sent it and what it carries. Pure.
//!
//! Hardware addresses are the [`crate::plan`]'s, so a sender is known by its address alone.

/// Length of the virtio header in front of every frame (`struct virtio_net_hdr`).
const VIRTIO_LEN: usize = 10;
/// Hardware addresses of the lab begin so.
const LAB: [u8; 4] = [0x02, 0x77, 0, 0];
/// Host number of the switch; servers have smaller ones than [`FIRST_OTHER_HOST`].
const SWITCH_HOST: u8 = 254;
const FIRST_OTHER_HOST: u8 = 100;
/// UDP header.
const UDP_LEN: usize = 8;

/// What is stopped of what the servers send to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stop {
    /// Nothing.
    #[default]
    Nothing,
    /// ECHO requests and replies, and with IPv4 all of ICMP.
    Icmp,
    /// UDP.
    Udp,
    /// Both of these.
    IcmpAndUdp,
    /// Every frame, broadcasts too.
    Everything,
}

/// A wall: what does not get through, by who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wall {
    /// Of the frames of other servers.
    pub servers: Stop,
    /// Frames of the switch's own address.
    pub switch: bool,
}

impl Wall {
    /// Whether a frame (with its virtio header) is stopped.
    #[must_use]
    pub fn stops(self, frame: &[u8]) -> bool {
        match sender(frame) {
            Some(SWITCH_HOST) => self.switch,
            Some(host) if host < FIRST_OTHER_HOST => match self.servers {
                Stop::Nothing => false,
                Stop::Everything => true,
                Stop::Icmp => is_icmp(frame),
                Stop::Udp => is_udp(frame),
                Stop::IcmpAndUdp => is_icmp(frame) || is_udp(frame),
            },
            _ => false,
        }
    }
}

/// The place of the UDP payload when the frame is a datagram from one server to another.
#[must_use]
pub(super) fn server_datagram(frame: &[u8]) -> Option<usize> {
    // Not what they answer to clients: that is what the drills measure.
    let between_servers = [frame.get(VIRTIO_LEN..VIRTIO_LEN + 6), source(frame)]
        .into_iter()
        .all(|mac| {
            mac.and_then(host)
                .is_some_and(|host| host < FIRST_OTHER_HOST)
        });
    let (protocol, start) = network_payload(frame)?;
    let payload = start + UDP_LEN;
    (between_servers && protocol == 17 && frame.len() > payload).then_some(payload)
}

/// The host number of a machine of the lab that sent the frame.
fn sender(frame: &[u8]) -> Option<u8> {
    host(source(frame)?)
}

fn source(frame: &[u8]) -> Option<&[u8]> {
    frame.get(VIRTIO_LEN + 6..VIRTIO_LEN + 12)
}

/// The host number in a hardware address of the lab.
fn host(mac: &[u8]) -> Option<u8> {
    mac.starts_with(&LAB).then(|| mac.get(5).copied())?
}

/// Protocol number and start of what an IP packet carries.
fn network_payload(frame: &[u8]) -> Option<(u8, usize)> {
    let ip = VIRTIO_LEN + 14;
    match frame.get(VIRTIO_LEN + 12..ip)? {
        [0x08, 0x00] => {
            let header = usize::from(frame.get(ip)? & 0x0f) * 4;
            Some((*frame.get(ip + 9)?, ip + header))
        }
        [0x86, 0xdd] => Some((*frame.get(ip + 6)?, ip + 40)),
        _ => None,
    }
}

fn is_udp(frame: &[u8]) -> bool {
    network_payload(frame).is_some_and(|(protocol, _)| protocol == 17)
}

/// ICMP; of ICMPv6 only the echo, because the rest of it finds the neighbours.
fn is_icmp(frame: &[u8]) -> bool {
    network_payload(frame).is_some_and(|(protocol, start)| match protocol {
        1 => true,
        58 => frame
            .get(start)
            .is_some_and(|kind| matches!(kind, 128 | 129)),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: [u8; 6] = [0x02, 0x77, 0, 0, 1, 1];
    const SWITCH: [u8; 6] = [0x02, 0x77, 0, 0, 1, 254];
    const CLIENT: [u8; 6] = [0x02, 0x77, 0, 0, 1, 200];

    fn frame(from: [u8; 6], ethertype: [u8; 2], protocol: u8, first: u8) -> Vec<u8> {
        let mut frame = vec![0; VIRTIO_LEN];
        frame.extend(SERVER);
        frame.extend(from);
        frame.extend(ethertype);
        let ip = if ethertype == [0x08, 0x00] {
            let mut ip = vec![0; 20];
            (ip[0], ip[9]) = (0x45, protocol);
            ip
        } else {
            let mut ip = vec![0; 40];
            ip[6] = protocol;
            ip
        };
        frame.extend(ip);
        frame.extend([first, 0, 0, 0, 0, 0, 0, 0, 42]);
        frame
    }

    fn stops(servers: Stop, frame: &[u8]) -> bool {
        let wall = Wall {
            servers,
            switch: false,
        };
        wall.stops(frame)
    }

    #[test]
    fn a_wall_stops_what_it_names_and_nothing_else() {
        let (v4, v6, arp) = ([0x08, 0x00], [0x86, 0xdd], [0x08, 0x06]);
        let udp = frame(SERVER, v4, 17, 0);
        let (echo, echo6) = (frame(SERVER, v4, 1, 8), frame(SERVER, v6, 58, 128));
        let (solicit, request) = (frame(SERVER, v6, 58, 135), frame(SERVER, arp, 0, 0));
        for (stop, stopped) in [
            (Stop::Nothing, [false, false, false, false, false]),
            (Stop::Icmp, [false, true, true, false, false]),
            (Stop::Udp, [true, false, false, false, false]),
            (Stop::IcmpAndUdp, [true, true, true, false, false]),
            (Stop::Everything, [true, true, true, true, true]),
        ] {
            let found = [&udp, &echo, &echo6, &solicit, &request].map(|frame| stops(stop, frame));
            assert_eq!(found, stopped, "{stop:?}");
        }
        for other in [SWITCH, CLIENT] {
            assert!(!stops(Stop::Everything, &frame(other, v4, 17, 0)));
        }
        let no_switch = Wall {
            switch: true,
            ..Wall::default()
        };
        assert!(no_switch.stops(&frame(SWITCH, v4, 1, 0)));
        assert!(!no_switch.stops(&echo) && !no_switch.stops(&[]));
    }

    #[test]
    fn the_payload_of_a_servers_datagram_is_found() {
        let at = server_datagram(&frame(SERVER, [0x08, 0x00], 17, 0)).expect("a datagram");
        assert_eq!(frame(SERVER, [0x08, 0x00], 17, 0)[at], 42);
        let at = server_datagram(&frame(SERVER, [0x86, 0xdd], 17, 0)).expect("a datagram");
        assert_eq!(frame(SERVER, [0x86, 0xdd], 17, 0)[at], 42);
        assert_eq!(server_datagram(&frame(CLIENT, [0x08, 0x00], 17, 0)), None);
        assert_eq!(server_datagram(&frame(SERVER, [0x08, 0x00], 6, 0)), None);
        let mut answer = frame(SERVER, [0x08, 0x00], 17, 0);
        answer[VIRTIO_LEN..VIRTIO_LEN + 6].copy_from_slice(&CLIENT);
        assert_eq!(server_datagram(&answer), None);
        assert_eq!(server_datagram(&[0; 11]), None);
    }
}
