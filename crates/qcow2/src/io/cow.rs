//! Filling clusters that a write covers only in part (copy on write).

use std::ops::Range;

use futures_util::future::join;
use qemu_block::debug::DebugEvent;
use qemu_block::error::Result;
use qemu_util::buf::{IoBuf, IoVec};

use super::copy::Payload;
use super::data::Place;
use crate::format::l2::L2Mapping;
use crate::format::subclusters::Subcluster;
use crate::image::{Image, ZEROS_BYTES};

/// Padding of zeros up to this many bytes is written together with the data; more is worth a request of its own.
const INLINE_ZEROS_MAX: u64 = 16 << 10;
/// What is written at the end of a fresh cluster so that the file extends over all of it.
const EXTEND_BYTES: u64 = 4096;

/// What surrounds the data in its clusters.
enum Padding {
    Nothing,
    Zeros(u64),
    Old(IoVec),
}

impl Image {
    /// Writes `payload` to new clusters, and around it what the guest saw there before: `head` goes to `start`.
    pub(super) async fn write_with_padding(
        &self,
        start: Place,
        fresh: bool,
        head: Range<u64>,
        payload: Payload,
        tail: Range<u64>,
    ) -> Result<()> {
        let (before, after) = join(self.padding(head.clone()), self.padding(tail.clone())).await;
        let (before, after) = (before?, after?);
        // Zeros on the host are zeros to the guest only without encryption.
        let fresh = fresh && !self.data.is_encrypted();
        let payload_place = start.plus(head.end - head.start);
        let tail_place = payload_place.plus(tail.start - head.end);
        let mut vec = IoVec::default();
        let mut vec_place = payload_place;
        match before {
            Padding::Nothing => {}
            // Nothing was ever written there, so it reads as zeros already.
            Padding::Zeros(_) if fresh => {}
            Padding::Zeros(len) if len <= INLINE_ZEROS_MAX => {
                vec = self.zero_vec(len);
                vec_place = start;
            }
            Padding::Zeros(len) => self.data.write_zeroes(start, len).await?,
            Padding::Old(old) => {
                vec = old;
                vec_place = start;
            }
        }
        let mut late_zeros = 0;
        let old_tail = match after {
            Padding::Nothing => IoVec::default(),
            Padding::Zeros(len) if len <= INLINE_ZEROS_MAX => self.zero_vec(len),
            Padding::Zeros(len) => {
                late_zeros = len;
                IoVec::default()
            }
            Padding::Old(old) => old,
        };
        self.write_pieces(vec, vec_place, payload, payload_place, old_tail).await?;
        self.write_late_zeros(tail_place, late_zeros, fresh).await
    }

    /// Writes what comes before, the payload, and what comes after: in one request if all of it is in memory.
    async fn write_pieces(
        &self,
        before: IoVec,
        before_place: Place,
        payload: Payload,
        payload_place: Place,
        after: IoVec,
    ) -> Result<()> {
        match payload {
            Payload::Data(data) => {
                let mut whole = before;
                whole.append(data);
                whole.append(after);
                self.data.write(before_place, whole).await
            }
            Payload::Copy(source, len) => {
                if !before.is_empty() {
                    self.data.write(before_place, before).await?;
                }
                self.data.copy_from(payload_place, source, len).await?;
                if !after.is_empty() {
                    self.data.write(payload_place.plus(len), after).await?;
                }
                Ok(())
            }
        }
    }

    /// Makes the rest of the last cluster read as zeros. In a fresh cluster it does once the file extends over it.
    async fn write_late_zeros(&self, place: Place, len: u64, fresh: bool) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        if !fresh {
            return self.data.write_zeroes(place, len).await;
        }
        let end = place.host.get() + len;
        if self.data.len() >= end {
            return Ok(());
        }
        let n = EXTEND_BYTES.min(len);
        self.data.event(DebugEvent::CowWrite).await;
        self.data.write(place.plus(len - n), self.zero_vec(n)).await
    }

    /// What the guest sees in `range`, which lies inside one cluster that is about to be replaced.
    async fn padding(&self, range: Range<u64>) -> Result<Padding> {
        if range.is_empty() {
            return Ok(Padding::Nothing);
        }
        let len = range.end - range.start;
        // Nothing is visible past the end of the disk or, without data of its own, past that of the backing file.
        let visible_end = range.end.min(self.size().max(range.start));
        let (first, end) = self.clusters_of(range.start, len);
        let run = self.meta.lock().await.lookup_run(first, end).await?;
        let has_data = match run.mapping {
            L2Mapping::Zero { .. } => false,
            L2Mapping::Unallocated => self.backing.as_ref().is_some_and(|backing| backing.len() > range.start),
            L2Mapping::Standard { .. } | L2Mapping::Compressed(_) => true,
            L2Mapping::Mixed { .. } => run.stretches(self.geo, &range).any(|stretch| match stretch.kind {
                Subcluster::Data => true,
                Subcluster::Zero => false,
                Subcluster::Unallocated => self.backing.as_ref().is_some_and(|it| it.len() > stretch.range.start),
            }),
        };
        if !has_data || visible_end == range.start {
            return Ok(Padding::Zeros(len));
        }
        let visible = usize::try_from(visible_end - range.start).expect("at most a cluster");
        let buf: IoBuf = self.services.buffers.take(visible);
        self.data.event(DebugEvent::CowRead).await;
        let mut old = self.read_mapped(range.start, buf.into()).await?.freeze();
        old.append(self.zero_vec(range.end - visible_end));
        Ok(Padding::Old(old))
    }

    /// `len` bytes of zeros that share memory.
    pub(super) fn zero_vec(&self, len: u64) -> IoVec {
        let mut left = usize::try_from(len).expect("padding is at most a cluster");
        let mut vec = IoVec::default();
        while left > 0 {
            let n = left.min(ZEROS_BYTES);
            vec.push(self.zeros.slice(0..n));
            left -= n;
        }
        vec
    }
}
