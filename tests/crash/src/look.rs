//! Looking at what is left of an image.

use std::collections::BTreeMap;
use std::sync::Arc;

use qemu_block::node::Node;
use qemu_block::types::{CheckFixes, OpenFlags};

use crate::action::by_name;
use crate::bench::{Bench, IMAGE};
use crate::guest::Sight;
use crate::sector::{SECTOR, Tag, tag_of};

/// Opens the image, checks it, and looks at the first bytes of its disk, `n_bytes` at most.
///
/// # Errors
/// What is wrong with it, in words. Leaks are not.
pub async fn look(bench: &Bench, n_bytes: u64) -> Result<Sight, String> {
    let mut node = open(bench, OpenFlags::empty()).await?;
    let info = node.info().await.map_err(|error| format!("info: {}", error.chain()))?;
    if info.dirty == Some(true) {
        // Its counts are rebuilt by the first who wants to write.
        close(&node).await?;
        close(&open(bench, OpenFlags::WRITE).await?).await?;
        node = open(bench, OpenFlags::empty()).await?;
    }
    let sight = look_at(&node, n_bytes).await;
    close(&node).await?;
    sight
}

async fn open(bench: &Bench, flags: OpenFlags) -> Result<Arc<Node>, String> {
    let node = bench.open("qcow2", IMAGE, flags).await;
    node.map_err(|error| format!("it cannot be opened: {}", error.chain()))
}

async fn close(node: &Arc<Node>) -> Result<(), String> {
    node.close().await.map_err(|error| format!("it cannot be closed: {}", error.chain()))
}

/// As [`look`], at an image that is open, and without a check.
///
/// # Errors
/// What is wrong with what it shows.
pub async fn look_live(node: &Arc<Node>, n_bytes: u64) -> Result<Sight, String> {
    Ok(Sight { n_sectors: node.len() / SECTOR, tags: tags(node, n_bytes).await?, snapshots: BTreeMap::new() })
}

async fn look_at(node: &Arc<Node>, n_bytes: u64) -> Result<Sight, String> {
    let report = node.check(CheckFixes::Nothing).await.map_err(|error| format!("check: {}", error.chain()))?;
    if report.corruptions != 0 || report.check_errors != 0 {
        return Err(format!("check: {report:?}"));
    }
    let mut sight = look_live(node, n_bytes).await?;
    // What the snapshots show replaces what the disk shows, so they come last.
    let Some(snapshots) = node.snapshots() else { return Ok(sight) };
    let list = snapshots.list().await.map_err(|error| format!("snapshots: {}", error.chain()))?;
    for snapshot in list {
        let which = by_name(&snapshot.name);
        snapshots.load(&which).await.map_err(|error| format!("snapshot '{}': {}", snapshot.name, error.chain()))?;
        let shown = tags(node, n_bytes).await.map_err(|text| format!("snapshot '{}': {text}", snapshot.name))?;
        sight.snapshots.insert(snapshot.name, shown);
    }
    Ok(sight)
}

/// Who wrote the sectors.
async fn tags(node: &Arc<Node>, n_bytes: u64) -> Result<Vec<Tag>, String> {
    let len = usize::try_from(n_bytes.min(node.len())).expect("a small disk");
    let bytes = node.read_bytes(0, len).await.map_err(|error| format!("read: {}", error.chain()))?;
    let sectors = bytes.chunks(usize::try_from(SECTOR).expect("small"));
    (0..).zip(sectors).map(|(sector, bytes)| tag_of(bytes, sector)).collect()
}
