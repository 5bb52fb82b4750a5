//! `script`: three shell commands. Run by `/bin/sh -c`, as an administrator would type them.

use super::Means;
use super::exec::why_not_executable;
use crate::order::Run;

/// What a shell understands without a file (POSIX.1-2017, Shell Command Language, 2.4, 2.9,
/// 2.14), as far as a command may begin with it.
const SHELL_WORDS: &[&str] = &[
    ".", ":", "[", "break", "case", "cd", "command", "echo", "eval", "exec", "exit", "export",
    "false", "for", "if", "kill", "printf", "read", "return", "set", "shift", "test", "times",
    "trap", "true", "type", "ulimit", "umask", "unset", "until", "wait", "while", "{", "!",
];

pub(super) fn means(start: &str, stop: &str, status: &str) -> Means {
    Means {
        run: Run::Commands {
            start: shell(start),
            stop: shell(stop),
        },
        status: Some(shell(status)),
        stopped_codes: super::LSB_STOPPED,
    }
}

fn shell(command: &str) -> Vec<String> {
    ["/bin/sh", "-c", command].map(str::to_owned).into()
}

pub(super) fn why_not_startable(start: &str, stop: &str) -> String {
    [start, stop]
        .into_iter()
        .map(why_not_runnable)
        .find(|why| !why.is_empty())
        .unwrap_or_default()
}

/// Looks at the first word of a command only, and only where it is plain: what a shell makes
/// of the rest, nobody knows without running it.
fn why_not_runnable(command: &str) -> String {
    let assignment = |word: &&str| word.contains('=');
    let Some(word) = command.split_whitespace().find(|w| !assignment(w)) else {
        return String::new();
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+[{!:".contains(c);
    match word.chars().all(plain) && !SHELL_WORDS.contains(&word) {
        true => why_not_executable(word),
        false => String::new(),
    }
}
