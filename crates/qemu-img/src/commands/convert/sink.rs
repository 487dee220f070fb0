//! Where a copy goes: an image that is open, or a stream that is written front to back.

use std::ops::Range;

use qemu_block::backend::BlockBackend;
use qemu_block::compressed::CompressedRun;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::types::{WriteFlags, ZeroFlags};
use qemu_util::buf::{IoBytes, IoVec};
use qemu_util::primitive::Mutex;
use qemu_util::units::MIB;
use qemu_util::zero::is_zero;

use super::source::Sources;
use super::stdio::StdStream;

/// A zero request to an image is no longer than this, so that an interruption is noticed in between; in bytes.
const ZERO_REQUEST_MAX: u64 = 1 << 40;
/// The same for a stream, which takes every single zero.
const STREAMED_ZEROS_MAX: u64 = 16 * MIB;

/// The target of a copy.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sink<'a> {
    /// An image.
    Image(&'a BlockBackend),
    /// A stream. Whoever writes to it keeps to the order of offsets.
    Stream(&'a OutStream),
}

impl Sink<'_> {
    /// How long a zero request may be, in bytes.
    pub(super) fn zero_request_max(self) -> u64 {
        match self {
            Self::Image(_) => ZERO_REQUEST_MAX,
            Self::Stream(_) => STREAMED_ZEROS_MAX,
        }
    }

    /// As [`BlockBackend::write`].
    ///
    /// # Errors
    /// What writing fails with.
    pub(super) async fn write(self, offset: u64, data: IoBytes) -> Result<()> {
        match self {
            Self::Image(image) => image.write(offset, IoVec::from(data), WriteFlags::empty()).await,
            Self::Stream(stream) => stream.write(offset, data).await,
        }
    }

    /// As [`BlockBackend::write_zeroes`], giving space back where that is possible.
    ///
    /// # Errors
    /// What writing fails with.
    pub(super) async fn write_zeroes(self, offset: u64, len: u64) -> Result<()> {
        match self {
            Self::Image(image) => image.write_zeroes(offset, len, ZeroFlags::MAY_UNMAP).await,
            Self::Stream(stream) => stream.write_zeroes(offset, len).await,
        }
    }

    /// As [`BlockBackend::compress`].
    ///
    /// # Errors
    /// When compression fails, and for streams.
    pub(super) async fn compress(self, offset: u64, data: IoBytes) -> Result<CompressedRun> {
        match self {
            Self::Image(image) => image.compress(offset, IoVec::from(data)).await,
            Self::Stream(_) => Err(unsupported()),
        }
    }

    /// As [`BlockBackend::write_compressed`].
    ///
    /// # Errors
    /// What writing fails with.
    pub(super) async fn write_compressed(self, run: CompressedRun) -> Result<()> {
        match self {
            Self::Image(image) => image.write_compressed(run).await,
            Self::Stream(_) => Err(unsupported()),
        }
    }

    /// Has the kernel copy from the sources.
    ///
    /// # Errors
    /// `Unsupported` where that is impossible; otherwise what copying fails with.
    pub(super) async fn copy_range(self, sources: &Sources, offset: u64, len: u64) -> Result<()> {
        match self {
            Self::Image(image) => sources.copy_range(offset, len, image.node()).await,
            Self::Stream(_) => Err(unsupported()),
        }
    }
}

fn unsupported() -> BlockError {
    BlockError::new(ErrorKind::Unsupported, "Operation not supported")
}

/// The guest's data on its way to standard output: those ranges of it that were announced, one after the other.
///
/// What is announced and not written by the time something behind it is, is zeros. What is written and was not announced
/// must be zeros, which the reader knows of already.
#[derive(Debug)]
pub(super) struct OutStream {
    out: StdStream,
    plan: Mutex<Plan>,
}

impl OutStream {
    /// A stream of `ranges` of the guest's disk, in order and without overlaps, to `out`.
    pub(super) fn new(out: StdStream, ranges: Vec<Range<u64>>) -> Self {
        Self { out, plan: Mutex::new(Plan { ranges, current: 0, at: 0 }) }
    }

