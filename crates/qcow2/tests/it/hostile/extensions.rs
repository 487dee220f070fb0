//! Header extensions.

use super::case::Case;
use super::image::{Image, extension, header};

fn plain(name: &str, change: impl FnOnce(&mut Image)) -> Case {
    Case::new(name, Image::plain(), change)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        plain("an unknown extension", |image| drop_offset(image.add_extension(0x1234_5678, b"whatever"))),
        plain("an extension of no bytes", |image| drop_offset(image.add_extension(0x1234_5678, b""))),
        plain("an extension up to the end of the cluster", |image| {
            image.add_extension(0x1234_5678, &[1; 4096 - 112 - 8]);
        }),
        plain("an extension one byte past the end of the cluster", |image| {
            let at = image.add_extension(0x1234_5678, b"");
            image.put32(at - 4, 4096 - 112 - 8 + 1);
        }),
        plain("an extension of 2 GiB", |image| {
            let at = image.add_extension(0x1234_5678, b"");
            image.put32(at - 4, i32::MAX as u32);
        }),
        plain("an extension of all ones", |image| {
            let at = image.add_extension(0x1234_5678, b"");
            image.put32(at - 4, u32::MAX);
        }),
        plain("an extension whose padded length overflows", |image| {
            let at = image.add_extension(0x1234_5678, b"");
            image.put32(at - 4, u32::MAX - 6);
        }),
        plain("as many extensions as there is room for", |image| {
            (0..498).for_each(|_| drop_offset(image.add_extension(7, b"")));
        }),
        Case::new("more extensions than we keep", Image::with_geometry(16, 4), |image| {
            (0..8000).for_each(|_| drop_offset(image.add_extension(7, b"")));
        }),
        plain("an extension over the backing file name", |image| {
            image.add_extension(0x1234_5678, &[b'x'; 3000]);
            image.name_backing(b"");
        }),
        plain("a header of the whole cluster, and no extensions", |image| image.put32(header::LENGTH, 4096)),
    ];
    cases.extend(texts());
    cases.extend(bitmaps());
    cases.push(plain("an encryption header without encryption", |image| {
        image.add_extension(extension::ENCRYPTION, &[0; 16]);
    }));
    cases.push(plain("an encryption header of 3 bytes", |image| {
        image.put32(header::CRYPT_METHOD, 2);
        image.add_extension(extension::ENCRYPTION, &[0; 3]);
    }));
    cases.push(plain("LUKS without an encryption header", |image| image.put32(header::CRYPT_METHOD, 2)));
    cases
}

/// Extensions that hold text.
fn texts() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, format) in [
        ("of no bytes", &b""[..]),
        ("of 15 bytes", b"123456789012345"),
        ("of 16 bytes", b"1234567890123456"),
        ("with an escape sequence", b"raw\x1b[2J"),
        ("with a newline", b"raw\nqcow2"),
        ("not UTF-8", b"\xff\xfe"),
        ("with a NUL", b"raw\0qcow2"),
    ] {
        cases.push(plain(&format!("backing format {name}"), |image| {
            image.add_extension(extension::BACKING_FORMAT, format);
        }));
    }
    for (name, file) in [
        ("of no bytes", &b""[..]),
        ("with an escape sequence", b"\x1b]0;title\x07"),
        ("of a protocol", b"json:{\"driver\":\"null-co\"}"),
        ("not UTF-8", b"\xff\xfe"),
        ("of 3000 bytes", &[b'n'; 3000]),
    ] {
        cases.push(plain(&format!("data file name {name}"), |image| {
            image.put64(header::INCOMPATIBLE, 4);
            image.add_extension(extension::DATA_FILE, file);
        }));
        cases.push(plain(&format!("data file name {name} without its bit"), |image| {
            image.add_extension(extension::DATA_FILE, file);
        }));
    }
    let mut entry = [0; 48];
    entry[1] = 40;
    entry[2..9].copy_from_slice(b"\x1b[31mX\n");
    let table = [entry; 60].concat();
    cases.push(plain("a feature's name with an escape sequence", |image| {
        image.put64(header::INCOMPATIBLE, 1 << 40);
        image.add_extension(extension::FEATURE_NAMES, &entry);
    }));
    cases.push(plain("a feature that is named sixty times", |image| {
        image.put64(header::INCOMPATIBLE, 1 << 40);
        image.add_extension(extension::FEATURE_NAMES, &table);
    }));
    cases.push(plain("a table of feature names that is cut off", |image| {
        image.put64(header::INCOMPATIBLE, 1 << 40);
        image.add_extension(extension::FEATURE_NAMES, &entry[..47]);
    }));
    cases.push(plain("a feature name for bit 255", |image| {
        image.put64(header::INCOMPATIBLE, 1 << 40);
        entry[1] = 255;
        image.add_extension(extension::FEATURE_NAMES, &entry);
    }));
    cases.push(plain("names for all 64 features at once", |image| {
        image.put64(header::INCOMPATIBLE, !31);
        let names: Vec<u8> = (5..64).flat_map(|bit| [&[0, bit][..], &[b'f'; 46]].concat()).collect();
        image.add_extension(extension::FEATURE_NAMES, &names);
    }));
    cases
}

