//! What is left out of a replicated directory: patterns as in a `.gitignore` file.
//!
//! No I/O. The one thing to know: the last pattern that matches decides, and what is in an
//! excluded directory is excluded with it, whatever later patterns say (gitignore(5)).

use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The patterns of one directory, compiled.
#[derive(Clone, Debug)]
pub struct Excludes {
    patterns: Vec<String>,
    matcher: Gitignore,
}

/// What decides about a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// It is left out.
    pub excluded: bool,
    /// The pattern, as it is written.
    pub pattern: String,
    /// The path itself, or the directory above it that the pattern matches.
    pub by: PathBuf,
}

impl Excludes {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// The first that is none, and what is wrong with it, to follow its text.
    pub fn new(patterns: &[String]) -> Result<Self, (usize, String)> {
        let mut builder = GitignoreBuilder::new("");
        for (number, pattern) in patterns.iter().enumerate() {
            one(&mut builder, pattern).map_err(|why| (number, why))?;
        }
        let matcher = builder
            .build()
            .map_err(|e| (patterns.len().saturating_sub(1), reason(&e)))?;
        Ok(Self {
            patterns: patterns.to_vec(),
            matcher,
        })
    }

    /// The patterns as they are written, in their order.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether a path is left out, if nothing above it is. `path` is relative to the directory.
    #[must_use]
    pub fn excludes_entry(&self, path: &Path, directory: bool) -> bool {
        !self.patterns.is_empty() && self.matcher.matched(path, directory).is_ignore()
    }

    /// Whether a path, relative to the directory, or anything above it is left out.
    #[must_use]
    pub fn excludes(&self, path: &Path, directory: bool) -> bool {
        !self.patterns.is_empty() && self.decide(path, directory).is_some_and(|d| d.excluded)
    }

    /// Which pattern decides about a path relative to the directory; `None`: none of them.
    #[must_use]
    pub fn decide(&self, path: &Path, directory: bool) -> Option<Decision> {
        let mut above: Vec<&Path> = path
            .ancestors()
            .skip(1)
            .filter(|above| *above != Path::new(""))
            .collect();
        above.reverse();
        let decision = |by: &Path, directory| match self.matcher.matched(by, directory) {
            Match::None => None,
            Match::Ignore(glob) => Some((true, glob.original().to_owned())),
            Match::Whitelist(glob) => Some((false, glob.original().to_owned())),
        };
        for by in above {
            if let Some((true, pattern)) = decision(by, true) {
                return Some(Decision {
                    excluded: true,
                    pattern,
                    by: by.to_owned(),
                });
            }
        }
        let (excluded, pattern) = decision(path, directory)?;
        Some(Decision {
            excluded,
            pattern,
            by: path.to_owned(),
        })
    }
}

impl Default for Excludes {
    /// Nothing is left out.
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            matcher: Gitignore::empty(),
        }
    }
}

impl PartialEq for Excludes {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for Excludes {}

fn one(builder: &mut GitignoreBuilder, pattern: &str) -> Result<(), String> {
    if pattern.contains('\n') {
        return Err("is more than one line".into());
    }
    let meant = pattern.trim();
    if meant.is_empty() || meant.starts_with('#') || meant == "!" || meant == "/" {
        return Err("matches nothing".into());
    }
    builder
        .add_line(None, pattern)
        .map_err(|error| format!("is no pattern: {}", reason(&error)))?;
    Ok(())
}

/// The reason alone, without the pattern that is told anyway.
fn reason(error: &ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(patterns: &[&str]) -> Excludes {
        let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
        Excludes::new(&patterns).unwrap()
    }

    fn decided(patterns: &[&str], path: &str, directory: bool) -> Option<(bool, String, String)> {
        let decision = excludes(patterns).decide(Path::new(path), directory)?;
        let by = decision.by.to_string_lossy().into_owned();
        Some((decision.excluded, decision.pattern, by))
    }

    fn by(excluded: bool, pattern: &str, by: &str) -> Option<(bool, String, String)> {
        Some((excluded, pattern.to_owned(), by.to_owned()))
    }

    /// As gitignore(5) says.
    #[test]
    fn the_last_pattern_that_matches_decides() {
        let patterns = ["*.tmp", "/cache/", "logs/*.1", "!keep.tmp"];
        assert_eq!(decided(&patterns, "a", false), None);
        assert_eq!(
            decided(&patterns, "deep/a.tmp", false),
            by(true, "*.tmp", "deep/a.tmp")
        );
        assert_eq!(
            decided(&patterns, "deep/keep.tmp", false),
            by(false, "!keep.tmp", "deep/keep.tmp")
        );
        assert_eq!(decided(&patterns, "cache", false), None, "a file");
        assert_eq!(
            decided(&patterns, "cache", true),
            by(true, "/cache/", "cache")
        );
        assert_eq!(decided(&patterns, "deep/cache", true), None, "anchored");
        assert_eq!(decided(&patterns, "logs/x/a.1", false), None);
        assert_eq!(
            decided(&patterns, "logs/a.1", false),
            by(true, "logs/*.1", "logs/a.1")
        );
    }

    #[test]
    fn what_is_in_an_excluded_directory_is_excluded() {
        let patterns = ["/cache/", "!/cache/keep"];
        assert_eq!(
            decided(&patterns, "cache/keep", false),
            by(true, "/cache/", "cache")
        );
        let excludes = excludes(&patterns);
        assert!(excludes.excludes(Path::new("cache/deep/keep"), false));
        assert!(!excludes.excludes(Path::new("other/keep"), false));
        assert!(excludes.excludes_entry(Path::new("cache"), true));
        assert!(!Excludes::default().excludes(Path::new("cache"), true));
    }

    #[test]
    fn names_that_are_not_utf_8_are_matched() {
        use std::os::unix::ffi::OsStrExt;
        let name = Path::new(std::ffi::OsStr::from_bytes(b"a\xff\n.tmp"));
        assert!(excludes(&["*.tmp"]).excludes(name, false));
        assert!(!excludes(&["*.log"]).excludes(name, false));
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        let wrong = |pattern: &str| Excludes::new(&["ok".into(), pattern.into()]).unwrap_err();
        assert_eq!(wrong("# a comment"), (1, "matches nothing".into()));
        assert_eq!(wrong("  "), (1, "matches nothing".into()));
        assert_eq!(wrong("a\nb"), (1, "is more than one line".into()));
        let (number, why) = wrong("a{b");
        assert_eq!(number, 1);
        assert!(why.starts_with("is no pattern: "), "{why}");
    }
}
