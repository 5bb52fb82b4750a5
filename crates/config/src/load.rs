//! From a file to a configuration.

use std::path::Path;

use crate::check::Positions;
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
        load(path).map(|(config, _)| config)
    }

    /// Parses and checks a text; `file_name` is for the messages.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Errors> {
        parse(text, file_name).map(|(config, _)| config)
    }
}

pub(crate) fn load(path: &Path) -> Result<(Config, Positions), Errors> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|(what, todo)| {
        Errors(vec![Problem {
            file: name.clone(),
            line: 0,
            column: 0,
            what,
            todo: todo.into(),
        }])
    })?;
    parse(&text, &name)
}

pub(crate) fn parse(text: &str, file_name: &str) -> Result<(Config, Positions), Errors> {
    read(text).map_err(|found| Errors(found.into_iter().map(|f| f.in_file(file_name)).collect()))
}

/// The text of a file, or what is wrong with it and what to do.
fn read_text(path: &Path) -> Result<String, (String, &'static str)> {
    let unreadable = |e: std::io::Error| {
        (
            format!("cannot read the configuration: {e}"),
            "name the file with --config or HAARB_CONFIG, and check that this user may read it",
        )
    };
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(("is not a file".into(), "name a YAML file"));
    }
    if meta.len() > BYTES_MAX {
        let what = format!("is {} bytes long, more than {BYTES_MAX}", meta.len());
        return Err((what, "name a haarb configuration"));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| ("is not UTF-8 text".into(), "save it as UTF-8"))
}