/// The bitmaps extension; its directory is another structure.
fn bitmaps() -> Vec<Case> {
    let bitmap = |name: &str, change: fn(&mut Image, u64)| {
        Case::new(format!("bitmaps extension {name}"), Image::with_bitmap(), |image| change(image, header::END + 8))
    };
    vec![
        bitmap("of 23 bytes", |image, at| image.put32(at - 4, 23)),
        bitmap("of no bytes", |image, at| image.put32(at - 4, 0)),
        bitmap("of 32 bytes", |image, at| image.put32(at - 4, 32)),
        bitmap("with a reserved field", |image, at| image.put32(at + 4, 1)),
        bitmap("of no bitmaps", |image, at| image.put32(at, 0)),
        bitmap("of two bitmaps with a directory of one", |image, at| image.put32(at, 2)),
        bitmap("of the most bitmaps", |image, at| image.put32(at, 65535)),
        bitmap("of too many bitmaps", |image, at| image.put32(at, 65536)),
        bitmap("of all ones bitmaps", |image, at| image.put32(at, u32::MAX)),
        bitmap("with a directory of no bytes", |image, at| image.put64(at + 8, 0)),
        bitmap("with a directory of 31 bytes", |image, at| image.put64(at + 8, 31)),
        bitmap("with a directory of 40 bytes", |image, at| image.put64(at + 8, 40)),
        bitmap("with a directory past the end of the file", |image, at| image.put64(at + 8, 1 << 16)),
        bitmap("with a directory at the limit", |image, at| image.put64(at + 8, 65535 * 1048)),
        bitmap("with a directory past the limit", |image, at| image.put64(at + 8, 65535 * 1048 + 1)),
        bitmap("with a directory of all ones", |image, at| image.put64(at + 8, u64::MAX)),
        bitmap("with the directory at zero", |image, at| image.put64(at + 16, 0)),
        bitmap("with the directory off by a sector", |image, at| image.put64(at + 16, (13 << 12) + 512)),
        bitmap("with the directory over the L1 table", |image, at| image.put64(at + 16, 3 << 12)),
        bitmap("with the directory over the refcount block", |image, at| image.put64(at + 16, 2 << 12)),
        bitmap("with the directory past the end of the file", |image, at| image.put64(at + 16, 16 << 12)),
        bitmap("with the directory at all ones", |image, at| image.put64(at + 16, u64::MAX)),
        bitmap("with the directory at 2^63", |image, at| image.put64(at + 16, 1 << 63)),
        bitmap("without the autoclear bit", |image, _| image.put64(header::AUTOCLEAR, 0)),
        bitmap("twice", |image, at| {
            let data: Vec<u8> = (0..24).map(|i| image.get8(at + i)).collect();
            image.add_extension(extension::BITMAPS, &data);
        }),
        bitmap("in version 2", |image, _| image.put32(header::VERSION, 2)),
    ]
}

/// The place of an extension that nobody wants to know.
fn drop_offset(_: u64) {}
