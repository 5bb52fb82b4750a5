//! What is in the Debian package, and where it goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::archive::{Entry, deb, gz, tar_gz};
use super::programs::{PROGRAMS, glibc, stripped};
use crate::cargo::root;

/// Below deploy/, where they go, and whether they are programs.
const DEPLOYED: [(&str, &str); 4] = [
    ("systemd", "usr/lib/systemd/system"),
    ("sysusers.d", "usr/lib/sysusers.d"),
    ("tmpfiles.d", "usr/lib/tmpfiles.d"),
    ("examples", "usr/share/doc/haarb/examples"),
];
/// Files that an operator may change and that an upgrade leaves alone.
const CONFFILES: [&str; 2] = ["etc/default/haarb", "etc/init.d/haarb"];
/// What runs when the package comes and goes.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// Shells, the file that each reads.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/haarb"),
    ("zsh", "usr/share/zsh/vendor-completions/_haarb"),
    ("fish", "usr/share/fish/vendor_completions.d/haarb.fish"),
];
/// Pages for operators, which go into the package.
const PAGES: &str = "docs";
const DOC: &str = "usr/share/doc/haarb";

/// Makes the package in `out` and says how the file is called.
///
/// # Errors
/// A file is missing, or the directory cannot be written.
pub(super) fn make(bin_dir: &Path, out: &Path, revision: &str) -> Result<PathBuf> {
    let version = format!("{}-{revision}", env!("CARGO_PKG_VERSION"));
    let architecture = architecture()?;
    let mut libc = (2, 0);
    let mut entries = Vec::new();
    for name in PROGRAMS {
        let program = stripped(bin_dir, name)?;
        libc = libc.max(glibc(&program).unwrap_or_default());
        entries.push(Entry::program(format!("usr/sbin/{name}"), program));
    }
    entries.extend(deployed()?);
    entries.extend(documentation()?);
    entries.extend(from_haarb(bin_dir)?);
    entries.push(Entry::directory("etc/haarb"));

    let moment = super::moment();
    let bytes = entries.iter().filter_map(|entry| entry.bytes.as_ref());
    let kibibytes: usize = bytes.map(|bytes| bytes.len().div_ceil(1024)).sum();
    let control = control(&version, architecture, libc, kibibytes);
    let archive = deb(
        &tar_gz(scripts(control)?, moment)?,
        &tar_gz(entries, moment)?,
        moment,
    );
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let path = out.join(format!("haarb_{version}_{architecture}.deb"));
    fs::write(&path, archive).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Debian's name for the machine that this was built for.
fn architecture() -> Result<&'static str> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "riscv64" => "riscv64",
        other => bail!("no Debian package is made for {other} yet"),
    })
}

/// The package's own description (deb-control(5)).
fn control(version: &str, architecture: &str, libc: (u32, u32), kibibytes: usize) -> String {
    let (major, minor) = libc;
    format!(
        "Package: haarb\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: The haarb authors <haarb@localhost>\n\
         Installed-Size: {kibibytes}\n\
         Depends: libc6 (>= {major}.{minor}), libgcc-s1\n\
         Recommends: systemd (>= 250)\n\
         Section: net\n\
         Priority: optional\n\
         Description: keeps services reachable on a pair of servers\n \
         Failover for two (or more) servers without a quorum: virtual IPs, services and\n \
         replicated directories move to the other server when a server, a network or an\n \
         operating system fails, within tens of milliseconds. Split brain is recognised,\n \
         no file version that a service wrote is lost, and the operator is told why.\n"
    )
}

fn scripts(control: String) -> Result<Vec<Entry>> {
    let conffiles = CONFFILES.map(|path| format!("/{path}\n")).concat();
    let mut entries = vec![
        Entry::file("control", control),
        Entry::file("conffiles", conffiles),
    ];
    for name in SCRIPTS {
        entries.push(Entry::program(
            name,
            read(&root().join("deploy/debian").join(name))?,
        ));
    }
    Ok(entries)
}

/// What lies in deploy/ as it goes onto a server.
fn deployed() -> Result<Vec<Entry>> {
    let deploy = root().join("deploy");
    let mut entries = vec![
        Entry::file("etc/default/haarb", read(&deploy.join("default/haarb"))?),
        Entry::program("etc/init.d/haarb", read(&deploy.join("init.d/haarb"))?),
    ];
    for (from, to) in DEPLOYED {
        for (name, bytes) in files(&deploy.join(from), "")? {
            entries.push(Entry::file(format!("{to}/{name}"), bytes));
        }
    }
    Ok(entries)
}

fn documentation() -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (name, bytes) in files(&root().join(PAGES), ".md")? {
        entries.push(Entry::file(format!("{DOC}/{name}"), bytes));
    }
    let changes = gz(&read(&root().join("CHANGELOG.md"))?)?;
    entries.push(Entry::file(format!("{DOC}/changelog.gz"), changes));
    let licences = ["LICENSE-MIT", "LICENSE-APACHE"].map(|name| read(&root().join(name)));
    let mut copyright =
        b"haarb is under the MIT or the Apache-2.0 license, as you like.\n".to_vec();
    for licence in licences {
        copyright.extend_from_slice(b"\n----\n\n");
        copyright.extend(licence?);
    }
    entries.push(Entry::file(format!("{DOC}/copyright"), copyright));
    Ok(entries)
}

/// Man pages and completions, which haarb writes itself.
fn from_haarb(bin_dir: &Path) -> Result<Vec<Entry>> {
    let haarb = bin_dir.join("haarb");
    let run = |arguments: &[&str]| {
        let output = Command::new(&haarb)
            .args(arguments)
            .output()
            .with_context(|| format!("{} cannot be started", haarb.display()))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("haarb {}: {said}", arguments.join(" "))
    };
    let mut entries = Vec::new();
    for (shell, path) in COMPLETIONS {
        entries.push(Entry::file(path, run(&["completions", shell])?));
    }
    let dir = std::env::temp_dir().join(format!("haarb-man-{}", std::process::id()));
    let written = run(&["man", &dir.to_string_lossy()]);
    let pages = written.and_then(|_| files(&dir, ".8"));
    let _ = fs::remove_dir_all(&dir);
    for (name, page) in pages? {
        entries.push(Entry::file(
            format!("usr/share/man/man8/{name}.gz"),
            gz(&page)?,
        ));
    }
    Ok(entries)
}

/// The files of a directory whose names end like this, by name.
fn files(dir: &Path, end: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_file() && name.ends_with(end) {
            found.push((name, read(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_one_that_dpkg_reads() {
        let text = control("0.1.0-1", "amd64", (2, 34), 10);
        assert!(
            text.contains("Depends: libc6 (>= 2.34), libgcc-s1\n"),
            "{text}"
        );
        for line in text.lines() {
            let (key, value) = line.split_once(": ").unwrap_or(("", line));
            assert!(
                line.starts_with(' ') || !key.is_empty() && !value.is_empty(),
                "{line}"
            );
        }
    }

    #[test]
    fn everything_deployed_is_found() {
        let entries = deployed().expect("files");
        for path in [
            "usr/lib/systemd/system/haarb.target",
            "usr/lib/systemd/system/haarb-vip-agent.service",
            "usr/lib/sysusers.d/haarb.conf",
            "usr/lib/tmpfiles.d/haarb.conf",
            "etc/init.d/haarb",
        ] {
            assert!(entries.iter().any(|entry| entry.path == path), "{path}");
        }
        for path in CONFFILES {
            assert!(entries.iter().any(|entry| entry.path == path), "{path}");
        }
    }
}
