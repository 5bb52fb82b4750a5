//! Netlink messages, built and read by hand, and a socket that speaks them: for traffic control
//! and nftables, which between them need two dozen attributes.
//!
//! The one thing to know: the kernel has answered a request when its send returns, so nothing
//! here ever waits. An answer that is not there will not come.

use std::io;

use netlink_sys::{Socket, SocketAddr};

/// Flags of a request (linux/netlink.h).
pub(crate) const ACK: u16 = 0x4;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
const REQUEST: u16 = 0x1;

const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
const HEADER_BYTES: usize = 16;
/// In the header of an error: attributes with the kernel's own words follow.
const HAS_WORDS: u16 = 0x200;
const ERROR_WORDS: u16 = 1;
/// The kernel never sends more in one piece (`NLMSG_GOODSIZE` and the largest dump block).
const RECEIVE_BYTES: usize = 1 << 16;

/// What the kernel refused, with its own words where it has some.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The socket failed.
    #[error("netlink: {0}")]
    Socket(#[from] io::Error),
    /// An error number, and the kernel's words.
    #[error("{error}{}{words}", if words.is_empty() { "" } else { ": " })]
    Kernel {
        /// The number.
        error: io::Error,
        /// What the kernel says about it; often empty.
        words: String,
    },
}

impl Refused {
    /// The error number.
    #[must_use]
    pub fn errno(&self) -> i32 {
        let (Self::Socket(error) | Self::Kernel { error, .. }) = self;
        error.raw_os_error().unwrap_or(0)
    }
}

/// Messages that are sent together.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    began: usize,
    count: u32,
}

impl Messages {
    /// Begins a message: its type, flags beside `REQUEST`, and the fixed part of its kind.
    pub(crate) fn begin(&mut self, kind: u16, flags: u16, fixed: &[u8]) -> &mut Self {
        self.began = self.bytes.len();
        self.count += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(fixed);
        self.pad();
        self.seal();
        self
    }

    /// Adds an attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (value.len() + 4) as u16;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
        self.seal();
        self
    }

    /// Adds a text attribute.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds attributes inside an attribute.
    pub(crate) fn nested(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) -> &mut Self {
        const NESTED: u16 = 0x8000;
        let at = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        inner(self);
        let length = (self.bytes.len() - at) as u16;
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Keeps the message's length true.
    fn seal(&mut self) {
        let length = (self.bytes.len() - self.began) as u32;
        self.bytes[self.began..][..4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// One message of the kernel's answer: its type, and what follows the header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

/// A socket for requests.
pub(crate) struct Wire(Socket);

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        // Older kernels have no words, or repeat the request: as good.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self(socket))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`Refused`]: the first refusal of any message, or no answer at all.
    pub(crate) fn ask(&self, request: &Messages) -> Result<Vec<Answer>, Refused> {
        self.0.send(&request.bytes, 0)?;
        let mut answers = Vec::new();
        let mut refusal = None;
        let mut answered = false;
        loop {
            let mut datagram = Vec::with_capacity(RECEIVE_BYTES);
            match self.0.recv(&mut datagram, 0) {
                Ok(_) => answered = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            for (kind, flags, body) in messages(&datagram) {
                match kind {
                    TYPE_ERROR | TYPE_DONE => {
                        refusal = refusal.or_else(|| refused(kind, flags, body));
                    }
                    _ => answers.push(Answer {
                        kind,
                        body: body.to_vec(),
                    }),
                }
            }
        }
        match refusal {
            Some(refusal) => Err(refusal),
            None if !answered => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            None => Ok(answers),
        }
    }
}

fn refused(kind: u16, flags: u16, body: &[u8]) -> Option<Refused> {
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    // Error: number, header of the request. End of a dump: number alone.
    let rest = body.get(
        if kind == TYPE_ERROR {
            4 + HEADER_BYTES
        } else {
            4
        }..,
    );
    let words = rest
        .filter(|_| flags & HAS_WORDS != 0)
        .and_then(|rest| attributes(rest).find(|&(kind, _)| kind == ERROR_WORDS))
        .map(|(_, text)| string(text).to_owned());
    Some(Refused::Kernel {
        error: io::Error::from_raw_os_error(code.saturating_neg()),
        words: words.unwrap_or_default(),
    })
}

fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, u16, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER_BYTES)?;
        let length = u32::from_ne_bytes(header[..4].try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(header[4..6].try_into().ok()?);
        let flags = u16::from_ne_bytes(header[6..8].try_into().ok()?);
        let body = rest.get(HEADER_BYTES..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, flags, body))
    })
}

/// The attributes in `bytes`, nested or not; what is not whole ends them.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const KIND: u16 = 0x3fff;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = rest.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & KIND;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The text in an attribute, up to its end mark.
pub(crate) fn string(value: &[u8]) -> &str {
    let end = value.iter().position(|&byte| byte == 0);
    let text = &value[..end.unwrap_or(value.len())];
    std::str::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let mut written = Messages::default();
        written
            .begin(7, ACK, &[9, 9])
            .text(1, "eth0")
            .nested(2, |inner| {
                inner.attribute(3, &[1, 2, 3]).attribute(4, &[]);
            });
        written.begin(8, 0, &[]);
        let read: Vec<_> = messages(&written.bytes).collect();
        assert_eq!(read.len(), 2);
        let (kind, flags, body) = read[0];
        assert_eq!((kind, flags), (7, ACK | REQUEST));
        let found: Vec<_> = attributes(&body[4..]).collect();
        assert_eq!((found[0].0, string(found[0].1)), (1, "eth0"));
        assert_eq!(found[1].0, 2);
        let inner: Vec<_> = attributes(found[1].1).collect();
        assert_eq!(inner, [(3, &[1, 2, 3][..]), (4, &[][..])]);
        assert_eq!((read[1].0, read[1].2), (8, &[][..]));
    }

    #[test]
    fn what_is_cut_off_ends_the_reading() {
        let mut whole = Messages::default();
        whole.begin(7, 0, &[1; 4]).text(1, "a text");
        for cut in 0..whole.bytes.len() {
            assert_eq!(messages(&whole.bytes[..cut]).count(), 0, "{cut}");
            assert!(attributes(&whole.bytes[20..][..cut.saturating_sub(20)]).count() <= 1);
        }
        assert_eq!(messages(&[0; 64]).count(), 0, "no message has no length");
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }
}
