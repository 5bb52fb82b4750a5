//! Asks each server's kernel whether it answers for the virtual IPs, while a run lasts.
//!
//! ICMP echo requests go straight to each server's MAC, every few milliseconds. The kernel answers
//! them without any process, so they show who has a virtual IP when the user space that should have let
//! it go is frozen or dead. An address that is there but blocked gives no answer and does not count:
//! no client can reach it.

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::{IpAddr, Ipv4Addr},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use haarb_lab::{
    analysis::Stretch,
    client::send_frame,
    clock::Stamp,
    error::LabError,
    netlink::Mac,
    plan::{ServerId, VipId},
    segment::Segment,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Time between two questions.
pub const PERIOD: Duration = Duration::from_millis(5);
/// Marks our echo requests among others.
const IDENTIFIER: u16 = 0x4842;

/// Who answered which round of questions: the moment at which it was asked, by server and virtual IP.
pub type Answers = BTreeMap<(ServerId, VipId), Vec<(u64, Stamp)>>;

/// A running watch.
pub struct KernelWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Answers>,
}

/// One question of every round.
struct Target {
    server: ServerId,
    vip: VipId,
    interface: u32,
    from: (Mac, Ipv4Addr),
    to: (Mac, Ipv4Addr),
}

impl KernelWatch {
    /// Starts asking from the client's place. Virtual IPs of IPv6 are left out.
    ///
    /// # Errors
    /// When a socket or the thread is refused.
    pub fn start(lab: &Segment) -> Result<Self, LabError> {
        let targets = targets(lab)?;
        let (send, receive) = lab
            .client_netns()
            .run(|| {
                let send = socket(
                    AddressFamily::Packet,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    None,
                )?;
                let receive = socket2::Socket::new(
                    socket2::Domain::IPV4,
                    socket2::Type::RAW,
                    Some(socket2::Protocol::ICMPV4),
                )?;
                receive.set_read_timeout(Some(PERIOD))?;
                Ok((send, receive))
            })
            .map_err(LabError::Client)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("kernel-watch".into())
            .spawn(move || watch(&targets, &send, &receive, &stopped))
            .map_err(LabError::Client)?;
        Ok(Self { stop, thread })
    }

    /// Ends the watch and returns what was answered.
    #[must_use]
    pub fn finish(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn targets(lab: &Segment) -> Result<Vec<Target>, LabError> {
    let plan = lab.plan();
    let mut netlink = lab.client_netns().netlink().map_err(LabError::Client)?;
    let mut targets = Vec::new();
    for (vip, place) in plan.vips.iter().enumerate() {
        let interface = netlink.index_of(&plan.interface(place.network))?;
        let own = plan.client_addresses(place.network)[0].0;
        let (IpAddr::V4(own), IpAddr::V4(address)) = (own, place.address) else {
            continue;
        };
        for server in 0..plan.servers.len() {
            targets.push(Target {
                server,
                vip,
                interface,
                from: (plan.client_mac(place.network), own),
                to: (plan.server_mac(server, place.network), address),
            });
        }
    }
    Ok(targets)
}

fn watch(
    targets: &[Target],
    send: &OwnedFd,
    receive: &socket2::Socket,
    stop: &AtomicBool,
) -> Answers {
    let mut answers = Answers::new();
    // A number goes around after 65,536 rounds, which is five minutes; no run lasts as long.
    let mut asked: Vec<Stamp> = Vec::new();
    while !stop.load(Ordering::Relaxed) && asked.len() < usize::from(u16::MAX) {
        let round = asked.len();
        let now = Stamp::now();
        asked.push(now);
        for (number, target) in targets.iter().enumerate() {
            if let Some(frame) = echo_request(target, number, round) {
                // What cannot be sent (network down) is not answered: that is the finding.
                let _ = send_frame(send, target.interface, target.to.0, &frame);
            }
        }
        let end = now.plus(PERIOD);
        while Stamp::now() < end {
            let Some((number, round)) = read_reply(receive) else {
                continue;
            };
            if let (Some(target), Some(at)) = (targets.get(number), asked.get(round)) {
                let place = (target.server, target.vip);
                answers.entry(place).or_default().push((round as u64, *at));
            }
        }
    }
    answers
}

/// The number of the target goes into the identifier's low bits, the round into the sequence number.
fn echo_request(target: &Target, number: usize, round: usize) -> Option<Vec<u8>> {
    let packet = etherparse::PacketBuilder::ethernet2(target.from.0, target.to.0)
        .ipv4(target.from.1.octets(), target.to.1.octets(), 64)
        .icmpv4_echo_request(
            IDENTIFIER + u16::try_from(number).ok()?,
            u16::try_from(round).ok()?,
        );
    let mut frame = Vec::with_capacity(packet.size(0));
    packet.write(&mut frame, &[]).ok()?;
    Some(frame)
}

/// The next echo reply to one of our questions: number of the target, and round. `None` when none came
/// in time, or what came is somebody else's.
fn read_reply(mut socket: &socket2::Socket) -> Option<(usize, usize)> {
    let mut bytes = [0; 128];
    let length = socket.read(&mut bytes).ok()?;
    parse_reply(&bytes[..length])
}

/// Reads an IPv4 packet with an echo reply in it (RFC 791, RFC 792).
fn parse_reply(packet: &[u8]) -> Option<(usize, usize)> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let icmp = packet.get(header..header + 8)?;
    let word = |at: usize| u16::from_be_bytes([icmp[at], icmp[at + 1]]);
    if icmp[0] != 0 {
        return None;
    }
    let number = word(4).checked_sub(IDENTIFIER)?;
    Some((number.into(), word(6).into()))
}

/// When `server` answered for `vip`: answered rounds that follow each other join to one stretch.
#[must_use]
pub fn stretches(answers: &Answers, server: ServerId, vip: VipId) -> Vec<Stretch> {
    let mut rounds = answers.get(&(server, vip)).cloned().unwrap_or_default();
    rounds.sort_unstable();
    let mut joined: Vec<(u64, Stretch)> = Vec::new();
    for (round, at) in rounds {
        match joined.last_mut() {
            Some((last, stretch)) if round <= *last + 1 => {
                *last = round;
                stretch.to = at;
            }
            _ => joined.push((round, Stretch { from: at, to: at })),
        }
    }
    joined.into_iter().map(|(_, stretch)| stretch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_join_only_when_none_is_missing_between() {
        let at = |round: u64| (round, Stamp(round * 100));
        let answers = Answers::from([((1, 0), vec![at(7), at(3), at(4), at(5), at(8)])]);
        let stretch = |from: u64, to: u64| Stretch {
            from: at(from).1,
            to: at(to).1,
        };
        assert_eq!(stretches(&answers, 1, 0), [stretch(3, 5), stretch(7, 8)]);
        assert_eq!(stretches(&answers, 0, 0), []);
    }

    #[test]
    fn only_our_own_replies_are_read() {
        let mut packet = vec![0x45; 20];
        packet.extend_from_slice(&[0, 0, 0, 0, 0x48, 0x45, 0x01, 0x02]);
        assert_eq!(parse_reply(&packet), Some((3, 0x0102)));
        packet[20] = 8; // a request
        assert_eq!(parse_reply(&packet), None);
        packet[20] = 0;
        packet[24] = 0x11; // somebody else's
        assert_eq!(parse_reply(&packet), None);
        assert_eq!(parse_reply(&packet[..25]), None);
        assert_eq!(parse_reply(&[]), None);
    }
}
