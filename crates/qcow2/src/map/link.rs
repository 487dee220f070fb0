//! Replacing mappings. What was mapped before is released, to be used again once that is durable.

use qemu_block::error::Result;

use crate::format::l2::{L2Entry, L2Mapping};
use crate::meta::Meta;
use crate::units::{GuestCluster, HostOffset};

impl Meta {
    /// Maps `n_clusters` guest clusters from `first` on to what `entry_of` says for each index from 0.
    ///
    /// The data of the new mapping is written and the caller holds the guest range, so nobody uses the old one. When
    /// this fails the clusters before the failure are linked; the number of them is in the error's second part.
    pub(crate) async fn link(
        &mut self,
        first: GuestCluster,
        n_clusters: u64,
        entry_of: impl Fn(u64) -> L2Entry,
    ) -> std::result::Result<(), (qemu_block::error::BlockError, u64)> {
        let mut done = 0;
        while done < n_clusters {
            let at = GuestCluster::new(first.get() + done);
            match self.link_slice(at, n_clusters - done, |i| entry_of(done + i)).await {
                Ok(n) => done += n,
                Err(error) => return Err((error, done)),
            }
        }
        Ok(())
    }

    /// Links the clusters from `first` on that are in the same L2 slice; returns how many that are.
    async fn link_slice(&mut self, first: GuestCluster, max: u64, entry_of: impl Fn(u64) -> L2Entry) -> Result<u64> {
        let position = self.geo.split(self.geo.guest_start(first));
        let table = self.writable_table(position.l1_index).await?;
        let (slice, byte) = self.slice_of(table, self.geo.l2_entry_start(position.l2_index));
        let slot = self.l2_slot(slice).await?;
        let layout = self.layout;
        let mut dropped = Vec::new();
        let bytes = &mut self.l2.bytes_mut(slot)[byte..];
        let n = (bytes.len() / layout.entry_bytes()).min(usize::try_from(max).unwrap_or(usize::MAX));
        for (i, bytes) in bytes.chunks_exact_mut(layout.entry_bytes()).take(n).enumerate() {
            let old = layout.load(bytes).unwrap_or_default();
            let new = entry_of(i as u64);
            layout.store(bytes, new);
            // A damaged entry refers to nothing that could be given back; its clusters leak.
            if let (Ok(old), Ok(new)) = (old.decode(layout), new.decode(layout)) {
                dropped.extend(dropped_by(old, new));
            }
        }
        for (start, end) in dropped {
            self.release_data(start, end.unwrap_or(HostOffset::new(start.get() + 1)));
        }
        Ok(n as u64)
    }
}

/// The host bytes that `old` refers to and `new` does not: first byte and, for compressed clusters, the end.
fn dropped_by(old: L2Mapping, new: L2Mapping) -> Option<(HostOffset, Option<HostOffset>)> {
    match old {
        L2Mapping::Compressed(extent) => Some((extent.host, Some(extent.end()))),
        _ => old.host().filter(|host| new.host() != Some(*host)).map(|host| (host, None)),
    }
}
