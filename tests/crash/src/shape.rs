//! What kind of image a session works on, and how often it does what.

use crate::rng::Rng;
use crate::sector::SECTOR;

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data is written.
    Write,
    /// Zeros are written.
    Zero,
    /// Clusters are discarded.
    Discard,
    /// Clusters are written compressed.
    Compressed,
    /// What was done is made durable.
    Flush,
    /// The disk becomes larger.
    Grow,
    /// The disk becomes smaller.
    Shrink,
    /// A snapshot is made.
    Snapshot,
    /// The disk becomes what a snapshot holds.
    Apply,
    /// A snapshot is deleted.
    Delete,
    /// The image is closed and opened again.
    Reopen,
}

/// Kinds with their weights.
pub type Mix = &'static [(Kind, u64)];

/// Some of everything.
pub const ALL: Mix = &[
    (Kind::Write, 6),
    (Kind::Zero, 3),
    (Kind::Discard, 3),
    (Kind::Compressed, 4),
    (Kind::Flush, 5),
    (Kind::Grow, 1),
    (Kind::Reopen, 1),
];

/// Some of everything, and snapshots.
pub const SNAPSHOTS: Mix = &[
    (Kind::Write, 6),
    (Kind::Zero, 2),
    (Kind::Discard, 2),
    (Kind::Compressed, 3),
    (Kind::Flush, 4),
    (Kind::Grow, 1),
    (Kind::Shrink, 1),
    (Kind::Reopen, 1),
    (Kind::Snapshot, 3),
    (Kind::Apply, 1),
    (Kind::Delete, 1),
];

/// Snapshots where the size cannot change: version 2 does not record it.
pub const V2_SNAPSHOTS: Mix = &[
    (Kind::Write, 6),
    (Kind::Zero, 2),
    (Kind::Discard, 2),
    (Kind::Compressed, 3),
    (Kind::Flush, 4),
    (Kind::Reopen, 1),
    (Kind::Snapshot, 3),
    (Kind::Apply, 1),
    (Kind::Delete, 1),
];

/// The kind of image, and of session.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What it is called in reports.
    pub name: &'static str,
    /// Options of `create`, without those that the other fields say.
    pub options: &'static str,
    /// Bytes of a cluster.
    pub cluster: u64,
    /// Bytes of a new disk.
    pub size: u64,
    /// No resize goes beyond so many bytes.
    pub size_max: u64,
    /// Bytes of the backing file; none without one.
    pub base: Option<u64>,
    /// What is done.
    pub mix: Mix,
    /// Requests at a time.
    pub width: usize,
}

impl Shape {
    /// An image of 16 clusters, fewer if they are large, that may grow by half, on which everything is done, one request
    /// at a time.
    #[must_use]
    pub const fn new(name: &'static str, options: &'static str, cluster: u64) -> Self {
        let size = if cluster < 1 << 16 { 16 * cluster } else { 6 * cluster };
        Self { name, options, cluster, size, size_max: size / 2 * 3, base: None, mix: ALL, width: 1 }
    }

    /// The same with a backing file that ends a sector before the disk does.
    #[must_use]
    pub const fn with_base(self, name: &'static str) -> Self {
        Self { name, base: Some(self.size - SECTOR), ..self }
    }

    /// The same with several requests at a time.
    #[must_use]
    pub const fn with_width(self, name: &'static str, width: usize) -> Self {
        Self { name, width, ..self }
    }

    /// The same with other things done.
    #[must_use]
    pub const fn with_mix(self, name: &'static str, mix: Mix) -> Self {
        Self { name, mix, ..self }
    }

    /// The options of `create`.
    #[must_use]
    pub fn create_options(&self) -> String {
        let backing = if self.base.is_some() { ",backing_file=mem:base,backing_fmt=qcow2" } else { "" };
        let more = if self.options.is_empty() { String::new() } else { format!(",{}", self.options) };
        format!("cluster_size={}{more}{backing}", self.cluster)
    }

    /// The sectors that are looked at.
    #[must_use]
    pub fn n_max(&self) -> u64 {
        self.size_max / SECTOR
    }

    /// Whether what is discarded reads as zeros. Version 2 cannot say so where there is a backing file.
    #[must_use]
    pub fn discards_to_zeros(&self) -> bool {
        self.base.is_none() || !self.options.contains("compat=0.10")
    }

    /// A kind, as often as the mix says.
    pub(crate) fn kind(&self, rng: &mut Rng) -> Kind {
        let mut roll = rng.below(self.mix.iter().map(|(_, weight)| weight).sum());
        for (kind, weight) in self.mix {
            if roll < *weight {
                return *kind;
            }
            roll -= weight;
        }
        Kind::Flush
    }
}
