//! Nodes of the block graph. QEMU: `BlockDriverState` and `BdrvChild` (include/block/block_int-common.h).

use std::sync::Arc;

use qemu_util::primitive::atomic::{AtomicBool, Ordering};

use crate::debug::{DebugEvent, DebugOps};
use crate::driver::{BlockDriver, BlockOps, DriverKind, FileIdentity};
use crate::error::{BlockError, ErrorKind, Result};
use crate::io::RangeLock;
use crate::manage::{AmendOps, BitmapOps, SnapshotOps};
use crate::registry::ProbeGuard;
use crate::types::{BlockLimits, CheckFixes, CheckReport, DriverInfo, OpenFlags, Perm};

/// What a child is to its parent. QEMU: `BdrvChildRole`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildRole {
    /// Stores the parent's data and metadata (`file`).
    Storage,
    /// Provides what the parent does not hold itself (`backing`).
    Backing,
    /// Stores the parent's guest data, apart from its metadata (`data-file`).
    Data,
    /// Stores the parent's metadata, apart from its data (`header`).
    Metadata,
}

/// A named link to a node below. QEMU: `BdrvChild`.
#[derive(Clone, Debug)]
pub struct Edge {
    /// QEMU's name of the child: `file`, `backing`, `data-file`.
    pub name: &'static str,
    /// What the child is for.
    pub role: ChildRole,
    /// The child.
    pub node: Arc<Node>,
}

/// An open image in the graph: a driver's state plus what is common to all of them (request checks, alignment,
/// serialisation of overlapping unaligned writes).
///
/// The request methods are in [`crate::io`]. QEMU: `BlockDriverState`; renamed because "state" says nothing.
#[derive(Debug)]
pub struct Node {
    driver: Arc<dyn BlockDriver>,
    ops: Box<dyn BlockOps>,
    filename: String,
    flags: OpenFlags,
    /// Set for images that were taken for raw because nothing else fitted: what must not appear in their first sector.
    guard: Option<ProbeGuard>,
    closed: AtomicBool,
    /// Whether the driver listens to debug events.
    listens: bool,
    /// The node that stores the image, if its driver listens to debug events.
    listener: Option<Arc<Node>>,
    /// Held shared by writes and exclusively by read-modify-write cycles, over the range they touch.
    pub(crate) writes: RangeLock,
}

impl Node {
    /// Puts an open image into the graph.
    pub fn new(driver: Arc<dyn BlockDriver>, ops: Box<dyn BlockOps>, filename: String, flags: OpenFlags) -> Arc<Self> {
        Self::with_guard(driver, ops, filename, flags, None)
    }

    /// Puts an open image into the graph; `guard` restricts writes to its first sector if it was probed as raw.
    pub(crate) fn with_guard(
        driver: Arc<dyn BlockDriver>,
        ops: Box<dyn BlockOps>,
        filename: String,
        flags: OpenFlags,
        guard: Option<ProbeGuard>,
    ) -> Arc<Self> {
        let closed = AtomicBool::new(false);
        let listens = ops.debugging().is_some();
        let storage = ops.children().into_iter().find(|edge| edge.role == ChildRole::Storage);
        let listener = storage.map(|edge| edge.node).filter(|node| node.listens);
        let writes = RangeLock::new();
        let node = Arc::new(Self { driver, ops, filename, flags, guard, closed, listens, listener, writes });
        tracing::trace!(
            name: "bdrv_open_common",
            bs = format_args!("{node:p}"),
            filename = node.filename.as_str(),
            flags = format_args!("{:#x}", flags.bits()),
            format_name = node.driver.name(),
        );
        node
    }

    /// The driver that opened it.
    pub fn driver(&self) -> &Arc<dyn BlockDriver> {
        &self.driver
    }

    /// The open image, for the request path and for operations without a wrapper here.
    pub(crate) fn ops(&self) -> &dyn BlockOps {
        &*self.ops
    }

    /// The name it was opened by.
    pub fn filename(&self) -> &str {
        &self.filename
    }

    /// How it was opened.
    pub fn flags(&self) -> OpenFlags {
        self.flags
    }

    /// Whether nobody said what format this is and it was taken for raw, so that its first sector must not be made to
    /// look like another format.
    pub fn is_probed_raw(&self) -> bool {
        self.guard.is_some()
    }

    /// What must not appear in the first sector, if that is restricted.
    pub(crate) fn guard(&self) -> Option<&ProbeGuard> {
        self.guard.as_ref()
    }

