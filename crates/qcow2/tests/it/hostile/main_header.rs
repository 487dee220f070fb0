//! The header's fields.

use super::case::Case;
use super::image::{BITMAPS, COMPRESSED, COPIED, DATA, END, Image, L1, L2, REFBLOCK, REFTABLE, header};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = identity();
    cases.extend(sizes());
    cases.extend(features());
    cases.extend(places());
    cases
}

fn plain(name: &str, change: impl FnOnce(&mut Image)) -> Case {
    Case::new(name, Image::plain(), change)
}

/// Magic number, version, length, encryption.
fn identity() -> Vec<Case> {
    let mut cases = vec![
        plain("nothing is wrong", |_| {}),
        Case::new("nothing is wrong in version 2", Image::version_2(), |_| {}),
        Case::new("nothing is wrong with 512-byte clusters", Image::with_geometry(9, 4), |_| {}),
        Case::new("nothing is wrong with 1-bit refcounts", Image::with_geometry(12, 0), |_| {}),
        Case::new("nothing is wrong with 64-bit refcounts", Image::with_geometry(12, 6), |_| {}),
        Case::new("nothing is wrong with everything", Image::full(), |_| {}),
        plain("magic", |image| image.put32(header::MAGIC, 0x5146_49fc)),
    ];
    let fields32 = [
        ("version 0", header::VERSION, 0),
        ("version 1", header::VERSION, 1),
        ("version 4", header::VERSION, 4),
        ("version of all ones", header::VERSION, u32::MAX),
        ("header length 0", header::LENGTH, 0),
        ("header length 72", header::LENGTH, 72),
        ("header length 103", header::LENGTH, 103),
        ("header length 104", header::LENGTH, 104),
        ("header length 108", header::LENGTH, 108),
        ("header length 113", header::LENGTH, 113),
        ("header length up to the end of the cluster", header::LENGTH, 4096),
        ("header length past the end of the cluster", header::LENGTH, 4104),
        ("header length of all ones", header::LENGTH, u32::MAX),
        ("encryption method 3", header::CRYPT_METHOD, 3),
        ("encryption method of all ones", header::CRYPT_METHOD, u32::MAX),
    ];
    cases.extend(fields32.map(|(name, field, value)| plain(name, |image| image.put32(field, value))));
    cases
}

/// Cluster size, disk size, refcount width, lengths of tables.
fn sizes() -> Vec<Case> {
    let fields32 = [
        ("cluster bits 0", header::CLUSTER_BITS, 0),
        ("cluster bits 8", header::CLUSTER_BITS, 8),
        ("cluster bits 13 in an image of 12", header::CLUSTER_BITS, 13),
        ("cluster bits 9 in an image of 12", header::CLUSTER_BITS, 9),
        ("cluster bits 21 in an image of 12", header::CLUSTER_BITS, 21),
        ("cluster bits 22", header::CLUSTER_BITS, 22),
        ("cluster bits 64", header::CLUSTER_BITS, 64),
        ("cluster bits of all ones", header::CLUSTER_BITS, u32::MAX),
        ("refcount order 0 in an image of 4", header::REFCOUNT_ORDER, 0),
        ("refcount order 6 in an image of 4", header::REFCOUNT_ORDER, 6),
        ("refcount order 7", header::REFCOUNT_ORDER, 7),
        ("refcount order 31", header::REFCOUNT_ORDER, 31),
        ("refcount order of all ones", header::REFCOUNT_ORDER, u32::MAX),
        ("no L1 entries", header::L1_ENTRIES, 0),
        ("one L1 entry too few", header::L1_ENTRIES, 1),
        ("L1 entries of a cluster", header::L1_ENTRIES, 512),
        ("L1 entries up to the end of the file", header::L1_ENTRIES, 13 * 512),
        ("L1 entries past the end of the file", header::L1_ENTRIES, 13 * 512 + 1),
        ("L1 entries at the limit", header::L1_ENTRIES, 4 << 20),
        ("L1 entries past the limit", header::L1_ENTRIES, (4 << 20) + 1),
        ("L1 entries of all ones", header::L1_ENTRIES, u32::MAX),
        ("L1 entries whose bytes overflow 32 bits", header::L1_ENTRIES, 1 << 29),
        ("no refcount table clusters", header::REFTABLE_CLUSTERS, 0),
        ("refcount table of two clusters, over the refcount block", header::REFTABLE_CLUSTERS, 2),
        ("refcount table up to the end of the file", header::REFTABLE_CLUSTERS, 15),
        ("refcount table past the end of the file", header::REFTABLE_CLUSTERS, 16),
        ("refcount table at the limit", header::REFTABLE_CLUSTERS, 2048),
        ("refcount table past the limit", header::REFTABLE_CLUSTERS, 2049),
        ("refcount table of all ones", header::REFTABLE_CLUSTERS, u32::MAX),
    ];
    let fields64 = [
        ("size 0", header::SIZE, 0),
        ("size 1", header::SIZE, 1),
        ("size 511", header::SIZE, 511),
        ("size not a multiple of 512", header::SIZE, (3 << 20) + 100),
        ("size at what two L1 entries map", header::SIZE, 4 << 20),
        ("size one past what two L1 entries map", header::SIZE, (4 << 20) + 1),
        ("size 2^62", header::SIZE, 1 << 62),
        ("size of the largest file", header::SIZE, i64::MAX as u64),
        ("size 2^63", header::SIZE, 1 << 63),
        ("size of all ones", header::SIZE, u64::MAX),
    ];
    let mut cases: Vec<_> = fields32.map(|(name, field, value)| plain(name, |image| image.put32(field, value))).into();
    cases.extend(fields64.map(|(name, field, value)| plain(name, |image| image.put64(field, value))));
    cases.push(plain("L1 entries at the limit in a hole", |image| {
        image.put64(header::L1_OFFSET, 1 << 30);
        image.put32(header::L1_ENTRIES, 4 << 20);
        image.set_len((1 << 30) + (32 << 20));
    }));
    cases.push(plain("refcount table at the limit in a hole", |image| {
        image.put64(header::REFTABLE_OFFSET, 1 << 30);
        image.put32(header::REFTABLE_CLUSTERS, 2048);
        image.set_len((1 << 30) + (8 << 20));
    }));
    cases
}

