//! The header and the key slots, in the node that has them.

use std::sync::Arc;

use qemu_block::error::{BlockError, Result};
use qemu_block::node::Node;
use qemu_block::types::WriteFlags;
use qemu_crypto::luks::{HEADER_BYTES, LuksHeader, Materials, SlotIndex};
use qemu_util::buf::IoBuf;

/// Reads the header; one that stands alone has no payload behind it.
pub(crate) async fn read_header(node: &Arc<Node>, is_detached: bool) -> Result<LuksHeader> {
    let bytes = read(node, 0, HEADER_BYTES).await?;
    let parse = if is_detached { LuksHeader::parse_detached } else { LuksHeader::parse };
    Ok(parse(&bytes)?)
}

/// Reads the key material of a slot.
pub(crate) async fn read_material(node: &Arc<Node>, header: &LuksHeader, slot: SlotIndex) -> Result<Vec<u8>> {
    read(node, header.material_range(slot).start, header.material_len()).await
}

/// Reads the key material of all slots that have any.
pub(crate) async fn read_materials(node: &Arc<Node>, header: &LuksHeader) -> Result<Materials> {
    let mut materials = Materials::new();
    for slot in header.active_slots() {
        materials.insert(slot, read_material(node, header, slot).await?);
    }
    Ok(materials)
}

/// Writes a part of the header or of a slot.
pub(crate) async fn write(node: &Arc<Node>, offset: u64, bytes: IoBuf) -> Result<()> {
    let written = node.write(offset, bytes.into(), WriteFlags::empty()).await;
    written.map_err(|error| with_reason("Could not write encryption header", &error))
}

/// Reads a part, which is short. What lies after the end of the file reads as zeros, as in the reference: no header and
/// no key is made of zeros, so that nothing is taken for what it is not.
async fn read(node: &Arc<Node>, offset: u64, len: usize) -> Result<Vec<u8>> {
    let there = usize::try_from(node.len().saturating_sub(offset)).unwrap_or(usize::MAX).min(len);
    let bytes = node.read_bytes(offset.min(node.len()), there).await;
    let mut bytes = bytes.map_err(|error| with_reason("Could not read encryption header", &error))?.to_vec();
    bytes.resize(len, 0);
    Ok(bytes)
}

fn with_reason(text: &str, error: &BlockError) -> BlockError {
    BlockError::new(error.kind(), format!("{text}: {}", error.errno_text())).with_errno(error.errno())
}
