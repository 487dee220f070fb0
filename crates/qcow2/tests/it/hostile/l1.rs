//! Entries of the L1 table.

use super::case::Case;
use super::image::{
    COPIED, DATA, END, Image, L1, L2, PACKED, REFBLOCK, REFTABLE, RESERVED, SNAPSHOT_L1, SNAPSHOT_L2, SNAPSHOTS, header,
};

pub(crate) fn cases() -> Vec<Case> {
    let cluster = |n: u64| n << 12;
    let entries = [
        ("to the header", 1 << 9 | COPIED),
        ("that is a flag alone", COPIED),
        ("over the refcount table", cluster(REFTABLE) | COPIED),
        ("over the refcount block", cluster(REFBLOCK) | COPIED),
        ("over the L1 table itself", cluster(L1) | COPIED),
        ("over data", cluster(DATA) | COPIED),
        ("over a reserved cluster", cluster(RESERVED) | COPIED),
        ("off by a sector", (cluster(L2) + 512) | COPIED),
        ("to the last cluster", cluster(END - 1) | COPIED),
        ("to the end of the file", cluster(END) | COPIED),
        ("far past the end", 1 << 55 | COPIED),
        ("to the last place of all", 0x00ff_ffff_ffff_f000 | COPIED),
        ("with reserved bit 0", cluster(L2) | COPIED | 1),
        ("with reserved bit 8", cluster(L2) | COPIED | 1 << 8),
        ("with reserved bit 56", cluster(L2) | COPIED | 1 << 56),
        ("with reserved bit 62", cluster(L2) | COPIED | PACKED),
        ("without the copied flag", cluster(L2)),
        ("of all ones", u64::MAX),
    ];
    let mut cases: Vec<Case> = entries
        .map(|(name, entry)| {
            Case::new(format!("an entry {name}"), Image::plain(), |image| image.put64(image.l1(0), entry))
        })
        .into();
    cases.extend(shared());
    cases.extend(snapshots());
    cases
}

/// Tables that several entries name.
fn shared() -> Vec<Case> {
    vec![
        Case::new("two entries for one table", Image::plain(), |image| {
            image.put64(image.l1(1), image.get64(image.l1(0)));
        }),
        Case::new("two entries for one table that is counted twice", Image::plain(), |image| {
            image.put64(image.l1(0), image.at(L2));
            image.put64(image.l1(1), image.at(L2));
            image.set_refcount(L2, 2);
        }),
        Case::new("a million entries for one table", Image::plain(), |image| {
            let l1 = [image.get64(image.l1(0)).to_be_bytes(); 1 << 17].concat();
            image.put64(header::L1_OFFSET, 1 << 30);
            image.put32(header::L1_ENTRIES, 1 << 17);
            image.put64(header::SIZE, image.l2_coverage() << 17);
            image.put(1 << 30, &l1);
        }),
        Case::new("entries for all clusters of the file", Image::plain(), |image| {
            image.put32(header::L1_ENTRIES, 16);
            image.put64(header::SIZE, 16 * image.l2_coverage());
            (0..16).for_each(|i| image.put64(image.l1(i), image.at(i) | COPIED));
        }),
        Case::new("entries that count up in sectors", Image::plain(), |image| {
            image.put32(header::L1_ENTRIES, 64);
            image.put64(header::SIZE, 64 * image.l2_coverage());
            (1..64).for_each(|i| image.put64(image.l1(i), (i * 512) | COPIED));
        }),
        Case::new("two thousand entries past the end of the file", Image::plain(), |image| {
            let entries: Vec<u8> =
                (0..2000_u64).flat_map(|i| (((1 << 50) + (i << 12)) | COPIED).to_be_bytes()).collect();
            image.put64(header::L1_OFFSET, 1 << 30);
            image.put32(header::L1_ENTRIES, 2000);
            image.put64(header::SIZE, 2000 * image.l2_coverage());
            image.put(1 << 30, &entries);
        }),
        Case::new("two thousand entries with reserved bits", Image::plain(), |image| {
            let entries: Vec<u8> = (0..2000_u64).flat_map(|i| (i << 56 | 0x1ff).to_be_bytes()).collect();
            image.put64(header::L1_OFFSET, 1 << 30);
            image.put32(header::L1_ENTRIES, 2000);
            image.put64(header::SIZE, 2000 * image.l2_coverage());
            image.put(1 << 30, &entries);
        }),
    ]
}

/// Active entries that lead into what belongs to a snapshot.
fn snapshots() -> Vec<Case> {
    let victims = [
        ("over the snapshot table", SNAPSHOTS),
        ("over the L1 table of a snapshot", SNAPSHOT_L1),
        ("over the L2 table of a snapshot", SNAPSHOT_L2),
    ];
    victims
        .map(|(name, victim)| {
            Case::new(format!("an entry {name}"), Image::with_snapshot(), |image| {
                image.put64(image.l1(0), image.at(victim) | COPIED);
            })
        })
        .into()
}
