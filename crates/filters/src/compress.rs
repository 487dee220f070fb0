//! The filter `compress`: everything that is written is stored compressed. QEMU: block/filter-compress.c.

use std::sync::Arc;

use qemu_block::driver::{BlockOps, IoFuture, OpenRequest};
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::types::{BlockLimits, WriteFlags};
use qemu_util::buf::IoVec;

use crate::driver::FilterKind;
use crate::pass::{Filter, FilterNode, child_of, pass_limits};

/// The kind of the driver `compress`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compress;

impl FilterKind for Compress {
    const NAME: &'static str = "compress";

    fn open<'a>(&'a self, request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>> {
        Box::pin(async move {
            let child = child_of(request, "file")?;
            let driver = child.driver();
            if !driver.create_options().iter().any(|option| option.name == "compression_type") {
                let text = format!("Compression is not supported for underlying format: {}", driver.name());
                return Err(BlockError::new(ErrorKind::Unsupported, text));
            }
            let cluster_size = child.info().await?.cluster_size.and_then(|size| u32::try_from(size).ok());
            let open = OpenCompress { cluster_size: cluster_size.unwrap_or(1), child };
            Ok(Box::new(FilterNode::new(open)) as Box<dyn BlockOps>)
        })
    }
}

#[derive(Debug)]
struct OpenCompress {
    child: Arc<Node>,
    /// Only whole clusters can be compressed, so requests are widened to them.
    cluster_size: u32,
}

impl OpenCompress {
    async fn write_compressed(&self, offset: u64, data: IoVec) -> Result<()> {
        // The last cluster may be widened past the end of the disk.
        let inside = self.child.len().saturating_sub(offset);
        let len = usize::try_from(inside).unwrap_or(usize::MAX).min(data.len());
        let run = self.child.compress(offset, data.slice(0..len)).await?;
        self.child.write_compressed(run).await
    }
}

impl Filter for OpenCompress {
    fn child(&self) -> &Arc<Node> {
        &self.child
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { request_alignment: self.cluster_size, ..pass_limits(&self.child) }
    }

    fn write(&self, offset: u64, data: IoVec, _flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(self.write_compressed(offset, data))
    }
}
