//! The filter `preallocate`: a file that grows gets more space than it needs, and gives back what it did not use when it
//! is closed. QEMU: block/preallocate.c.

use std::ops::Range;
use std::sync::Arc;

use qemu_block::driver::{BlockOps, IoFuture, OpenRequest};
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::options::Options;
use qemu_block::types::{Perm, PreallocMode, WriteFlags, ZeroFlags};
use qemu_util::buf::IoVec;
use qemu_util::primitive::Mutex;
use qemu_util::sync::CoMutex;

use crate::driver::FilterKind;
use crate::pass::{Filter, FilterNode, child_of};

/// Without `prealloc-align`, the file's length becomes a multiple of this.
const ALIGN_DEFAULT: u64 = 1 << 20;
/// Without `prealloc-size`, this much more is allocated.
const SIZE_DEFAULT: u64 = 128 << 20;
const SECTOR_LEN: u64 = 512;

/// The kind of the driver `preallocate`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preallocate;

impl FilterKind for Preallocate {
    const NAME: &'static str = "preallocate";

    fn open<'a>(&'a self, request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>> {
        Box::pin(async move {
            let child = child_of(request, "file")?;
            let (align, size) = take_options(&mut request.options, &child)?;
            let growing = CoMutex::new(());
            let open = OpenPreallocate { child, align, size, ends: Mutex::default(), growing };
            Ok(Box::new(FilterNode::new(open)) as Box<dyn BlockOps>)
        })
    }

    /// Who has space in advance must be the only one who changes the file.
    fn child_perms(&self, perm: Perm, shared: Perm) -> (Perm, Perm) {
        let alone = Perm::WRITE | Perm::RESIZE;
        if perm.contains(alone) { (perm, shared - alone) } else { (perm, shared) }
    }
}

fn take_options(options: &mut Options, child: &Arc<Node>) -> Result<(u64, u64)> {
    let align = options.take_size("prealloc-align")?.unwrap_or(ALIGN_DEFAULT);
    let size = options.take_size("prealloc-size")?.unwrap_or(SIZE_DEFAULT);
    let request_alignment = u64::from(child.limits().request_alignment.max(1));
    let not_aligned = |to: String| {
        let text = format!("prealloc-align parameter of preallocate filter is not aligned to {to}");
        BlockError::new(ErrorKind::InvalidArgument, text)
    };
    if !align.is_multiple_of(SECTOR_LEN) {
        return Err(not_aligned(SECTOR_LEN.to_string()));
    }
    if !align.is_multiple_of(request_alignment) {
        return Err(not_aligned(format!("underlying node request alignment ({request_alignment})")));
    }
    Ok((align.max(request_alignment), size))
}

/// What the file consists of.
#[derive(Clone, Copy, Debug)]
struct Ends {
    /// Where what the user has ends: the length of this node.
    data: u64,
    /// From here to the end of the file there are zeros for sure.
    zeros: u64,
    /// Where the file ends.
    file: u64,
}

#[derive(Debug)]
struct OpenPreallocate {
    child: Arc<Node>,
    align: u64,
    size: u64,
    /// None while others may change the file.
    ends: Mutex<Option<Ends>>,
    /// Held while the file gets longer or shorter, so that nobody writes to what is being made zeros.
    growing: CoMutex<()>,
}

impl OpenPreallocate {
    /// Takes note of a write up to `end`, and allocates more if the file ends before that. Tells whether the range reads
    /// as zeros now, if that was all the write was for.
    async fn grow(&self, start: u64, end: u64, only_zeros: bool) -> bool {
        let is_inside = |ends: &Option<Ends>| ends.is_none_or(|ends| end <= ends.data);
        if is_inside(&self.ends.lock()) {
            return false;
        }
        let _growing = self.growing.lock().await;
        let Some(mut ends) = *self.ends.lock() else { return false };
        if end <= ends.data {
            return false;
        }
        ends.data = end;
        if !only_zeros {
            ends.zeros = end;
        }
        let mut are_zeros = only_zeros && start >= ends.zeros;
        if end > ends.file {
            let from = if only_zeros { start.min(ends.file) } else { ends.file };
            let made = self.allocate(from, end).await;
            are_zeros = only_zeros && made.as_ref().is_some_and(|made| made.start <= start);
            if let Some(made) = made {
                ends.file = made.end;
            }
        }
        *self.ends.lock() = Some(ends);
        are_zeros
    }

