//! The messages as bytes: a tag, then the fields in their order, little-endian.

use super::{
    DirHello, DirWelcome, Down, Growth, Hello, NewName, PROTOCOL, Piece, Problem, Refusal, Up,
    Xattrs,
};
use crate::codec::{Bytes, Malformed, put_bytes, put_option, put_path, put_version};
use crate::compare::Listed;
use crate::path::RelPath;

fn put_xattrs(out: &mut Vec<u8>, xattrs: &Xattrs) {
    out.extend_from_slice(&(xattrs.len() as u32).to_le_bytes());
    for (name, value) in xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

fn xattrs(bytes: &mut Bytes<'_>) -> Result<Xattrs, Malformed> {
    bytes.list(|b| Ok((b.bytes()?.to_vec(), b.bytes()?.to_vec())))
}

/// The head of an operation: its tag, number, directory and path.
fn head(out: &mut Vec<u8>, tag: u8, number: u64, dir: u16, path: &RelPath) {
    out.push(tag);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&dir.to_le_bytes());
    put_path(out, path);
}

impl Up {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Hello(hello) => hello.encode(&mut out),
            Self::Ping => out.push(2),
            Self::Listing {
                dir,
                path,
                entries,
                last,
            } => {
                out.push(3);
                out.extend_from_slice(&dir.to_le_bytes());
                put_path(&mut out, path);
                out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
                for entry in entries {
                    put_bytes(&mut out, &entry.name);
                    put_version(&mut out, &entry.version);
                    out.extend_from_slice(&entry.link);
                    out.extend_from_slice(&entry.digest);
                }
                out.push(u8::from(*last));
            }
            Self::Base { transfer, segments } => {
                out.push(4);
                out.extend_from_slice(&transfer.to_le_bytes());
                out.extend_from_slice(&segments.to_le_bytes());
            }
            Self::Signature {
                transfer,
                segment,
                hash,
                signature,
            } => {
                out.push(5);
                out.extend_from_slice(&transfer.to_le_bytes());
                out.extend_from_slice(&segment.to_le_bytes());
                out.extend_from_slice(hash);
                put_bytes(&mut out, signature);
            }
            Self::Ack { upto, problems } => {
                out.push(6);
                out.extend_from_slice(&upto.to_le_bytes());
                out.extend_from_slice(&(problems.len() as u32).to_le_bytes());
                for (seq, problem) in problems {
                    out.extend_from_slice(&seq.to_le_bytes());
                    let text = match problem {
                        Problem::NeedContent => None,
                        Problem::Failed(text) => Some(text),
                    };
                    put_option(&mut out, text, |out, text| put_bytes(out, text.as_bytes()));
                }
            }
            Self::Local { dir, path } => {
                out.push(7);
                out.extend_from_slice(&dir.to_le_bytes());
                put_path(&mut out, path);
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(bytes);
        let message = match b.u8()? {
            1 => Self::Hello(Hello::decode(&mut b)?),
            2 => Self::Ping,
            3 => Self::Listing {
                dir: b.u16()?,
                path: b.path()?,
                entries: b.list(listed)?,
                last: b.bool()?,
            },
            4 => Self::Base {
                transfer: b.u64()?,
                segments: b.u64()?,
            },
            5 => Self::Signature {
                transfer: b.u64()?,
                segment: b.u64()?,
                hash: b.hash()?,
                signature: b.bytes()?.to_vec(),
            },
            6 => Self::Ack {
                upto: b.u64()?,
                problems: b.list(|b| {
                    let seq = b.u64()?;
                    let problem = b.option(Bytes::text)?;
                    Ok((seq, problem.map_or(Problem::NeedContent, Problem::Failed)))
                })?,
            },
            7 => Self::Local {
                dir: b.u16()?,
                path: b.entry_path()?,
            },
            _ => return Err(Malformed("unknown message")),
        };
        b.end(message)
    }
}

fn listed(b: &mut Bytes<'_>) -> Result<Listed, Malformed> {
    Ok(Listed {
        name: b.bytes()?.to_vec(),
        version: b.version()?,
        link: b.link()?,
        digest: b.hash()?,
    })
}

impl Hello {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(1);
        out.extend_from_slice(&self.protocol.to_le_bytes());
        put_bytes(out, self.reserve.as_bytes());
        put_bytes(out, self.node.as_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&(self.directories.len() as u32).to_le_bytes());
        for dir in &self.directories {
            put_bytes(out, &dir.path);
            out.extend_from_slice(&dir.lineage);
            out.extend_from_slice(&dir.entries.to_le_bytes());
            out.extend_from_slice(&dir.digest);
            put_bytes(out, dir.error.as_bytes());
        }
    }

    fn decode(b: &mut Bytes<'_>) -> Result<Self, Malformed> {
        let protocol = b.u16()?;
        if protocol != PROTOCOL {
            // What follows the number is known only to who speaks that version.
            b.0 = &[];
            return Ok(Self {
                protocol,
                ..Self::default()
            });
        }
        Ok(Self {
            protocol,
            reserve: b.text()?,
            node: b.text()?,
            epoch: b.u64()?,
            directories: b.list(|b| {
                Ok(DirHello {
                    path: b.bytes()?.to_vec(),
                    lineage: b.lineage()?,
                    entries: b.u64()?,
                    digest: b.hash()?,
                    error: b.text()?,
                })
            })?,
        })
    }
}

