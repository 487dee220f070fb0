//! The load: a fixed number of requests, so many at a time, each where the step says.

use std::cell::Cell;

use futures_util::TryStreamExt;
use futures_util::stream::FuturesUnordered;
use qemu_block::backend::BlockBackend;
use qemu_block::error::BlockError;
use qemu_block::types::WriteFlags;
use qemu_util::buf::{BufPool, IoVec, IoVecMut};

use super::arguments::Arguments;
use crate::failure::Failure;

/// What requests do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// They read.
    Read,
    /// They write.
    Write {
        /// The byte that fills the buffers.
        pattern: u8,
    },
}

/// Hands out the offsets of requests.
#[derive(Debug)]
struct Cursor {
    /// How many requests are left before the next barrier.
    granted: Cell<u64>,
    offset: Cell<u64>,
    step: u64,
    image_len: u64,
}

impl Cursor {
    /// The offset of the next request.
    fn take(&self) -> Option<u64> {
        self.granted.set(self.granted.get().checked_sub(1)?);
        let offset = self.offset.get();
        // Both are below 2^63. An image without bytes has only one offset, at which every request fails.
        self.offset.set((offset + self.step).checked_rem(self.image_len).unwrap_or(0));
        Some(offset)
    }
}

/// A load on an image.
#[derive(Debug)]
pub(super) struct Load<'a> {
    arguments: &'a Arguments,
    backend: &'a BlockBackend,
    buffers: &'a BufPool,
    cursor: Cursor,
    /// Writes completed, for the flushes that wait for nobody.
    written: Cell<u64>,
}

impl<'a> Load<'a> {
    /// The load that `arguments` ask for.
    pub(super) fn new(arguments: &'a Arguments, backend: &'a BlockBackend, buffers: &'a BufPool) -> Self {
        let cursor = Cursor {
            granted: Cell::new(0),
            offset: Cell::new(arguments.offset),
            step: arguments.step,
            image_len: backend.len(),
        };
        Self { arguments, backend, buffers, cursor, written: Cell::new(0) }
    }

    /// Sends all requests and waits for them.
    ///
    /// # Errors
    /// A request or a flush fails; the others are given up then.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let count = self.arguments.count;
        let Some(interval) = self.arguments.flush_interval.filter(|_| self.arguments.drain) else {
            return self.run_batch(count).await;
        };
        // With draining, flushes part the requests into batches. As in the reference the last batch ends with one, so
        // the first batch is the short one.
        let mut left = count;
        while left > 0 {
            let batch = if left.is_multiple_of(interval) { interval } else { left % interval };
            self.run_batch(batch).await?;
            self.flush().await?;
            left -= batch;
        }
        Ok(())
    }

    /// Sends `count` requests. As many futures as requests may be in flight share the cursor, and each reuses its
    /// buffer, so that a request costs nothing here but taking an offset.
    async fn run_batch(&self, count: u64) -> Result<(), Failure> {
        self.cursor.granted.set(count);
        let lanes = count.min(self.arguments.depth);
        match self.arguments.mode {
            Mode::Read => (0..lanes).map(|_| self.read_lane()).collect::<FuturesUnordered<_>>().try_collect().await,
            Mode::Write { pattern } => {
                let mut buffer = self.buffers.take(self.buffer_len());
                buffer.fill(pattern);
                let data = IoVec::from(buffer);
                (0..lanes).map(|_| self.write_lane(&data)).collect::<FuturesUnordered<_>>().try_collect().await
            }
        }
    }

    async fn read_lane(&self) -> Result<(), Failure> {
        let mut buffer = IoVecMut::from(self.buffers.take(self.buffer_len()));
        while let Some(offset) = self.cursor.take() {
            buffer = self.backend.read(offset, buffer).await.map_err(|error| failed("request", &error))?;
        }
        Ok(())
    }

    async fn write_lane(&self, data: &IoVec) -> Result<(), Failure> {
        let undrained_interval = self.arguments.flush_interval.filter(|_| !self.arguments.drain);
        while let Some(offset) = self.cursor.take() {
            let written = self.backend.write(offset, data.clone(), WriteFlags::empty()).await;
            written.map_err(|error| failed("request", &error))?;
            self.written.set(self.written.get() + 1);
            if undrained_interval.is_some_and(|interval| self.written.get().is_multiple_of(interval)) {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), Failure> {
        self.backend.flush().await.map_err(|error| failed("flush", &error))
    }

    fn buffer_len(&self) -> usize {
        usize::try_from(self.arguments.buffer_len).expect("buffers are at most 2 GiB long")
    }
}

/// The reference tells the errno, and nothing else; so does this, since the text is compared.
fn failed(what: &str, error: &BlockError) -> Failure {
    Failure::new(format!("Failed {what}: {}", error.errno_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(offset: u64, step: u64, image_len: u64, count: u64) -> Vec<u64> {
        let cursor = Cursor { granted: Cell::new(count), offset: Cell::new(offset), step, image_len };
        std::iter::from_fn(|| cursor.take()).collect()
    }

    #[test]
    fn offsets_wrap_around_at_the_end() {
        assert_eq!(offsets(0, 4, 10, 5), [0, 4, 8, 2, 6]);
        // The first offset is taken as it is, so that one past the end is reported.
        assert_eq!(offsets(25, 4, 10, 3), [25, 9, 3]);
        assert_eq!(offsets(0, 4, 0, 2), [0, 0]);
        assert_eq!(offsets(0, 4, 10, 0), [0_u64; 0]);
    }
}
