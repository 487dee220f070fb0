//! Compressed clusters: reading, compressing and storing them, with the computing done on all processors.

use std::ops::Range;

use futures_util::future::{join_all, try_join_all};
use qemu_block::compressed::{CompressedCluster, CompressedRun};
use qemu_block::debug::DebugEvent;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::io::RangeMode;
use qemu_block::types::ZeroFlags;
use qemu_util::buf::{BufPool, IoBytes, IoVec, IoVecMut};
use qemu_util::zero::is_zero;

use super::copy::Payload;
use super::data::Place;
use crate::compress::{self, Level};
use crate::error::FormatError;
use crate::format::header::CompressionType;
use crate::format::l2::{CompressedExtent, L2Entry};
use crate::image::Image;
use crate::meta::Meta;
use crate::units::{GuestCluster, GuestOffset, HostOffset};

/// Clusters that one job compresses or decompresses at least: below that the hand-over costs too much.
const JOB_BYTES_MIN: usize = 128 << 10;

/// One cluster to decompress: its bytes, and the part of it that is wanted.
struct Inflate {
    place: Place,
    input: IoBytes,
    skip: usize,
    output: IoVecMut,
}

impl Image {
    /// Reads compressed clusters that were found to be near one another on the host.
    pub(super) async fn read_compressed(
        &self,
        offset: u64,
        extents: &[CompressedExtent],
        mut buf: IoVecMut,
    ) -> Result<IoVecMut> {
        let (Some(first), Some(last)) = (extents.first(), extents.last()) else { return Ok(buf) };
        let start = first.host.get();
        // The last sector of the last compressed cluster may be cut short by the end of the file.
        let end = last.end().get().min(self.data.len());
        if last.host.get() >= end {
            self.data.check_inside(Place { host: last.host, guest: offset }, 1)?;
        }
        let len = usize::try_from(end - start).expect("bounded when the extents were gathered");
        let input = self.services.buffers.take(len);
        self.data.event(DebugEvent::ReadCompressed).await;
        let input = self.data.read_compressed(first.host, input.into()).await?;
        let input =
            input.into_single().map_err(|_| BlockError::new(ErrorKind::Io, "qcow2: a buffer came back in pieces"))?;
        let input = input.freeze();
        let mut jobs = Vec::with_capacity(extents.len());
        let mut at = offset;
        for extent in extents {
            let skip = self.geo.in_guest_cluster(GuestOffset::new(at));
            let wanted = buf.len().min(usize::try_from(self.geo.cluster_size() - skip).expect("a cluster"));
            let rest = buf.split_off(wanted);
            let from = usize::try_from(extent.host.get() - start).expect("inside the input");
            let to = usize::try_from(extent.end().get().min(end) - start).expect("inside the input");
            let output = std::mem::replace(&mut buf, rest);
            jobs.push(Inflate {
                place: Place { host: extent.host, guest: at },
                input: input.slice(from..to),
                skip: usize::try_from(skip).expect("a cluster"),
                output,
            });
            at += wanted as u64;
        }
        self.inflate_all(jobs).await
    }

    /// Decompresses on the worker threads, several clusters a job.
    async fn inflate_all(&self, mut jobs: Vec<Inflate>) -> Result<IoVecMut> {
        let (kind, cluster_len, pool) = (self.compression(), self.geo.cluster_len(), self.services.buffers.clone());
        let mut runs = Vec::new();
        for range in self.job_ranges(jobs.len()).into_iter().rev() {
            let some = jobs.split_off(range.start);
            let pool = pool.clone();
            runs.push(self.services.cpu.run(move || inflate_some(kind, cluster_len, some, &pool)));
        }
        runs.reverse();
        let mut whole = IoVecMut::default();
        try_join_all(runs).await?.into_iter().for_each(|part| whole.append(part));
        Ok(whole)
    }

    /// Divides `n_clusters` so that every processor has something to do and no job is tiny.
    fn job_ranges(&self, n_clusters: usize) -> Vec<Range<usize>> {
        let n_min = (JOB_BYTES_MIN / self.geo.cluster_len()).max(1);
        let n_processors = self.services.cpu.threads_max();
        let n_per_job = n_clusters.div_ceil(n_processors).max(n_min);
        (0..n_clusters).step_by(n_per_job).map(|start| start..n_clusters.min(start + n_per_job)).collect()
    }

