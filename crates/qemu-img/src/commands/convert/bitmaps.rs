//! `convert --bitmaps`: the persistent bitmaps of the source become bitmaps of the target.
//!
//! QEMU: `convert_check_bitmaps`, `convert_copy_bitmaps` (qemu-img.c)

use std::sync::Arc;

use qemu_block::manage::{BitmapInfo, BitmapOps, NewBitmap};
use qemu_block::node::Node;

use crate::failure::Failure;
use crate::output::messages;

/// What to do with the bitmaps of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BitmapRule {
    /// Leave them alone: they are not even looked at.
    Leave,
    /// Copy all of them, or fail.
    CopyAll,
    /// Copy those that can be relied on.
    CopySound,
}

/// Fails, before anything is written, when the bitmaps of the sources cannot be copied.
///
/// # Errors
/// The reference's complaints.
pub(super) async fn check_sources(rule: BitmapRule, nodes: &[Arc<Node>]) -> Result<(), Failure> {
    if rule == BitmapRule::Leave {
        return Ok(());
    }
    let [node] = nodes else { return Err(Failure::new("Copying bitmaps only possible with single source")) };
    let bitmaps = supported(node).ok_or_else(|| Failure::new("Source lacks bitmap support"))?;
    for bitmap in listed(bitmaps, node).await? {
        if bitmap.inconsistent && rule == BitmapRule::CopyAll {
            return Err(Failure::new(format!(
                "Cannot copy inconsistent bitmap '{}'\n\
                 Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it",
                bitmap.name
            )));
        }
    }
    Ok(())
}

/// Fails when the target cannot hold bitmaps.
///
/// # Errors
/// See above.
pub(super) fn check_target(rule: BitmapRule, target: &Node) -> Result<(), Failure> {
    if rule == BitmapRule::Leave || supported(target).is_some() {
        return Ok(());
    }
    Err(Failure::new(format!("Format driver '{}' does not support bitmaps", target.driver().name())))
}

/// Copies the bitmaps once the data is copied.
///
/// # Errors
/// The reference's complaints. Bitmaps that were copied before stay.
pub(super) async fn copy(rule: BitmapRule, nodes: &[Arc<Node>], target: &Node) -> Result<(), Failure> {
    let [source] = nodes else { return Ok(()) };
    let (Some(from), Some(to)) = (supported(source), supported(target)) else { return Ok(()) };
    if rule == BitmapRule::Leave {
        return Ok(());
    }
    let (broken, mut sound): (Vec<_>, Vec<_>) =
        listed(from, source).await?.into_iter().partition(|bitmap| bitmap.inconsistent);
    for bitmap in broken {
        messages::warn(&format!("Skipping inconsistent bitmap '{}'", bitmap.name));
    }
    // The target gets them in the order of the source.
    sound.reverse();
    for bitmap in sound {
        let name = &bitmap.name;
        let granularity = Some(bitmap.granularity);
        let new = NewBitmap { name: name.clone(), granularity, enabled: bitmap.enabled };
        let added = to.add(new).await;
        added.map_err(|error| Failure::block(format!("Failed to create bitmap {name}"), &error))?;
        let filled = match from.content(name).await {
            Ok(content) => to.merge(name, &content).await,
            Err(error) => Err(error),
        };
        if let Err(error) = filled {
            // One that is empty would say that nothing was written. It is not on disk yet, so this cannot fail.
            drop(to.remove(name).await);
            return Err(Failure::block(format!("Failed to populate bitmap {name}"), &error));
        }
    }
    Ok(())
}

fn supported(node: &Node) -> Option<&dyn BitmapOps> {
    node.bitmaps().filter(|bitmaps| bitmaps.is_supported())
}

/// The bitmaps, the last one first: so the reference goes through them.
async fn listed(bitmaps: &dyn BitmapOps, node: &Node) -> Result<Vec<BitmapInfo>, Failure> {
    let listed = bitmaps.list().await;
    let mut list = listed
        .map_err(|error| Failure::block(format!("Could not read the bitmaps of '{}'", node.filename()), &error))?;
    list.reverse();
    Ok(list)
}
