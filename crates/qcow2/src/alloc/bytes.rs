//! Space for compressed clusters, which are packed byte by byte. QEMU: `qcow2_alloc_bytes`.

use qemu_block::debug::DebugEvent;
use qemu_block::error::Result;

use crate::meta::Meta;
use crate::units::{ClusterCount, HostCluster, HostOffset};

use super::Run;

impl Meta {
    /// Reserves `len` bytes, at most a cluster, right behind the previous compressed cluster if that is possible. Each
    /// cluster that they touch has one reference more.
    pub(crate) async fn allocate_bytes(&mut self, len: u64) -> Result<HostOffset> {
        self.storage.event(DebugEvent::ClusterAllocBytes).await;
        if let Some(at) = self.extend_partial(len).await? {
            return Ok(at);
        }
        let run = self.allocate(ClusterCount::ONE).await?.run;
        let at = self.geo.host_start(run.start);
        self.set_partial(at, len);
        Ok(at)
    }

    /// Reserves the bytes where the last ones ended, in the same cluster or reaching into the next.
    async fn extend_partial(&mut self, len: u64) -> Result<Option<HostOffset>> {
        let Some(at) = self.alloc.partial else { return Ok(None) };
        let cluster = self.geo.host_cluster(at);
        let room = self.geo.cluster_size() - self.geo.in_host_cluster(at);
        if len > room && !self.is_free(cluster.next()).await? {
            return Ok(None);
        }
        if !self.increment(cluster).await? {
            return Ok(None);
        }
        if len > room {
            let next = Run { start: cluster.next(), count: ClusterCount::ONE };
            if let Err(error) = self.reserve(next).await {
                self.decrement(cluster).await?;
                return Err(error);
            }
        }
        self.set_partial(at, len);
        Ok(Some(at))
    }

    /// Gives back at once bytes that were reserved and never referred to.
    pub(crate) async fn unreserve_bytes(&mut self, at: HostOffset, len: u64) -> Result<()> {
        let start = self.geo.host_cluster(at);
        let last = self.geo.host_cluster(HostOffset::new(at.get() + len - 1));
        let count = ClusterCount::new(last.get() - start.get() + 1);
        // What follows in the last cluster may be reserved already, so the bytes themselves are not used again.
        self.unreserve(Run { start, count }).await
    }

    /// Whether `cluster` can be reserved without making a refcount block first.
    async fn is_free(&mut self, cluster: HostCluster) -> Result<bool> {
        Ok(self.alloc.check_limit(cluster.next()).is_ok()
            && self.has_refblock(cluster).await?
            && self.refcount(cluster).await? == 0)
    }

    fn set_partial(&mut self, at: HostOffset, len: u64) {
        let end = HostOffset::new(at.get() + len);
        self.alloc.partial = (!self.geo.is_aligned(end)).then_some(end);
    }
}
