//! `haarb sync test`: whether a path is replicated, and what decides that.
//!
//! It asks the configuration and the file system, no daemon: the answer is the same on every
//! server that has the same configuration, running or not.

use std::fmt::Write as _;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use haarb_config::{Config, Directory, Reserve};
use haarb_daemon::Options;

use crate::failure::{Failure, print};

/// haarb's own place in a replicated directory.
const PRIVATE: &str = ".haarb";

/// Says of every path whether it is replicated and why.
pub(crate) fn test(options: &Options, paths: &[PathBuf]) -> Result<(), Failure> {
    let config =
        Config::load(&options.config).map_err(|errors| Failure::new(errors.to_string()))?;
    let mut said = String::new();
    for path in paths {
        let absolute = std::path::absolute(path)
            .map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
        let at = plain(&absolute);
        // A path that does not exist is a directory if it is written as one.
        let written = path.to_string_lossy().ends_with('/');
        let kind = at.symlink_metadata().map(|meta| meta.file_type());
        let directory = kind.as_ref().map_or(written, std::fs::FileType::is_dir);
        let verdict = match kind {
            Ok(kind) if kind.is_socket() => {
                "not replicated: it is a socket, worth nothing without the process that made it"
                    .into()
            }
            _ => verdict(&config, &at, directory),
        };
        let _ = writeln!(said, "{}: {verdict}", path.display());
    }
    print(&said)
}

/// Rid of `..`, without a look at the file system.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn verdict(config: &Config, path: &Path, directory: bool) -> String {
    let places = config.reserves.iter().flat_map(|reserve| {
        let directories = reserve.directories.iter();
        directories.map(move |directory| (reserve, directory))
    });
    let found = places
        .filter_map(|(reserve, place)| Some((reserve, place, path.strip_prefix(&place.path).ok()?)))
        .next();
    match found {
        None => "not replicated: it is in none of the directories of the configuration".into(),
        Some((reserve, place, below)) => in_place(reserve, place, below, directory),
    }
}

fn in_place(reserve: &Reserve, place: &Directory, below: &Path, directory: bool) -> String {
    let of = format!("{} of {}", place.path.display(), reserve.name);
    if below == Path::new("") {
        return format!("replicated: it is {of} itself, whose own mode and owner stay as they are");
    }
    if below.starts_with(PRIVATE) {
        return format!("not replicated: it is haarb's own place in {of}");
    }
    let Some(decision) = place.exclude.decide(below, directory) else {
        return format!("replicated: in {of}, and no pattern matches");
    };
    let by = if decision.by == below {
        String::new()
    } else {
        format!(", by its directory {}", decision.by.display())
    };
    let pattern = &decision.pattern;
    if decision.excluded {
        format!("not replicated: left out of {of} by {pattern:?}{by}")
    } else {
        format!("replicated: in {of}, taken back by {pattern:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../config/tests/good.yaml");

    #[test]
    fn dots_are_taken_out() {
        assert_eq!(plain(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(plain(Path::new("/../a")), Path::new("/a"));
    }

    #[test]
    fn what_decides_is_said() {
        let directory = r#"- { path: /srv/sip, exclude: ["*.tmp", "/cache/", "!keep.tmp"] }"#;
        let text = GOOD.replacen("- { path: /srv/sip }", directory, 1);
        let config = Config::parse(&text, "h.yaml").unwrap();
        let says = |path: &str, directory, expected: &str| {
            assert_eq!(verdict(&config, Path::new(path), directory), expected);
        };
        says(
            "/srv/sip/a",
            false,
            "replicated: in /srv/sip of sip, and no pattern matches",
        );
        says(
            "/srv/sip/a/b.tmp",
            false,
            r#"not replicated: left out of /srv/sip of sip by "*.tmp""#,
        );
        says(
            "/srv/sip/a/keep.tmp",
            false,
            r#"replicated: in /srv/sip of sip, taken back by "!keep.tmp""#,
        );
        says(
            "/srv/sip/cache/b",
            false,
            r#"not replicated: left out of /srv/sip of sip by "/cache/", by its directory cache"#,
        );
        says(
            "/srv/sip/.haarb/index",
            false,
            "not replicated: it is haarb's own place in /srv/sip of sip",
        );
        says(
            "/srv/other/cache/b",
            false,
            "replicated: in /srv/other of second, and no pattern matches",
        );
        says(
            "/srv",
            true,
            "not replicated: it is in none of the directories of the configuration",
        );
        says(
            "/srv/sip",
            true,
            "replicated: it is /srv/sip of sip itself, whose own mode and owner stay as they are",
        );
    }
}
