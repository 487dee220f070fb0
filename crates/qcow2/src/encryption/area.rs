//! The clusters of the LUKS header and its key slots.

use std::ops::Range;

use qemu_block::error::Result;
use qemu_block::node::Node;
use qemu_crypto::luks::{HEADER_BYTES, LuksHeader, SlotIndex};

use crate::error::{FormatError, TableKind};
use crate::format::encryption::LuksPlace;

/// Reads the header of LUKS.
pub(super) async fn read_header(storage: &Node, place: LuksPlace) -> Result<LuksHeader> {
    let bytes = read(storage, place, 0..HEADER_BYTES as u64).await?;
    Ok(LuksHeader::parse(&bytes)?)
}

/// Reads the key material of a slot.
pub(super) async fn read_material(
    storage: &Node,
    place: LuksPlace,
    header: &LuksHeader,
    slot: SlotIndex,
) -> Result<Vec<u8>> {
    read(storage, place, header.material_range(slot)).await
}

/// Reads a part; `range` counts from the start of the header of LUKS, and is short.
async fn read(storage: &Node, place: LuksPlace, range: Range<u64>) -> Result<Vec<u8>> {
    let start = host_offset(place, &range)?;
    let len = range.end - range.start;
    let end = start.saturating_add(len);
    if end > storage.len() {
        return Err(
            FormatError::TableTruncated { table: TableKind::EncryptionHeader, end, file_len: storage.len() }.into()
        );
    }
    let len = usize::try_from(len).expect("a header, or a slot");
    Ok(storage.read_bytes(start, len).await?.to_vec())
}

/// Where a part is in the image file.
///
/// # Errors
/// It lies outside the encryption header.
pub(super) fn host_offset(place: LuksPlace, range: &Range<u64>) -> Result<u64, FormatError> {
    let outside = FormatError::EncryptionBounds { end: range.end, len: place.len };
    if range.end > place.len {
        return Err(outside);
    }
    place.offset.checked_add(range.start).map(|offset| offset.get()).ok_or(outside)
}
