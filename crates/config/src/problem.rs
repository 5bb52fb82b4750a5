//! What is wrong with a file, where, and what to do: one line each, all of them together.

use std::fmt;

/// A place in the file; line and column count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pos {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// Line from 1; 0 where the whole file is meant.
    pub line: usize,
    /// Column from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub todo: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}; {}", self.what, self.todo)
    }
}

/// Every problem of a file, in the order of the file; never empty. Displays one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Problem>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// A problem before the file's name is known.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) pos: Pos,
    pub(crate) what: String,
    pub(crate) todo: String,
}

impl Found {
    pub(crate) fn in_file(self, file: &str) -> Problem {
        Problem {
            file: file.into(),
            line: self.pos.line,
            column: self.pos.column,
            what: self.what,
            todo: self.todo,
        }
    }
}
