//! Flushes. QEMU: `bdrv_co_flush` (block/io.c).

use crate::debug::DebugEvent;
use crate::error::Result;
use crate::node::Node;

impl Node {
    /// Makes everything completed so far durable, in this node and those below it that store its data.
    ///
    /// Read-only nodes have nothing to make durable.
    ///
    /// # Errors
    /// What the driver reports; what was written before may then be lost.
    pub async fn flush(&self) -> Result<()> {
        self.check_open()?;
        if self.is_read_only() {
            return Ok(());
        }
        self.debug_event_below(DebugEvent::FlushToOs).await;
        self.ops().flush().await
    }
}
