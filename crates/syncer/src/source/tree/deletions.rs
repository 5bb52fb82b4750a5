//! Deletions that are held back: what the operator is told of them, and how they are confirmed.
//!
//! The question lies in `.haarb/held`; `haarb sync confirm` renames it to `.haarb/confirmed`, so that
//! an answer belongs to one question. The one thing to know: [`Guard`](crate::source::guard::Guard)
//! decides, from numbers alone.

use std::io;

use haarb_model::{Mono, Span};
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde_json::json;

use super::Tree;
use crate::path::RelPath;
use crate::root::Root;
use crate::source::guard::{Gate, Held};
use crate::version::Kind;

const QUESTION: &str = "held";
const ANSWER: &str = "confirmed";

/// How often an answer is looked for.
const LOOK_EVERY: Span = Span::from_millis(250);

/// How often the missing files are counted while there are more or fewer of them. It takes 100 ms
/// for a million.
const COUNT_EVERY: Span = Span::from_secs(2);

/// So many of the files are named.
const EXAMPLES: usize = 3;

/// Longest question that is read back.
const QUESTION_BYTES_MAX: usize = 64 * 1024;

/// What is asked at the moment; empty: nothing.
#[derive(Debug, Default)]
pub(super) struct Asked {
    question: Vec<u8>,
    examples: Vec<String>,
    looked_at: Mono,
    /// How many files there were when those that are missing were counted, and when that was.
    counted: (u64, Mono),
}

impl Tree {
    /// Everything was looked at once. What the standbys have is what was common last.
    pub(crate) fn begin_to_guard(&mut self, now: Mono) {
        let there = self.common_files().count() as u64;
        self.guard.begin(there, self.disk.files(), now);
        self.ask_or_not(now);
    }

    /// What becomes of deletions now. `draining`: nobody removes anything any more.
    pub(crate) fn gate(&mut self, draining: bool, now: Mono) -> Gate {
        if !self.visited || self.is_visiting() || !self.error.is_empty() {
            // A number that is half of another one says nothing.
            return match self.guard.gate(now) {
                Gate::Open => Gate::Wait,
                gate => gate,
            };
        }
        let files = self.disk.files();
        if self.guard.count(files, draining, now) {
            self.ask_or_not(now);
        }
        let (counted, at) = self.held.counted;
        if self.guard.held().is_some() && counted != files && now >= at + COUNT_EVERY {
            self.held.counted = (files, now);
            if self.guard.missing(self.count_missing(), now) {
                self.ask_or_not(now);
            }
        }
        self.guard.gate(now)
    }

    /// When deletions are to be judged although nothing changed. Those of a directory that is stopped
    /// are not.
    pub(crate) fn guard_deadline(&self) -> Option<Mono> {
        if !self.error.is_empty() {
            return None;
        }
        let asking = !self.held.question.is_empty();
        let look = asking.then(|| self.held.looked_at + LOOK_EVERY);
        self.guard.deadline().into_iter().chain(look).min()
    }

    /// What an operator is told; empty: nothing is held back.
    pub(crate) fn held_text(&self) -> String {
        let Some(Held { missing, of }) = self.guard.held() else {
            return String::new();
        };
        let path = self.place.path.display();
        let examples = match self.held.examples.as_slice() {
            [] => String::new(),
            examples => format!(" (such as {})", examples.join(", ")),
        };
        format!(
            "{path}: {missing} of {of} files vanished here{examples}: the standbys keep them until you say that it is meant so: haarb sync confirm {path}; or put them back"
        )
    }

