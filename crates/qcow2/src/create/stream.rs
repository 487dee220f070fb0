//! Images that are written front to back and never touched again, for pipes.
//!
//! What is mapped is known before the first byte is written: header, refcount table, refcount blocks, L1 table and L2
//! tables come first, each complete, and then the data clusters in the order of the guest. Every cluster of the file is
//! in use exactly once, so that nothing is leaked.
//!
//! ```
//! use qcow2::stream::{Content, Run, StreamSettings};
//! # use std::sync::Arc;
//! # use qemu_block::{aio::Services, options::Options, registry::{OpenContext, Registry}};
//! # let context = OpenContext::new(Arc::new(Registry::new(Services::new())));
//! let mut options = Options::new();
//! options.set("size", 1_u64 << 30);
//! let settings = StreamSettings::take(options, &context)?;
//! // The third cluster has data; the rest of the disk is zeros.
//! let image = settings.plan(vec![Run { first: 2, count: 1, content: Content::Data }])?;
//! let head: usize = image.metadata().map(|chunk| chunk.len()).sum();
//! // Header, refcount table, refcount block, L1 table, L2 table: the data follows.
//! assert_eq!(head, 5 << 16);
//! # Ok::<(), qemu_block::error::BlockError>(())
//! ```

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::options::Options;
use qemu_block::registry::OpenContext;
use qemu_block::types::PreallocMode;

use super::layout::Layout;
use super::options::Settings;
use super::{chunk_len, header_bytes};
use crate::format::header::Version;
use crate::format::l1::L1Entry;
use crate::format::l2::{L2Entry, L2Layout};
use crate::format::refcount::{RefcountWidth, ReftableEntry};
use crate::limits::TABLE_CHUNK_BYTES;
use crate::units::ClusterCount;

/// What a run of guest clusters holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Data, which follows the metadata.
    Data,
    /// Zeros, which hide what a backing file holds.
    Zero,
}

/// Neighbouring guest clusters with the same kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The number of the first cluster of the guest's disk.
    pub first: u64,
    /// How many there are; at least one.
    pub count: u64,
    /// What they hold.
    pub content: Content,
}

/// Checked creation options of an image that is to be streamed.
#[derive(Debug)]
pub struct StreamSettings {
    settings: Settings,
}

impl StreamSettings {
    /// Takes the creation options, of which `size` is one.
    ///
    /// # Errors
    /// When they are wrong, with the text of creating an image; and when they ask for what cannot be streamed.
    pub fn take(mut options: Options, context: &OpenContext) -> Result<Self> {
        let settings = Settings::take(&mut options, context)?;
        let impossible = [
            (settings.data_file.is_some(), "an external data file"),
            (settings.encryption.is_some(), "encryption"),
            (settings.preallocation != PreallocMode::Off, "preallocation"),
        ];
        match impossible.iter().find(|(asked, _)| *asked) {
            Some((_, what)) => {
                let text = format!("qcow2: an image with {what} cannot be written to a stream");
                Err(BlockError::new(ErrorKind::Unsupported, text))
            }
            None => Ok(Self { settings }),
        }
    }

    /// Size of a cluster in bytes.
    #[must_use]
    pub fn cluster_size(&self) -> u64 {
        self.settings.geometry.cluster_size()
    }

    /// Whether clusters can be marked to read as zeros. Without a mark, zeros that matter have to be data.
    #[must_use]
    pub fn can_mark_zeros(&self) -> bool {
        self.settings.version >= Version::V3
    }

    /// Plans an image in which exactly `runs` are mapped: in the order of the guest, and without overlaps.
    ///
    /// # Errors
    /// When the image would exceed the limits of the format, or does not have these clusters.
    pub fn plan(self, runs: Vec<Run>) -> Result<StreamedImage> {
        let clusters = self.settings.geometry.size_to_clusters(self.settings.size).get();
        let mut numbered = Vec::with_capacity(runs.len());
        let (mut end, mut data_clusters) = (0, 0);
        for run in runs {
            let run_end = run.first.checked_add(run.count).filter(|&run_end| run.first >= end && run_end <= clusters);
            end = run_end.ok_or_else(|| {
                BlockError::new(ErrorKind::BadRequest, "qcow2: the mapping to be streamed is not in order")
            })?;
            numbered.push(NumberedRun { run, data_before: data_clusters });
            if run.content == Content::Data {
                data_clusters += run.count;
            }
        }
        let tables = tables_for(&numbered, self.settings.geometry.l2_entries() as u64);
        let (n_tables, n_data) = (ClusterCount::new(tables.len() as u64), ClusterCount::new(data_clusters));
        let layout = Layout::streamed(&self.settings, n_tables, n_data)?;
        let header = header_bytes(&self.settings, &layout)?;
        Ok(StreamedImage { layout, header, runs: numbered, tables, can_mark_zeros: self.can_mark_zeros() })
    }
}

