//! Listing persistent bitmaps. They are not loaded: only their directory is read (rule R9).

use qemu_block::error::Result;
use qemu_block::node::Node;
use qemu_block::types::InfoValue;

use crate::format::bitmap::{BitmapDirectoryEntry, FLAG_AUTO, FLAG_IN_USE};
use crate::format::header::Header;

/// The bitmaps as `info` shows them; none if the image has none that can be relied upon.
pub(crate) async fn list(storage: &Node, header: &Header) -> Result<Option<InfoValue>> {
    let Some(extension) = &header.bitmaps else { return Ok(None) };
    let available = storage.len().saturating_sub(extension.directory_offset.get());
    let len = usize::try_from(extension.directory_len.min(available)).expect("bounded by the format");
    if len == 0 {
        return Ok(Some(InfoValue::List(Vec::new())));
    }
    let directory = storage.read_bytes(extension.directory_offset.get(), len).await?;
    let mut rest = &directory[..];
    let mut bitmaps = Vec::new();
    for _ in 0..extension.count {
        let Some(entry) = BitmapDirectoryEntry::parse(rest) else { break };
        rest = &rest[entry.entry_len..];
        let mut flags = Vec::new();
        if entry.flags & FLAG_IN_USE != 0 {
            flags.push(InfoValue::Text("in-use".to_owned()));
        }
        if entry.flags & FLAG_AUTO != 0 {
            flags.push(InfoValue::Text("auto".to_owned()));
        }
        let granularity = 1u64.checked_shl(u32::from(entry.granularity_bits)).unwrap_or(0);
        bitmaps.push(InfoValue::Object(vec![
            ("flags", InfoValue::List(flags)),
            ("name", InfoValue::Text(String::from_utf8_lossy(&entry.name).into_owned())),
            ("granularity", InfoValue::Int(granularity)),
        ]));
    }
    Ok(Some(InfoValue::List(bitmaps)))
}
