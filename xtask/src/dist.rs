//! `cargo xtask dist`: the Debian package, from what `cargo build --release` made and from deploy/; the
//! bill of materials; the source with its dependencies; checksums.
//!
//! Written here in Rust instead of by debhelper or cargo-deb: a .deb is two small tar archives in an ar
//! archive, and so it comes out the same, byte for byte, from the same programs on every machine, with
//! nothing to install but what building haarb takes. It changes nothing outside `target/`.

mod archive;
mod package;
mod programs;
mod sbom;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use sha2::{Digest as _, Sha256};

use crate::cargo::{build, root, target};

/// What `cargo xtask dist` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the archives go [default: target/dist]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Take the programs that are there instead of building them
    #[arg(long)]
    no_build: bool,
    /// Also the source, with all dependencies in it: builds offline
    #[arg(long)]
    source: bool,
    /// Revision of the package: the part of its version behind the dash
    #[arg(long, default_value = "1", value_parser = revision)]
    revision: String,
}

/// Makes everything and says where it is.
///
/// # Errors
/// The build fails, a file is missing, or the directory cannot be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let bin_dir = if options.no_build {
        target().join("release")
    } else {
        build()?
    };
    let out = match &options.out {
        Some(dir) => std::path::absolute(dir).context("--out")?,
        None => target().join("dist"),
    };
    println!(
        "{}",
        package::make(&bin_dir, &out, &options.revision)?.display()
    );
    let bill = out.join(format!("haarb-{}.cdx.json", env!("CARGO_PKG_VERSION")));
    fs::write(&bill, sbom::sbom()?).with_context(|| bill.display().to_string())?;
    println!("{}", bill.display());
    if options.source {
        let archive = source::make(&out, &target().join("dist-source"))?;
        println!("{}", archive.display());
    }
    checksums(&out)
}

/// Makes the package of a revision in target/dist, from the programs that are there.
///
/// # Errors
/// As [`run`].
pub(crate) fn package(revision: &str) -> Result<PathBuf> {
    let out = target().join("dist");
    let made = package::make(&target().join("release"), &out, revision)?;
    checksums(&out)?;
    Ok(made)
}

/// Writes SHA256SUMS of every archive in a directory, in the format of sha256sum(1).
fn checksums(dir: &Path) -> Result<()> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_file() && name != SUMS {
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            lines.push(format!("{:x}  {name}\n", Sha256::digest(bytes)));
        }
    }
    // By name, which begins behind the digest and two spaces.
    lines.sort_by(|a, b| a[66..].cmp(&b[66..]));
    let path = dir.join(SUMS);
    fs::write(&path, lines.concat()).with_context(|| path.display().to_string())
}

const SUMS: &str = "SHA256SUMS";

/// What dpkg takes behind the dash (deb-version(7)).
fn revision(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ".+~".contains(c);
    if !text.is_empty() && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("a revision has letters, digits, dots, + and ~ only".into())
    }
}

/// The moment that all files of an archive bear: of the newest commit, or SOURCE_DATE_EPOCH.
fn moment() -> u64 {
    if let Some(given) = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok())
    {
        return given;
    }
    let committed = std::process::Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(root())
        .output();
    committed
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_that_dpkg_refuses_is_refused() {
        assert!(revision("1").is_ok() && revision("2~bpo12+1").is_ok());
        assert!(revision("").is_err() && revision("1-2").is_err() && revision("1 2").is_err());
    }

    #[test]
    fn checksums_are_sorted_by_name_and_leave_themselves_out() {
        let dir = std::env::temp_dir().join(format!("haarb-sums-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        for (name, text) in [("b", "1"), ("a", "2"), (SUMS, "old")] {
            fs::write(dir.join(name), text).expect("a file");
        }
        checksums(&dir).expect("sums");
        let text = fs::read_to_string(dir.join(SUMS)).expect("sums");
        fs::remove_dir_all(&dir).expect("removed");
        let names: Vec<_> = text.lines().map(|line| &line[66..]).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(text.starts_with("d4735e3a265e16ee"), "{text}");
    }
}
