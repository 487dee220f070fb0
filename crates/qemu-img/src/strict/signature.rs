//! What the content of a file says it is. Somebody who declares an image raw, or leaves that open, must not be deceived
//! about what another program will take it for.

use qemu_block::error::Result;
use qemu_block::node::Node;

/// The beginnings of formats that other programs would open, and where they stand.
const SIGNATURES: [(&str, usize, &[u8]); 15] = [
    ("qcow2", 0, b"QFI\xfb"),
    ("luks", 0, b"LUKS\xba\xbe"),
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"COWD"),
    ("vmdk", 0, b"# Disk DescriptorFile"),
    ("vmdk", 0, b"SE CoWD"),
    ("vhdx", 0, b"vhdxfile"),
    ("vpc", 0, b"conectix"),
    ("vdi", 64, b"\x7f\x10\xda\xbe"),
    ("qed", 0, b"QED\0"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
    ("bochs", 0, b"Bochs Virtual HD Image"),
    ("cloop", 0, b"#!/bin/sh\n#V2.0 Format\n"),
    ("dmg", 0, b"koly"),
];

/// Bytes that are looked at.
const HEAD: u64 = 512;

/// The format that the first bytes are of; `raw` if of none. A fixed disk of Virtual PC has its mark at its end.
///
/// # Errors
/// Reading failed.
pub(super) async fn signature(storage: &Node) -> Result<&'static str> {
    let len = storage.len();
    let head = storage.read_bytes(0, usize::try_from(len.min(HEAD)).unwrap_or(0)).await?;
    let found = SIGNATURES.iter().find(|(_, at, mark)| head.get(*at..).is_some_and(|rest| rest.starts_with(mark)));
    if let Some((name, ..)) = found {
        return Ok(name);
    }
    let Some(last) = len.checked_sub(HEAD) else { return Ok("raw") };
    let tail = storage.read_bytes(last, usize::try_from(HEAD).unwrap_or(0)).await?;
    Ok(if tail.starts_with(b"conectix") { "vpc" } else { "raw" })
}
