//! The driver as the block layer sees it.

use qemu_block::aio::CopySource;
use qemu_block::compressed::CompressedRun;
use qemu_block::driver::{BlockDriver, BlockOps, CreateRequest, DriverKind, FileIdentity, IoFuture, OpenRequest};
use qemu_block::manage::{AmendOps, BitmapOps, Measurement, SnapshotOps};
use qemu_block::node::{ChildRole, Edge, Node};
use qemu_block::options::{CreateOption, Options};
use qemu_block::types::{
    BlockLimits, BlockStatus, CheckFixes, CheckReport, DriverInfo, OpenFlags, Perm, PreallocMode, WriteFlags, ZeroFlags,
};
use qemu_util::buf::{IoVec, IoVecMut};
use std::sync::Arc;

use crate::format::header::MAGIC;
use crate::image::Image;

/// The `qcow2` driver. QEMU: `bdrv_qcow2` (block/qcow2.c).
#[derive(Clone, Copy, Debug, Default)]
pub struct Qcow2Driver;

impl BlockDriver for Qcow2Driver {
    fn name(&self) -> &'static str {
        "qcow2"
    }

    fn kind(&self) -> DriverKind {
        DriverKind::Format
    }

    fn probe(&self, head: &[u8]) -> u8 {
        let is_ours = head.starts_with(&MAGIC.to_be_bytes())
            && head.get(4..8).is_some_and(|version| matches!(version, [0, 0, 0, 2 | 3..]));
        if is_ours { 100 } else { 0 }
    }

    fn storage_perms(&self, _perm: Perm, shared: Perm, flags: OpenFlags) -> (Perm, Perm) {
        let mut wanted = Perm::empty();
        if !flags.contains(OpenFlags::NO_IO) {
            // The metadata has to be consistent even if the guest does not care.
            wanted |= Perm::CONSISTENT_READ;
        }
        if flags.contains(OpenFlags::WRITE) {
            wanted |= Perm::WRITE | Perm::RESIZE;
        }
        if flags.contains(OpenFlags::FORCE_SHARE) {
            return (wanted, Perm::all());
        }
        (wanted, shared.difference(Perm::WRITE | Perm::RESIZE) | Perm::WRITE_UNCHANGED)
    }

    fn open<'a>(&'a self, request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>> {
        Box::pin(async move { Ok(crate::open::open(request).await? as Box<dyn BlockOps>) })
    }

    fn create_options(&self) -> &'static [CreateOption] {
        crate::create::CREATE_OPTIONS
    }

    fn amend_options(&self) -> &'static [CreateOption] {
        crate::amend::AMEND_OPTIONS
    }

    fn measure<'a>(&'a self, options: Options, source: Option<&'a Arc<Node>>) -> IoFuture<'a, Measurement> {
        Box::pin(crate::measure::measure(options, source))
    }

    fn create(&self, request: CreateRequest) -> IoFuture<'_, ()> {
        Box::pin(crate::create::create(request))
    }
}

/// What a data file is used for when the image is used for `perm`. Data is written past its end as the disk fills.
fn data_perm(perm: Perm) -> Perm {
    let wanted = perm & (Perm::CONSISTENT_READ | Perm::WRITE);
    if wanted.contains(Perm::WRITE) { wanted | Perm::RESIZE } else { wanted }
}

/// What others may do with a data file meanwhile. Its length is nobody else's business.
fn data_shared(shared: Perm, flags: OpenFlags) -> Perm {
    if flags.contains(OpenFlags::FORCE_SHARE) { Perm::all() } else { shared.difference(Perm::RESIZE) }
}

impl BlockOps for Image {
    fn len(&self) -> u64 {
        self.size()
    }

    fn limits(&self) -> BlockLimits {
        let cluster_size = u32::try_from(self.geo.cluster_size()).expect("at most 2 MiB");
        let subcluster_size = u32::try_from(self.geo.subcluster_size()).expect("at most a cluster");
        // Sectors are encrypted as a whole.
        let request_alignment = if self.data.is_encrypted() { 512 } else { 1 };
        BlockLimits {
            request_alignment,
            zero_alignment: subcluster_size,
            discard_alignment: cluster_size,
            ..BlockLimits::UNLIMITED
        }
    }

    fn children(&self) -> Vec<Edge> {
        let storage = Edge { name: "file", role: ChildRole::Storage, node: self.storage.clone() };
        let backing =
            self.backing.iter().map(|node| Edge { name: "backing", role: ChildRole::Backing, node: node.clone() });
        let data = self.data.external().into_iter();
        let data = data.map(|node| Edge { name: "data-file", role: ChildRole::Data, node: node.clone() });
        std::iter::once(storage).chain(data).chain(backing).collect()
    }

    fn info(&self) -> IoFuture<'_, DriverInfo> {
        Box::pin(crate::info::info(self))
    }

    fn set_perm(&self, perm: Perm, shared: Perm) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let (storage_perm, storage_shared) = Qcow2Driver.storage_perms(perm, shared, self.flags);
            self.storage.set_perm(storage_perm, storage_shared).await?;
            match self.data.external() {
                Some(data) => data.set_perm(data_perm(perm), data_shared(shared, self.flags)).await,
                None => Ok(()),
            }
        })
    }

    fn identity(&self) -> Option<FileIdentity> {
        None
    }

    fn read(&self, offset: u64, buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(self.read_guest(offset, buf))
    }

    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(self.tracked(offset, data.len() as u64, self.write_guest(offset, data, flags)))
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> IoFuture<'_, ()> {
        Box::pin(self.tracked(offset, len, self.write_zeroes_guest(offset, len, flags)))
    }

    fn discard(&self, offset: u64, len: u64) -> IoFuture<'_, ()> {
        Box::pin(self.tracked(offset, len, self.discard_guest(offset, len)))
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(self.flush_guest())
    }

    fn block_status(&self, offset: u64, len: u64) -> IoFuture<'_, BlockStatus> {
        Box::pin(self.status_guest(offset, len))
    }

    fn truncate(&self, len: u64, prealloc: PreallocMode) -> IoFuture<'_, ()> {
        Box::pin(self.truncate_tracked(len, prealloc))
    }

    fn copy_source(&self, offset: u64, len: u64) -> IoFuture<'_, CopySource> {
        Box::pin(self.copy_source_guest(offset, len))
    }

    fn copy_range(&self, offset: u64, source: CopySource, len: u64) -> IoFuture<'_, ()> {
        Box::pin(self.tracked(offset, len, self.copy_range_guest(offset, source, len)))
    }

    fn compress(&self, offset: u64, data: IoVec) -> IoFuture<'_, CompressedRun> {
        Box::pin(self.compress_guest(offset, data))
    }

    fn write_compressed(&self, run: CompressedRun) -> IoFuture<'_, ()> {
        let len = (run.clusters.len() as u64).saturating_mul(self.geo.cluster_size());
        Box::pin(self.tracked(run.offset, len, self.write_compressed_guest(run)))
    }

    fn check(&self, fixes: CheckFixes) -> IoFuture<'_, CheckReport> {
        Box::pin(self.check_guest(fixes))
    }

    fn snapshots(&self) -> Option<&dyn SnapshotOps> {
        Some(self)
    }

    fn bitmaps(&self) -> Option<&dyn BitmapOps> {
        Some(self)
    }

    fn amending(&self) -> Option<&dyn AmendOps> {
        Some(self)
    }

    fn close(&self) -> IoFuture<'_, ()> {
        Box::pin(self.close_guest())
    }
}
