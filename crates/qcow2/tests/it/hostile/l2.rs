//! Entries of L2 tables.

use super::case::Case;
use super::image::{
    COMPRESSED, COPIED, DATA, DATA_B, END, Image, L1, L2, PACKED, REFBLOCK, REFTABLE, RESERVED, SNAPSHOT_DATA,
    SNAPSHOT_L1, SNAPSHOT_L2, SNAPSHOTS, ZERO, header,
};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = standard();
    cases.extend(zeros());
    cases.extend(compressed());
    cases.extend(many());
    cases
}

fn entry(name: &str, value: u64) -> Case {
    Case::new(name, Image::plain(), |image| image.put64(image.l2(0), value))
}

/// Standard clusters.
fn standard() -> Vec<Case> {
    let cluster = |n: u64| n << 12;
    let mut cases: Vec<Case> = [
        ("data over the header, by its flag", COPIED),
        ("data over the header, by a sector", 512 | COPIED),
        ("data over the refcount table", cluster(REFTABLE) | COPIED),
        ("data over the refcount block", cluster(REFBLOCK) | COPIED),
        ("data over the L1 table", cluster(L1) | COPIED),
        ("data over the L2 table", cluster(L2) | COPIED),
        ("data of another cluster", cluster(DATA_B) | COPIED),
        ("data over compressed data", cluster(COMPRESSED) | COPIED),
        ("data that is not counted", cluster(END - 1) | COPIED),
        ("data off by a sector", (cluster(DATA) + 512) | COPIED),
        ("data at the end of the file", cluster(END) | COPIED),
        ("data far past the end", 1 << 55 | COPIED),
        ("data at the last place of all", 0x00ff_ffff_ffff_f000 | COPIED),
        ("data without the copied flag", cluster(DATA)),
        ("data with reserved bit 1", cluster(DATA) | COPIED | 2),
        ("data with reserved bit 8", cluster(DATA) | COPIED | 1 << 8),
        ("data with reserved bit 56", cluster(DATA) | COPIED | 1 << 56),
        ("data with reserved bit 61", cluster(DATA) | COPIED | 1 << 61),
        ("an entry of all ones", u64::MAX),
        ("an entry of all ones but the compressed flag", !PACKED),
    ]
    .map(|(name, value)| entry(name, value))
    .into();
    let victims = [
        ("data over the snapshot table", SNAPSHOTS),
        ("data over the L1 table of a snapshot", SNAPSHOT_L1),
        ("data over the L2 table of a snapshot", SNAPSHOT_L2),
        ("data of a snapshot as if it were ours alone", SNAPSHOT_DATA),
        ("shared data as if it were ours alone", DATA),
    ];
    cases.extend(victims.map(|(name, victim)| {
        Case::new(name, Image::with_snapshot(), |image| image.put64(image.l2(0), image.at(victim) | COPIED))
    }));
    cases
}

/// Clusters that read as zeros.
fn zeros() -> Vec<Case> {
    let cluster = |n: u64| n << 12;
    let mut cases: Vec<Case> = [
        ("zeros without a cluster", ZERO),
        ("zeros without a cluster that are copied", ZERO | COPIED),
        ("zeros over the L2 table", cluster(L2) | ZERO | COPIED),
        ("zeros over the refcount table", cluster(REFTABLE) | ZERO | COPIED),
        ("zeros over another reserved cluster", cluster(RESERVED) | ZERO | COPIED),
        ("zeros off by a sector", (cluster(DATA) + 512) | ZERO | COPIED),
        ("zeros past the end of the file", cluster(END) | ZERO | COPIED),
        ("zeros far past the end", 1 << 55 | ZERO | COPIED),
    ]
    .map(|(name, value)| entry(name, value))
    .into();
    cases.push(Case::new("the zero flag in version 2", Image::version_2(), |image| {
        image.put64(image.l2(0), image.at(DATA) | COPIED | ZERO);
    }));
    cases.push(Case::new("the zero flag alone in version 2", Image::version_2(), |image| {
        image.put64(image.l2(0), ZERO);
    }));
    cases
}