    /// Whether the operator has answered.
    pub(crate) fn look_for_confirmation(&mut self, now: Mono) {
        if self.held.question.is_empty() || now < self.held.looked_at + LOOK_EVERY {
            return;
        }
        self.held.looked_at = now;
        let Ok(root) = self.place.enter() else {
            return;
        };
        match take_answer(&root) {
            Ok(Some(answer)) if answer == self.held.question => {
                tracing::warn!(
                    "{}: the deletions that were held back are confirmed and sent",
                    self.place.path.display()
                );
                self.guard.confirm(now);
                self.held = Asked::default();
            }
            Ok(Some(_)) => {
                tracing::warn!(
                    "{}: what was confirmed is another question than the one that stands: it has no effect",
                    self.place.path.display()
                );
                self.ask(&root);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!("{}/.haarb/{ANSWER}: {error}", self.place.path.display()),
        }
    }

    /// Puts the question where the command finds it, or takes it away.
    fn ask_or_not(&mut self, now: Mono) {
        let Ok(root) = self.place.enter() else {
            return;
        };
        let _ = self.guard.missing(self.count_missing(), now);
        let Some(Held { missing, of }) = self.guard.held() else {
            if !self.held.question.is_empty() {
                tracing::info!(
                    "{}: what had vanished is back: nothing is held back any more",
                    self.place.path.display()
                );
            }
            self.held = Asked::default();
            forget_question(&root);
            return;
        };
        let vanished = self.vanished_files(missing);
        self.held = Asked {
            question: json!({
                "directory": self.place.path.display().to_string(),
                "missing": missing,
                "of": of,
                "examples": &vanished,
                "time_ns": root.wall.now_ns(),
            })
            .to_string()
            .into_bytes(),
            examples: vanished,
            looked_at: now,
            counted: (self.disk.files(), now),
        };
        tracing::error!("{}", self.held_text());
        self.ask(&root);
    }

    fn ask(&self, root: &Root) {
        if let Err(error) = write_question(root, &self.held.question) {
            // It is held back all the same, and asked again after a restart.
            tracing::error!("{}/.haarb/{QUESTION}: {error}", self.place.path.display());
        }
    }

    /// The files that were common and are not left out.
    fn common_files(&self) -> impl Iterator<Item = &RelPath> {
        let all = self.store.index.entries.iter();
        all.filter(|(path, entry)| {
            entry.version.kind != Kind::Directory && !self.exclude.excludes(path.as_path(), false)
        })
        .map(|(path, _)| path)
    }

    fn count_missing(&self) -> u64 {
        self.missing_files().count() as u64
    }

    /// The common files that are not here. Both lists are sorted: one walk through each.
    fn missing_files(&self) -> impl Iterator<Item = &RelPath> {
        let mut here = self.disk.keys().peekable();
        self.common_files().filter(move |path| {
            while here.next_if(|other| other < path).is_some() {}
            here.peek() != Some(path)
        })
    }

    /// Some of the common files that are not here, from the beginning, the middle and the end.
    fn vanished_files(&self, missing: u64) -> Vec<String> {
        let apart = (missing as usize / EXAMPLES).max(1);
        let examples = self.missing_files().step_by(apart).take(EXAMPLES);
        examples.map(|path| path.show().into_owned()).collect()
    }
}

/// Takes away question and answer: whoever follows has none.
pub(crate) fn forget_question(root: &Root) {
    if let Ok(at) = root.private(&[]) {
        for name in [QUESTION, ANSWER] {
            let _ = fs::unlinkat(&at, name, AtFlags::empty());
        }
    }
}

fn write_question(root: &Root, question: &[u8]) -> io::Result<()> {
    let at = root.private(&[])?;
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(&at, QUESTION, flags, Mode::RUSR | Mode::WUSR)?;
    io::Write::write_all(&mut std::fs::File::from(file), question)
}

fn take_answer(root: &Root) -> io::Result<Option<Vec<u8>>> {
    let at = root.private(&[])?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match fs::openat(&at, ANSWER, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let mut answer = Vec::new();
    let mut part = io::Read::take(file, QUESTION_BYTES_MAX as u64);
    io::Read::read_to_end(&mut part, &mut answer)?;
    fs::unlinkat(&at, ANSWER, AtFlags::empty())?;
    Ok(Some(answer))
}
