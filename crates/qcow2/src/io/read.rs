//! Reading.

use futures_util::future::try_join_all;
use qemu_block::debug::DebugEvent;
use qemu_block::error::{Result, shown};
use qemu_util::buf::IoVecMut;

use super::data::Place;
use crate::format::l2::{CompressedExtent, L2Mapping};
use crate::format::subclusters::Subcluster;
use crate::image::Image;
use crate::map::{MapRun, Stretch};
use crate::units::HostOffset;

/// Compressed clusters are read together as long as they span at most this many bytes of the image file.
const COMPRESSED_READ_MAX: u64 = 4 << 20;

/// A part of a read that one request below serves.
enum Source {
    Zeros,
    Backing,
    Data(HostOffset),
    /// Compressed clusters that follow one another on the host, at least roughly.
    Compressed(Vec<CompressedExtent>),
}

struct Part {
    /// Guest offset of the first byte.
    offset: u64,
    len: u64,
    source: Source,
}

impl Image {
    /// Reads guest data.
    pub(crate) async fn read_guest(&self, offset: u64, buf: IoVecMut) -> Result<IoVecMut> {
        self.check_open()?;
        let range = self.cluster_range(offset, buf.len() as u64);
        let _range = self.ranges.lock(range, qemu_block::io::RangeMode::Shared).await;
        self.read_mapped(offset, buf).await
    }

    /// Reads guest data whose range the caller holds.
    pub(crate) async fn read_mapped(&self, offset: u64, mut buf: IoVecMut) -> Result<IoVecMut> {
        let (first, end) = self.clusters_of(offset, buf.len() as u64);
        let runs = self.meta.lock().await.lookup(first, end).await?;
        let parts = self.parts(&runs, offset, buf.len() as u64);
        if let [part] = &parts[..] {
            return self.read_part(part, buf).await;
        }
        let mut reads = Vec::with_capacity(parts.len());
        for part in &parts {
            let rest = buf.split_off(usize::try_from(part.len).expect("part of a buffer"));
            reads.push(self.read_part(part, std::mem::replace(&mut buf, rest)));
        }
        let mut whole = IoVecMut::default();
        try_join_all(reads).await?.into_iter().for_each(|read| whole.append(read));
        Ok(whole)
    }

    /// Cuts the runs to the bytes of the request and puts compressed neighbours together.
    fn parts(&self, runs: &[MapRun], offset: u64, len: u64) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::with_capacity(runs.len());
        let merge = self.geo.is_extended_l2();
        for run in runs {
            let run_start = self.geo.guest_start(run.start).get();
            let start = run_start.max(offset);
            let end = self.geo.guest_start(run.end()).get().min(offset + len);
            let source = match run.mapping {
                L2Mapping::Zero { .. } => Source::Zeros,
                L2Mapping::Unallocated if self.backing.is_none() => Source::Zeros,
                L2Mapping::Unallocated => Source::Backing,
                L2Mapping::Standard { host, .. } => Source::Data(HostOffset::new(host.get() + (start - run_start))),
                L2Mapping::Compressed(extent) => {
                    if append_compressed(parts.last_mut(), extent, end - start) {
                        continue;
                    }
                    Source::Compressed(vec![extent])
                }
                L2Mapping::Mixed { .. } => {
                    for stretch in run.stretches(self.geo, &(start..end)) {
                        push_merged(&mut parts, self.part_of(&stretch));
                    }
                    continue;
                }
            };
            let part = Part { offset: start, len: end - start, source };
            if merge {
                push_merged(&mut parts, part);
            } else {
                parts.push(part);
            }
        }
        parts
    }

    /// The part that reads some subclusters.
    fn part_of(&self, stretch: &Stretch) -> Part {
        let source = match (stretch.kind, stretch.host) {
            (Subcluster::Data, Some(host)) => Source::Data(host),
            (Subcluster::Unallocated, _) if self.backing.is_some() => Source::Backing,
            // Entries with data and no host cluster are refused when they are decoded.
            (Subcluster::Zero | Subcluster::Unallocated | Subcluster::Data, _) => Source::Zeros,
        };
        Part { offset: stretch.range.start, len: stretch.range.end - stretch.range.start, source }
    }

    async fn read_part(&self, part: &Part, mut buf: IoVecMut) -> Result<IoVecMut> {
        match &part.source {
            Source::Zeros => {
                buf.fill_zero();
                Ok(buf)
            }
            Source::Backing => self.read_backing(part.offset, buf).await,
            Source::Data(host) => self.data.read(Place { host: *host, guest: part.offset }, buf).await,
            Source::Compressed(extents) => self.read_compressed(part.offset, extents, buf).await,
        }
    }

    /// Reads from the backing file, which may be shorter than this image: it continues with zeros.
    async fn read_backing(&self, offset: u64, mut buf: IoVecMut) -> Result<IoVecMut> {
        let backing = self.backing.as_ref().expect("parts are from the backing file only if there is one");
        let there = backing.len().saturating_sub(offset).min(buf.len() as u64);
        let mut tail = buf.split_off(usize::try_from(there).expect("part of a buffer"));
        tail.fill_zero();
        if !buf.is_empty() {
            self.data.event(DebugEvent::ReadBackingAio).await;
            let read = backing.read(offset, buf).await;
            buf = read.map_err(|error| {
                error.context(format!("Could not read backing file '{}'", shown(backing.filename())))
            })?;
        }
        buf.append(tail);
        Ok(buf)
    }
}

/// Adds a part, as a piece of the one before if one request can read both: the runs of images with subclusters are
/// short.
fn push_merged(parts: &mut Vec<Part>, part: Part) {
    if let Some(last) = parts.last_mut() {
        let same = match (&last.source, &part.source) {
            (Source::Zeros, Source::Zeros) | (Source::Backing, Source::Backing) => true,
            (Source::Data(a), Source::Data(b)) => a.checked_add(last.len) == Some(*b),
            _ => false,
        };
        if same {
            last.len += part.len;
            return;
        }
    }
    parts.push(part);
}

/// Adds a compressed cluster to the part before it if one read can fetch both; `len` are the guest bytes wanted.
fn append_compressed(part: Option<&mut Part>, extent: CompressedExtent, len: u64) -> bool {
    let Some(Part { len: part_len, source: Source::Compressed(extents), .. }) = part else { return false };
    let (Some(first), Some(last)) = (extents.first(), extents.last()) else { return false };
    let adjacent = last.host < extent.host && extent.host <= last.end();
    let bounded = extent.end().get() - first.host.get().min(extent.end().get()) <= COMPRESSED_READ_MAX;
    if adjacent && bounded {
        extents.push(extent);
        *part_len += len;
    }
    adjacent && bounded
}
