use super::*;
use proptest::prelude::*;

fn sample(version: Version, cluster_bits: u32) -> Header {
    let order = 4;
    let geometry = Geometry::new(cluster_bits, order).expect("valid");
    let at = |cluster: u64| HostOffset::new(cluster << cluster_bits);
    Header {
        version,
        geometry,
        virtual_size: 1 << 20,
        l1: TablePlace { offset: at(3), count: 64 },
        reftable: TablePlace { offset: at(1), count: 1 },
        snapshots: TablePlace { offset: at(0), count: 0 },
        incompatible: Incompatible::empty(),
        compatible: Compatible::empty(),
        autoclear: Autoclear::empty(),
        compression: CompressionType::Zlib,
        header_length: if version == Version::V2 { 72 } else { 112 },
        unknown_fields: Vec::new(),
        extensions: Vec::new(),
        encryption: None,
        bitmaps: None,
        backing_name: None,
    }
}

fn parse(bytes: &[u8]) -> Result<Header, FormatError> {
    Header::parse(bytes, bytes.len() as u64)
}

fn patched(offset: usize, value: &[u8]) -> Result<Header, FormatError> {
    let mut bytes = sample(Version::V3, 16).serialize().expect("fits");
    bytes[offset..offset + value.len()].copy_from_slice(value);
    bytes.resize(65536, 0);
    parse(&bytes)
}

fn message(offset: usize, value: &[u8]) -> String {
    patched(offset, value).expect_err("damaged").to_string()
}

#[test]
fn damage_is_named() {
    assert_eq!(message(0, b"X"), "Image is not in qcow2 format");
    assert_eq!(message(4, &4u32.to_be_bytes()), "Unsupported qcow2 version 4");
    assert_eq!(message(20, &22u32.to_be_bytes()), "Unsupported cluster size: 2^22");
    assert_eq!(message(100, &96u32.to_be_bytes()), "qcow2 header too short");
    assert_eq!(message(100, &0x10008u32.to_be_bytes()), "qcow2 header exceeds cluster size");
    assert_eq!(message(8, &0x10001u64.to_be_bytes()), "Invalid backing file offset");
    assert_eq!(message(96, &7u32.to_be_bytes()), "Reference count entry width too large; may not exceed 64 bits");
    assert_eq!(message(32, &3u32.to_be_bytes()), "Unsupported encryption method 3");
    assert_eq!(message(36, &0x40_0001u32.to_be_bytes()), "Active L1 table too large");
    assert_eq!(message(40, &0x1_0200u64.to_be_bytes()), "Active L1 table offset invalid");
    assert_eq!(message(56, &0u32.to_be_bytes()), "Image does not contain a reference count table");
    assert_eq!(message(56, &129u32.to_be_bytes()), "Reference count table too large");
    assert_eq!(message(60, &65537u32.to_be_bytes()), "Snapshot table too large");
    assert_eq!(message(24, &(1u64 << 63).to_be_bytes()), "Image is too big");
    assert_eq!(message(24, &(1u64 << 40).to_be_bytes()), "L1 table is too small");
    assert_eq!(message(72, &[0x80]), "Unsupported qcow2 feature(s): Unknown incompatible feature: 8000000000000000");
}

#[test]
fn dirty_and_corrupt_are_the_openers_business() {
    let header = patched(79, &[3]).expect("parses");
    assert_eq!(header.incompatible, Incompatible::DIRTY | Incompatible::CORRUPT);
}

#[test]
fn a_short_file_is_told_apart() {
    let header = sample(Version::V3, 16);
    assert_eq!(header.check_file_len(0x3_0000 + 512), Ok(()));
    let error = header.check_file_len(0x3_0000 + 511).expect_err("cut");
    assert_eq!(error.kind(), qemu_block::error::ErrorKind::Truncated);
    let overlapping = patched(40, &0u64.to_be_bytes()).expect("left to the opener");
    assert_eq!(overlapping.check_file_len(1 << 30).expect_err("bad").to_string(), "Active L1 table offset invalid");
    let bytes = header.serialize().expect("fits");
    assert!(matches!(parse(&bytes[..71]), Err(FormatError::HeaderTooShort { length: 71 })));
    assert!(matches!(parse(&bytes[..103]), Err(FormatError::HeaderTooShort { .. })));
    assert!(matches!(parse(b""), Err(FormatError::NotQcow2)));
}

#[test]
fn a_header_without_compression_type_keeps_its_length() {
    let header = Header { header_length: 104, ..sample(Version::V3, 16) };
    let bytes = header.serialize().expect("fits");
    assert_eq!(bytes.len(), 104 + 8);
    assert_eq!(parse(&bytes), Ok(header));
}

fn any_header() -> impl Strategy<Value = Header> {
    let extension = (1u32.., proptest::collection::vec(any::<u8>(), 0..20))
        .prop_filter("typed ones have rules", |(magic, _)| {
            ![MAGIC_BACKING_FORMAT, MAGIC_BITMAPS, extension::MAGIC_ENCRYPTION].contains(magic)
        })
        .prop_map(|(magic, data)| Extension { magic, data });
    (
        any::<bool>(),
        11u32..=21,
        proptest::collection::vec(extension, 0..4),
        proptest::option::of((1u8.., proptest::collection::vec(any::<u8>(), 0..300))),
        proptest::collection::vec(any::<u8>(), 0..4),
        any::<u64>(),
    )
        .prop_map(|(v3, cluster_bits, extensions, backing_name, unknown, features)| {
            let mut header = sample(if v3 { Version::V3 } else { Version::V2 }, cluster_bits);
            header.extensions = extensions;
            header.backing_name = backing_name.map(|(first, rest)| [vec![first], rest].concat());
            if v3 {
                header.unknown_fields = unknown.repeat(8);
                header.header_length += u32::try_from(header.unknown_fields.len()).expect("short");
                header.compatible = Compatible::from_bits_retain(features);
                header.autoclear = Autoclear::from_bits_retain(features.rotate_left(7));
                header.incompatible.set(Incompatible::DIRTY, features & 1 != 0);
                header.incompatible.set(Incompatible::COMPRESSION, features & 2 != 0);
                if features & 2 != 0 {
                    header.compression = CompressionType::Zstd;
                }
            }
            header
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read(header in any_header()) {
        let bytes = header.serialize().expect("fits");
        prop_assert_eq!(Header::wanted_len(&bytes), Ok(header.geometry.cluster_size()));
        prop_assert_eq!(parse(&bytes), Ok(header));
    }

    #[test]
    fn any_damage_is_survived(
        header in any_header(), at in 0usize..200, value: u64, cut in 0usize..400,
    ) {
        let mut bytes = header.serialize().expect("fits");
        let end = (at + 8).min(bytes.len());
        if at < end {
            bytes[at..end].copy_from_slice(&value.to_be_bytes()[..end - at]);
        }
        drop(parse(&bytes));
        bytes.truncate(cut);
        drop(parse(&bytes));
    }
}
