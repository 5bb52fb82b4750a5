//! From a file to a configuration.

use std::path::Path;

use crate::read::read;
use crate::{Config, Errors, Problem};

/// Longer files are refused before they are parsed.
const BYTES_MAX: u64 = 1024 * 1024;

impl Config {
    /// Reads, parses and checks a file.
    ///
    /// # Errors
    /// Every problem of the file, or the one that kept it from being read.
    pub fn load(path: &Path) -> Result<Self, Errors> {
        let name = path.display().to_string();
        let refuse = |what: String, todo: &str| {
            Errors(vec![Problem {
                file: name.clone(),
                line: 0,
                column: 0,
                what,
                todo: todo.into(),
            }])
        };
        let unreadable = |e: std::io::Error| {
            refuse(
                format!("cannot read the configuration: {e}"),
                "name the file with --config or HAARB_CONFIG, and check that this user may read it",
            )
        };
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        if !meta.is_file() {
            return Err(refuse("is not a file".into(), "name a YAML file"));
        }
        if meta.len() > BYTES_MAX {
            return Err(refuse(
                format!("is {} bytes long, more than {BYTES_MAX}", meta.len()),
                "name a haarb configuration",
            ));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| refuse("is not UTF-8 text".into(), "save it as UTF-8"))?;
        Self::parse(&text, &name)
    }

    /// Parses and checks a text; `file_name` is for the messages.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Errors> {
        read(text).map_err(|found| {
            Errors(
                found
                    .into_iter()
                    .map(|p| Problem {
                        file: file_name.into(),
                        line: p.pos.line,
                        column: p.pos.column,
                        what: p.what,
                        todo: p.todo,
                    })
                    .collect(),
            )
        })
    }
}
