//! `exec`: a program that stays in the foreground. Its keeper sees its end at once.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::Means;
use crate::order::Run;

pub(super) fn means(argv: &[String]) -> Means {
    Means {
        run: Run::Program(argv.to_vec()),
        status: None,
        stopped_codes: &[],
    }
}

pub(super) fn why_not_startable(argv: &[String]) -> String {
    let Some(program) = argv.first() else {
        return "names no program".into();
    };
    if argv.iter().any(|a| CString::new(a.as_str()).is_err()) {
        return "an argument contains a NUL character".into();
    }
    why_not_executable(program)
}

/// Why a program cannot be executed; empty if it can. Looks it up in PATH as execvp(3) does.
pub(super) fn why_not_executable(program: &str) -> String {
    if program.contains('/') {
        return why_not_file(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |dir: PathBuf| why_not_file(&dir.join(program)).is_empty();
    match std::env::split_paths(&path).any(found) {
        true => String::new(),
        false => format!("{program} is not in PATH"),
    }
}

fn why_not_file(path: &Path) -> String {
    match std::fs::metadata(path) {
        Err(error) => format!("{}: {error}", path.display()),
        Ok(meta) if !meta.is_file() => format!("{} is not a file", path.display()),
        Ok(_) => match access(path, AccessFlags::X_OK) {
            Ok(()) => String::new(),
            Err(_) => format!("{} is not executable", path.display()),
        },
    }
}
