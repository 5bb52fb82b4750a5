//! The programs of a package: without debug information, and what they need of the C library.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// What a server runs.
pub(super) const PROGRAMS: [&str; 7] = [
    "haarb",
    "haarb-arbiter",
    "haarb-link-watcher",
    "haarb-prober",
    "haarb-supervisor",
    "haarb-syncer",
    "haarb-vip-agent",
];

/// A program without debug information; its names stay, for the backtrace of a bug. `strip` comes
/// with the C compiler that building haarb takes.
pub(super) fn stripped(bin_dir: &Path, name: &str) -> Result<Vec<u8>> {
    let source = bin_dir.join(name);
    if !source.is_file() {
        bail!(
            "{} is not there; leave out --no-build, or build with `cargo build --release`",
            source.display()
        );
    }
    let place = std::env::temp_dir().join(format!("haarb-dist-{}-{name}", std::process::id()));
    let outcome = Command::new("strip")
        .args(["--strip-debug", "--enable-deterministic-archives", "-o"])
        .arg(&place)
        .arg(&source)
        .output()
        .context("strip cannot be started; install binutils");
    let bytes = outcome.and_then(|output| {
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("strip {}: {said}", source.display());
        }
        fs::read(&place).with_context(|| place.display().to_string())
    });
    let _ = fs::remove_file(place);
    bytes
}

/// The newest version of the C library that a program asks for: dynamic linking names each version
/// that it needs, as `GLIBC_2.34`.
pub(super) fn glibc(program: &[u8]) -> Option<(u32, u32)> {
    const MARK: &[u8] = b"\0GLIBC_";
    let starts = (0..program.len().saturating_sub(MARK.len()))
        .filter(|&at| program[at] == 0 && program[at..].starts_with(MARK));
    let version = |at: usize| {
        let text: Vec<u8> = (program[at + MARK.len()..].iter().copied())
            .take_while(|&byte| byte != 0)
            .collect();
        let text = String::from_utf8(text).ok()?;
        let mut parts = text.split('.').map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??))
    };
    starts.filter_map(version).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_the_c_library_counts() {
        let program = b"x\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.4\0GLIBC_PRIVATE\0y";
        assert_eq!(glibc(program), Some((2, 34)));
        assert_eq!(glibc(b"GLIBC"), None);
    }
}
