//! Writing bitmaps and their directory. QEMU: `qcow2_store_persistent_dirty_bitmaps`, `update_ext_header_and_dir`
//! (block/qcow2-bitmap.c).
//!
//! Nothing is overwritten: bits, tables and the directory go to new clusters, which are counted and durable before the
//! header names the directory. What they replace is freed after that. A power cut leaves the old directory or the new one,
//! and leaked clusters at worst.

use std::collections::HashSet;

use qemu_block::bitmap::Fill;
use qemu_block::error::Result;
use qemu_util::buf::IoBuf;

use super::directory::{BitmapId, Directory, Entry, State};
use super::load::{bits_per_cluster, clusters_for, read_table};
use crate::alloc::Run;
use crate::format::bitmap::{BitmapDirectoryEntry, BitmapTableEntry, BitmapsExtension, FLAG_AUTO, FLAG_IN_USE};
use crate::format::extension::MAGIC_BITMAPS;
use crate::format::features::Autoclear;
use crate::format::header::Version;
use crate::image::Image;
use crate::meta::Meta;
use crate::overlap::Region;
use crate::units::{ClusterCount, HostCluster, HostOffset};

/// What a new directory says of the bitmaps that are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// They are in use, with what was stored of them last.
    Now,
    /// What they are: they do not change any more.
    AtClose,
}

/// Clusters that nothing on disk refers to yet.
#[derive(Debug, Default)]
struct Fresh {
    runs: Vec<Run>,
}

impl Fresh {
    /// Writes `bytes`, padded to whole clusters, to clusters that follow one another.
    async fn write(&mut self, meta: &mut Meta, mut bytes: Vec<u8>) -> Result<HostOffset> {
        let count = meta.geo.size_to_clusters(bytes.len() as u64);
        let run = meta.allocate_exactly(count).await?;
        self.runs.push(run);
        bytes.resize(bytes.len().next_multiple_of(meta.geo.cluster_len()), 0);
        let offset = meta.geo.host_start(run.start);
        meta.storage.write(offset.get(), IoBuf::copy_of(&bytes)).await?;
        Ok(offset)
    }

    /// Gives everything back. Should that fail, it leaks.
    async fn give_back(self, meta: &mut Meta) {
        for run in self.runs {
            let _leaked = meta.unreserve(run).await;
        }
    }
}

impl Image {
    /// Stores every bitmap that is in memory. The disk must not change afterwards.
    pub(crate) async fn store_bitmaps(&self) -> Result<()> {
        let mut directory = self.bitmaps.directory.lock().await;
        match directory.as_mut() {
            // An image that was made one of version 2 meanwhile has lost its bitmaps.
            Some(directory) if directory.entries.iter().any(Entry::is_live) && self.is_version_3().await => {
                self.write_directory(directory, When::AtClose, None).await
            }
            _ => Ok(()),
        }
    }

    async fn is_version_3(&self) -> bool {
        self.meta.lock().await.header.version >= Version::V3
    }

    /// Writes the directory anew; `removed` is a bitmap that it had and has no more.
    pub(super) async fn write_directory(
        &self,
        directory: &mut Directory,
        when: When,
        removed: Option<&BitmapDirectoryEntry>,
    ) -> Result<()> {
        let meta = &mut *self.meta.lock().await;
        let change = meta.storage.begin_change();
        let mut fresh = Fresh::default();
        let replaced = meta.header.bitmaps;
        let written = match self.write_new_directory(meta, directory, when, &mut fresh).await {
            Ok(entries) => meta.point_to_directory(&entries, &mut fresh).await.map(|extension| (entries, extension)),
            Err(error) => Err(error),
        };
        let result = match written {
            Err(error) => {
                fresh.give_back(meta).await;
                Err(self.note_failure(meta, error).await)
            }
            Ok((entries, extension)) => {
                let mut given_up: Vec<BitmapDirectoryEntry> = removed.into_iter().cloned().collect();
                given_up.extend(directory.adopt(entries, extension));
                meta.give_up_directory(replaced, &given_up).await;
                Ok(())
            }
        };
        change.finish();
        result
    }

    /// Writes what changed, and returns what the new directory is to say.
    async fn write_new_directory(
        &self,
        meta: &mut Meta,
        directory: &Directory,
        when: When,
        fresh: &mut Fresh,
    ) -> Result<Vec<(BitmapId, BitmapDirectoryEntry)>> {
        // Before anything is freed, it is known what must not be.
        meta.know_metadata().await?;
        let mut entries = Vec::with_capacity(directory.entries.len());
        for entry in &directory.entries {
            let mut new = entry.stored.clone();
            match (entry.state, when) {
                (State::Stored, _) => {}
                (State::Live { .. }, When::AtClose) => {
                    (new.table_offset, new.table_entries) = self.write_content(meta, entry.id, fresh).await?;
                    new.flags &= FLAG_AUTO;
                }
                // One that was never stored has no table to be named.
                (State::Live { .. }, When::Now) if entry.place.is_none() => continue,
                (State::Live { .. } | State::Inconsistent { .. }, _) => new.flags |= FLAG_IN_USE,
            }
            entries.push((entry.id, new));
        }
        Ok(entries)
    }

