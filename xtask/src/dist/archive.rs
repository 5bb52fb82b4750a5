//! The archives inside a Debian package (deb(5)): the same bytes from the same files, always.
//!
//! Every file belongs to root and bears one moment; the order is that of the paths. No field of the
//! machine that builds gets in.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

/// One file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it goes, without the leading slash.
    pub(super) path: String,
    /// What it contains; nothing for a directory.
    pub(super) bytes: Option<Vec<u8>>,
    /// Its permissions.
    pub(super) mode: u32,
}

impl Entry {
    pub(super) fn file(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            bytes: Some(bytes.into()),
            mode: 0o644,
        }
    }

    pub(super) fn program(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            mode: 0o755,
            ..Self::file(path, bytes)
        }
    }

    pub(super) fn directory(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            bytes: None,
            mode: 0o755,
        }
    }
}

/// A compressed tar archive of files and of the directories that they are in.
pub(super) fn tar_gz(mut entries: Vec<Entry>, moment: u64) -> io::Result<Vec<u8>> {
    let mut above = BTreeSet::new();
    for entry in &entries {
        let parents = Path::new(&entry.path).ancestors().skip(1);
        above.extend(parents.map(|dir| dir.to_string_lossy().into_owned()));
    }
    above.retain(|dir| !dir.is_empty() && entries.iter().all(|entry| entry.path != *dir));
    entries.extend(above.into_iter().map(Entry::directory));
    entries.sort_by(|a, b| a.path.cmp(&b.path));

    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "./", &Entry::directory("./"), moment)?;
    for entry in &entries {
        let slash = if entry.bytes.is_none() { "/" } else { "" };
        append(
            &mut archive,
            &format!("{}{slash}", entry.path),
            entry,
            moment,
        )?;
    }
    gz(&archive.into_inner()?)
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    entry: &Entry,
    moment: u64,
) -> io::Result<()> {
    let bytes = entry.bytes.as_deref().unwrap_or_default();
    let mut header = Header::new_gnu();
    header.set_entry_type(match entry.bytes {
        Some(_) => EntryType::Regular,
        None => EntryType::Directory,
    });
    header.set_size(bytes.len() as u64);
    header.set_mode(entry.mode);
    header.set_mtime(moment);
    header.set_uid(0);
    header.set_gid(0);
    header.set_username("root")?;
    header.set_groupname("root")?;
    archive.append_data(&mut header, path, bytes)
}

/// Compressed, without name or time.
pub(super) fn gz(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// The outer archive: the version of the format, the control archive, the files.
pub(super) fn deb(control: &[u8], data: &[u8], moment: u64) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".as_slice()),
        ("control.tar.gz", control),
        ("data.tar.gz", data),
    ] {
        // ar(5), the common format: fields of fixed width, owner and group 0.
        let header = format!(
            "{name:<16}{moment:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            "100644",
            bytes.len()
        );
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn paths(archive: &[u8]) -> Vec<(String, u32, u64)> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(archive)
            .read_to_end(&mut plain)
            .expect("compressed");
        let mut archive = tar::Archive::new(plain.as_slice());
        let entries = archive.entries().expect("entries");
        entries
            .map(|entry| {
                let entry = entry.expect("an entry");
                let (header, path) = (entry.header(), entry.path_bytes());
                let path = String::from_utf8_lossy(&path).into_owned();
                let mode = header.mode().expect("a mode");
                assert_eq!(header.mtime().expect("a time"), 7);
                assert_eq!(
                    (header.uid().expect("uid"), header.gid().expect("gid")),
                    (0, 0)
                );
                (path, mode, header.size().expect("a size"))
            })
            .collect()
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let entries = vec![
            Entry::program("usr/sbin/x", "abc"),
            Entry::file("etc/y", ""),
            Entry::directory("etc/z"),
        ];
        let archive = tar_gz(entries.clone(), 7).expect("an archive");
        let expected = [
            ("./", 0o755, 0),
            ("etc/", 0o755, 0),
            ("etc/y", 0o644, 0),
            ("etc/z/", 0o755, 0),
            ("usr/", 0o755, 0),
            ("usr/sbin/", 0o755, 0),
            ("usr/sbin/x", 0o755, 3),
        ];
        let expected = expected.map(|(path, mode, size)| (path.to_owned(), mode, size));
        assert_eq!(paths(&archive), expected);
        let mut other = entries;
        other.reverse();
        assert_eq!(tar_gz(other, 7).expect("an archive"), archive);
    }

    #[test]
    fn the_outer_archive_is_aligned() {
        let bytes = deb(b"abc", b"de", 7);
        let text = String::from_utf8(bytes).expect("text");
        assert_eq!(
            text,
            "!<arch>\n\
             debian-binary   7           0     0     100644  4         `\n2.0\n\
             control.tar.gz  7           0     0     100644  3         `\nabc\n\
             data.tar.gz     7           0     0     100644  2         `\nde"
        );
    }
}
