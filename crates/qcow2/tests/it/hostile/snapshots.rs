//! The snapshot table, and what it leads to.

use super::case::Case;
use super::image::{
    COPIED, DATA, END, Image, L1, L2, PACKED, REFBLOCK, REFTABLE, SNAPSHOT_DATA, SNAPSHOT_L1, SNAPSHOT_L2, SNAPSHOTS,
    header,
};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = tables();
    cases.extend(l1_places());
    cases.extend(names());
    cases.extend(inner());
    cases.extend(many());
    cases
}

fn snapshot(name: &str, change: impl FnOnce(&mut Image, u64)) -> Case {
    Case::new(name, Image::with_snapshot(), |image| {
        let at = image.at(SNAPSHOTS);
        change(image, at);
    })
}

/// The table as a whole.
fn tables() -> Vec<Case> {
    let count = |name: &str, count: u32| snapshot(name, |image, _| image.put32(header::SNAPSHOT_COUNT, count));
    vec![
        count("two snapshots with a table of one", 2),
        count("a thousand snapshots with a table of one", 1000),
        count("the most snapshots with a table of one", 65536),
        count("too many snapshots", 65537),
        count("all ones snapshots", u32::MAX),
        count("no snapshots, but their clusters", 0),
        snapshot("the table at the end of the file", |image, _| {
            image.put64(header::SNAPSHOTS_OFFSET, image.at(END));
        }),
        snapshot("the table inside the last cluster", |image, _| {
            image.put64(header::SNAPSHOTS_OFFSET, image.at(END - 1));
        }),
        snapshot("the table over the L2 table", |image, _| image.put64(header::SNAPSHOTS_OFFSET, image.at(L2))),
        snapshot("the table over its own L1 table", |image, _| {
            image.put64(header::SNAPSHOTS_OFFSET, image.at(SNAPSHOT_L1));
        }),
        snapshot("the most snapshots in a hole", |image, _| {
            image.put64(header::SNAPSHOTS_OFFSET, 1 << 30);
            image.put32(header::SNAPSHOT_COUNT, 65536);
            image.set_len((1 << 30) + (64 << 20));
        }),
        Case::new("snapshots in version 2", Image::version_2(), |image| {
            image.put32(header::SNAPSHOT_COUNT, 1);
            image.put64(header::SNAPSHOTS_OFFSET, image.at(SNAPSHOTS));
            image.put_snapshot(image.at(SNAPSHOTS), b"1", b"one");
        }),
    ]
}

/// Where a snapshot says that its L1 table is.
fn l1_places() -> Vec<Case> {
    let cluster = |n: u64| n << 12;
    let mut cases: Vec<Case> = [
        ("nothing", 0),
        ("the header", 0),
        ("the active one", cluster(L1)),
        ("the L2 table", cluster(L2)),
        ("the refcount table", cluster(REFTABLE)),
        ("the refcount block", cluster(REFBLOCK)),
        ("the snapshot table", cluster(SNAPSHOTS)),
        ("data", cluster(DATA)),
        ("off by a sector", cluster(SNAPSHOT_L1) + 512),
        ("off by one", cluster(SNAPSHOT_L1) + 1),
        ("at the end of the file", cluster(END)),
        ("far past the end", 1 << 55),
        ("at 2^63", 1 << 63),
        ("at all ones", u64::MAX),
    ]
    .into_iter()
    .filter(|(name, _)| *name != "nothing")
    .map(|(name, value)| snapshot(&format!("its L1 table is {name}"), |image, at| image.put64(at, value)))
    .collect();
    cases.extend(
        [
            ("no entries", 0),
            ("fewer entries than the disk needs", 1),
            ("entries up to the end of the file", 6 * 512),
            ("entries past the end of the file", 6 * 512 + 1),
            ("entries at the limit", 4 << 20),
            ("entries past the limit", (4 << 20) + 1),
            ("entries whose bytes overflow", 1 << 29),
            ("all ones entries", u32::MAX),
        ]
        .map(|(name, value)| snapshot(&format!("its L1 table has {name}"), |image, at| image.put32(at + 8, value))),
    );
    cases
}