/// The three words of features, and the compression type.
fn features() -> Vec<Case> {
    let mut cases: Vec<_> = [
        ("dirty", header::INCOMPATIBLE, 1_u64),
        ("corrupt", header::INCOMPATIBLE, 2),
        ("dirty and corrupt", header::INCOMPATIBLE, 3),
        ("a data file that is not named", header::INCOMPATIBLE, 4),
        ("compression bit without a type", header::INCOMPATIBLE, 8),
        ("extended L2 entries with small clusters", header::INCOMPATIBLE, 16),
        ("the first unknown incompatible bit", header::INCOMPATIBLE, 32),
        ("the last incompatible bit", header::INCOMPATIBLE, 1 << 63),
        ("all incompatible bits", header::INCOMPATIBLE, u64::MAX),
        ("lazy refcounts", header::COMPATIBLE, 1),
        ("all compatible bits", header::COMPATIBLE, u64::MAX),
        ("bitmaps that are not there", header::AUTOCLEAR, 1),
        ("a raw data file that is not there", header::AUTOCLEAR, 2),
        ("an unknown autoclear bit", header::AUTOCLEAR, 1 << 40),
        ("all autoclear bits", header::AUTOCLEAR, u64::MAX),
    ]
    .map(|(name, field, value)| plain(name, |image| image.put64(field, value)))
    .into();
    cases.push(plain("compression type without its bit", |image| image.put(header::COMPRESSION, &[1])));
    cases.push(plain("compression type 2", |image| {
        image.put(header::COMPRESSION, &[2]);
        image.put64(header::INCOMPATIBLE, 8);
    }));
    cases.push(plain("compression type 255", |image| image.put(header::COMPRESSION, &[255])));
    cases.push(plain("zstd over deflate data", |image| {
        image.put(header::COMPRESSION, &[1]);
        image.put64(header::INCOMPATIBLE, 8);
    }));
    cases.push(plain("padding that is not zero", |image| image.put(header::COMPRESSION + 1, &[0xff; 7])));
    cases
}

/// Where the tables are.
fn places() -> Vec<Case> {
    let mut cases = Vec::new();
    let fields = [
        ("L1 table", header::L1_OFFSET),
        ("refcount table", header::REFTABLE_OFFSET),
        ("snapshot table", header::SNAPSHOTS_OFFSET),
    ];
    let cluster = |n: u64| n << 12;
    let places = [
        ("at zero", 0),
        ("off by one", cluster(L1) + 1),
        ("off by a sector", cluster(L1) + 512),
        ("over the refcount table", cluster(REFTABLE)),
        ("over the refcount block", cluster(REFBLOCK)),
        ("over the L1 table", cluster(L1)),
        ("over the L2 table", cluster(L2)),
        ("over data", cluster(DATA)),
        ("over compressed data", cluster(COMPRESSED)),
        ("over nothing", cluster(BITMAPS)),
        ("at the last cluster", cluster(END - 1)),
        ("at the end of the file", cluster(END)),
        ("far past the end", 1 << 55),
        ("with flags", cluster(L1) | COPIED),
        ("at the last cluster of all", !0xfff),
        ("at all ones", u64::MAX),
    ];
    for (table, field) in fields {
        for (place, value) in places {
            let snapshots = u32::from(field == header::SNAPSHOTS_OFFSET);
            if (field, value) == (header::L1_OFFSET, cluster(L1))
                || (field, value) == (header::REFTABLE_OFFSET, cluster(REFTABLE))
            {
                continue;
            }
            cases.push(plain(&format!("{table} {place}"), |image| {
                image.put64(field, value);
                image.put32(header::SNAPSHOT_COUNT, snapshots);
            }));
        }
    }
    cases
}