impl Down {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        match self {
            Self::Welcome {
                protocol,
                node,
                epoch,
                directories,
            } => {
                out.push(1);
                out.extend_from_slice(&protocol.to_le_bytes());
                put_bytes(&mut out, node.as_bytes());
                out.extend_from_slice(&epoch.to_le_bytes());
                out.extend_from_slice(&(directories.len() as u32).to_le_bytes());
                for dir in directories {
                    out.extend_from_slice(&dir.lineage);
                    put_bytes(&mut out, dir.error.as_bytes());
                    out.extend_from_slice(&(dir.exclude.len() as u32).to_le_bytes());
                    for pattern in &dir.exclude {
                        put_bytes(&mut out, pattern.as_bytes());
                    }
                }
            }
            Self::Refuse { why, epoch } => {
                out.push(2);
                out.push(match why {
                    Refusal::Protocol => 0,
                    Refusal::NotSource => 1,
                    Refusal::LowerEpoch => 2,
                    Refusal::Directories => 3,
                });
                out.extend_from_slice(&epoch.to_le_bytes());
            }
            Self::Ping => out.push(3),
            Self::List { dir, path } => {
                out.push(4);
                out.extend_from_slice(&dir.to_le_bytes());
                put_path(&mut out, path);
            }
            Self::Put {
                seq,
                dir,
                path,
                version,
                content,
                sparse,
                xattrs,
            } => {
                out.reserve(content.len());
                head(&mut out, 5, *seq, *dir, path);
                put_version(&mut out, version);
                put_bytes(&mut out, content);
                out.push(u8::from(*sparse));
                put_xattrs(&mut out, xattrs);
            }
            Self::Append {
                seq,
                dir,
                path,
                growth,
            } => {
                out.reserve(growth.tail.len());
                head(&mut out, 16, *seq, *dir, path);
                out.extend_from_slice(&growth.from.to_le_bytes());
                out.extend_from_slice(&growth.mtime_ns.to_le_bytes());
                out.extend_from_slice(&growth.check);
                put_bytes(&mut out, &growth.tail);
            }
            Self::Meta {
                seq,
                dir,
                path,
                version,
                xattrs,
            } => {
                head(&mut out, 6, *seq, *dir, path);
                put_version(&mut out, version);
                put_xattrs(&mut out, xattrs);
            }
            Self::Link {
                seq,
                dir,
                path,
                name,
            } => {
                head(&mut out, 14, *seq, *dir, path);
                put_path(&mut out, &name.to);
                out.push(u8::from(name.moved));
                put_version(&mut out, &name.version);
                put_xattrs(&mut out, &name.xattrs);
            }
            Self::Rename {
                seq,
                dir,
                from,
                path,
            } => {
                head(&mut out, 17, *seq, *dir, path);
                put_path(&mut out, from);
            }
            Self::Delete { seq, dir, path } => head(&mut out, 7, *seq, *dir, path),
            Self::Begin {
                transfer,
                dir,
                path,
                sparse,
            } => {
                head(&mut out, 8, *transfer, *dir, path);
                out.push(u8::from(*sparse));
            }
            Self::Sums {
                transfer,
                first,
                count,
            } => {
                out.push(9);
                out.extend_from_slice(&transfer.to_le_bytes());
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
            Self::Part { transfer, piece } => {
                out.push(10);
                out.extend_from_slice(&transfer.to_le_bytes());
                piece.encode(&mut out);
            }
            Self::End {
                seq,
                transfer,
                version,
                xattrs,
            } => {
                out.push(11);
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend_from_slice(&transfer.to_le_bytes());
                put_version(&mut out, version);
                put_xattrs(&mut out, xattrs);
            }
            Self::Cancel { transfer } => {
                out.push(12);
                out.extend_from_slice(&transfer.to_le_bytes());
            }
            Self::Held { dir, paths } => {
                out.push(15);
                out.extend_from_slice(&dir.to_le_bytes());
                out.extend_from_slice(&(paths.len() as u32).to_le_bytes());
                for path in paths {
                    put_path(&mut out, path);
                }
            }
            Self::InSync { seq, dir } => {
                out.push(13);
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend_from_slice(&dir.to_le_bytes());
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(bytes);
        let message = match b.u8()? {
            1 => Self::Welcome {
                protocol: b.u16()?,
                node: b.text()?,
                epoch: b.u64()?,
                directories: b.list(|b| {
                    Ok(DirWelcome {
                        lineage: b.lineage()?,
                        error: b.text()?,
                        exclude: b.list(Bytes::text)?,
                    })
                })?,
            },
            2 => Self::Refuse {
                why: match b.u8()? {
                    0 => Refusal::Protocol,
                    1 => Refusal::NotSource,
                    2 => Refusal::LowerEpoch,
                    3 => Refusal::Directories,
                    _ => return Err(Malformed("unknown refusal")),
                },
                epoch: b.u64()?,
            },
            3 => Self::Ping,
            4 => Self::List {
                dir: b.u16()?,
                path: b.path()?,
            },
            5 => Self::Put {
                seq: b.u64()?,
                dir: b.u16()?,
                path: b.entry_path()?,
                version: b.version()?,
                content: b.bytes()?.to_vec(),
                sparse: b.bool()?,
                xattrs: xattrs(&mut b)?,
            },
            6 => Self::Meta {
                seq: b.u64()?,
                dir: b.u16()?,
                path: b.entry_path()?,
                version: b.version()?,
                xattrs: xattrs(&mut b)?,
            },
            7 => Self::Delete {
                seq: b.u64()?,
                dir: b.u16()?,
                path: b.entry_path()?,
            },
            8 => Self::Begin {
                transfer: b.u64()?,
                dir: b.u16()?,
                path: b.entry_path()?,
                sparse: b.bool()?,
            },
            9 => Self::Sums {
                transfer: b.u64()?,
                first: b.u64()?,
                count: b.u32()?,
            },
            10 => Self::Part {
                transfer: b.u64()?,
                piece: Piece::decode(&mut b)?,
            },
            11 => Self::End {
                seq: b.u64()?,
                transfer: b.u64()?,
                version: b.version()?,
                xattrs: xattrs(&mut b)?,
            },
            12 => Self::Cancel { transfer: b.u64()? },
            13 => Self::InSync {
                seq: b.u64()?,
                dir: b.u16()?,
            },
            14 => Self::Link {
                seq: b.u64()?,
                dir: b.u16()?,
                path: b.entry_path()?,
                name: NewName {
                    to: b.entry_path()?,
                    moved: b.bool()?,
                    version: b.version()?,
                    xattrs: xattrs(&mut b)?,
                },
            },
            15 => Self::Held {
                dir: b.u16()?,
                paths: b.list(Bytes::entry_path)?,
            },
            17 => Self::Rename {
                seq: b.u64()?,
                dir: b.u16()?,
                path: b.entry_path()?,
                from: b.entry_path()?,
            },
            16 => Self::Append {
                seq: b.u64()?,
                dir: b.u16()?,
                path: b.entry_path()?,
                growth: Growth {
                    from: b.u64()?,
                    mtime_ns: b.u64()?.cast_signed(),
                    check: b.u64()?.to_le_bytes(),
                    tail: b.bytes()?.to_vec(),
                },
            },
            _ => return Err(Malformed("unknown message")),
        };
        b.end(message)
    }
}

/// The tag of messages that travel together.
const TOGETHER: u8 = 255;

impl Down {
    /// Several messages as one, in their order.
    pub(crate) fn together(messages: &[Vec<u8>]) -> Vec<u8> {
        let bytes: usize = messages.iter().map(|message| 4 + message.len()).sum();
        let mut out = Vec::with_capacity(1 + bytes);
        out.push(TOGETHER);
        for message in messages {
            put_bytes(&mut out, message);
        }
        out
    }