    async fn write(&self, offset: u64, data: IoBytes) -> Result<()> {
        let parts = self.plan.lock().advance(offset, data.len() as u64)?;
        let mut known = 0;
        for part in parts {
            match part {
                Part::Zeros(len) => self.out.write_zeroes(len).await?,
                Part::Given(range) => {
                    check_unannounced(&data[known..range.start])?;
                    known = range.end;
                    self.out.write(data.slice(range)).await?;
                }
            }
        }
        check_unannounced(&data[known..])
    }

    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        let mut parts = self.plan.lock().advance_to(offset)?;
        parts.extend(self.plan.lock().advance_to(offset.saturating_add(len))?);
        self.out.write_zeroes(parts.into_iter().sum()).await
    }

    /// Writes what is left of the announced ranges.
    ///
    /// # Errors
    /// What writing fails with.
    pub(super) async fn finish(&self) -> Result<()> {
        let parts = self.plan.lock().advance_to(u64::MAX)?;
        self.out.write_zeroes(parts.into_iter().sum()).await
    }
}

fn check_unannounced(data: &[u8]) -> Result<()> {
    if is_zero(data) {
        return Ok(());
    }
    Err(BlockError::new(ErrorKind::BadRequest, "the source has changed while it was read"))
}

/// What goes out for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// So many zeros.
    Zeros(u64),
    /// These bytes of the request.
    Given(Range<usize>),
}

#[derive(Debug)]
struct Plan {
    ranges: Vec<Range<u64>>,
    /// The first range that is not finished.
    current: usize,
    /// Everything before this offset has been dealt with.
    at: u64,
}

impl Plan {
    /// Deals with everything up to the end of a request.
    fn advance(&mut self, offset: u64, len: u64) -> Result<Vec<Part>> {
        let mut parts: Vec<Part> = self.advance_to(offset)?.into_iter().map(Part::Zeros).collect();
        let within = |at: u64| usize::try_from(at - offset).expect("inside a buffer");
        self.walk(offset.saturating_add(len), |range| parts.push(Part::Given(within(range.start)..within(range.end))));
        Ok(parts)
    }

    /// Deals with everything before `end` as zeros: the lengths of the announced parts.
    fn advance_to(&mut self, end: u64) -> Result<Vec<u64>> {
        if end < self.at {
            return Err(BlockError::new(ErrorKind::BadRequest, "a stream is written in the order of offsets"));
        }
        let mut parts = Vec::new();
        self.walk(end, |range| parts.push(range.end - range.start));
        Ok(parts)
    }

    fn walk(&mut self, end: u64, mut announced: impl FnMut(Range<u64>)) {
        while let Some(range) = self.ranges.get(self.current) {
            let part = range.start.max(self.at)..range.end.min(end);
            if part.start < part.end {
                announced(part);
            }
            if range.end > end {
                break;
            }
            self.current += 1;
        }
        self.at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_announced_goes_out_and_gaps_are_zeros() {
        let mut plan = Plan { ranges: vec![10..20, 30..50, 60..70], current: 0, at: 0 };
        assert_eq!(plan.advance(0, 5).expect("in order"), []);
        assert_eq!(plan.advance(15, 20).expect("in order"), [Part::Zeros(5), Part::Given(0..5), Part::Given(15..20)]);
        assert_eq!(plan.advance(40, 2).expect("in order"), [Part::Zeros(5), Part::Given(0..2)]);
        plan.advance(41, 1).expect_err("backwards");
        assert_eq!(plan.advance_to(u64::MAX).expect("in order"), [8, 10]);
    }

    #[test]
    fn data_that_was_not_announced_must_be_zeros() {
        check_unannounced(&[0; 600]).expect("known to read as zeros");
        check_unannounced(&[0, 1]).expect_err("unknown");
    }
}
