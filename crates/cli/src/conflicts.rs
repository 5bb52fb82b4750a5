//! `haarb conflicts`: the versions that were moved aside on this server, and what becomes of them.
//!
//! It works on `.haarb/conflicts` of the configured directories alone. The one thing to know:
//! nothing is copied or overwritten; to restore a version exchanges it with the one that stands in
//! its place, so that the same command takes it back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use haarb_api::v1;
use haarb_config::Config;
use haarb_daemon::Options;
use jiff::Timestamp;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::control::{answer, connect, with};
use crate::failure::{Failure, print};

/// Where the versions lie in a replicated directory.
const PLACE: &str = ".haarb/conflicts";

/// One version that was moved aside.
struct Aside {
    reserve: String,
    /// The replicated directory.
    root: PathBuf,
    /// Epoch and time of its session.
    session: String,
    /// Its path in the directory.
    path: PathBuf,
    meta: Metadata,
    /// Why it was moved aside; empty if that was not written down.
    why: String,
}

impl Aside {
    /// How it is called on the command line.
    fn name(&self) -> String {
        format!("{}/{}", self.session, shown(&self.path))
    }

    fn at(&self) -> PathBuf {
        self.root.join(PLACE).join(&self.session).join(&self.path)
    }

    /// Where it stood.
    fn target(&self) -> PathBuf {
        self.root.join(&self.path)
    }

    fn kind(&self) -> &'static str {
        match self.meta.file_type() {
            kind if kind.is_file() => "file",
            kind if kind.is_symlink() => "symlink",
            kind if kind.is_fifo() => "fifo",
            kind if kind.is_socket() => "socket",
            _ => "device",
        }
    }
}

/// Lists them all.
pub(crate) fn list(options: &Options) -> Result<(), Failure> {
    let mut said = String::new();
    for aside in all(options)? {
        let time =
            Timestamp::new(aside.meta.mtime(), 0).map_or_else(|_| "-".into(), |t| t.to_string());
        let (kind, size) = (aside.kind(), aside.meta.len());
        let why = if aside.why.is_empty() {
            "-"
        } else {
            &aside.why
        };
        let _ = writeln!(
            said,
            "{}\n    of {}, {}: {kind}, {size} bytes, written {time}; {why}",
            aside.name(),
            aside.root.display(),
            aside.reserve,
        );
    }
    if said.is_empty() {
        said = "no version is kept aside on this server\n".into();
    }
    print(&said)
}

/// Shows how a version differs from what stands in its place now.
pub(crate) fn diff(options: &Options, name: &str) -> Result<(), Failure> {
    let aside = find(options, name)?;
    let (kept, now) = (aside.at(), aside.target());
    let now = if now.symlink_metadata().is_ok() {
        now
    } else {
        PathBuf::from("/dev/null")
    };
    let status = Command::new("diff")
        .arg("-u")
        .arg("--")
        .args([&now, &kept])
        .status();
    match status.map(|status| status.code()) {
        Ok(Some(0)) => print("the same content\n"),
        Ok(Some(1)) => Ok(()),
        _ => Err(Failure::new(format!(
            "{name}: diff(1) could not compare {} with {}; look at them with another program",
            now.display(),
            kept.display()
        ))),
    }
}

/// Puts versions back in their places, and what stood there in theirs. Only where the reserve is
/// served: elsewhere the next transfer would move them aside once more.
pub(crate) fn restore(options: &Options, names: &[String]) -> Result<(), Failure> {
    let chosen = names.iter().map(|name| find(options, name));
    let chosen = chosen.collect::<Result<Vec<_>, _>>()?;
    let active = serving(options)?;
    for aside in &chosen {
        if let Some(on) = active.get(&aside.reserve) {
            return Err(Failure::new(format!(
                "{}: {} is served on {on}: copy {} to {} there; here it would be moved aside again",
                aside.name(),
                aside.reserve,
                aside.at().display(),
                aside.target().display()
            )));
        }
    }
    for aside in &chosen {
        print(&format!("{}: {}\n", aside.name(), put_back(aside)?))?;
    }
    Ok(())
}

fn put_back(aside: &Aside) -> Result<&'static str, Failure> {
    let (kept, now) = (aside.at(), aside.target());
    let failed = |what: &dyn std::fmt::Display| {
        Failure::new(format!(
            "{}: not restored: {what}; nothing was changed",
            aside.name()
        ))
    };
    // Judged by what is there already: a directory that is made must not lie elsewhere either.
    let there = now
        .ancestors()
        .skip(1)
        .find(|dir| dir.symlink_metadata().is_ok());
    if let (Some(there), Some(parent)) = (there, now.parent()) {
        let real = there.canonicalize().map_err(|e| failed(&e))?;
        let root = aside.root.canonicalize().map_err(|e| failed(&e))?;
        if !real.starts_with(root) {
            return Err(failed(
                &"its directory is a symlink that leads elsewhere now",
            ));
        }
        std::fs::create_dir_all(parent).map_err(|e| failed(&e))?;
    }
    if now.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(failed(&"a directory stands in its place now"));
    }
    let rename = |flags| renameat2(AT_FDCWD, &kept, AT_FDCWD, &now, flags);
    if rename(RenameFlags::RENAME_NOREPLACE).is_ok() {
        return Ok("restored");
    }
    rename(RenameFlags::RENAME_EXCHANGE).map_err(|e| failed(&e))?;
    Ok("restored; what stood there is kept under this name now")
}