/// A run, and how many clusters of data come before it.
#[derive(Clone, Copy, Debug)]
struct NumberedRun {
    run: Run,
    data_before: u64,
}

/// The L1 entries that have a table.
fn tables_for(runs: &[NumberedRun], l2_entries: u64) -> Vec<u64> {
    let mut tables = Vec::new();
    for NumberedRun { run, .. } in runs.iter().filter(|run| run.run.count > 0) {
        let (first, last) = (run.first / l2_entries, (run.first + run.count - 1) / l2_entries);
        let known = tables.last().map_or(0, |&last| last + 1);
        tables.extend(first.max(known)..=last);
    }
    tables
}

/// A planned image.
#[derive(Debug)]
pub struct StreamedImage {
    layout: Layout,
    header: Vec<u8>,
    runs: Vec<NumberedRun>,
    /// The L1 entries that have a table, which follow one another in the file.
    tables: Vec<u64>,
    can_mark_zeros: bool,
}

impl StreamedImage {
    /// Everything before the data, in chunks of bounded size that follow one another. The data of all runs of
    /// [`Content::Data`] comes behind it, in whole clusters.
    pub fn metadata(&self) -> impl Iterator<Item = Vec<u8>> {
        let layout = &self.layout;
        let header = std::iter::once(self.padded(self.header.clone()));
        let refblocks = layout.refblock_clusters.get();
        let reftable = self
            .table(refblocks, |index| ReftableEntry::block(layout.start_of(layout.nth(layout.refblocks, index))).raw());
        let l1 = self.table(u64::from(layout.l1_entries), |index| match self.tables.binary_search(&index) {
            Ok(at) => L1Entry::table(layout.start_of(layout.nth(layout.l2_tables, at as u64)), true).raw(),
            Err(_) => 0,
        });
        let l2 = self.tables.iter().map(|&table| self.l2_table(table));
        header.chain(reftable).chain((0..refblocks).map(|block| self.refblock(block))).chain(l1).chain(l2)
    }

    /// Fills a chunk up to a whole number of clusters.
    fn padded(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.resize(bytes.len().next_multiple_of(self.layout.geometry.cluster_len()), 0);
        bytes
    }

    /// A table of numbers, in chunks; the last one fills its cluster.
    fn table<'a>(&'a self, entries: u64, entry: impl Fn(u64) -> u64 + 'a) -> impl Iterator<Item = Vec<u8>> + 'a {
        // A chunk is a whole number of clusters, because both are powers of two.
        let chunk_entries = TABLE_CHUNK_BYTES.max(self.layout.geometry.cluster_size()) / 8;
        (0..entries.div_ceil(chunk_entries)).map(move |chunk| {
            let first = chunk * chunk_entries;
            let numbers = first..entries.min(first + chunk_entries);
            self.padded(numbers.flat_map(|index| entry(index).to_be_bytes()).collect())
        })
    }

    /// The refcount block with that number: one for each cluster of the file, and nothing after those.
    fn refblock(&self, block: u64) -> Vec<u8> {
        let geometry = self.layout.geometry;
        let per_block = geometry.refblock_entries() as u64;
        let left = self.layout.total.get() - (block * per_block).min(self.layout.total.get());
        let mut bytes = vec![0; geometry.cluster_len()];
        let width = RefcountWidth::new(geometry);
        for index in 0..chunk_len(left.min(per_block)) {
            width.set(&mut bytes, index, 1).expect("every width can count to one");
        }
        bytes
    }

    /// The L2 table of that L1 entry.
    fn l2_table(&self, table: u64) -> Vec<u8> {
        let geometry = self.layout.geometry;
        let entries = L2Layout::new(geometry, self.can_mark_zeros);
        let per_table = geometry.l2_entries() as u64;
        let (start, end) = (table * per_table, (table + 1) * per_table);
        let mut bytes = vec![0; geometry.cluster_len()];
        let from = self.runs.partition_point(|run| run.run.first + run.run.count <= start);
        for NumberedRun { run, data_before } in self.runs[from..].iter().take_while(|run| run.run.first < end) {
            for cluster in run.first.max(start)..end.min(run.first + run.count) {
                let entry = match run.content {
                    Content::Data => L2Entry::standard(self.layout.data_of(data_before + cluster - run.first), true),
                    Content::Zero => entries.zero_plain(),
                };
                let at = chunk_len(cluster - start) * entries.entry_bytes();
                entries.store(&mut bytes[at..at + entries.entry_bytes()], entry);
            }
        }
        bytes
    }
}
