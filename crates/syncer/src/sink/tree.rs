//! One directory on the receiving side: its index, how the disk differs from it, and how good
//! it is as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use haarb_config::Excludes;
use haarb_model::Data;

use crate::Replicated;
use crate::compare::{Link, Listed, below, children, digests, link_of};
use crate::index::{Entry, Header, Record, Stage};
use crate::journal::Store;
use crate::message::DirHello;
use crate::path::RelPath;
use crate::read::version_on_disk;
use crate::root::{Found, Place, Root};
use crate::sink::aside;
use crate::sink::grow::Spares;
use crate::version::{Hash, Kind, Sig, Version};

/// After an interruption the directory is not looked at again, so that the contact is back
/// at once; but no longer than this, so that changes by others on this server are found.
const SCAN_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// A directory that is received.
#[derive(Debug)]
pub(crate) struct Tree {
    /// How both servers call it.
    name: Vec<u8>,
    pub(crate) place: Place,
    /// What is nobody's business here; as the source says, once it has said so.
    exclude: Excludes,
    pub(crate) store: Store,
    /// Where the disk was found to differ from the index; `None`: nothing is there.
    pub(crate) local: BTreeMap<RelPath, Option<(Version, Sig)>>,
    /// What the source has not any more, and does not say yet that it is meant so.
    held: BTreeSet<RelPath>,
    digests: BTreeMap<RelPath, Hash>,
    /// Which names belong to the same file; what is missing has one name only.
    pub(crate) links: BTreeMap<RelPath, Link>,
    /// Copies of files that grow, in the temporary place.
    pub(crate) spares: Spares,
    scanned_at: Option<Instant>,
    /// Everything that the source has is here, in this session.
    pub(crate) synced: bool,
    pub(crate) data: Data,
    pub(crate) conflicts: u64,
    /// What is wrong with the directory as a whole; empty if nothing is.
    pub(crate) error: String,
    /// The source says so, and will say when it is over.
    pub(crate) stopped_there: bool,
    /// What was wrong with single paths, the last of it; empty if nothing is.
    pub(crate) trouble: String,
    /// The paths that could not be stored.
    failed: BTreeSet<RelPath>,
    /// What was told last: state of the data, conflicts, errors.
    told: (Data, u64, bool),
}

impl Tree {
    /// A directory whose index is read when it is first needed.
    pub(crate) fn new(directory: &Replicated) -> Self {
        let mut tree = Self {
            name: directory.name.clone(),
            place: Place::new(directory.at.clone()),
            exclude: directory.exclude.clone(),
            store: Store::default(),
            local: BTreeMap::new(),
            held: BTreeSet::new(),
            digests: BTreeMap::new(),
            links: BTreeMap::new(),
            spares: Spares::default(),
            scanned_at: None,
            synced: false,
            data: Data::Stale,
            conflicts: 0,
            error: String::new(),
            stopped_there: false,
            trouble: String::new(),
            failed: BTreeSet::new(),
            told: (Data::Inconsistent, u64::MAX, false),
        };
        if let Err(error) = tree.open() {
            tree.error = error;
        }
        tree
    }

    fn open(&mut self) -> Result<(), String> {
        let root = self.place.enter().map_err(|e| e.to_string())?;
        let name = self.place.path.display();
        self.store = Store::load(&root).map_err(|e| format!("{name}: its index: {e}"))?;
        self.conflicts = aside::count(&self.place.path);
        self.data = match self.store.index.header.stage {
            Stage::Fresh | Stage::Whole => Data::Stale,
            Stage::Filling => Data::Inconsistent,
        };
        Ok(())
    }

    /// Whether what was wrong with the directory may be over: it can be entered and written to.
    pub(crate) fn may_start_again(&mut self) -> bool {
        if self.error.is_empty() || self.stopped_there {
            return false;
        }
        let entered = self.place.enter();
        entered.is_ok_and(|root| Store::load(&root).is_ok())
    }