    /// Refuses requests after [`Node::close`].
    pub(crate) fn check_open(&self) -> Result<()> {
        // Relaxed: requests that race with a close may still reach the driver, which refuses them by itself.
        if self.closed.load(Ordering::Relaxed) {
            return Err(BlockError::new(ErrorKind::BadRequest, format!("Image '{}' is closed", self.filename)));
        }
        Ok(())
    }

    /// Whether writes are refused.
    pub fn is_read_only(&self) -> bool {
        !self.flags.contains(OpenFlags::WRITE)
    }

    /// Current length in bytes.
    pub fn len(&self) -> u64 {
        self.ops.len()
    }

    /// Whether the device has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What requests to the driver look like.
    pub fn limits(&self) -> BlockLimits {
        self.ops.limits()
    }

    /// The nodes below.
    pub fn children(&self) -> Vec<Edge> {
        self.ops.children()
    }

    /// The child that stores the guest's data: a data file, if there is one, else the storage.
    pub fn data_child(&self) -> Option<Arc<Node>> {
        self.child(ChildRole::Data).or_else(|| self.child(ChildRole::Storage))
    }

    /// The child with that role. The backing file of a filter is that of the node below it.
    pub fn child(&self, role: ChildRole) -> Option<Arc<Node>> {
        let own = |role| self.children().into_iter().find(|edge| edge.role == role).map(|edge| edge.node);
        match role {
            ChildRole::Backing if self.is_filter() => own(ChildRole::Storage)?.child(role),
            _ => own(role),
        }
    }

    /// Whether the node only passes on what another one stores.
    pub fn is_filter(&self) -> bool {
        matches!(self.driver.kind(), DriverKind::Filter { .. })
    }

    /// Identity of the file behind this very node.
    pub fn identity(&self) -> Option<FileIdentity> {
        self.ops.identity()
    }

    /// Facts about the image.
    ///
    /// # Errors
    /// Reading the metadata behind them may fail.
    pub async fn info(&self) -> Result<DriverInfo> {
        self.ops.info().await
    }

    /// Bytes that the image occupies on the host: its own and those of its storage and its data file, not those of
    /// backing files.
    ///
    /// # Errors
    /// As [`Node::info`].
    pub async fn allocated_bytes(&self) -> Result<Option<u64>> {
        let own = self.info().await?.allocated_bytes;
        let mut total = own;
        for edge in self.children().into_iter().filter(|edge| edge.role != ChildRole::Backing) {
            if let Some(bytes) = Box::pin(edge.node.allocated_bytes()).await? {
                total = Some(total.unwrap_or(0) + bytes);
            }
        }
        Ok(total)
    }

    /// Changes what the node is used for and shared for; takes image locks.
    ///
    /// # Errors
    /// `Locked` when another process's use excludes ours.
    pub async fn set_perm(&self, perm: Perm, shared: Perm) -> Result<()> {
        self.ops.set_perm(perm, shared).await
    }

    /// Checks the consistency of the metadata.
    ///
    /// # Errors
    /// `Unsupported` when the format has nothing to check; others when checking was impossible.
    pub async fn check(&self, fixes: CheckFixes) -> Result<CheckReport> {
        self.ops.check(fixes).await
    }

    /// Its internal snapshots, if the format has such.
    pub fn snapshots(&self) -> Option<&dyn SnapshotOps> {
        self.ops.snapshots()
    }

    /// Its persistent bitmaps, if the format has such.
    pub fn bitmaps(&self) -> Option<&dyn BitmapOps> {
        self.ops.bitmaps()
    }

    /// Changes of its own properties, if the format has any that can be changed.
    pub fn amending(&self) -> Option<&dyn AmendOps> {
        self.ops.amending()
    }

    /// The listener to debug events, if the driver is one.
    pub fn debugging(&self) -> Option<&dyn DebugOps> {
        if self.listens { self.ops.debugging() } else { None }
    }

    /// Tells the driver that a request has come to this point, at which it may be stopped. Costs a look at a flag where
    /// nobody listens.
    pub async fn debug_event(&self, event: DebugEvent) {
        if let Some(listener) = self.debugging() {
            listener.event(event).await;
        }
    }

    /// As [`Node::debug_event`], for the node that stores this one's image.
    pub(crate) async fn debug_event_below(&self, event: DebugEvent) {
        if let Some(listener) = &self.listener {
            listener.debug_event(event).await;
        }
    }

    /// Writes everything back and closes the node and those below it. A second call does nothing.
    ///
    /// # Errors
    /// The first failure of the steps, all of which are tried.
    pub async fn close(&self) -> Result<()> {
        // Relaxed: the flag only picks the one caller that closes; it publishes no other memory.
        if self.closed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.ops.close().await
    }
}
