//! The refcount table and its blocks.

use super::case::Case;
use super::image::{COPIED, DATA, END, Image, L1, L2, REFBLOCK, REFTABLE, SNAPSHOT_L1, SNAPSHOT_L2, SNAPSHOTS, header};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = entries();
    cases.extend(second_entries());
    cases.extend(counts());
    cases.extend(widths());
    cases
}

fn plain(name: &str, change: impl FnOnce(&mut Image)) -> Case {
    Case::new(name, Image::plain(), change)
}

fn first_places() -> [(&'static str, u64); 15] {
    let cluster = |n: u64| n << 12;
    [
        ("nothing", 0),
        ("the table itself", cluster(REFTABLE)),
        ("the L1 table", cluster(L1)),
        ("the L2 table", cluster(L2)),
        ("data", cluster(DATA)),
        ("zeros", cluster(END - 1)),
        ("a place off by a sector", cluster(REFBLOCK) + 512),
        ("the end of the file", cluster(END)),
        ("far past the end", 1 << 55),
        ("2^63", 1 << 63),
        ("the last place of all", !0xfff),
        ("a place with reserved bit 0", cluster(REFBLOCK) | 1),
        ("a place with reserved bit 8", cluster(REFBLOCK) | 1 << 8),
        ("a place with a copied flag", cluster(REFBLOCK) | COPIED),
        ("all ones", u64::MAX),
    ]
}

/// The first entry, whose block counts everything.
fn entries() -> Vec<Case> {
    first_places()
        .map(|(name, value)| plain(&format!("the block is {name}"), |image| image.put64(image.reftable(0), value)))
        .into()
}

/// Entries that count nothing of the file.
fn second_entries() -> Vec<Case> {
    let mut cases: Vec<Case> = first_places()[1..]
        .iter()
        .map(|(name, value)| {
            plain(&format!("the second block is {name}"), |image| image.put64(image.reftable(1), *value))
        })
        .collect();
    cases.push(plain("the second block is the first one", |image| image.put64(image.reftable(1), image.at(REFBLOCK))));
    cases.push(plain("every entry is the same block", |image| {
        (0..512).for_each(|i| image.put64(image.reftable(i), image.at(REFBLOCK)));
    }));
    cases.push(plain("every entry is past the end of the file", |image| {
        (0..512).for_each(|i| image.put64(image.reftable(i), (1 << 40) + image.at(i)));
    }));
    cases.push(plain("every entry has reserved bits", |image| {
        (0..512).for_each(|i| image.put64(image.reftable(i), image.at(REFBLOCK) | 3));
    }));
    cases.push(plain("every entry is another cluster of the file", |image| {
        (0..16).for_each(|i| image.put64(image.reftable(i + 1), image.at(i)));
    }));
    cases.push(plain("the last entry is a block of its own", |image| {
        image.put64(image.reftable(511), image.at(END - 1));
        image.set_refcount(END - 1, 1);
        image.put16(image.at(END - 1), 1);
    }));
    let victims = [
        ("snapshot table", SNAPSHOTS),
        ("L1 table of a snapshot", SNAPSHOT_L1),
        ("L2 table of a snapshot", SNAPSHOT_L2),
    ];
    cases.extend(victims.map(|(name, victim)| {
        Case::new(format!("the second block is the {name}"), Image::with_snapshot(), |image| {
            image.put64(image.reftable(1), image.at(victim));
        })
    }));
    cases
}

/// Counts that are wrong.
fn counts() -> Vec<Case> {
    let structures = [
        ("header", 0),
        ("refcount table", REFTABLE),
        ("refcount block", REFBLOCK),
        ("L1 table", L1),
        ("L2 table", L2),
        ("data", DATA),
    ];
    let mut cases = Vec::new();
    for (name, cluster) in structures {
        cases.push(plain(&format!("the {name} counts as free"), |image| image.set_refcount(cluster, 0)));
        cases.push(plain(&format!("the {name} counts twice"), |image| image.set_refcount(cluster, 2)));
    }
    let victims = [
        ("snapshot table", SNAPSHOTS),
        ("L1 table of a snapshot", SNAPSHOT_L1),
        ("L2 table of a snapshot", SNAPSHOT_L2),
    ];
    cases.extend(victims.map(|(name, victim)| {
        Case::new(format!("the {name} counts as free"), Image::with_snapshot(), |image| image.set_refcount(victim, 0))
    }));
    cases.push(plain("everything counts as free", |image| (0..END).for_each(|i| image.set_refcount(i, 0))));
    cases.push(plain("everything counts the most", |image| (0..END).for_each(|i| image.set_refcount(i, 0xffff))));
    cases.push(plain("clusters far past the end count", |image| {
        (1000..2048).for_each(|i| image.set_refcount(i, 1));
    }));
    cases.push(plain("all clusters that a block knows count", |image| {
        (END..2048).for_each(|i| image.set_refcount(i, 1));
    }));
    cases
}

/// Widths other than the usual one.
fn widths() -> Vec<Case> {
    vec![
        Case::new("a leak with 1-bit refcounts", Image::with_geometry(12, 0), |image| image.set_refcount(END - 1, 1)),
        Case::new("a free header with 1-bit refcounts", Image::with_geometry(12, 0), |image| image.set_refcount(0, 0)),
        Case::new("a count of all ones with 64 bits", Image::with_geometry(12, 6), |image| {
            image.set_refcount(DATA, u64::MAX);
        }),
        Case::new("a count of 2^63 with 64 bits", Image::with_geometry(12, 6), |image| {
            image.set_refcount(DATA, 1 << 63);
        }),
        Case::new("a free L1 table with 64 bits", Image::with_geometry(12, 6), |image| image.set_refcount(L1, 0)),
        Case::new("a refcount table of 8 MiB with one entry at its end", Image::plain(), |image| {
            image.put64(header::REFTABLE_OFFSET, 1 << 30);
            image.put32(header::REFTABLE_CLUSTERS, 2048);
            image.put64(1 << 30, image.at(REFBLOCK));
            image.put64((1 << 30) + (8 << 20) - 8, image.at(END - 1));
        }),
    ]
}
