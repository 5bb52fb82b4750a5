//! Reading single values out of a tree, with a problem for each that does not fit.
//!
//! Every reader returns `None` after it has reported, so that reading goes on with the rest.

use std::fmt::Display;
use std::net::IpAddr;

use haarb_model::Span;

use crate::duration::{self, LONGEST};
use crate::problem::{Found, Pos};
use crate::tree::{Key, Kind, Tree};

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(pub(crate) Vec<Found>);

impl Problems {
    pub(crate) fn add(&mut self, pos: Pos, what: impl Into<String>, todo: impl Into<String>) {
        self.0.push(Found {
            pos,
            what: what.into(),
            todo: todo.into(),
        });
    }
}

/// The entries of one mapping.
pub(crate) struct Fields<'a> {
    /// What it is, for messages: `a node`, `timing`.
    pub(crate) of: &'static str,
    pub(crate) pos: Pos,
    entries: &'a [(Key, Tree)],
}

impl<'a> Fields<'a> {
    /// Takes a mapping, reporting unknown and repeated keys.
    pub(crate) fn new(
        tree: &'a Tree,
        of: &'static str,
        known: &[&str],
        p: &mut Problems,
    ) -> Option<Self> {
        let Kind::Map(entries) = &tree.kind else {
            p.add(
                tree.pos,
                format!("{of} must be a mapping of keys, not {}", kind(tree)),
                format!("write `key: value` with {}", known.join(", ")),
            );
            return None;
        };
        for (i, (key, _)) in entries.iter().enumerate() {
            if !known.contains(&key.text.as_str()) {
                p.add(
                    key.pos,
                    format!("unknown key {:?} in {of}", cut(&key.text)),
                    format!("the nearest known key is {:?}", nearest(&key.text, known)),
                );
            }
            repeated(entries, i, p);
        }
        Some(Self {
            of,
            pos: tree.pos,
            entries,
        })
    }

    /// The value of a key, where it is written.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Tree> {
        let (_, value) = self.entries.iter().find(|(k, _)| k.text == key)?;
        Some(value)
    }

    /// The value of a key that must be there.
    pub(crate) fn need(&self, key: &str, example: &str, p: &mut Problems) -> Option<&'a Tree> {
        let value = self.get(key);
        if value.is_none() {
            p.add(
                self.pos,
                format!("{} has no {key:?}", self.of),
                format!("add `{key}: {example}`"),
            );
        }
        value
    }

    /// The place of a key itself.
    pub(crate) fn key_pos(&self, key: &str) -> Option<Pos> {
        let (key, _) = self.entries.iter().find(|(k, _)| k.text == key)?;
        Some(key.pos)
    }
}

/// Reports entry `i` if an earlier one has the same key.
pub(crate) fn repeated(entries: &[(Key, Tree)], i: usize, p: &mut Problems) {
    let (key, _) = &entries[i];
    if let Some((first, _)) = entries[..i].iter().find(|(k, _)| k.text == key.text) {
        p.add(
            key.pos,
            format!(
                "the key {:?} is there twice, first in line {}",
                cut(&key.text),
                first.pos.line
            ),
            "remove one of them",
        );
    }
}

/// A list with at least one item.
pub(crate) fn list<'a>(tree: &'a Tree, what: &str, p: &mut Problems) -> &'a [Tree] {
    match &tree.kind {
        Kind::List(items) if !items.is_empty() => items,
        Kind::List(_) | Kind::Empty => {
            p.add(
                tree.pos,
                format!("{what} is an empty list"),
                "add an entry, or remove the key where it is optional",
            );
            &[]
        }
        _ => {
            p.add(
                tree.pos,
                format!("{what} must be a list, not {}", kind(tree)),
                "write the entries with `- ` in front, or in [ ]",
            );
            &[]
        }
    }
}

/// A text; numbers count as texts.
pub(crate) fn text<'a>(tree: &'a Tree, what: &str, p: &mut Problems) -> Option<&'a str> {
    match &tree.kind {
        Kind::Scalar(text) if text.contains('\0') => {
            p.add(
                tree.pos,
                format!("{what} contains a zero byte"),
                "remove it",
            );
            None
        }
        Kind::Scalar(text) if !text.is_empty() => Some(text),
        Kind::Scalar(_) | Kind::Empty => {
            p.add(tree.pos, format!("{what} has no value"), "write one");
            None
        }
        _ => {
            p.add(
                tree.pos,
                format!("{what} must be a single value, not {}", kind(tree)),
                "write one value, quoted if it has special characters",
            );
            None
        }
    }
}