/// Compressed clusters.
fn compressed() -> Vec<Case> {
    let cluster = |n: u64| n << 12;
    let sectors = |n: u64| n << 58;
    let mut cases: Vec<Case> = [
        ("compressed data over the header", PACKED),
        ("compressed data over the refcount table", PACKED | cluster(REFTABLE)),
        ("compressed data over the L2 table", PACKED | cluster(L2)),
        ("compressed data that is no stream", PACKED | cluster(DATA)),
        ("compressed data that is zeros", PACKED | cluster(END - 1)),
        ("compressed data with the copied flag", PACKED | COPIED | cluster(COMPRESSED)),
        ("compressed data shared and counted once", PACKED | cluster(COMPRESSED)),
        ("compressed data of the most sectors", PACKED | sectors(15) | cluster(COMPRESSED)),
        ("compressed data up to the end of the file", PACKED | sectors(7) | cluster(END - 1)),
        ("compressed data across the end of the file", PACKED | sectors(15) | cluster(END - 1)),
        ("compressed data in the last byte", PACKED | (cluster(END) - 1)),
        ("compressed data at the end of the file", PACKED | cluster(END)),
        ("compressed data far past the end", PACKED | 1 << 55),
        ("compressed data with reserved offset bits", PACKED | 1 << 57 | cluster(COMPRESSED)),
        ("compressed data of all ones", PACKED | !(COPIED | PACKED)),
    ]
    .map(|(name, value)| entry(name, value))
    .into();
    cases.push(Case::new(
        "compressed data with reserved offset bits in small clusters",
        Image::with_geometry(9, 4),
        |image| {
            image.put64(image.l2(0), PACKED | 1 << 60 | image.at(COMPRESSED));
        },
    ));
    cases.push(Case::new("compressed data cut in the middle", Image::plain(), |image| {
        let at = image.at(END) + 510;
        image.put_compressed(0, at, 0x77);
        image.set_len(at + 3);
    }));
    cases.push(Case::new("a stream of more than a cluster", Image::plain(), |image| {
        let long = [0x78; 9000];
        let mut packed = vec![0; 9000];
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let len = compressor.deflate_compress(&long, &mut packed).expect("it is all the same");
        image.put(image.at(COMPRESSED), &packed[..len]);
    }));
    cases
}

/// Tables full of damage.
fn many() -> Vec<Case> {
    let fill = |name: &str, value: fn(&Image, u64) -> u64| {
        Case::new(name, Image::plain(), |image| {
            (0..512).for_each(|i| image.put64(image.l2(i), value(image, i)));
        })
    };
    vec![
        fill("every entry the same cluster", |image, _| image.at(DATA) | COPIED),
        fill("every entry the same compressed cluster", |image, _| image.get64(image.l2(3)) | image.at(COMPRESSED)),
        fill("every entry past the end", |_, i| ((1 << 50) + (i << 12)) | COPIED),
        fill("every entry with reserved bits", |image, i| image.at(DATA) | 2 | i << 52),
        fill("every entry unaligned", |_, i| (i * 512) | COPIED),
        fill("every entry the next cluster", |image, i| image.at(i) | COPIED),
        fill("every entry all ones", |_, _| u64::MAX),
        Case::new("a wide scatter over a sparse file", Image::plain(), |image| {
            (0..512).for_each(|i| image.put64(image.l2(i), (i + 1) << 32 | COPIED));
            image.set_len(513 << 32);
        }),
        Case::new("a counter at its limit with 1-bit refcounts", Image::with_geometry(12, 0), |image| {
            image.put64(image.l2(9), image.at(DATA));
        }),
        Case::new("a disk that ends inside a cluster of data", Image::plain(), |image| {
            image.put64(header::SIZE, image.cluster_size() + 700);
        }),
    ]
}
