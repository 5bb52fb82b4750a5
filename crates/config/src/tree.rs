//! YAML text as a tree of values that know where they stand.
//!
//! Scalars stay text, so that `name: 7` and `address: 1.2` mean what is written; who reads
//! them decides what they are. Only the parser's events are used, not serde, because every
//! problem of a file is wanted, not the first. Anchors, tags and several documents are
//! refused: the file is read by people in a hurry.

use serde_yaml::granit_parser::{self as yaml, Event, Marker, Parser, ScalarStyle};

use crate::problem::{Found, Pos};

/// Deeper nesting is refused; the deepest legal value is five levels down.
const DEPTH_MAX: usize = 32;

/// One value.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) pos: Pos,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// Nothing, `~` or `null`.
    Empty,
    Scalar(String),
    List(Vec<Tree>),
    Map(Vec<(Key, Tree)>),
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) pos: Pos,
    pub(crate) text: String,
}

/// Parses a text. The first problem of syntax ends it: what follows could be anything.
pub(crate) fn parse(text: &str) -> Result<Tree, Found> {
    let mut options = yaml::options! {
        disallow_directives: true,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    options.set_emit_comments(false);
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
    };
    builder.document()
}

struct Builder<'a> {
    parser: Parser<'a, yaml::StrInput<'a>>,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Tree, Found> {
        let empty = || {
            found(
                Pos { line: 1, column: 1 },
                "the file is empty",
                "write a configuration: cluster, networks, nodes, reserves",
            )
        };
        loop {
            match self.next()? {
                None | Some((Event::StreamEnd, _)) => return Err(empty()),
                Some((Event::StreamStart | Event::DocumentStart(..), _)) => {}
                Some((event, pos)) => {
                    let tree = self.value(event, pos)?;
                    self.end()?;
                    return Ok(tree);
                }
            }
        }
    }

    /// Nothing but the end may follow.
    fn end(&mut self) -> Result<(), Found> {
        while let Some((event, pos)) = self.next()? {
            match event {
                Event::DocumentEnd => {}
                Event::StreamEnd => break,
                _ => {
                    return Err(found(
                        pos,
                        "a second document begins here",
                        "keep one document in the file",
                    ));
                }
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Pos)>, Found> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, pos(&span.start)))),
            Some(Err(e)) => Err(found(
                pos(e.marker()),
                format!("this is not YAML: {}", e.info()),
                "check indentation, quotes and brackets here and just above",
            )),
        }
    }

    fn value(&mut self, event: Event<'a>, pos: Pos) -> Result<Tree, Found> {
        let kind = match event {
            Event::Scalar(text, style, 0, None) => match (text.as_ref(), style) {
                ("" | "~" | "null", ScalarStyle::Plain) => Kind::Empty,
                _ => Kind::Scalar(text.into_owned()),
            },
            Event::SequenceStart(_, 0, None) => Kind::List(self.list()?),
            Event::MappingStart(_, 0, None) => Kind::Map(self.map()?),
            _ => {
                return Err(found(
                    pos,
                    "anchors, aliases and tags are not used in this file",
                    "write the value out, and quote texts that begin with & * or !",
                ));
            }
        };
        Ok(Tree { pos, kind })
    }

    fn list(&mut self) -> Result<Vec<Tree>, Found> {
        let mut items = Vec::new();
        while let Some((event, pos)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            items.push(self.value(event, pos)?);
        }
        Ok(items)
    }

    fn map(&mut self) -> Result<Vec<(Key, Tree)>, Found> {
        let mut entries = Vec::new();
        while let Some((event, pos)) = self.next()? {
            let text = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, _, 0, None) => text.into_owned(),
                _ => {
                    return Err(found(
                        pos,
                        "this key is not a plain word",
                        "write `key: value`",
                    ));
                }
            };
            let Some((event, value_pos)) = self.next()? else {
                break;
            };
            let value = self.value(event, value_pos)?;
            entries.push((Key { pos, text }, value));
        }
        Ok(entries)
    }
}

fn pos(marker: &Marker) -> Pos {
    Pos {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

fn found(pos: Pos, what: impl Into<String>, todo: impl Into<String>) -> Found {
    Found {
        pos,
        what: what.into(),
        todo: todo.into(),
    }
}
