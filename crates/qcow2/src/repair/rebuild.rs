//! Writing new refcount structures, and letting the header point to them.

use qemu_block::error::Result;
use qemu_util::buf::IoBuf;

use super::layout::Layout;
use crate::alloc::HEADER_REFTABLE_FIELDS;
use crate::cache::file::MetaFile;
use crate::check::Checker;
use crate::check::findings::Class;
use crate::format::header::{Header, TablePlace};
use crate::format::refcount::{RefcountWidth, ReftableEntry};
use crate::units::HostCluster;

/// Makes the structures of `layout` hold what `checker` has counted.
///
/// Until the header is written nothing refers to them, and they lie where nothing else is. The old structures are not
/// counted by the new ones, so that they are free as soon as the header names the new ones.
pub(super) async fn rebuild(
    file: &MetaFile,
    header: &mut Header,
    checker: &mut Checker<'_>,
    layout: Layout,
) -> Result<()> {
    checker.findings.say(Class::Repair, || "Rebuilding refcount structure".to_owned());
    let Some(table) = layout.table else { return Ok(()) };
    let geometry = header.geometry;
    for (index, cluster) in &layout.blocks {
        let block = block_bytes(checker, &layout, *index)?;
        file.write(geometry.host_start(*cluster).get(), block).await?;
    }
    let start = geometry.host_start(table.start);
    for nth in 0..table.count.get() {
        let piece = table_bytes(checker, &layout, nth);
        let cluster = HostCluster::new(table.start.get() + nth);
        file.write(geometry.host_start(cluster).get(), piece).await?;
    }
    file.flush().await?;
    let clusters = u32::try_from(table.count.get()).expect("at most 8 MiB of table");
    let mut fields = [0; 12];
    fields[..8].copy_from_slice(&start.get().to_be_bytes());
    fields[8..].copy_from_slice(&clusters.to_be_bytes());
    file.commit_header(HEADER_REFTABLE_FIELDS, &fields).await?;
    header.reftable = TablePlace { offset: start, count: clusters };
    let old = std::mem::replace(&mut checker.own, layout.clusters);
    say_what_became_free(checker, &old);
    checker.refcounts_are_right();
    Ok(())
}

/// The block with this index in the refcount table.
fn block_bytes(checker: &Checker<'_>, layout: &Layout, index: u64) -> Result<IoBuf> {
    let geometry = checker.header.geometry;
    let width = RefcountWidth::new(geometry);
    let per_block = geometry.refblock_entries() as u64;
    let first = index.saturating_mul(per_block);
    let mut block = IoBuf::zeroed(geometry.cluster_len());
    for counts in [&checker.counts, &layout.clusters] {
        for (cluster, count) in counts.range(first, first.saturating_add(per_block)) {
            let place = usize::try_from(cluster.get() - first).expect("inside the block");
            width.set(&mut block, place, count.min(geometry.refcount_max()))?;
        }
    }
    Ok(block)
}

/// The `nth` cluster of the refcount table.
fn table_bytes(checker: &Checker<'_>, layout: &Layout, nth: u64) -> IoBuf {
    let geometry = checker.header.geometry;
    let mut piece = IoBuf::zeroed(geometry.cluster_len());
    let fields = piece.as_chunks_mut::<8>().0;
    let per_cluster = fields.len() as u64;
    let first = nth * per_cluster;
    for (index, cluster) in layout.blocks.range(first..first + per_cluster) {
        let field = usize::try_from(index - first).expect("inside the cluster");
        fields[field] = ReftableEntry::block(geometry.host_start(*cluster)).raw().to_be_bytes();
    }
    piece
}

/// The old structures are free now; the reference finds them as leaks that it has made itself, and repairs those.
fn say_what_became_free(checker: &mut Checker<'_>, old: &crate::check::counts::Counts) {
    let freed = old.range(0, checker.file_clusters()).map(|(cluster, _)| cluster);
    let freed = freed.filter(|cluster| checker.counts.get(*cluster) == 0 && checker.own.get(*cluster) == 0);
    let freed: Vec<HostCluster> = freed.collect();
    for cluster in freed {
        let message = || format!("Repairing cluster {} refcount=1 reference=0", cluster.get());
        checker.findings.say(Class::RefcountRepair, message);
    }
}
