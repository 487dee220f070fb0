//! Internal snapshots: earlier states of a disk that its image keeps.

use crate::driver::IoFuture;
use crate::types::SnapshotInfo;

/// Internal snapshots of an open image. QEMU: `bdrv_snapshot_*` (block/snapshot.c).
pub trait SnapshotOps: Send + Sync {
    /// All snapshots in the order in which they were made.
    fn list(&self) -> IoFuture<'_, Vec<SnapshotInfo>>;

    /// Keeps the present state of the disk under a name; returns what was recorded. Durable when it completes.
    ///
    /// # Errors
    /// When the image is read-only or has as many snapshots as it can have, else those of metadata I/O. Then the image
    /// is as before.
    fn create(&self, new: NewSnapshot) -> IoFuture<'_, SnapshotInfo>;

    /// Makes the disk what it was at the snapshot, its size included. The state before is lost. QEMU:
    /// `bdrv_snapshot_goto`.
    ///
    /// # Errors
    /// `NotFound` when there is no such snapshot.
    fn apply<'a>(&'a self, which: &'a SnapshotSelector) -> IoFuture<'a, ()>;

    /// Forgets a snapshot.
    ///
    /// # Errors
    /// `NotFound` when there is no such snapshot.
    fn delete<'a>(&'a self, which: &'a SnapshotSelector) -> IoFuture<'a, ()>;

    /// Shows the snapshot instead of the present state from now on; for images that were opened read-only. QEMU:
    /// `bdrv_snapshot_load_tmp`.
    ///
    /// # Errors
    /// `NotFound` when there is no such snapshot; `BadRequest` when the image is writable.
    fn load<'a>(&'a self, which: &'a SnapshotSelector) -> IoFuture<'a, ()>;
}

/// A snapshot to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSnapshot {
    /// Its name; several snapshots may have the same one.
    pub name: String,
    /// Creation time: seconds since the epoch.
    pub date_seconds: u32,
    /// Creation time: nanoseconds within the second.
    pub date_nanoseconds: u32,
    /// The guest's instruction count, if it is known.
    pub icount: Option<u64>,
}

/// How a snapshot is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotSelector {
    /// By its identifier, and if none has that, by its name; the first that fits.
    Any(String),
    /// Both, or the one that is given, must fit (`snapshot.id=…,snapshot.name=…`).
    Exact {
        /// The identifier.
        id: Option<String>,
        /// The name.
        name: Option<String>,
    },
}

impl SnapshotSelector {
    /// Index of the snapshot that is meant.
    #[must_use]
    pub fn find<'a>(&self, mut snapshots: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Option<usize> {
        match self {
            Self::Any(text) => {
                let by_id = snapshots.clone().position(|(id, _)| id == text);
                by_id.or_else(|| snapshots.position(|(_, name)| name == text))
            }
            Self::Exact { id: None, name: None } => None,
            Self::Exact { id, name } => snapshots.position(|(its_id, its_name)| {
                id.as_deref().is_none_or(|id| id == its_id) && name.as_deref().is_none_or(|name| name == its_name)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_go_before_names() {
        let snapshots = [("1", "2"), ("2", "a"), ("3", "a")];
        let find = |which: &SnapshotSelector| which.find(snapshots.into_iter());
        assert_eq!(find(&SnapshotSelector::Any("2".to_owned())), Some(1));
        assert_eq!(find(&SnapshotSelector::Any("a".to_owned())), Some(1));
        assert_eq!(find(&SnapshotSelector::Any("b".to_owned())), None);
        let exact = |id: Option<&str>, name: Option<&str>| {
            find(&SnapshotSelector::Exact { id: id.map(str::to_owned), name: name.map(str::to_owned) })
        };
        assert_eq!(exact(Some("3"), Some("a")), Some(2));
        assert_eq!(exact(Some("1"), Some("a")), None);
        assert_eq!(exact(None, None), None);
    }
}
