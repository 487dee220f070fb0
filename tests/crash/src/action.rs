//! What is done to an image, and what the guest sees of that.

use std::pin::Pin;
use std::sync::Arc;

use qemu_block::error::Result;
use qemu_block::manage::{NewSnapshot, SnapshotOps, SnapshotSelector};
use qemu_block::node::Node;
use qemu_block::types::{PreallocMode, WriteFlags, ZeroFlags};
use qemu_util::buf::IoBuf;

use crate::guest::Effect;
use crate::rng::Rng;
use crate::sector::{SECTOR, Tag, bytes_of};
use crate::shape::{Kind, Shape};

/// One request. Places and lengths are in sectors.
#[derive(Clone, Debug)]
pub enum Action {
    /// Data is written.
    Write {
        /// Where.
        at: u64,
        /// How much.
        n: u64,
        /// Whether it could not be compressed.
        noise: bool,
    },
    /// Zeros are written.
    Zero {
        /// Where.
        at: u64,
        /// How much.
        n: u64,
        /// Whether the space may be given up.
        unmap: bool,
    },
    /// Whole clusters are discarded.
    Discard {
        /// Where.
        at: u64,
        /// How much.
        n: u64,
    },
    /// Whole clusters are written compressed, if they can be.
    Compressed {
        /// Where.
        at: u64,
        /// How much.
        n: u64,
        /// Whether they cannot.
        noise: bool,
    },
    /// What was done is made durable.
    Flush,
    /// The disk gets another size.
    Resize(u64),
    /// The image is closed and opened again.
    Reopen,
    /// A snapshot of that name is made.
    Snapshot(String),
    /// The disk becomes what the snapshot holds.
    Apply(String),
    /// The snapshot is deleted.
    Delete(String),
}

/// What random requests depend on: how the disk is once all earlier ones are done.
#[derive(Clone, Debug)]
pub struct Course {
    /// Its size in sectors.
    pub n_sectors: u64,
    /// Its snapshots, with their sizes.
    pub snapshots: Vec<(String, u64)>,
}

impl Course {
    /// A new disk.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        Self { n_sectors: shape.size / SECTOR, snapshots: Vec::new() }
    }

    /// Follows a request.
    pub fn follow(&mut self, action: &Action) {
        match action {
            Action::Resize(n_sectors) => self.n_sectors = *n_sectors,
            Action::Snapshot(name) => self.snapshots.push((name.clone(), self.n_sectors)),
            Action::Apply(name) => {
                let found = self.snapshots.iter().find(|(its_name, _)| its_name == name);
                self.n_sectors = found.map_or(self.n_sectors, |(_, n_sectors)| *n_sectors);
            }
            Action::Delete(name) => self.snapshots.retain(|(its_name, _)| its_name != name),
            _ => {}
        }
    }

    fn any_snapshot(&self, rng: &mut Rng) -> Option<String> {
        if self.snapshots.is_empty() {
            return None;
        }
        Some(self.snapshots[rng.index(self.snapshots.len())].0.clone())
    }
}

/// A request under way.
pub type Doing = Pin<Box<dyn Future<Output = Result<()>>>>;

