//! What `info` tells about an image.

use qemu_block::error::Result;
use qemu_block::registry::resolve_backing_name;
use qemu_block::types::{DriverInfo, FormatSpecific, InfoValue};

use crate::format::features::{Compatible, Incompatible};
use crate::format::header::Version;
use crate::image::Image;
use crate::snapshots::{read_snapshots, snapshot_info};

/// Facts about the image.
pub(crate) async fn info(image: &Image) -> Result<DriverInfo> {
    image.check_open()?;
    let header = &image.meta.lock().await.header.clone();
    let backing_filename = header.backing_name_text()?.map(str::to_owned);
    let full_backing_filename = backing_filename.as_deref().map(|name| resolve_backing_name(&image.filename, name));
    let snapshots = read_snapshots(&image.storage, header).await?;
    let mut fields = vec![("compat", InfoValue::Text(compat(header.version).to_owned()))];
    fields.push(("compression-type", InfoValue::Text(header.compression.name().to_owned())));
    if header.version == Version::V3 {
        let lazy = header.compatible.contains(Compatible::LAZY_REFCOUNTS);
        fields.push(("lazy-refcounts", InfoValue::Bool(lazy)));
        if let Some(bitmaps) = crate::bitmaps::list(&image.storage, header).await? {
            fields.push(("bitmaps", bitmaps));
        }
    }
    fields.push(("refcount-bits", InfoValue::Int(u64::from(header.geometry.refcount_bits()))));
    if let Some(encryption) = &image.encryption {
        fields.push(("encrypt", encryption.info().await));
    }
    if header.has_data_file() {
        if let Some(name) = header.data_file_name().filter(|name| !name.is_empty()) {
            fields.push(("data-file", InfoValue::Text(name)));
        }
        fields.push(("data-file-raw", InfoValue::Bool(header.is_data_file_raw())));
    }
    if header.version == Version::V3 {
        let corrupt = header.incompatible.contains(Incompatible::CORRUPT);
        fields.push(("corrupt", InfoValue::Bool(corrupt)));
        fields.push(("extended-l2", InfoValue::Bool(image.geo.is_extended_l2())));
    }
    Ok(DriverInfo {
        cluster_size: Some(image.geo.cluster_size()),
        dirty: Some(header.incompatible.contains(Incompatible::DIRTY)),
        encrypted: image.encryption.is_some(),
        backing_filename,
        full_backing_filename,
        backing_format: header.backing_format(),
        snapshots: snapshots.iter().map(snapshot_info).collect(),
        format_specific: Some(FormatSpecific { type_name: "qcow2", fields }),
        allocated_bytes: None,
        // What is not mapped reads as zeros, or as the backing file, which a fresh image has no data from. In version 2,
        // which has no zero flag, space that was allocated in advance decrypts to noise.
        zero_init: image.encryption.is_none() || header.version == Version::V3,
    })
}

fn compat(version: Version) -> &'static str {
    match version {
        Version::V2 => "0.10",
        Version::V3 => "1.1",
    }
}
