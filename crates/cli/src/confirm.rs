//! `haarb sync confirm`: an operator says that a mass deletion is meant so.
//!
//! haarb-syncer asks with a file in the directory's own `.haarb`, and this command renames that file,
//! so that an answer belongs to one question. The one thing to know: it works on the server on which
//! the files vanished, and waits until the answer was taken.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use haarb_config::Config;
use haarb_daemon::Options;
use serde_json::Value;

use crate::failure::{Failure, print};

const QUESTION: &str = ".haarb/held";
const ANSWER: &str = ".haarb/confirmed";

/// haarb-syncer looks four times a second.
const WITHIN: Duration = Duration::from_secs(10);

/// Confirms what is held back in one directory.
pub(crate) fn confirm(options: &Options, directory: &Path) -> Result<(), Failure> {
    let config =
        Config::load(&options.config).map_err(|errors| Failure::new(errors.to_string()))?;
    let absolute = std::path::absolute(directory)
        .map_err(|e| Failure::new(format!("{}: {e}", directory.display())))?;
    let all = config.reserves.iter().flat_map(|r| &r.directories);
    let all: Vec<&PathBuf> = all.map(|known| &known.path).collect();
    // Components, so that a slash at the end does not matter.
    let known = all
        .iter()
        .any(|known| known.components().eq(absolute.components()));
    if !known {
        let all: Vec<String> = all.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(format!(
            "{}: is none of the replicated directories: {}",
            absolute.display(),
            all.join(", ")
        )));
    }
    print(&answer(&absolute, WITHIN)?)
}

fn answer(directory: &Path, within: Duration) -> Result<String, Failure> {
    let (question, answer) = (directory.join(QUESTION), directory.join(ANSWER));
    let failed =
        |what: &Path, error: &std::io::Error| Failure::new(format!("{}: {error}", what.display()));
    let text = match std::fs::read(&question) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Failure::new(format!(
                "{}: no deletion is held back here; look at `haarb status`, and give this command on the server that is active",
                directory.display()
            )));
        }
        Err(error) => return Err(failed(&question, &error)),
    };
    std::fs::rename(&question, &answer).map_err(|error| failed(&question, &error))?;
    let end = Instant::now() + within;
    while answer.exists() {
        if Instant::now() >= end {
            // The question stands again, unless it was taken in this very moment.
            let _ = std::fs::rename(&answer, &question);
            return Err(Failure::new(format!(
                "{}: nobody took the answer within {} s: is haarb-syncer running, and this server active? nothing was deleted; look at `haarb status` and try again",
                directory.display(),
                within.as_secs()
            )));
        }
        // It is taken by the disappearance of a file: there is no event to wait for.
        std::thread::sleep(Duration::from_millis(20));
    }
    let question: Value = serde_json::from_slice(&text).unwrap_or_default();
    let number = |key: &str| question[key].as_u64().unwrap_or_default();
    Ok(format!(
        "{}: {} of {} files had vanished; they are deleted on the standbys now\n",
        directory.display(),
        number("missing"),
        number("of")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_question_there_is_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        let said = answer(dir.path(), Duration::ZERO).unwrap_err();
        assert!(matches!(said, Failure::Lines(text) if text.contains("no deletion is held back")));
    }

    #[test]
    fn an_answer_that_nobody_takes_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".haarb")).unwrap();
        std::fs::write(dir.path().join(QUESTION), "{}").unwrap();
        let said = answer(dir.path(), Duration::ZERO).unwrap_err();
        assert!(matches!(said, Failure::Lines(text) if text.contains("nobody took the answer")));
        assert!(dir.path().join(QUESTION).exists());
        assert!(!dir.path().join(ANSWER).exists());
    }

    #[test]
    fn what_was_confirmed_is_said() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".haarb")).unwrap();
        let question = r#"{"missing": 1500, "of": 2000, "examples": []}"#;
        std::fs::write(dir.path().join(QUESTION), question).unwrap();
        let taken = dir.path().join(ANSWER);
        let said = std::thread::scope(|scope| {
            scope.spawn(|| {
                while std::fs::read(&taken).ok().as_deref() != Some(question.as_bytes()) {
                    std::thread::yield_now();
                }
                std::fs::remove_file(&taken).unwrap();
            });
            answer(dir.path(), WITHIN).unwrap()
        });
        assert!(said.contains("1500 of 2000 files had vanished"), "{said}");
    }
}