impl Action {
    /// Whether nothing else may be under way meanwhile.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        !matches!(
            self,
            Self::Write { .. } | Self::Zero { .. } | Self::Discard { .. } | Self::Compressed { .. } | Self::Flush
        )
    }

    /// What the guest may see once it has begun.
    #[must_use]
    pub fn effect(&self, op: usize, shape: &Shape) -> Effect {
        match *self {
            Self::Snapshot(ref name) => Effect::Snapshot(name.clone()),
            Self::Apply(ref name) => Effect::Apply(name.clone()),
            Self::Delete(ref name) => Effect::Delete(name.clone()),
            Self::Write { at, n, noise } | Self::Compressed { at, n, noise } => {
                Effect::Sectors(at, at + n, Tag::of(op, noise))
            }
            Self::Discard { .. } if !shape.discards_to_zeros() => Effect::Nothing,
            Self::Zero { at, n, .. } | Self::Discard { at, n } => Effect::Sectors(at, at + n, Tag::ZERO),
            Self::Flush => Effect::Flush,
            Self::Reopen => Effect::Nothing,
            Self::Resize(n_sectors) => Effect::Resize(n_sectors),
        }
    }

    /// Does it, as request number `op`. Reopening is left to the session.
    #[must_use]
    pub fn start(&self, op: usize, node: Arc<Node>) -> Doing {
        match *self {
            Self::Write { at, n, noise } => Box::pin(async move {
                let data = IoBuf::copy_of(&bytes_of(Tag::of(op, noise), at, n));
                node.write(at * SECTOR, data.into(), WriteFlags::empty()).await
            }),
            Self::Zero { at, n, unmap } => Box::pin(async move {
                let flags = if unmap { ZeroFlags::MAY_UNMAP } else { ZeroFlags::empty() };
                node.write_zeroes(at * SECTOR, n * SECTOR, flags).await
            }),
            Self::Discard { at, n } => Box::pin(async move { node.discard(at * SECTOR, n * SECTOR).await }),
            Self::Compressed { at, n, noise } => Box::pin(async move {
                let data = IoBuf::copy_of(&bytes_of(Tag::of(op, noise), at, n));
                let run = node.compress(at * SECTOR, data.into()).await?;
                node.write_compressed(run).await
            }),
            Self::Flush => Box::pin(async move { node.flush().await }),
            Self::Resize(n) => Box::pin(async move { node.truncate(n * SECTOR, PreallocMode::Off).await }),
            Self::Reopen => Box::pin(std::future::ready(Ok(()))),
            Self::Snapshot(ref name) => {
                let new = NewSnapshot { name: name.clone(), ..NewSnapshot::default() };
                Box::pin(async move { snapshots(&node).create(new).await.map(drop) })
            }
            Self::Apply(ref name) => {
                let which = by_name(name);
                Box::pin(async move { snapshots(&node).apply(&which).await })
            }
            Self::Delete(ref name) => {
                let which = by_name(name);
                Box::pin(async move { snapshots(&node).delete(&which).await })
            }
        }
    }

    /// A random one, number `op` of its session.
    #[must_use]
    pub fn random(rng: &mut Rng, shape: &Shape, course: &Course, op: usize) -> Self {
        let n_sectors = course.n_sectors;
        let noise = rng.one_in(6);
        match shape.kind(rng) {
            Kind::Write => {
                let (at, n) = some_sectors(rng, shape, n_sectors);
                Self::Write { at, n, noise }
            }
            Kind::Zero => {
                let whole = !rng.one_in(3);
                let range = if whole { some_clusters } else { some_sectors };
                let (at, n) = range(rng, shape, n_sectors);
                Self::Zero { at, n, unmap: rng.one_in(2) }
            }
            Kind::Discard => {
                let (at, n) = some_clusters(rng, shape, n_sectors);
                Self::Discard { at, n }
            }
            Kind::Compressed => {
                let (at, n) = some_clusters(rng, shape, n_sectors);
                Self::Compressed { at, n, noise }
            }
            Kind::Flush => Self::Flush,
            Kind::Grow => Self::Resize(larger_size(rng, shape, n_sectors)),
            Kind::Shrink => Self::Resize(1 + rng.below(n_sectors)),
            Kind::Reopen => Self::Reopen,
            Kind::Snapshot => Self::Snapshot(format!("s{op}")),
            Kind::Apply => course.any_snapshot(rng).map_or(Self::Flush, Self::Apply),
            Kind::Delete => course.any_snapshot(rng).map_or(Self::Flush, Self::Delete),
        }
    }
}

/// A range of up to three clusters that begins and ends anywhere.
fn some_sectors(rng: &mut Rng, shape: &Shape, n_sectors: u64) -> (u64, u64) {
    let at = rng.below(n_sectors);
    let n = 1 + rng.below(3 * shape.cluster / SECTOR);
    (at, n.min(n_sectors - at))
}

/// Up to four whole clusters, the last of which may be cut by the end of the disk.
fn some_clusters(rng: &mut Rng, shape: &Shape, n_sectors: u64) -> (u64, u64) {
    let per_cluster = shape.cluster / SECTOR;
    let at = rng.below(n_sectors.div_ceil(per_cluster)) * per_cluster;
    let n = (1 + rng.below(4)) * per_cluster;
    (at, n.min(n_sectors - at))
}

fn snapshots(node: &Node) -> &dyn SnapshotOps {
    node.snapshots().expect("the format has snapshots")
}

/// The snapshot of that name; names are not reused.
#[must_use]
pub fn by_name(name: &str) -> SnapshotSelector {
    SnapshotSelector::Exact { id: None, name: Some(name.to_owned()) }
}

/// A larger size, within what is tracked.
fn larger_size(rng: &mut Rng, shape: &Shape, n_sectors: u64) -> u64 {
    let room = shape.n_max() - n_sectors;
    if room == 0 { n_sectors } else { n_sectors + 1 + rng.below(room) }
}
