//! From one header to the next, in writes of which a power cut may leave out any part.
//!
//! A disk writes a sector whole or not at all, and sectors in any order. So when the two headers differ in their first
//! sector alone, one write does. Otherwise the image passes through headers that say the same in less space:
//!
//! | write | where | afterwards the image has |
//! |---|---|---|
//! | 1 | the end of the cluster, which is free | the old header, and a second copy of the backing file name |
//! | 2 | first sector | the old header without feature names, which names that copy |
//! | 3 | sectors after the first | the same; nothing refers to what is written |
//! | 4 | first sector | the new header |
//! | 5 | the end of the cluster | the new header; the copy is gone |
//!
//! That needs the old header, without the names, to fit into one sector. One that does not, as it has long extensions of
//! other programs, is replaced in one write, as QEMU always does (`qcow2_update_header`, block/qcow2.c).

use super::bytes;
use super::extension::MAGIC_FEATURE_NAMES;
use super::header::Header;
use crate::error::FormatError;

/// Bytes that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// Where the header keeps the offset of the backing file name, and then its length.
const BACKING_OFFSET_FIELD: usize = 8;

/// One write of a transition. It must be durable before the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderWrite {
    /// Where, in the first cluster.
    pub offset: u64,
    /// What.
    pub data: Vec<u8>,
}

/// The writes that put `new` in the place of the header in `first_cluster`.
///
/// # Errors
/// When the new header does not fit into one cluster.
pub fn writes(first_cluster: &[u8], new: &Header) -> Result<Vec<HeaderWrite>, FormatError> {
    let cluster_len = new.geometry.cluster_len();
    let mut old = first_cluster.to_vec();
    old.resize(cluster_len, 0);
    let mut target = new.serialize()?;
    let new_len = target.len();
    target.resize(cluster_len, 0);
    let first_sector = HeaderWrite { offset: 0, data: part(&target, 0, SECTOR_BYTES) };
    if tail(&old, new_len) == tail(&target, new_len) {
        return Ok(vec![first_sector]);
    }
    let Some(detour) = Detour::plan(&old, new_len) else { return Ok(vec![HeaderWrite { offset: 0, data: target }]) };
    let copy_at = detour.copy_at;
    let mut writes = Vec::new();
    writes.push(HeaderWrite { offset: len_u64(copy_at), data: detour.name.clone() });
    writes.push(HeaderWrite { offset: 0, data: detour.sector });
    let after = copy_at.saturating_sub(SECTOR_BYTES);
    writes.push(HeaderWrite { offset: len_u64(SECTOR_BYTES), data: part(&target, SECTOR_BYTES, after) });
    writes.push(first_sector);
    writes.push(HeaderWrite { offset: len_u64(copy_at), data: vec![0; detour.name.len()] });
    writes.retain(|write| !write.data.is_empty());
    Ok(writes)
}

/// The old header in the first sector alone.
struct Detour {
    sector: Vec<u8>,
    /// The backing file name, of which a copy is at the end of the cluster.
    name: Vec<u8>,
    copy_at: usize,
}

impl Detour {
    /// None if there is no room for it.
    fn plan(old: &[u8], new_len: usize) -> Option<Self> {
        let header = Header::parse(old, len_u64(old.len())).ok()?;
        let name = header.backing_name.clone().unwrap_or_default();
        let copy_at = old.len().checked_sub(name.len())?;
        let mut nameless = header.clone();
        nameless.backing_name = None;
        let extensions_end = nameless.serialize().ok()?.len();
        let name_at = usize::try_from(bytes::u64_at(old, BACKING_OFFSET_FIELD)?).ok()?;
        let old_end = extensions_end.max(name_at.saturating_add(name.len()));
        nameless.extensions.retain(|extension| extension.magic != MAGIC_FEATURE_NAMES);
        if copy_at < old_end.max(new_len).max(SECTOR_BYTES) || nameless.serialize().ok()?.len() > SECTOR_BYTES {
            return None;
        }
        nameless.backing_name = header.backing_name;
        let mut bytes = nameless.serialize_with_name_from(copy_at).ok()?;
        bytes.resize(bytes.len().max(SECTOR_BYTES), 0);
        Some(Self { sector: part(&bytes, 0, SECTOR_BYTES), name, copy_at })
    }
}

/// What the sectors after the first one hold, up to `end`.
fn tail(cluster: &[u8], end: usize) -> &[u8] {
    cluster.get(SECTOR_BYTES..end).unwrap_or_default()
}

