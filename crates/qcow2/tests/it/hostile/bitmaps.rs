//! The bitmap directory, and what it leads to.

use super::case::Case;
use super::image::{BITMAP_DATA, BITMAP_TABLE, BITMAPS, DATA, END, Image, L1, L2, REFBLOCK, REFTABLE, header};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = places();
    cases.extend(fields());
    cases.extend(names());
    cases.extend(table_entries());
    cases
}

fn bitmap(name: &str, change: impl FnOnce(&mut Image, u64)) -> Case {
    Case::new(name, Image::with_bitmap(), |image| {
        let at = image.at(BITMAPS);
        change(image, at);
    })
}

/// Where a bitmap's table is.
fn places() -> Vec<Case> {
    let cluster = |n: u64| n << 12;
    [
        ("zero", 0),
        ("the refcount table", cluster(REFTABLE)),
        ("the refcount block", cluster(REFBLOCK)),
        ("the L1 table", cluster(L1)),
        ("the L2 table", cluster(L2)),
        ("data", cluster(DATA)),
        ("the directory", cluster(BITMAPS)),
        ("off by a sector", cluster(BITMAP_TABLE) + 512),
        ("at the end of the file", cluster(END)),
        ("far past the end", 1 << 55),
        ("at 2^63", 1 << 63),
        ("at all ones", u64::MAX),
    ]
    .map(|(name, value)| bitmap(&format!("its table is {name}"), |image, at| image.put64(at, value)))
    .into()
}

/// The other fields of a directory entry.
fn fields() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("a table of no entries", 8, 0),
        ("a table of two entries", 8, 2),
        ("a table up to the end of the file", 8, 1024),
        ("a table past the end of the file", 8, 1025),
        ("a table at the limit", 8, 0x0800_0000),
        ("a table past the limit", 8, 0x0800_0001),
        ("a table of all ones entries", 8, u32::MAX),
        ("a bitmap in use", 12, 1),
        ("a bitmap that is automatic", 12, 2),
        ("a bitmap with an extra data flag", 12, 4),
        ("a bitmap with reserved flags", 12, 8),
        ("a bitmap with all flags", 12, u32::MAX),
        ("extra data of 8 bytes", 20, 8),
        ("extra data of all ones bytes", 20, u32::MAX),
    ]
    .map(|(name, field, value)| bitmap(name, |image, at| image.put32(at + field, value)))
    .into();
    for (name, value) in [("0", 0), ("2", 2), ("255", 255)] {
        cases.push(bitmap(&format!("a bitmap of type {name}"), |image, at| image.put(at + 16, &[value])));
    }
    for (name, value) in [("0", 0), ("8", 8), ("31", 31), ("32", 32), ("63", 63), ("64", 64), ("255", 255)] {
        cases.push(bitmap(&format!("a granularity of {name} bits"), |image, at| image.put(at + 17, &[value])));
    }
    cases
}

/// Names.
fn names() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("no name", 0_u16),
        ("a name of 8 bytes with zeros", 8),
        ("a name past the directory", 9),
        ("a name of 1024 bytes", 1024),
        ("a name of all ones bytes", u16::MAX),
    ]
    .map(|(name, len)| bitmap(name, |image, at| image.put16(at + 18, len)))
    .into();
    for (name, text) in [
        ("with an escape sequence", b"\x1b[2J!"),
        ("with a newline", b"on\nof"),
        ("that is not UTF-8", b"\xff\xfe\x80\x81\x82"),
    ] {
        cases.push(bitmap(&format!("a name {name}"), |image, at| image.put(at + 24, text)));
    }
    cases.push(bitmap("two bitmaps of one name", |image, at| {
        let entry: Vec<u8> = (0..32).map(|i| image.get8(at + i)).collect();
        image.put(at + 32, &entry);
        image.put32(header::END + 8, 2);
        image.put64(header::END + 16, 64);
    }));
    cases.push(bitmap("a hundred bitmaps of one table", |image, at| {
        let entry: Vec<u8> = (0..32).map(|i| image.get8(at + i)).collect();
        (0..100).for_each(|i| image.put(at + i * 32, &entry));
        image.put32(header::END + 8, 100);
        image.put64(header::END + 16, 3200);
    }));
    cases
}

/// Entries of a bitmap's table.
fn table_entries() -> Vec<Case> {
    let cluster = |n: u64| n << 12;
    let mut cases: Vec<Case> = [
        ("zeros", 0),
        ("ones", 1),
        ("the directory", cluster(BITMAPS)),
        ("its table", cluster(BITMAP_TABLE)),
        ("the L1 table", cluster(L1)),
        ("the refcount table", cluster(REFTABLE)),
        ("data", cluster(DATA)),
        ("off by a sector", cluster(BITMAP_DATA) + 512),
        ("past the end of the file", cluster(END)),
        ("far past the end", 1 << 55),
        ("with reserved bit 1", cluster(BITMAP_DATA) | 2),
        ("with reserved bit 63", cluster(BITMAP_DATA) | 1 << 63),
        ("with an offset and the ones flag", cluster(BITMAP_DATA) | 1),
        ("all ones", u64::MAX),
    ]
    .map(|(name, value)| bitmap(&format!("its data is {name}"), |image, _| image.put64(image.at(BITMAP_TABLE), value)))
    .into();
    cases.push(bitmap("a table of 512 entries of one cluster", |image, at| {
        image.put32(at + 8, 512);
        (0..512).for_each(|i| image.put64(image.at(BITMAP_TABLE) + 8 * i, image.at(BITMAP_DATA)));
    }));
    cases
}