    /// Looks at the whole directory and notes where it differs from the index. `go_on` is
    /// asked now and then; when it says no, the result is worth nothing.
    pub(crate) fn scan(&mut self, mut go_on: impl FnMut() -> bool) -> Result<(), String> {
        // A person may have purged some.
        self.conflicts = aside::count(&self.place.path);
        self.held.clear();
        let known = std::mem::take(&mut self.synced) && self.error.is_empty();
        if known
            && self
                .scanned_at
                .is_some_and(|at| at.elapsed() < SCAN_AGAIN_AFTER)
            && self.place.enter().is_ok()
        {
            // The contact was only interrupted: the index is what stands here, up to changes
            // by somebody else, which are seen before anything is put over them.
            self.describe();
            return Ok(());
        }
        self.error.clear();
        self.stopped_there = false;
        self.forget_failures();
        self.local.clear();
        let root = self.place.enter().map_err(|e| e.to_string())?;
        if self.store.index == crate::index::Index::default() {
            // It may not have been there before.
            self.open()?;
        }
        let mut seen = BTreeSet::new();
        let mut to_visit = vec![RelPath::root()];
        while let Some(dir) = to_visit.pop() {
            if !go_on() {
                return Ok(());
            }
            let names = match root.names(&dir) {
                Ok(names) => names,
                Err(e) if !dir.is_root() && e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    return Err(format!(
                        "{}/{}: cannot be listed: {e}",
                        self.place.path.display(),
                        dir.show()
                    ));
                }
            };
            for name in names {
                let Ok(path) = dir.join(&name) else {
                    continue;
                };
                if self
                    .scan_entry(&root, &path)
                    .map_err(|e| self.about(&path, &e))?
                {
                    to_visit.push(path.clone());
                }
                seen.insert(path);
            }
        }
        let gone: Vec<_> = self
            .store
            .index
            .entries
            .keys()
            .filter(|path| !seen.contains(*path))
            .cloned()
            .collect();
        self.local.extend(gone.into_iter().map(|path| (path, None)));
        self.describe();
        self.scanned_at = Some(Instant::now());
        Ok(())
    }

    /// Which names belong to the same file, and the digests, of what was found.
    fn describe(&mut self) {
        let mut names: Vec<(u64, &RelPath)> = merged(&self.store.index.entries, &self.local)
            .filter(|(_, version, _)| version.kind == Kind::File)
            .filter_map(|(path, _, sig)| Some((sig?.ino, path)))
            .collect();
        // Stable: the names of one file stay in their order.
        names.sort_by_key(|(ino, _)| *ino);
        let several = names
            .chunk_by(|one, next| one.0 == next.0)
            .filter(|names| names.len() > 1);
        self.links = several
            .flat_map(|names| {
                let link = link_of(names[0].1);
                names.iter().map(move |(_, path)| ((*path).clone(), link))
            })
            .collect();
        let link = |path: &RelPath| self.links.get(path).copied().unwrap_or_default();
        let found = merged(&self.store.index.entries, &self.local);
        self.digests = digests(found.map(|(path, version, _)| (path, version, link(path))));
    }

    /// Leaves out what the source does. Says whether that is something else than before: then
    /// the last scan is worth nothing.
    pub(crate) fn leave_out(&mut self, patterns: &[String]) -> Result<bool, String> {
        if self.exclude.patterns() == patterns {
            return Ok(false);
        }
        self.exclude = Excludes::new(patterns).map_err(|(number, why)| {
            format!(
                "the source leaves out {:?}, which {why}",
                patterns.get(number).cloned().unwrap_or_default()
            )
        })?;
        self.synced = false;
        Ok(true)
    }

    /// Whether nothing is left out.
    pub(crate) fn leaves_nothing_out(&self) -> bool {
        self.exclude.patterns().is_empty()
    }

    /// Whether what was found at a path is left out.
    pub(crate) fn excludes(&self, path: &RelPath, found: &Found) -> bool {
        let directory = found.kind == Some(Kind::Directory);
        self.exclude.excludes(path.as_path(), directory)
    }

    /// What the scan found at a path is not what stands there now; nor is what it found below
    /// it, unless a directory stands there.
    pub(crate) fn found_no_more(&mut self, path: &RelPath, directory: bool) {
        self.local.remove(path);
        self.links.remove(path);
        if directory {
            return;
        }
        let gone: Vec<RelPath> = below(&self.local, path).map(|(p, _)| p.clone()).collect();
        for path in gone {
            self.local.remove(&path);
        }
    }

    /// Two names belong to the same file from now on.
    pub(crate) fn linked(&mut self, one: &RelPath, other: &RelPath) {
        let link = link_of(one.min(other));
        self.links.insert(one.clone(), link);
        self.links.insert(other.clone(), link);
    }

    /// Compares one entry of the disk with the index; says whether it is a directory.
    fn scan_entry(&mut self, root: &Root, path: &RelPath) -> io::Result<bool> {
        let Some(found) = root.find(path)? else {
            self.local.insert(path.clone(), None);
            return Ok(false);
        };
        let Some(kind) = found.kind else {
            // Not synchronised: as good as absent, until something wants its place.
            self.local.insert(path.clone(), None);
            return Ok(false);
        };
        let directory = kind == Kind::Directory;
        if self.exclude.excludes_entry(path.as_path(), directory) {
            self.local.insert(path.clone(), None);
            return Ok(false);
        }
        let known = self.store.index.entries.get(path);
        if known.is_some_and(|entry| entry.sig == Some(found.sig)) {
            return Ok(directory);
        }
        let Some((version, sig, doubt)) = version_on_disk(root, path)? else {
            self.local.insert(path.clone(), None);
            return Ok(false);
        };
        // What could have changed within the same stamp is read again when it matters.
        let sig = if doubt { sig.unproven() } else { sig };
        match known {
            Some(entry) if entry.version == version => {
                let settled = Entry {
                    version,
                    sig: Some(sig),
                    before: None,
                };
                self.store.take(vec![Record::Put(path.clone(), settled)]);
            }
            _ => {
                self.local.insert(path.clone(), Some((version, sig)));
            }
        }
        Ok(directory)
    }

    /// Files that do not grow any more need no second copy.
    pub(crate) fn drop_old_spares(&mut self) {
        if self.spares.any_old()
            && let Ok(root) = self.place.enter()
        {
            self.spares.grow_old(&root);
        }
    }

    fn news(&self) -> (Data, u64, bool) {
        (self.data, self.conflicts, self.trouble.is_empty())
    }

    /// Whether something changed since the last report that must not wait.
    pub(crate) fn is_news(&self) -> bool {
        self.told != self.news()
    }

    pub(crate) fn told(&mut self) {
        self.told = self.news();
    }

    pub(crate) fn about(&self, path: &RelPath, error: &dyn std::fmt::Display) -> String {
        format!("{}/{}: {error}", self.place.path.display(), path.show())
    }

    /// What the source is told first. Call after a scan.
    pub(crate) fn hello(&self) -> DirHello {
        DirHello {
            path: self.name.clone(),
            lineage: self.store.index.header.lineage,
            entries: merged(&self.store.index.entries, &self.local).count() as u64,
            digest: self
                .digests
                .get(&RelPath::root())
                .copied()
                .unwrap_or_default(),
            error: self.error.clone(),
        }
    }

    /// Takes over the source's history. What was common with another one, or under another
    /// history, counts as our own from here on.
    pub(crate) fn join(&mut self, root: &Root, lineage: [u8; 16], source: &str) -> io::Result<()> {
        let header = &self.store.index.header;
        if header.lineage == lineage && header.with.iter().any(|name| name == source) {
            return Ok(());
        }
        for (path, entry) in &self.store.index.entries {
            if let (None, Some(sig)) = (self.local.get(path), entry.sig) {
                self.local.insert(path.clone(), Some((entry.version, sig)));
            }
        }
        let header = Header {
            lineage,
            stage: Stage::Fresh,
            with: vec![source.to_owned()],
        };
        self.store
            .note(root, vec![Record::Forget, Record::Header(header)])?;
        // An entry without a signature was read in the scan: it is in `local` or settled.
        Ok(())
    }

    /// The first change of a session is about to be made.
    pub(crate) fn begin_changes(&mut self, root: &Root) -> io::Result<()> {
        if self.synced {
            return Ok(());
        }
        if self.store.index.header.stage == Stage::Whole {
            self.data = self.data.max(Data::Stale);
            return Ok(());
        }
        self.data = Data::Inconsistent;
        let header = Header {
            stage: Stage::Filling,
            ..self.store.index.header.clone()
        };
        self.store.note_header(root, header)
    }

    /// The source holds back deletions: what is here only does not become common.
    pub(crate) fn hold(&mut self, paths: Vec<RelPath>) {
        self.held.extend(paths);
    }

    fn is_held(&self, path: &RelPath) -> bool {
        let mut next = (!self.held.is_empty()).then(|| path.clone());
        while let Some(path) = next {
            if self.held.contains(&path) {
                return true;
            }
            next = path.parent();
        }
        false
    }

    /// Everything that the source has is here: what was found equal is common from now on.
    pub(crate) fn reached_sync(&mut self, root: &Root) -> io::Result<()> {
        let mut records = Vec::new();
        let mut kept = BTreeMap::new();
        for (path, local) in std::mem::take(&mut self.local) {
            if local.is_some() && self.is_held(&path) {
                kept.insert(path, local);
                continue;
            }
            records.push(match local {
                Some((version, sig)) => Record::Put(
                    path,
                    Entry {
                        version,
                        sig: Some(sig),
                        before: None,
                    },
                ),
                None => Record::Remove(path),
            });
        }
        records.push(Record::Header(Header {
            stage: Stage::Whole,
            ..self.store.index.header.clone()
        }));
        self.local = kept;
        self.held.clear();
        self.store.note(root, records)?;
        self.synced = true;
        self.data = Data::Current;
        self.forget_failures();
        Ok(())
    }

    fn forget_failures(&mut self) {
        self.failed.clear();
        self.trouble.clear();
    }

    /// How many paths could not be stored and are awaited again.
    pub(crate) fn failing(&self) -> u64 {
        self.failed.len() as u64
    }

    /// Notes what became of a path: why it failed, if it did.
    pub(crate) fn tried(&mut self, path: RelPath, failure: Option<&str>) {
        match failure {
            Some(why) => {
                why.clone_into(&mut self.trouble);
                self.failed.insert(path);
            }
            None if self.failed.is_empty() => {}
            None => {
                self.failed
                    .retain(|failed| *failed != path && !failed.is_below(&path));
                if self.failed.is_empty() {
                    self.trouble.clear();
                }
            }
        }
    }

    /// The entries of one directory, as they were found by the scan.
    pub(crate) fn listing(&self, dir: &RelPath) -> Vec<Listed> {
        let mut found: BTreeMap<&RelPath, &Version> = children(&self.store.index.entries, dir)
            .filter(|(path, _)| !self.local.contains_key(*path))
            .map(|(path, entry)| (path, &entry.version))
            .collect();
        for (path, local) in below(&self.local, dir) {
            if let Some((version, _)) = local
                && path.parent().as_ref() == Some(dir)
            {
                found.insert(path, version);
            }
        }
        found
            .into_iter()
            .map(|(path, version)| Listed {
                name: path.name().to_vec(),
                version: *version,
                link: self.links.get(path).copied().unwrap_or_default(),
                digest: self.digests.get(path).copied().unwrap_or_default(),
            })
            .collect()
    }
}

/// The tree as it is on the disk: the index, with what differs laid over it, in order.
fn merged<'a>(
    entries: &'a BTreeMap<RelPath, Entry>,
    local: &'a BTreeMap<RelPath, Option<(Version, Sig)>>,
) -> impl Iterator<Item = (&'a RelPath, &'a Version, Option<&'a Sig>)> {
    let mut entries = entries
        .iter()
        .filter(|(path, _)| !local.contains_key(*path))
        .map(|(path, entry)| (path, &entry.version, entry.sig.as_ref()))
        .peekable();
    let mut local = local
        .iter()
        .filter_map(|(path, found)| {
            let (version, sig) = found.as_ref()?;
            Some((path, version, Some(sig)))
        })
        .peekable();
    std::iter::from_fn(move || match (entries.peek(), local.peek()) {
        (Some(entry), Some(other)) if entry.0 < other.0 => entries.next(),
        (Some(_), None) => entries.next(),
        _ => local.next(),
    })
}
