//! Encryption headers that lie: refused as the reference refuses them, or better, and never with a panic.

use qemu_block::types::OpenFlags;

use super::vault::{LUKS, Vault, close};

/// Where the image created with [`LUKS`] has its encryption extension, and its LUKS header.
const EXTENSION: usize = 0x70;
const LUKS_HEADER: usize = 4 * 65_536;

/// Opens copies of an image with a few bytes replaced, and returns the error of each.
struct Hostile {
    vault: Vault,
    image: Vec<u8>,
}

impl Hostile {
    fn new() -> Self {
        let vault = Vault::new();
        vault.create("a", LUKS, "1M").expect("created");
        let image = vault.bytes("a");
        Self { vault, image }
    }

    fn patch(&self, patches: &[(usize, &[u8])]) {
        let mut image = self.image.clone();
        for (at, bytes) in patches {
            image[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        std::fs::write(self.vault.path("a"), image).expect("writable");
    }

    /// Our error when the image is opened for `info`, which needs no passphrase.
    fn ours(&self) -> String {
        self.vault.refusal("a", "", OpenFlags::NO_IO)
    }

    fn theirs(&self) -> String {
        let (code, text) = self.vault.oracle("info", &["-f", "qcow2", "a"]);
        assert_eq!(code, Some(1), "{text}");
        text.trim_end().strip_prefix("qemu-img: Could not open 'a': ").expect(&text).to_owned()
    }
}

fn slot(index: usize, field: usize) -> usize {
    LUKS_HEADER + 208 + 48 * index + field
}

#[test]
fn wrong_fields_are_refused_in_the_reference_s_words() {
    let hostile = Hostile::new();
    let luks = |at: usize| LUKS_HEADER + at;
    let cases: &[(usize, &[u8])] = &[
        (32, &[0, 0, 0, 0]),
        (32, &[0, 0, 0, 1]),
        (32, &[0, 0, 0, 3]),
        (EXTENSION, &[0x11; 4]),
        (EXTENSION + 4, &[0, 0, 0, 8]),
        (EXTENSION + 4, &[0, 0, 0, 17]),
        (EXTENSION + 4, &[0, 0, 0, 24]),
        (EXTENSION + 8, &[0, 0, 0, 0, 0, 4, 2, 0]),
        (EXTENSION + 8, &[0, 0, 0, 0, 0, 0, 0, 0]),
        (EXTENSION + 16, &[0; 8]),
        (EXTENSION + 16, &[0, 0, 0, 0, 0, 0, 2, 0x4f]),
        (luks(0), b"l"),
        (luks(6), &[0, 2]),
        (luks(8), &[b'a'; 32]),
        (luks(8), b"aesx\0"),
        (luks(40), b"xts\0"),
        (luks(40), b"foo-plain\0"),
        (luks(40), b"xts-foo\0"),
        (luks(40), b"cbc-plain64\0"),
        (luks(40), b"xts-essiv:sha1\0"),
        (luks(72), b"foo\0"),
        (luks(104), &[0, 0, 0, 0]),
        (luks(104), &[0, 0, 0, 8]),
        (luks(108), &[0, 0, 0, 0]),
        (luks(108), &[0, 0, 0, 65]),
        (luks(108), &[0xff; 4]),
        (luks(164), &[0; 4]),
        (slot(0, 0), &[0; 4]),
        (slot(0, 4), &[0; 4]),
        (slot(7, 0), &[1; 4]),
        (slot(0, 40), &[0, 0, 0, 7]),
        (slot(0, 40), &[0, 0, 0, 9]),
        (slot(3, 40), &[0, 0, 0, 8]),
        (slot(5, 44), &[0, 0, 0x0f, 0x9f]),
    ];
    for (at, bytes) in cases {
        hostile.patch(&[(*at, bytes)]);
        assert_eq!(hostile.ours(), hostile.theirs(), "{bytes:?} at {at:#x}");
    }
}

/// The reference accepts these when it opens the image, and then works for hours, or reads where it should not.
#[test]
fn what_the_reference_accepts_is_refused_all_the_same() {
    let hostile = Hostile::new();
    let most = "LUKS key iteration count 4294967295 is larger than 200000000";
    for (at, bytes, text) in [
        (LUKS_HEADER + 164, &[0xff; 4][..], most),
        (slot(0, 4), &[0xff; 4], "Keyslot 0 iteration count 4294967295 is larger than 200000000"),
        (slot(0, 40), &[0xff; 4], "Keyslot 0 is overlapping with the encrypted payload"),
        (LUKS_HEADER + 108, &[0x80, 0, 0, 0x40], "Keyslot 0 is overlapping with the encrypted payload"),
    ] {
        hostile.patch(&[(at, bytes)]);
        assert_eq!(hostile.ours(), text);
    }
    for offset in [1_u64 << 40, u64::MAX << 16] {
        hostile.patch(&[(EXTENSION + 8, &offset.to_be_bytes())]);
        let text = hostile.ours();
        assert!(text.starts_with("Encryption header lies outside the image file"), "{text}");
    }
}

#[test]
fn key_slots_outside_their_clusters_are_refused() {
    let hostile = Hostile::new();
    // Long enough for the header, too short for the first slot.
    hostile.patch(&[(EXTENSION + 16, &0x2000_u64.to_be_bytes())]);
    let text = hostile.vault.refusal("a", "encrypt.key-secret=one", OpenFlags::empty());
    assert_eq!(text, "Request for data outside of extension header");
    let file = std::fs::OpenOptions::new().write(true).open(hostile.vault.path("a")).expect("writable");
    hostile.patch(&[]);
    file.set_len(u64::try_from(LUKS_HEADER + 9000).expect("small")).expect("cut");
    let text = hostile.vault.refusal("a", "encrypt.key-secret=one", OpenFlags::empty());
    assert!(text.starts_with("Encryption header lies outside the image file"), "{text}");
}

#[test]
fn slots_are_not_written_over_other_metadata() {
    let hostile = Hostile::new();
    // The length that the image states reaches over the L2 table that the first write allocates.
    let node = hostile.vault.open_rw("a");
    super::vault::write(&node, 0, &[1; 10]);
    close(&node);
    let mut image = hostile.vault.bytes("a");
    image[EXTENSION + 16..EXTENSION + 24].copy_from_slice(&(1_u64 << 30).to_be_bytes());
    std::fs::write(hostile.vault.path("a"), &image).expect("writable");
    let change = "encrypt.state=active,encrypt.new-secret=two,encrypt.iter-time=1";
    let text = hostile.vault.amend("a", change, false).expect_err("refused");
    assert!(text.contains("L2 table"), "{text}");
}

#[test]
fn clusters_of_the_header_are_counted() {
    let hostile = Hostile::new();
    assert_eq!(hostile.vault.check("a"), (0, 0));
    // The refcount of its second cluster: the refcount block is the third cluster, and counts have 16 bits.
    hostile.patch(&[(2 * 65_536 + 2 * 5, &[0, 0])]);
    assert_eq!(hostile.vault.check("a"), (1, 0));
    let (code, text) = hostile.vault.oracle("check", &["--image-opts", &super::vault::spec("a", "one")]);
    assert_eq!(code, Some(2), "{text}");
}
