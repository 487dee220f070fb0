//! The image file as metadata sees it: every write is guarded, so that one that is given up is noticed.

use std::sync::Arc;

use qemu_block::debug::DebugEvent;
use qemu_block::error::{BlockError, Result};
use qemu_block::node::Node;
use qemu_block::types::{OpenFlags, WriteFlags, ZeroFlags};
use qemu_util::buf::{IoBuf, IoVec};

use crate::health::{Health, IoGuard};
use crate::units::HostOffset;

/// The file and the image's health. Clones refer to the same ones.
#[derive(Clone, Debug)]
pub(crate) struct MetaFile {
    node: Arc<Node>,
    /// The file with the data, if it is another one.
    data: Option<Arc<Node>>,
    health: Arc<Health>,
}

impl MetaFile {
    pub(crate) fn new(node: Arc<Node>, data: Option<Arc<Node>>, health: Arc<Health>) -> Self {
        Self { node, data, health }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(crate) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Tells a listener below that work on metadata has come to this point.
    pub(crate) async fn event(&self, event: DebugEvent) {
        self.node.debug_event(event).await;
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.node.len()
    }

    pub(crate) async fn read_bytes(&self, offset: u64, len: usize) -> Result<IoBuf> {
        self.node.read_bytes(offset, len).await
    }

    /// The length of the hole at `offset`, at most `len`; zero when there is none, or nobody knows.
    pub(crate) async fn zeros_at(&self, offset: u64, len: u64) -> u64 {
        match self.node.block_status(offset, len).await {
            Ok(status) if status.is_zero() => status.len,
            _ => 0,
        }
    }

    /// Writes metadata. If the future is dropped meanwhile the image is poisoned.
    pub(crate) async fn write(&self, offset: u64, data: impl Into<IoVec>) -> Result<()> {
        let guard = self.health.begin_metadata_write();
        let written = self.node.write(offset, data.into(), WriteFlags::empty()).await;
        guard.finish();
        written
    }

    /// Makes space for metadata read as zeros; guarded as [`MetaFile::write`].
    pub(crate) async fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        let guard = self.health.begin_metadata_write();
        let written = self.node.write_zeroes(offset, len, ZeroFlags::empty()).await;
        guard.finish();
        written
    }

    /// A barrier: what was written before, data included, is durable before what is written next.
    pub(crate) async fn flush(&self) -> Result<()> {
        if let Some(data) = &self.data {
            data.flush().await?;
        }
        self.node.flush().await
    }

    /// Writes a field of the header and makes that durable. Afterwards nobody knows what the header says if this
    /// fails, so every error poisons the image.
    pub(crate) async fn commit_header(&self, offset: u64, field: &[u8]) -> Result<()> {
        let written = match self.write(offset, IoBuf::copy_of(field)).await {
            Ok(()) => self.flush().await,
            Err(error) => Err(error),
        };
        written.inspect_err(|error| self.health.poison(error))
    }

    /// Announces a change of several steps, none of which may be left out.
    pub(crate) fn begin_change(&self) -> IoGuard {
        self.health.begin_metadata_write()
    }

    /// Tells the file that a range holds nothing any more, if the image was opened to do so. It is a hint: failures do
    /// not matter.
    pub(crate) async fn discard(&self, start: HostOffset, len: u64) {
        let end = start.get().saturating_add(len).min(self.node.len());
        if !self.node.flags().contains(OpenFlags::UNMAP) || end <= start.get() {
            return;
        }
        // A discard that is given up could hit clusters that were allocated again.
        let guard = self.health.begin_data_write();
        let _hint: std::result::Result<(), BlockError> = self.node.discard(start.get(), end - start.get()).await;
        guard.finish();
    }
}