    /// Makes zeros out of what follows `from`, up to some way behind `end`; returns where they are, or nothing if the
    /// file system cannot do that cheaply.
    async fn allocate(&self, from: u64, end: u64) -> Option<Range<u64>> {
        let grain = u64::from(self.child.limits().request_alignment.max(1));
        let start = from.checked_next_multiple_of(grain)?;
        let stop = start.max(end).checked_add(self.size)?;
        let stop = if self.align == 0 { stop } else { stop.checked_next_multiple_of(self.align)? };
        let made = self.child.write_zeroes(start, stop.checked_sub(start)?, ZeroFlags::NO_FALLBACK).await;
        made.ok().map(|()| start..stop)
    }

    /// Gives back what was allocated and not used.
    async fn give_back(&self) -> Result<()> {
        let _growing = self.growing.lock().await;
        let ends = *self.ends.lock();
        let Some(ends) = ends else { return Ok(()) };
        // An allocation that failed halfway may have made the file longer than is known.
        if self.child.len() > ends.data {
            let cut = self.child.truncate(ends.data, PreallocMode::Off).await;
            cut.map_err(|error| error.context("Failed to drop preallocation"))?;
        }
        *self.ends.lock() = Some(Ends { file: ends.data, ..ends });
        Ok(())
    }

    async fn resize(&self, len: u64, prealloc: PreallocMode) -> Result<()> {
        let ends = *self.ends.lock();
        if let Some(ends) = ends.filter(|ends| len > ends.data) {
            if prealloc == PreallocMode::Falloc && len <= ends.file {
                *self.ends.lock() = Some(Ends { data: len, ..ends });
                return Ok(());
            }
            if prealloc != PreallocMode::Falloc {
                self.give_back().await?;
            }
        }
        let _growing = self.growing.lock().await;
        self.child.truncate(len, prealloc).await?;
        if let Some(ends) = self.ends.lock().as_mut() {
            *ends = Ends { data: len, zeros: len, file: len };
        }
        Ok(())
    }

    async fn change_perm(&self, perm: Perm, shared: Perm) -> Result<()> {
        let is_alone = perm.contains(Perm::WRITE | Perm::RESIZE);
        if !is_alone {
            self.give_back().await?;
            *self.ends.lock() = None;
        }
        let (perm, shared) = Preallocate.child_perms(perm, shared);
        self.child.set_perm(perm, shared).await?;
        let mut ends = self.ends.lock();
        if is_alone && ends.is_none() {
            let len = self.child.len();
            *ends = Some(Ends { data: len, zeros: len, file: len });
        }
        Ok(())
    }
}

impl Filter for OpenPreallocate {
    fn child(&self) -> &Arc<Node> {
        &self.child
    }

    fn len(&self) -> u64 {
        let ends = *self.ends.lock();
        ends.map_or_else(|| self.child.len(), |ends| ends.data)
    }

    fn set_perm(&self, perm: Perm, shared: Perm) -> IoFuture<'_, ()> {
        Box::pin(self.change_perm(perm, shared))
    }

    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let end = offset.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
            self.grow(offset, end, false).await;
            self.child.write(offset, data, flags).await
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> IoFuture<'_, ()> {
        Box::pin(async move {
            // Space that is to be given up is not to be allocated.
            let only_zeros = !flags.contains(ZeroFlags::MAY_UNMAP);
            if self.grow(offset, offset.saturating_add(len), only_zeros).await {
                return Ok(());
            }
            self.child.write_zeroes(offset, len, flags).await
        })
    }

    fn truncate(&self, len: u64, prealloc: PreallocMode) -> IoFuture<'_, ()> {
        Box::pin(self.resize(len, prealloc))
    }

    fn close(&self) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let given_back = self.give_back().await;
            given_back.and(self.child.close().await)
        })
    }
}
