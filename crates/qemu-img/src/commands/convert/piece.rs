//! One piece of data on its way to the target: which parts of it are written, and how.

use qemu_block::compressed::{CompressedCluster, CompressedRun};
use qemu_block::error::Result;
use qemu_util::buf::IoBytes;
use qemu_util::zero::run_length;

use super::plan::ZeroRule;
use super::sink::Sink;
use super::sparse::ZeroDetection;

/// How data is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer {
    /// Where zeros inside data are looked for; none when all of it is written as it is.
    pub(super) detection: Option<ZeroDetection>,
    /// The target's cluster size in bytes, if data is compressed.
    pub(super) compressed_cluster: Option<u64>,
    /// What happens to zeros.
    pub(super) zeros: ZeroRule,
}

/// One request to the target.
#[derive(Debug)]
pub(super) enum Step {
    /// Write data.
    Data {
        /// Where.
        offset: u64,
        /// What.
        data: IoBytes,
    },
    /// Store compressed clusters.
    Compressed(CompressedRun),
    /// Write zeros.
    Zero {
        /// Where.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
}

impl Step {
    /// How many bytes of data are stored.
    pub(super) fn stored_len(&self) -> u64 {
        let len = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        match self {
            Self::Data { data, .. } => len(data.len()),
            Self::Compressed(run) => run
                .clusters
                .iter()
                .map(|cluster| match cluster {
                    CompressedCluster::Compressed(bytes) => len(bytes.len()),
                    CompressedCluster::Plain(data) => len(data.len()),
                    CompressedCluster::Zero => 0,
                })
                .sum(),
            Self::Zero { .. } => 0,
        }
    }
}

impl Writer {
    /// Whether zeros that are known without reading have to be written from a buffer.
    pub(super) fn needs_zeros(self) -> bool {
        self.zeros == ZeroRule::Store
    }

    /// Finds out what to write of a piece of data, and compresses it. Nothing reaches the image, so this may run before
    /// it is the piece's turn.
    ///
    /// QEMU: `convert_co_write` (qemu-img.c)
    ///
    /// # Errors
    /// When compression fails.
    pub(super) async fn plan(self, target: Sink<'_>, offset: u64, data: IoBytes) -> Result<Vec<Step>> {
        let Some(detection) = self.detection else {
            return self.plan_stored(target, offset, data).await;
        };
        let mut steps = Vec::new();
        let mut at = 0;
        while at < data.len() {
            let here = offset + at as u64;
            let (is_data, len) = match self.compressed_cluster {
                // Compressed clusters are written whole: one that holds anything is data.
                Some(cluster) => {
                    let (zero, len) = run_length(&data[at..], usize::try_from(cluster).unwrap_or(usize::MAX));
                    (!zero, len)
                }
                None => detection.first_run(here, &data[at..]),
            };
            match (is_data, self.zeros) {
                (true, _) => steps.push(self.data_step(target, here, data.slice(at..at + len)).await?),
                (false, ZeroRule::Skip) => {}
                (false, _) => steps.push(Step::Zero { offset: here, len: len as u64 }),
            }
            at += len;
        }
        Ok(steps)
    }

    /// As [`Writer::plan`] for data that is written whatever it is.
    ///
    /// # Errors
    /// When compression fails.
    pub(super) async fn plan_stored(self, target: Sink<'_>, offset: u64, data: IoBytes) -> Result<Vec<Step>> {
        Ok(vec![self.data_step(target, offset, data).await?])
    }

    async fn data_step(self, target: Sink<'_>, offset: u64, data: IoBytes) -> Result<Step> {
        if self.compressed_cluster.is_none() {
            return Ok(Step::Data { offset, data });
        }
        target.compress(offset, data).await.map(Step::Compressed)
    }
}