/// Lengths and texts in an entry.
fn names() -> Vec<Case> {
    let named = |name: &str, id: &[u8], text: &[u8]| {
        snapshot(name, |image, at| {
            image.put_snapshot(at, id, text);
        })
    };
    vec![
        named("an identifier with an escape sequence", b"\x1b[2J", b"one"),
        named("a name with an escape sequence", b"1", b"\x1b]0;title\x07"),
        named("a name with a newline", b"1", b"one\nERROR: two"),
        named("a name that is not UTF-8", b"1", b"\xff\xfe\x80"),
        named("a name with a NUL", b"1", b"o\0ne"),
        named("no identifier and no name", b"", b""),
        named("a name of 3000 bytes", b"1", &[b'n'; 3000]),
        named("a name with bidirectional marks", b"1", "a\u{202e}b".as_bytes()),
        snapshot("an identifier of all ones bytes", |image, at| image.put16(at + 12, u16::MAX)),
        snapshot("a name of all ones bytes", |image, at| image.put16(at + 14, u16::MAX)),
        snapshot("no extra data", |image, at| image.put32(at + 36, 0)),
        snapshot("extra data of 8 bytes", |image, at| image.put32(at + 36, 8)),
        snapshot("extra data of 15 bytes", |image, at| image.put32(at + 36, 15)),
        snapshot("extra data of 1024 bytes", |image, at| image.put32(at + 36, 1024)),
        snapshot("extra data of 1025 bytes", |image, at| image.put32(at + 36, 1025)),
        snapshot("extra data of all ones bytes", |image, at| image.put32(at + 36, u32::MAX)),
        snapshot("a state of all ones bytes", |image, at| image.put64(at + 40, u64::MAX)),
        snapshot("a disk of no bytes", |image, at| image.put64(at + 48, 0)),
        snapshot("a disk of all ones bytes", |image, at| image.put64(at + 48, u64::MAX)),
        snapshot("a disk larger than its L1 table", |image, at| image.put64(at + 48, 1 << 40)),
        snapshot("a date that is no date", |image, at| {
            image.put32(at + 16, u32::MAX);
            image.put32(at + 20, u32::MAX);
            image.put64(at + 24, u64::MAX);
        }),
    ]
}

/// The tables of the snapshot itself.
fn inner() -> Vec<Case> {
    vec![
        snapshot("an L1 entry of all ones", |image, _| image.put64(image.at(SNAPSHOT_L1), u64::MAX)),
        snapshot("an L1 entry over the active L1 table", |image, _| image.put64(image.at(SNAPSHOT_L1), image.at(L1))),
        snapshot("an L1 entry to the active L2 table", |image, _| image.put64(image.at(SNAPSHOT_L1), image.at(L2))),
        snapshot("an L1 entry past the end of the file", |image, _| image.put64(image.at(SNAPSHOT_L1), image.at(END))),
        snapshot("an L1 entry with the copied flag", |image, _| {
            image.put64(image.at(SNAPSHOT_L1), image.at(SNAPSHOT_L2) | COPIED);
        }),
        snapshot("an L2 entry of all ones", |image, _| image.put64(image.at(SNAPSHOT_L2), u64::MAX)),
        snapshot("an L2 entry over the refcount table", |image, _| {
            image.put64(image.at(SNAPSHOT_L2), image.at(REFTABLE));
        }),
        snapshot("an L2 entry over the snapshot table", |image, _| {
            image.put64(image.at(SNAPSHOT_L2), image.at(SNAPSHOTS));
        }),
        snapshot("an L2 entry past the end of the file", |image, _| image.put64(image.at(SNAPSHOT_L2), 1 << 50)),
        snapshot("a compressed L2 entry that is no stream", |image, _| {
            image.put64(image.at(SNAPSHOT_L2), image.at(SNAPSHOT_DATA) | PACKED);
        }),
        snapshot("an active cluster that is the snapshot's L2 table", |image, _| {
            image.put64(image.l2(5), image.at(SNAPSHOT_L2) | COPIED);
        }),
    ]
}

/// Many snapshots.
fn many() -> Vec<Case> {
    let fill = |image: &mut Image, n: u32| {
        let mut at = 1 << 30;
        image.put64(header::SNAPSHOTS_OFFSET, at);
        image.put32(header::SNAPSHOT_COUNT, n);
        for i in 0..n {
            at = image.put_snapshot(at, i.to_string().as_bytes(), b"many");
        }
        image.set_len(at.next_multiple_of(4096));
    };
    vec![
        snapshot("a thousand snapshots of one L1 table", |image, _| fill(image, 1000)),
        snapshot("a thousand snapshots of one L1 table of all ones", |image, _| {
            fill(image, 1000);
            (0..512).for_each(|i| image.put64(image.at(SNAPSHOT_L1) + 8 * i, u64::MAX));
        }),
        snapshot("two snapshots of one identifier", |image, at| {
            let next = image.put_snapshot(at, b"1", b"one");
            image.put_snapshot(next, b"1", b"one");
            image.put32(header::SNAPSHOT_COUNT, 2);
        }),
        snapshot("L1 tables of 32 MiB that overlap one another", |image, _| {
            fill(image, 200);
            let mut at = 1 << 30;
            for i in 0..200 {
                let next = image.put_snapshot(at, i.to_string().as_bytes(), b"many");
                image.put64(at, (2 << 30) + (i << 12));
                image.put32(at + 8, 4 << 20);
                at = next;
            }
            image.set_len(4 << 30);
        }),
    ]
}
