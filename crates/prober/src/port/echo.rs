//! An ICMP socket that is read only while a reply is missing: a near neighbour has answered before
//! the next probe, and then nothing is there that a system call could find.

use std::collections::VecDeque;
use std::net::IpAddr;

use haarb_model::Mono;
use socket2::Socket;

use super::read::{Clocks, read_all, read_one};
use crate::icmp::{self, Kind};

/// ECHO requests that are remembered as open, far more than go out in a round trip.
const OPEN_MAX: usize = 64;
/// A request is so much older than another, by their numbers, that nobody waits for its reply any
/// more: some dozens of rounds.
const OLD: u64 = 256;

/// A reply to an ECHO request.
pub(super) struct Reply {
    pub(super) from: IpAddr,
    pub(super) number: u64,
    pub(super) at: Mono,
}

/// An ICMP socket, and the requests that it has sent and not seen answered.
#[derive(Debug)]
pub(super) struct Echo {
    pub(super) kind: Kind,
    pub(super) socket: Socket,
    open: VecDeque<u64>,
}

impl Echo {
    pub(super) const fn new(kind: Kind, socket: Socket) -> Self {
        Self {
            kind,
            socket,
            open: VecDeque::new(),
        }
    }

    /// A request left. Numbers grow.
    pub(super) fn sent(&mut self, number: u64) {
        self.open.push_back(number);
        if self.open.len() > OPEN_MAX {
            self.open.pop_front();
        }
    }

    /// Reads replies, as long as requests wait for one; with `all`, whatever there is.
    pub(super) fn drain(
        &mut self,
        all: bool,
        session: u64,
        clocks: &Clocks,
        mut take: impl FnMut(Reply),
    ) {
        // Without a system call where none is missing.
        if self.open.is_empty() && !all {
            return;
        }
        let Self { kind, socket, open } = self;
        read_all(
            |bytes| read_one(socket, bytes, clocks),
            |bytes, from, at| {
                let number = icmp::reply(*kind, session, bytes);
                if let (Some(number), Some(from)) = (number, from) {
                    // The reply to a much older one, should it come, is read with later ones.
                    open.retain(|&open| open != number && open + OLD > number);
                    take(Reply { from, number, at });
                }
                all || !open.is_empty()
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};

    use socket2::{Domain, Type};

    use super::*;

    const SESSION: u64 = 7;

    /// What serves as an ICMP socket: a UDP socket on this machine.
    fn echo() -> Echo {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        socket.bind(&any.into()).expect("bound");
        Echo::new(Kind::PingV4, socket)
    }

    /// The reply to a request waits in the socket.
    fn reply(echo: &Echo, number: u64) {
        let mut bytes = icmp::request(Kind::PingV4, SESSION, number);
        bytes[0] = 0; // the type of a reply
        let to = echo.socket.local_addr().expect("bound");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let to = to.as_socket().expect("IP");
        sender.send_to(&bytes, to).expect("sent");
    }

    fn taken(echo: &mut Echo, all: bool) -> Vec<u64> {
        let mut numbers = Vec::new();
        echo.drain(all, SESSION, &Clocks::read(), |reply| {
            numbers.push(reply.number)
        });
        numbers
    }

    #[test]
    fn it_is_read_while_a_reply_is_missing_and_on_demand() {
        let mut echo = echo();
        for number in [1, 2, 2] {
            reply(&echo, number);
        }
        assert_eq!(taken(&mut echo, false), [0; 0], "nothing was asked");
        echo.sent(1);
        echo.sent(2);
        assert_eq!(taken(&mut echo, false), [1, 2]);
        assert_eq!(taken(&mut echo, false), [0; 0], "all are answered");
        assert_eq!(taken(&mut echo, true), [2], "the duplicate");
    }

    #[test]
    fn a_lost_reply_is_waited_for_and_at_last_forgotten() {
        let mut echo = echo();
        echo.sent(1);
        echo.sent(2);
        reply(&echo, 2);
        assert_eq!(taken(&mut echo, false), [2]);
        assert_eq!(echo.open, [1]);
        echo.sent(3 + OLD);
        reply(&echo, 3 + OLD);
        assert_eq!(taken(&mut echo, false), [3 + OLD]);
        assert!(echo.open.is_empty());
    }

    #[test]
    fn an_address_that_never_answers_fills_no_memory() {
        let mut echo = echo();
        (0..10_000).for_each(|number| echo.sent(number));
        assert_eq!(echo.open.len(), OPEN_MAX);
    }
}