/// The reserves that are not served by this server, and who serves them.
fn serving(options: &Options) -> Result<BTreeMap<String, String>, Failure> {
    let status = with(async {
        let mut client = connect(options).await?;
        answer(options, client.get_status(v1::StatusRequest {})).await
    })?;
    let elsewhere = status
        .reserves
        .into_iter()
        .filter(|reserve| reserve.active_on != status.node)
        .map(|reserve| match reserve.active_on {
            nobody if nobody.is_empty() => (reserve.name, "no server that is known".into()),
            other => (reserve.name, other),
        });
    Ok(elsewhere.collect())
}

/// Deletes versions for good.
pub(crate) fn purge(options: &Options, names: &[String], every: bool) -> Result<(), Failure> {
    let chosen: Vec<Aside> = if every {
        all(options)?
    } else {
        let found = names.iter().map(|name| find(options, name));
        found.collect::<Result<_, _>>()?
    };
    for aside in &chosen {
        let at = aside.at();
        std::fs::remove_file(&at).map_err(|e| {
            Failure::new(format!(
                "{}: cannot be deleted: {e}; it is {}",
                aside.name(),
                at.display()
            ))
        })?;
        let top = aside.root.join(PLACE);
        // Directories that are empty now go with it.
        for dir in at.ancestors().skip(1).take_while(|dir| *dir != top) {
            if std::fs::remove_dir(dir).is_err() {
                break;
            }
        }
        let session = top.join(&aside.session);
        if !session.exists() {
            let _ = std::fs::remove_file(top.join(format!("{}.jsonl", aside.session)));
        }
    }
    print(&format!("deleted: {}\n", chosen.len()))
}

fn find(options: &Options, name: &str) -> Result<Aside, Failure> {
    let mut found: Vec<Aside> = all(options)?
        .into_iter()
        .filter(|aside| aside.name() == name)
        .collect();
    match (found.pop(), found.len()) {
        (Some(aside), 0) => Ok(aside),
        (Some(_), _) => Err(Failure::new(format!(
            "{name}: more than one version is called so; nothing was done: use the files in {PLACE} of the directory"
        ))),
        (None, _) => Err(Failure::new(format!(
            "{name}: no such version is kept aside on this server; `haarb conflicts list` shows all"
        ))),
    }
}

fn all(options: &Options) -> Result<Vec<Aside>, Failure> {
    let config =
        Config::load(&options.config).map_err(|errors| Failure::new(errors.to_string()))?;
    let mut found = Vec::new();
    for reserve in &config.reserves {
        for directory in &reserve.directories {
            in_directory(reserve.name.as_str(), &directory.path, &mut found)
                .map_err(|e| Failure::new(format!("{}/{PLACE}: {e}", directory.path.display())))?;
        }
    }
    Ok(found)
}

fn in_directory(reserve: &str, root: &Path, found: &mut Vec<Aside>) -> std::io::Result<()> {
    let top = root.join(PLACE);
    for session in sorted(&top)? {
        if !top.join(&session).symlink_metadata()?.is_dir() {
            continue;
        }
        let said = reasons(&top.join(format!("{}.jsonl", session.display())));
        let mut to_visit = vec![PathBuf::new()];
        while let Some(dir) = to_visit.pop() {
            for name in sorted(&top.join(&session).join(&dir))? {
                let path = dir.join(name);
                let meta = top.join(&session).join(&path).symlink_metadata()?;
                if meta.is_dir() {
                    to_visit.push(path);
                    continue;
                }
                found.push(Aside {
                    reserve: reserve.to_owned(),
                    root: root.to_owned(),
                    session: session.display().to_string(),
                    why: said.get(&shown(&path)).cloned().unwrap_or_default(),
                    path,
                    meta,
                });
            }
        }
    }
    Ok(())
}

/// A path on one line, as it is written in the list of a session.
fn shown(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => path.as_os_str().as_bytes().escape_ascii().to_string(),
    }
}

/// The names in a directory; none if there is no such directory.
fn sorted(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(PathBuf::from(entry?.file_name()));
    }
    names.sort();
    Ok(names)
}

/// What was written down about the versions of a session, by path.
fn reasons(file: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let read = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        let field = |name: &str| value.get(name)?.as_str().map(str::to_owned);
        Some((field("path")?, field("why")?))
    };
    text.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests;
