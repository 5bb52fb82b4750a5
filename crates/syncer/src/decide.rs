//! Whether a version that stands in the way may be replaced, or must be kept.
//!
//! No I/O. The one thing to know: only what is known to have been common may be replaced
//! silently; when in doubt a version is moved aside, never overwritten.

use crate::version::{Hash, Version};

/// What this server knows to have been common with the other one at a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Base {
    /// The version last acknowledged between the two servers.
    pub(crate) version: Option<Version>,
    /// The content before that one, while it is not certain which of them is on the disk
    /// (a crash between the note and the change).
    pub(crate) before: Option<Hash>,
}

/// What to do with the version on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is there.
    Absent,
    /// It already is what is wanted.
    Same,
    /// The content is what is wanted; only attributes differ.
    Attributes,
    /// It is from the common history: replace it.
    Replace,
    /// It is the only copy of something: move it aside first.
    KeepAside,
}

/// Judges the version on the disk (`local`) before `incoming` takes its place; an incoming
/// `None` deletes. Directories hold nothing of their own: what is in them is judged by itself.
pub(crate) fn fate(local: Option<&Version>, base: &Base, incoming: Option<&Version>) -> Fate {
    let Some(local) = local else {
        return Fate::Absent;
    };
    if incoming == Some(local) {
        return Fate::Same;
    }
    if incoming.is_some_and(|incoming| incoming.same_content(local)) {
        return Fate::Attributes;
    }
    let common = local.is_directory()
        || base.version.is_some_and(|base| base.same_content(local))
        || base.before.is_some_and(|before| before == local.hash);
    if common {
        Fate::Replace
    } else {
        Fate::KeepAside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Kind;

    fn file(content: u8, mode: u32) -> Version {
        Version {
            kind: Kind::File,
            mode,
            uid: 0,
            gid: 0,
            mtime_ns: 0,
            size: 1,
            hash: [content; 32],
            xattrs: [0; 16],
        }
    }

    /// Every combination of what is here, what was common and what comes.
    #[test]
    fn nothing_unknown_is_ever_replaced() {
        let versions: Vec<Option<Version>> = std::iter::once(None)
            .chain((1..=3).flat_map(|c| [Some(file(c, 0o644)), Some(file(c, 0o600))]))
            .collect();
        let befores = [None, Some([1; 32]), Some([2; 32])];
        let mut seen = std::collections::BTreeMap::<String, u32>::new();
        for local in &versions {
            for base in &versions {
                for before in befores {
                    for incoming in &versions {
                        let base = Base {
                            version: *base,
                            before,
                        };
                        let fate = fate(local.as_ref(), &base, incoming.as_ref());
                        *seen.entry(format!("{fate:?}")).or_default() += 1;
                        let Some(local) = local else {
                            assert_eq!(fate, Fate::Absent);
                            continue;
                        };
                        let lost = incoming.is_none_or(|i| i.hash != local.hash);
                        let known = base.version.is_some_and(|b| b.hash == local.hash)
                            || before == Some(local.hash);
                        assert_eq!(fate == Fate::KeepAside, lost && !known);
                        assert_eq!(fate == Fate::Same, *incoming == Some(*local));
                    }
                }
            }
        }
        assert_eq!(seen.len(), 5, "every fate occurs: {seen:?}");
    }
}