    /// Compresses the clusters of `data`, which starts at a cluster; the last one may be cut by the end of the disk.
    pub(crate) async fn compress_guest(&self, offset: u64, data: IoVec) -> Result<CompressedRun> {
        self.check_compressible()?;
        let at_end = offset + data.len() as u64 >= self.size();
        let aligned = self.geo.in_guest_cluster(GuestOffset::new(offset)) == 0;
        if !aligned || (!at_end && !data.len().is_multiple_of(self.geo.cluster_len())) {
            let text = "qcow2: compressed writes need whole clusters";
            return Err(BlockError::new(ErrorKind::InvalidArgument, text));
        }
        let (kind, cluster_len) = (self.compression(), self.geo.cluster_len());
        let level = self.compression_level;
        let n_clusters = data.len().div_ceil(cluster_len);
        let runs = self.job_ranges(n_clusters).into_iter().map(|range| {
            let end = data.len().min(range.end * cluster_len);
            let some = data.slice(range.start * cluster_len..end);
            let pool = self.services.buffers.clone();
            self.services.cpu.run(move || deflate_some((kind, level), cluster_len, &some, &pool))
        });
        let clusters = join_all(runs).await.into_iter().flatten().collect();
        Ok(CompressedRun { offset, clusters })
    }

    /// Fails when compressed clusters would lay bare what the image is to hide: they are not encrypted.
    fn check_compressible(&self) -> Result<()> {
        self.check_no_data_file()?;
        if self.data.is_encrypted() {
            let text = "Compression and encryption not supported at the same time";
            return Err(BlockError::new(ErrorKind::Unsupported, text));
        }
        Ok(())
    }

    /// Stores compressed clusters: one request for all that follow one another on the host.
    pub(crate) async fn write_compressed_guest(&self, run: CompressedRun) -> Result<()> {
        self.check_writable()?;
        self.check_compressible()?;
        let len = (run.clusters.len() as u64).saturating_mul(self.geo.cluster_size());
        if len == 0 {
            return Ok(());
        }
        let range = self.cluster_range(run.offset, len);
        let _range = self.ranges.lock(range, RangeMode::Exclusive).await;
        let mut at = self.geo.guest_cluster(GuestOffset::new(run.offset));
        let mut batch = Batch::default();
        for cluster in run.clusters {
            match cluster {
                CompressedCluster::Compressed(bytes) => batch.clusters.push((at, bytes)),
                CompressedCluster::Plain(data) => {
                    self.store_batch(std::mem::take(&mut batch)).await?;
                    let start = self.geo.guest_start(at).get();
                    self.write_allocating(start, data.len() as u64, &Payload::Data(data)).await?;
                }
                CompressedCluster::Zero => {
                    self.store_batch(std::mem::take(&mut batch)).await?;
                    self.store_zero(at).await?;
                }
            }
            at = at.next();
        }
        self.store_batch(batch).await
    }

    /// Makes a cluster read as zeros in a compressed image. The caller holds the range.
    async fn store_zero(&self, at: GuestCluster) -> Result<()> {
        let start = self.geo.guest_start(at).get();
        match self.zero_clusters(start, self.geo.cluster_size(), ZeroFlags::MAY_UNMAP).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let len = self.geo.cluster_size();
                self.write_allocating(start, len, &Payload::Data(self.zero_vec(len))).await
            }
            other => other,
        }
    }

    /// Reserves space for the batch, writes it, and links the clusters.
    async fn store_batch(&self, batch: Batch) -> Result<()> {
        if batch.clusters.is_empty() {
            return Ok(());
        }
        let places = {
            let mut meta = self.meta.lock().await;
            match self.place_batch(&mut meta, &batch).await {
                Ok(places) => places,
                Err(error) => return Err(self.note_failure(&mut meta, error).await),
            }
        };
        self.data.event(DebugEvent::WriteCompressed).await;
        let write = self.health.begin_data_write();
        let written = self.write_batch(&batch, &places).await;
        write.finish();
        let mut meta = self.meta.lock().await;
        if let Err(error) = written {
            // Nothing refers to the bytes. Should giving them back fail, too, they leak.
            let _leaked = self.unplace(&mut meta, &batch, &places).await;
            return Err(error);
        }
        for (i, ((at, bytes), place)) in batch.clusters.iter().zip(&places).enumerate() {
            let entry = L2Entry::compressed(meta.layout, *place, bytes.len() as u64);
            let entry = entry.expect("the place was checked when it was chosen");
            if let Err((error, _)) = meta.link(*at, 1, |_| entry).await {
                let rest = Batch { clusters: batch.clusters[i..].to_vec() };
                let _leaked = self.unplace(&mut meta, &rest, &places[i..]).await;
                return Err(self.note_failure(&mut meta, error).await);
            }
        }
        Ok(())
    }

    /// Finds room for each cluster of the batch.
    async fn place_batch(&self, meta: &mut Meta, batch: &Batch) -> Result<Vec<HostOffset>> {
        if meta.too_much_released() {
            meta.flush().await?;
        }
        for (at, _) in &batch.clusters {
            meta.prepare_tables(*at, at.next()).await?;
        }
        let mut places = Vec::with_capacity(batch.clusters.len());
        for (_, bytes) in &batch.clusters {
            let len = bytes.len() as u64;
            let placed = match meta.allocate_bytes(len).await {
                Ok(place) if L2Entry::compressed(meta.layout, place, len).is_some() => {
                    places.push(place);
                    Ok(())
                }
                Ok(place) => {
                    places.push(place);
                    let text = "qcow2: the image file is too large for compressed clusters";
                    Err(BlockError::from_errno(libc::EFBIG, text))
                }
                Err(error) => Err(error),
            };
            if let Err(error) = placed {
                let _leaked = self.unplace(meta, batch, &places).await;
                return Err(error);
            }
        }
        Ok(places)
    }

    /// Gives back the room of the clusters that have a place.
    async fn unplace(&self, meta: &mut Meta, batch: &Batch, places: &[HostOffset]) -> Result<()> {
        for ((_, bytes), place) in batch.clusters.iter().zip(places) {
            meta.unreserve_bytes(*place, bytes.len() as u64).await?;
        }
        Ok(())
    }

    /// Writes the batch, neighbours in one request, and waits for all of it.
    async fn write_batch(&self, batch: &Batch, places: &[HostOffset]) -> Result<()> {
        let mut requests: Vec<(HostOffset, IoVec)> = Vec::new();
        for ((_, bytes), place) in batch.clusters.iter().zip(places) {
            match requests.last_mut() {
                Some((start, vec)) if start.get() + vec.len() as u64 == place.get() => vec.push(bytes.clone()),
                _ => requests.push((*place, bytes.clone().into())),
            }
        }
        let writes = requests.into_iter().map(|(start, vec)| self.data.write_compressed(start, vec));
        join_all(writes).await.into_iter().collect()
    }
}

