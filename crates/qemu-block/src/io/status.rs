//! Where the data is, in one node and along a backing chain.
//!
//! QEMU: `bdrv_co_do_block_status`, `bdrv_co_common_block_status_above` (block/io.c).

use std::sync::Arc;

use super::align::widen;
use crate::driver::DriverKind;
use crate::error::Result;
use crate::node::{ChildRole, Node};
use crate::types::{BlockStatus, StatusFlags};

impl Node {
    /// The status of the extent at `offset`, at most `len` long, clipped at the end of the device.
    ///
    /// The length of the result is zero only when nothing was asked for, or nothing is there: at the end of the device.
    ///
    /// # Errors
    /// What the driver reports.
    pub async fn block_status(&self, offset: u64, len: u64) -> Result<BlockStatus> {
        self.check_open()?;
        let device_len = self.len();
        let end = offset.saturating_add(len).min(device_len);
        if offset >= end {
            return Ok(BlockStatus { len: 0, flags: StatusFlags::empty(), host_offset: None });
        }
        let wide = widen(&(offset..end), u64::from(self.limits().request_alignment.max(1)));
        let wide_len = wide.end.min(device_len) - wide.start;
        let mut status = self.ops().block_status(wide.start, wide_len).await?;
        let skipped = offset - wide.start;
        status.len = status.len.saturating_sub(skipped).clamp(1, end - offset);
        status.host_offset = status.host_offset.map(|host| host.saturating_add(skipped));
        if self.is_filter() || status.flags.contains(StatusFlags::PASSED_ON) {
            // What the node below says is complete.
            status.flags.remove(StatusFlags::PASSED_ON);
        } else if status.flags.intersects(StatusFlags::DATA | StatusFlags::ZERO) {
            status.flags |= StatusFlags::ALLOCATED;
        } else if self.driver().kind() == DriverKind::Format {
            self.see_what_backing_lacks(offset, &mut status);
        }
        Box::pin(self.see_holes_below(&mut status)).await;
        Ok(status)
    }

    /// An unallocated range reads as zeros where there is no backing file, or none so long.
    fn see_what_backing_lacks(&self, offset: u64, status: &mut BlockStatus) {
        let backing_len = self.child(ChildRole::Backing).map_or(0, |backing| backing.len());
        if offset >= backing_len {
            status.flags |= StatusFlags::ZERO;
        } else {
            status.len = status.len.min(backing_len - offset);
        }
    }

    /// Stored data may be a hole in the file that stores it.
    async fn see_holes_below(&self, status: &mut BlockStatus) {
        let recurse = StatusFlags::DATA | StatusFlags::RECURSE;
        let Some(host_offset) = status.host_offset else { return };
        if !status.flags.contains(recurse) || status.is_zero() {
            return;
        }
        let Some(storage) = self.data_child() else { return };
        // What the storage knows is a bonus; without it the range is plain data.
        let Ok(below) = storage.block_status(host_offset, status.len).await else { return };
        if below.len == 0 {
            return;
        }
        status.len = status.len.min(below.len);
        status.flags |= below.flags & StatusFlags::ZERO;
    }
}

/// What [`block_status_above`] found.
#[derive(Clone, Debug)]
pub struct ChainStatus {
    /// The status, as the deciding node has it.
    pub status: BlockStatus,
    /// How many backing links lie between the node asked and the deciding one, or the last one looked at.
    pub depth: u32,
    /// The node that decides what the range reads as; none when all of them leave it to what is below.
    pub node: Option<Arc<Node>>,
}

/// Walks `node` and its backing files, down to but not including `base`, until one decides what the range reads as.
///
/// Where a backing file is shorter than what is above it, the rest reads as zeros, and the short file decides that.
///
/// # Errors
/// What the drivers report.
pub async fn block_status_above(
    node: &Arc<Node>,
    base: Option<&Arc<Node>>,
    offset: u64,
    len: u64,
) -> Result<ChainStatus> {
    let is_base = |node: &Arc<Node>| base.is_some_and(|base| Arc::ptr_eq(base, node));
    let mut current = Arc::clone(node);
    let mut depth = 0;
    let mut len = len;
    loop {
        let status = current.block_status(offset, len).await?;
        if status.len == 0 && depth > 0 {
            let flags = StatusFlags::ZERO | StatusFlags::ALLOCATED;
            let status = BlockStatus { len, flags, host_offset: None };
            return Ok(ChainStatus { status, depth, node: Some(current) });
        }
        if status.is_allocated() || status.len == 0 {
            return Ok(ChainStatus { status, depth, node: Some(current) });
        }
        len = status.len;
        match current.child(ChildRole::Backing) {
            Some(backing) if !is_base(&backing) => current = backing,
            below => {
                // The last layer may still know that there is nothing below it and that the range reads as zeros.
                let node = (below.is_none() && status.is_zero()).then_some(current);
                return Ok(ChainStatus { status, depth, node });
            }
        }
        depth += 1;
    }
}
