//! Listing persistent bitmaps. They are not loaded: only their directory is read (rule R9).

use qemu_block::error::Result;
use qemu_block::node::Node;
use qemu_block::types::InfoValue;

use crate::format::bitmap::BitmapDirectoryEntry;
use crate::format::header::Header;

/// Directory entry flag: the bitmap was in use and not stored.
const IN_USE: u32 = 1 << 0;
/// Directory entry flag: the bitmap tracks writes when the image is opened for writing.
const AUTO: u32 = 1 << 1;

/// The bitmaps as `info` shows them; none if the image has none that can be relied upon.
pub(crate) async fn list(storage: &Node, header: &Header) -> Result<Option<InfoValue>> {
    let Some(extension) = &header.bitmaps else { return Ok(None) };
    let len = usize::try_from(extension.directory_len.min(storage.len())).expect("bounded by the format");
    let directory = storage.read_bytes(extension.directory_offset.get(), len).await?;
    let mut rest = &directory[..];
    let mut bitmaps = Vec::new();
    for _ in 0..extension.count {
        let Some(entry) = BitmapDirectoryEntry::parse(rest) else { break };
        rest = &rest[entry.entry_len..];
        let mut flags = Vec::new();
        if entry.flags & IN_USE != 0 {
            flags.push(InfoValue::Text("in-use".to_owned()));
        }
        if entry.flags & AUTO != 0 {
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
