//! Files that end too early.

use super::case::Case;
use super::image::{
    BITMAP_DATA, BITMAP_TABLE, BITMAPS, DATA, END, Image, L1, L2, REFBLOCK, REFTABLE, SNAPSHOT_DATA, SNAPSHOT_L1,
    SNAPSHOT_L2, SNAPSHOTS,
};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [0, 1, 4, 8, 71, 72, 103, 104, 111, 112, 136, 144, 145, 512]
        .map(|len| Case::new(format!("a file of {len} bytes"), Image::full(), |image| image.set_len(len)))
        .into();
    let structures = [
        ("refcount table", REFTABLE),
        ("refcount block", REFBLOCK),
        ("L1 table", L1),
        ("L2 table", L2),
        ("data", DATA),
        ("snapshot table", SNAPSHOTS),
        ("L1 table of the snapshot", SNAPSHOT_L1),
        ("L2 table of the snapshot", SNAPSHOT_L2),
        ("data of the snapshot", SNAPSHOT_DATA),
        ("bitmap directory", BITMAPS),
        ("bitmap table", BITMAP_TABLE),
        ("bitmap data", BITMAP_DATA),
    ];
    for (name, cluster) in structures {
        cases.push(Case::new(format!("a file that ends before the {name}"), Image::full(), |image| {
            image.set_len(image.at(cluster));
        }));
        cases.push(Case::new(format!("a file that ends inside the {name}"), Image::full(), |image| {
            image.set_len(image.at(cluster) + 8);
        }));
    }
    cases.push(Case::new("a file that is longer than it need be", Image::full(), |image| {
        image.set_len(image.at(END + 3) + 5);
    }));
    cases
}
