//! Names of backing files, and the chains that they make.

use super::case::Case;
use super::image::{Image, header};

fn plain(name: &str, change: impl FnOnce(&mut Image)) -> Case {
    Case::new(name, Image::plain(), change)
}

/// An image whose backing file is `name`.
fn over(name: &[u8]) -> Image {
    let mut image = Image::plain();
    image.name_backing(name);
    image
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = fields();
    cases.extend(texts());
    cases.extend(chains());
    cases
}

/// Where the name is.
fn fields() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("inside the header", 64, 4),
        ("at the end of the header", 112, 4),
        ("at an odd place", 3001, 4),
        ("up to the end of the cluster", 4092, 4),
        ("past the end of the cluster", 4092, 5),
        ("at the end of the cluster", 4096, 0),
        ("in the second cluster", 4097, 4),
        ("far out", 1 << 40, 4),
        ("at all ones", u64::MAX, 4),
    ]
    .map(|(name, offset, len)| {
        plain(&format!("a name {name}"), |image| {
            image.put64(header::BACKING_OFFSET, offset);
            image.put32(header::BACKING_LEN, len);
            image.put(3001, b"base");
            image.put(4092, b"base");
            image.put(4096, &image.at(2).to_be_bytes());
        })
        .beside("base", Image::plain())
    })
    .into();
    for (name, len) in [("of 1023 bytes", 1023), ("of 1024 bytes", 1024), ("of all ones bytes", u32::MAX)] {
        cases.push(plain(&format!("a name {name}"), |image| {
            image.name_backing(&[b'n'; 1023]);
            image.put32(header::BACKING_LEN, len);
        }));
    }
    cases.push(plain("a length without a place", |image| image.put32(header::BACKING_LEN, u32::MAX)));
    cases.push(Case::new("a name in a file that ends before it", Image::plain(), |image| {
        image.name_backing(b"base");
        image.set_len(1000);
    }));
    cases
}

/// What the name says.
fn texts() -> Vec<Case> {
    [
        ("that is empty", &b""[..]),
        ("that is a NUL", b"\0"),
        ("with a NUL inside", b"base\0evil"),
        ("with an escape sequence", b"\x1b[2Jbase"),
        ("with a newline", b"base\nqemu-img: done"),
        ("that is not UTF-8", b"\xff\xfebase"),
        ("of a protocol nobody knows", b"evil:base"),
        ("that is broken JSON", b"json:{"),
        ("that is JSON without a driver", b"json:{}"),
        ("that is deep JSON", &[b"json:", [b'['; 900].as_slice()].concat()),
        ("that is a folder", b"/"),
        ("of a file that is not there", b"missing"),
        ("of a device without end", b"/dev/zero"),
    ]
    .map(|(name, text)| Case { name: format!("a name {name}"), image: over(text), others: Vec::new() })
    .into()
}

/// Chains that do not end well.
fn chains() -> Vec<Case> {
    vec![
        Case { name: "a name of the image itself".to_owned(), image: over(b"a"), others: Vec::new() },
        Case { name: "a loop of two".to_owned(), image: over(b"b"), others: Vec::new() }.beside("b", over(b"a")),
        Case { name: "a loop of three further down".to_owned(), image: over(b"b"), others: Vec::new() }
            .beside("b", over(b"c"))
            .beside("c", over(b"d"))
            .beside("d", over(b"b")),
        Case { name: "a base that is damaged".to_owned(), image: over(b"b"), others: Vec::new() }.beside("b", {
            let mut base = Image::plain();
            base.put32(header::L1_ENTRIES, u32::MAX);
            base
        }),
        Case { name: "a base with damaged entries".to_owned(), image: over(b"b"), others: Vec::new() }.beside("b", {
            let mut base = Image::plain();
            base.put64(base.l2(4), u64::MAX);
            base.put64(base.l1(1), u64::MAX);
            base
        }),
        Case { name: "a base that is longer than any disk".to_owned(), image: over(b"b"), others: Vec::new() }.beside(
            "b",
            {
                let mut base = Image::plain();
                base.put64(header::SIZE, u64::MAX);
                base
            },
        ),
    ]
}