/// Up to `len` bytes from `start` on.
fn part(bytes: &[u8], start: usize, len: usize) -> Vec<u8> {
    bytes.iter().skip(start).take(len).copied().collect()
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::extension::Extension;
    use super::super::features::{Autoclear, Compatible, Incompatible};
    use super::super::header::{CompressionType, TablePlace};
    use super::super::header::{FULL_BYTES, V2_BYTES, Version};
    use super::*;
    use crate::units::{Geometry, HostOffset};

    fn header(is_v3: bool, cluster_bits: u32, extensions: Vec<(u32, usize)>, name: Option<usize>, size: u64) -> Header {
        let at = |cluster: u64| HostOffset::new(cluster << cluster_bits);
        let mut header = Header {
            version: if is_v3 { Version::V3 } else { Version::V2 },
            geometry: Geometry::new(cluster_bits, 4).expect("valid"),
            virtual_size: size * 512,
            l1: TablePlace { offset: at(3), count: 64 },
            reftable: TablePlace { offset: at(1), count: 1 },
            snapshots: TablePlace { offset: at(0), count: 0 },
            incompatible: Incompatible::empty(),
            compatible: Compatible::empty(),
            autoclear: Autoclear::empty(),
            compression: CompressionType::Zlib,
            header_length: u32::try_from(if is_v3 { FULL_BYTES } else { V2_BYTES }).expect("short"),
            unknown_fields: Vec::new(),
            extensions: vec![],
            encryption: None,
            bitmaps: None,
            backing_name: name.map(|len| vec![b'a' + u8::try_from(size).expect("small"); len]),
        };
        if is_v3 {
            header.extensions.push(Extension::feature_names());
        }
        let byte = u8::try_from(size).expect("small");
        let extensions = extensions.into_iter().map(|(magic, len)| Extension { magic, data: vec![byte; len] });
        header.extensions.extend(extensions);
        header
    }

    /// What a header says, without the courtesies.
    fn meaning(bytes: &[u8]) -> Option<Header> {
        let mut header = Header::parse(bytes, bytes.len() as u64).ok()?;
        header.extensions.retain(|extension| extension.magic != MAGIC_FEATURE_NAMES);
        Some(header)
    }

    fn any_header(size: std::ops::Range<u64>, cluster_bits: u32) -> impl Strategy<Value = Header> {
        let extensions = proptest::collection::vec((1000u32..1004, 0usize..60), 0..3);
        let name = proptest::option::of(1usize..700);
        (any::<bool>(), extensions, name, size)
            .prop_map(move |(is_v3, extensions, name, size)| header(is_v3, cluster_bits, extensions, name, size))
    }

    proptest! {
        #[test]
        fn every_torn_state_is_one_of_the_two_headers(
            old in any_header(0..12, 12),
            new in any_header(12..24, 12),
            junk in any::<bool>(),
        ) {
            let mut disk = old.serialize().expect("fits");
            disk.resize(4096, if junk { 0x55 } else { 0 });
            let (old, target) = (meaning(&disk), meaning(&new.serialize().expect("fits")));
            for write in writes(&disk, &new).expect("fits") {
                let at = usize::try_from(write.offset).expect("small");
                let end = at + write.data.len();
                let (first, last) = (at / SECTOR_BYTES, (end - 1) / SECTOR_BYTES);
                for subset in 0u32..1 << (last - first + 1) {
                    let mut torn = disk.clone();
                    for i in (at..end).filter(|i| subset >> (i / SECTOR_BYTES - first) & 1 == 1) {
                        torn[i] = write.data[i - at];
                    }
                    let state = meaning(&torn);
                    prop_assert!(state == old || state == target, "{write:?} {subset:b}");
                }
                disk[at..end].copy_from_slice(&write.data);
            }
            prop_assert_eq!(Header::parse(&disk, 4096), Ok(new));
        }
    }

    #[test]
    fn what_changes_in_the_first_sector_takes_one_write() {
        let old = header(true, 16, vec![(1000, 900)], Some(20), 1);
        let mut new = old.clone();
        new.virtual_size = 4096;
        let writes = writes(&old.serialize().expect("fits"), &new).expect("fits");
        assert_eq!(writes.len(), 1);
        assert_eq!(writes[0].data.len(), SECTOR_BYTES);
    }

    #[test]
    fn the_smallest_clusters_are_one_sector() {
        let old = header(false, 9, vec![], Some(20), 1);
        let new = header(false, 9, vec![(1000, 30)], Some(90), 2);
        let writes = writes(&old.serialize().expect("fits"), &new).expect("fits");
        assert_eq!(writes.len(), 1);
    }

    #[test]
    fn long_extensions_are_written_at_once() {
        let old = header(true, 16, vec![(1000, 900)], Some(20), 1);
        let new = header(true, 16, vec![(1000, 900)], Some(30), 2);
        let writes = writes(&old.serialize().expect("fits"), &new).expect("fits");
        assert_eq!(writes.iter().map(|write| write.data.len()).collect::<Vec<_>>(), [65536]);
    }
}
