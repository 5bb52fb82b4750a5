//! The source of a release: what is committed, with every dependency beside it, so that it builds
//! offline: `cargo build --release --offline`.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::archive::{Entry, tar_gz};
use crate::cargo::{cargo, root};

/// Where the dependencies are in the archive.
const VENDOR: &str = "vendor";
/// Appended to the repository's own configuration of cargo.
const OFFLINE: &str = "
# Dependencies come from this archive.
[source.crates-io]
replace-with = \"vendored-sources\"

[source.vendored-sources]
directory = \"vendor\"

[net]
offline = true
";
const CARGO_CONFIG: &str = ".cargo/config.toml";

/// Makes the archive in `out` and says how it is called. `scratch` is emptied first.
///
/// # Errors
/// Something is not committed, or cargo cannot fetch the dependencies.
pub(super) fn make(out: &Path, scratch: &Path) -> Result<PathBuf> {
    let name = format!("haarb-{}", env!("CARGO_PKG_VERSION"));
    let mut entries = committed(&name)?;
    if scratch.exists() {
        fs::remove_dir_all(scratch).with_context(|| scratch.display().to_string())?;
    }
    let vendor = scratch.join(VENDOR);
    let mut command = cargo(&["vendor", "--locked", "--versioned-dirs", "--quiet"]);
    said(command.arg(&vendor))?;
    collect(&vendor, &format!("{name}/{VENDOR}"), &mut entries)?;
    let archive = tar_gz(entries, super::moment())?;
    fs::remove_dir_all(scratch).with_context(|| scratch.display().to_string())?;
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let path = out.join(format!("{name}.tar.gz"));
    fs::write(&path, archive).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// The files of the newest commit, below a directory called `name`. What is not committed would not be
/// in the archive: refused.
fn committed(name: &str) -> Result<Vec<Entry>> {
    let changed = said(Command::new("git").args(["status", "--porcelain"]))?;
    if !changed.is_empty() {
        bail!(
            "these files are not committed, and would not be in the archive:\n{}",
            String::from_utf8_lossy(&changed).trim_end()
        );
    }
    let archive = said(Command::new("git").args(["archive", "--format=tar", "HEAD"]))?;
    let mut archive = tar::Archive::new(archive.as_slice());
    let mut entries = Vec::new();
    for file in archive.entries().context("git archive")? {
        let mut file = file.context("git archive")?;
        if !file.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&file.path_bytes()).into_owned();
        // Not the checkout's permissions, nor those of its umask.
        let runs = file.header().mode().context("git archive")? & 0o100 != 0;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).context("git archive")?;
        if path == CARGO_CONFIG {
            bytes.extend_from_slice(OFFLINE.as_bytes());
        }
        entries.push(Entry {
            mode: if runs { 0o755 } else { 0o644 },
            ..Entry::file(format!("{name}/{path}"), bytes)
        });
    }
    Ok(entries)
}

fn collect(dir: &Path, place: &str, entries: &mut Vec<Entry>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("{place}/{name}");
        if path.is_dir() {
            collect(&path, &place, entries)?;
        } else {
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            entries.push(Entry::file(place, bytes));
        }
    }
    Ok(())
}

/// What a command prints; run in the repository's root.
fn said(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .current_dir(root())
        .output()
        .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    bail!(
        "{} {}: {}",
        command.get_program().display(),
        command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    )
}