    /// Writes the bits of a bitmap and their table; returns its place and entries.
    async fn write_content(&self, meta: &mut Meta, id: BitmapId, fresh: &mut Fresh) -> Result<(HostOffset, u32)> {
        let geo = self.geo;
        let n_clusters = self.bitmaps.loaded.lock().get(&id).map_or(0, |bitmap| clusters_for(&bitmap.bits, geo));
        let mut table = Vec::new();
        for number in 0..n_clusters {
            let first = number * bits_per_cluster(geo);
            let mut cluster = Vec::new();
            let fill = self.bitmaps.loaded.lock().get(&id).map_or(Fill::Empty, |bitmap| {
                let end = bitmap.bits.n_bits().min(first + bits_per_cluster(geo));
                let fill = bitmap.bits.fill(first..end);
                if fill == Fill::Mixed {
                    cluster.resize(geo.cluster_len(), 0);
                    bitmap.bits.copy_bits(first, &mut cluster);
                }
                fill
            });
            let entry = match fill {
                Fill::Empty => BitmapTableEntry::ZEROS,
                Fill::Full => BitmapTableEntry::ONES,
                Fill::Mixed => BitmapTableEntry::data(fresh.write(meta, cluster).await?),
            };
            table.extend_from_slice(&entry.raw().to_be_bytes());
        }
        let n_entries = u32::try_from(n_clusters).expect("bounded when the bitmap was made or read");
        Ok((fresh.write(meta, table).await?, n_entries))
    }
}

impl Directory {
    /// Takes over what has been stored; returns the entries of which the tables are not used any more.
    fn adopt(
        &mut self,
        stored: Vec<(BitmapId, BitmapDirectoryEntry)>,
        extension: Option<BitmapsExtension>,
    ) -> Vec<BitmapDirectoryEntry> {
        let mut given_up = Vec::new();
        let mut at = extension.map_or(0, |extension| extension.directory_offset.get());
        for (id, new) in stored {
            let place = Some(HostOffset::new(at));
            at += new.entry_len as u64;
            let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { continue };
            entry.place = place;
            if entry.stored.table_offset != new.table_offset {
                let old = std::mem::replace(&mut entry.stored, new);
                if old.table_entries > 0 {
                    given_up.push(old);
                }
            }
        }
        given_up
    }
}

impl Meta {
    /// Writes the directory, makes it durable with everything that it names, and then the header that names it.
    async fn point_to_directory(
        &mut self,
        entries: &[(BitmapId, BitmapDirectoryEntry)],
        fresh: &mut Fresh,
    ) -> Result<Option<BitmapsExtension>> {
        let mut extension = None;
        if !entries.is_empty() {
            let bytes: Vec<u8> = entries.iter().flat_map(|(_, entry)| entry.to_bytes()).collect();
            let directory_len = bytes.len() as u64;
            let directory_offset = fresh.write(self, bytes).await?;
            let count = u32::try_from(entries.len()).expect("bounded when bitmaps are added");
            extension = Some(BitmapsExtension { count, directory_len, directory_offset });
        }
        self.flush().await?;
        self.rewrite_header(|header| {
            header.autoclear.set(Autoclear::BITMAPS, extension.is_some());
            header.set_extension(MAGIC_BITMAPS, extension.map(|extension| extension.to_bytes()));
        })
        .await?;
        let (offset, len) = extension.map_or((HostOffset::ZERO, 0), |new| (new.directory_offset, new.directory_len));
        self.regions.move_fixed(Region::BitmapDirectory, offset, len);
        Ok(extension)
    }

    /// Frees a directory, and the tables and bits of bitmaps, that nothing on disk names any more. What cannot be freed
    /// leaks.
    async fn give_up_directory(&mut self, directory: Option<BitmapsExtension>, entries: &[BitmapDirectoryEntry]) {
        let mut ranges: Vec<(HostOffset, u64)> = Vec::new();
        ranges.extend(directory.map(|old| (old.directory_offset, old.directory_len)));
        for entry in entries {
            let Ok(table) = read_table(self.storage.node(), self.geo, entry).await else { continue };
            let data = table.iter().filter_map(|entry| entry.decode(self.geo).ok().flatten());
            ranges.extend(data.map(|offset| (offset, self.geo.cluster_size())));
            ranges.push((entry.table_offset, u64::from(entry.table_entries) * 8));
        }
        // A damaged image may name a cluster twice.
        let mut known = HashSet::new();
        for (offset, len) in ranges {
            let start = self.geo.host_cluster(offset);
            for i in 0..self.geo.size_to_clusters(len).get() {
                let Some(cluster) = start.checked_add(ClusterCount::new(i)) else { break };
                if known.insert(cluster) && self.may_be_given_up(cluster).await {
                    self.releases.push(Run { start: cluster, count: ClusterCount::ONE });
                }
            }
        }
    }

    /// Whether a cluster is in use, and not by other metadata: bitmaps of a damaged image may name anything.
    async fn may_be_given_up(&mut self, cluster: HostCluster) -> bool {
        let offset = self.geo.host_start(cluster);
        offset.get() < self.storage.len()
            && self.regions.hit(offset, self.geo.cluster_size(), None).is_none()
            && self.refcount(cluster).await.is_ok_and(|count| count > 0)
    }
}