/// A text that `parse` understands; `todo` says what is expected instead.
pub(crate) fn parsed<T, E: Display>(
    tree: &Tree,
    what: &str,
    todo: &str,
    p: &mut Problems,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    let text = text(tree, what, p)?;
    match parse(text) {
        Ok(value) => Some(value),
        Err(e) => {
            p.add(tree.pos, format!("{what} {:?} {e}", cut(text)), todo);
            None
        }
    }
}

/// A name by the rules of the model.
pub(crate) fn name<T: std::str::FromStr>(tree: &Tree, what: &str, p: &mut Problems) -> Option<T> {
    parsed(
        tree,
        what,
        "use 1 to 63 of a-z, A-Z, 0-9, '-', '_' and '.', beginning with a letter or digit",
        p,
        |t| t.parse::<T>().map_err(|_| "cannot be a name"),
    )
}

/// A duration between 100 microseconds and a day.
pub(crate) fn span(tree: &Tree, what: &str, p: &mut Problems) -> Option<Span> {
    parsed(
        tree,
        what,
        "write a number with a unit from 100us to 24h, such as 10ms, 2.5s or 1m",
        p,
        |t| match duration::parse(t) {
            Ok(span) if span < Span::from_micros(100) => Err("is too short"),
            Ok(span) if span > LONGEST => Err("is too long"),
            other => other,
        },
    )
}

/// A whole number from `least` up.
pub(crate) fn count(tree: &Tree, what: &str, least: u32, p: &mut Problems) -> Option<u32> {
    let todo = format!("write a whole number from {least} to 1000000");
    parsed(tree, what, &todo, p, |t| match t.parse::<u32>() {
        Ok(n) if (least..=1_000_000).contains(&n) => Ok(n),
        Ok(_) => Err("is out of range"),
        Err(_) => Err("is not a whole number"),
    })
}

/// The address of one host, without a prefix.
pub(crate) fn address(tree: &Tree, what: &str, p: &mut Problems) -> Option<IpAddr> {
    parsed(
        tree,
        what,
        "write one IPv4 or IPv6 address of a host, such as 10.77.1.1",
        p,
        |t| match t.parse::<IpAddr>() {
            Ok(ip) => host(ip).map(|()| ip),
            Err(_) if t.contains('/') => Err("has a prefix length, which does not belong here"),
            Err(_) => Err("is not an IP address"),
        },
    )
}

/// Whether one host can have this address; the error is the reason.
pub(crate) fn host(ip: IpAddr) -> Result<(), &'static str> {
    let reason = match ip {
        _ if ip.is_unspecified() => "is the unspecified address",
        _ if ip.is_loopback() => "is a loopback address",
        _ if ip.is_multicast() => "is a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "is the broadcast address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "is an IPv4 address in IPv6 form",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            "is a link-local address, which means nothing without its interface"
        }
        _ => return Ok(()),
    };
    Err(reason)
}

/// An interface name as the kernel takes it (dev_valid_name in net/core/dev.c).
pub(crate) fn interface(tree: &Tree, what: &str, p: &mut Problems) -> Option<String> {
    parsed(
        tree,
        what,
        "write the name of a network interface, at most 15 bytes, such as eth0",
        p,
        |t| {
            let fits = t.len() <= 15
                && t != "."
                && t != ".."
                && !t.contains(|c: char| {
                    c == '/' || c == ':' || c.is_whitespace() || c.is_control()
                });
            if fits {
                Ok(t.to_owned())
            } else {
                Err("cannot be an interface")
            }
        },
    )
}

/// The known word with the smallest edit distance; the first of equals.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> &'a str {
    let folded = cut(word).to_lowercase().replace('_', "-");
    known
        .iter()
        .min_by_key(|k| distance(&folded, k))
        .copied()
        .unwrap_or_default()
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// What a value is, for messages.
fn kind(tree: &Tree) -> &'static str {
    match tree.kind {
        Kind::Empty => "nothing",
        Kind::Scalar(_) => "a single value",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a mapping",
    }
}

/// The beginning of a text, for messages.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}
