//! Lets the kernel sort datagrams with news from regular ones, so that only news wake this process.
//!
//! A neighbour sends a regular datagram with every probe. They are read with our own next probe,
//! and the kernel's time stamp tells when each arrived; a wake-up for each would double what an
//! idle prober costs.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::libc;
use socket2::Socket;

// Instructions of a classic filter (the kernel's Documentation/networking/filter.rst).
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Makes the kernel choose between two sockets that share address and port: the one that was
/// bound first gets regular datagrams, this one, bound second, gets news.
///
/// # Errors
/// The kernel knows no such choice (before 4.5).
pub(super) fn sort(second: &Socket) -> io::Result<()> {
    let (offset, mask) = haarb_wire::NEWS;
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // A datagram that is too short to have the byte goes to the first.
    let mut lines = [
        line(LOAD_BYTE, 0, 0, offset),
        line(JUMP_IF_SET, 0, 1, mask.into()),
        line(RETURN, 0, 0, 1),
        line(RETURN, 0, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: lines.len() as u16,
        filter: lines.as_mut_ptr(),
    };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of the program and `len` lines behind its pointer,
    // both of which live until the call returns, and copies them.
    #[expect(unsafe_code, reason = "no wrapper has SO_ATTACH_REUSEPORT_CBPF")]
    let result = unsafe {
        libc::setsockopt(
            second.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            length,
        )
    };
    Errno::result(result).map(drop).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn the_kernel_gives_news_to_the_second_socket_and_the_rest_to_the_first() {
        let open = |address| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
            socket.set_reuse_port(true).expect("allowed");
            socket.bind(&address).expect("bound");
            socket
        };
        let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
        let first = open(any.into());
        let second = open(first.local_addr().expect("bound"));
        sort(&second).expect("this kernel can");
        let to = first.local_addr().expect("bound").as_socket().expect("IP");
        let [first, second] = [first, second].map(UdpSocket::from);
        let sender = UdpSocket::bind(any).expect("bound");
        for (bytes, receiver) in [
            (&b"hb\x01\x08 news"[..], &second),
            (&b"hb\x01\x07 regular"[..], &first),
            (&b"hb"[..], &first),
            (&b"hb\x01\x0f"[..], &second),
        ] {
            sender.send_to(bytes, to).expect("sent");
            let mut read = [0; 64];
            let wait = Some(Duration::from_secs(10));
            receiver.set_read_timeout(wait).expect("a time");
            let length = receiver.recv(&mut read).expect("it is for this one");
            assert_eq!(&read[..length], bytes);
        }
    }
}
