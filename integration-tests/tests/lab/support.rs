//! What several tests need: a segment that serves, and questions asked from any machine.

use std::{io, net::IpAddr, time::Duration};

use haarb_integration_tests::{Bench, with_logs};
use haarb_lab::{
    clock::Stamp,
    fake,
    netns::NetNs,
    packet::{ANSWER_LEN, Answer, Question},
    segment::Segment,
};

pub(crate) const ALPHA: usize = 0;
pub(crate) const BETA: usize = 1;
pub(crate) const RED: usize = 0;
pub(crate) const BLUE: usize = 1;

/// Far above anything that a stall of this machine adds.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Both servers on, all virtual IPs on alpha, and the clients have noticed.
pub(crate) fn alpha_serves(bench: &Bench) -> anyhow::Result<Segment> {
    let mut lab = bench.bare_segment()?;
    lab.power_on(ALPHA)?;
    lab.power_on(BETA)?;
    let since = Stamp::now();
    take_all(&lab, ALPHA)?;
    with_logs(&lab, lab.until_served_by(ALPHA, since, false, LIMIT))?;
    Ok(lab)
}

/// Gives every virtual IP to a server.
pub(crate) fn take_all(lab: &Segment, server: usize) -> anyhow::Result<Stamp> {
    for vip in 0..lab.plan().vips.len() {
        fake::take(lab, server, vip)?;
    }
    Ok(Stamp::now())
}

/// Lets the segment run, because a stretch of undisturbed time is what is measured.
pub(crate) fn run_on(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// What came back when a machine asked the service at an address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// This server answered.
    By(String),
    /// The kernel there said that nobody listens.
    Refused,
    /// Nothing within the time.
    Silence,
}

/// Asks from inside `netns`, again and again for at most `limit`; the first reply ends it.
pub(crate) fn ask(netns: &NetNs, address: IpAddr, limit: Duration) -> io::Result<Reply> {
    netns.run(|| {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let end = Stamp::now().plus(limit);
        loop {
            let socket = std::net::UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            let asked = socket.connect((address, 7000)).and_then(|()| {
                socket.send(
                    &Question {
                        number: 0,
                        vip: 0,
                        probe: None,
                    }
                    .encode(),
                )
            });
            let mut bytes = [0; ANSWER_LEN];
            let reply = match asked.and_then(|_| socket.recv(&mut bytes)) {
                Ok(length) => Answer::decode(&bytes[..length]).map(|answer| Reply::By(answer.node)),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    Some(Reply::Refused)
                }
                Err(_) => None,
            };
            match reply {
                Some(reply) => return Ok(reply),
                None if Stamp::now() > end => return Ok(Reply::Silence),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    })
}

/// Asks beta's own address on a network from alpha.
pub(crate) fn alpha_asks_beta(
    lab: &Segment,
    network: usize,
    limit: Duration,
) -> anyhow::Result<Reply> {
    let alpha = lab
        .server(ALPHA)
        .netns()
        .ok_or_else(|| anyhow::anyhow!("alpha is off"))?;
    Ok(ask(
        alpha,
        lab.plan().server_addresses(BETA, network)[0].0,
        limit,
    )?)
}

/// Whether an interface of a machine has a carrier.
pub(crate) fn carrier(netns: Option<&NetNs>, interface: &str) -> anyhow::Result<bool> {
    let netns = netns.ok_or_else(|| anyhow::anyhow!("the machine is off"))?;
    let mut netlink = netns.netlink()?;
    let index = netlink.index_of(interface)?;
    Ok(netlink.has_carrier(index)?.unwrap_or(false))
}