/// Compressed clusters to be stored together.
#[derive(Default)]
struct Batch {
    clusters: Vec<(GuestCluster, IoBytes)>,
}

fn inflate_some(kind: CompressionType, cluster_len: usize, jobs: Vec<Inflate>, pool: &BufPool) -> Result<IoVecMut> {
    let mut whole = IoVecMut::default();
    for job in jobs {
        whole.append(inflate(kind, cluster_len, job, pool)?);
    }
    Ok(whole)
}

/// Decompresses one cluster. Damage is an error of the data: the metadata may be fine.
fn inflate(kind: CompressionType, cluster_len: usize, job: Inflate, pool: &BufPool) -> Result<IoVecMut> {
    let Place { host, guest } = job.place;
    inflate_job(kind, cluster_len, job, pool).map_err(|damage| {
        let text = format!("qcow2: guest offset {guest:#x}, compressed at host offset {:#x}: {damage}", host.get());
        BlockError::new(ErrorKind::Io, text)
    })
}

/// Decompresses straight into the caller's buffer if all of the cluster is wanted in one piece.
fn inflate_job(
    kind: CompressionType,
    cluster_len: usize,
    job: Inflate,
    pool: &BufPool,
) -> Result<IoVecMut, FormatError> {
    let Inflate { input, skip, mut output, .. } = job;
    if let Some(whole) = output.single_mut()
        && whole.len() == cluster_len
    {
        compress::decompress(kind, &input, whole)?;
        return Ok(output);
    }
    let mut scratch = pool.take(cluster_len);
    compress::decompress(kind, &input, &mut scratch)?;
    let wanted = skip..skip + output.len();
    let wanted = scratch.get(wanted).ok_or(FormatError::Decompress)?;
    output.copy_in(0, wanted);
    Ok(output)
}

fn deflate_some(
    how: (CompressionType, Level),
    cluster_len: usize,
    data: &IoVec,
    pool: &BufPool,
) -> Vec<CompressedCluster> {
    let starts = (0..data.len()).step_by(cluster_len);
    let cluster = |start: usize| data.slice(start..data.len().min(start + cluster_len));
    starts.map(|start| deflate(how, cluster_len, cluster(start), pool)).collect()
}

fn deflate(how: (CompressionType, Level), cluster_len: usize, data: IoVec, pool: &BufPool) -> CompressedCluster {
    let (kind, level) = how;
    if data.parts().iter().all(|part| is_zero(part)) {
        return CompressedCluster::Zero;
    }
    let mut output = pool.take(cluster_len);
    let len = match data.parts() {
        [whole] if whole.len() == cluster_len => compress::compress(kind, level, whole, &mut output),
        _ => {
            // Several pieces, or the end of the disk: put together, and padded with zeros.
            let mut input = pool.take_zeroed(cluster_len);
            data.copy_out(0, &mut input[..data.len()]);
            compress::compress(kind, level, &input, &mut output)
        }
    };
    match len {
        Some(len) => {
            output.truncate(len);
            CompressedCluster::Compressed(output.freeze())
        }
        None => CompressedCluster::Plain(data),
    }
}