    /// What came as one: a message, or several.
    pub(crate) fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        let Some(together) = bytes.strip_prefix(&[TOGETHER]) else {
            return Ok(vec![Self::decode(bytes)?]);
        };
        let mut rest = Bytes(together);
        let mut messages = Vec::new();
        while !rest.0.is_empty() {
            messages.push(Self::decode(rest.bytes()?)?);
        }
        Ok(messages)
    }
}

impl Piece {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Data(bytes) => {
                out.push(0);
                put_bytes(out, bytes);
            }
            Self::Copy { segment } => {
                out.push(1);
                out.extend_from_slice(&segment.to_le_bytes());
            }
            Self::Delta { segment, delta } => {
                out.push(2);
                out.extend_from_slice(&segment.to_le_bytes());
                put_bytes(out, delta);
            }
            Self::Hole { length } => {
                out.push(3);
                out.extend_from_slice(&length.to_le_bytes());
            }
        }
    }

    fn decode(b: &mut Bytes<'_>) -> Result<Self, Malformed> {
        Ok(match b.u8()? {
            0 => Self::Data(b.bytes()?.to_vec()),
            1 => Self::Copy { segment: b.u64()? },
            2 => Self::Delta {
                segment: b.u64()?,
                delta: b.bytes()?.to_vec(),
            },
            3 => Self::Hole { length: b.u32()? },
            _ => return Err(Malformed("unknown piece")),
        })
    }
}
