//! Headers that are right, and headers that lie.

use super::*;
use crate::luks::CreateOptions;

fn header() -> LuksHeader {
    let options = CreateOptions { iter_time_ms: 1, ..CreateOptions::default() };
    LuksHeader::create(&options, b"pw").expect("valid").header
}

/// The message for a header of which the bytes from `at` on were replaced.
fn refusal(header: &LuksHeader, at: usize, bytes: &[u8]) -> String {
    let mut header = header.serialize();
    header[at..at + bytes.len()].copy_from_slice(bytes);
    LuksHeader::parse(&header).expect_err("refused").to_string()
}

fn slot_at(slot: usize, field: usize) -> usize {
    208 + 48 * slot + field
}

#[test]
fn what_was_serialized_is_parsed() {
    let header = header();
    let bytes = header.serialize();
    assert!(probe(&bytes));
    assert_eq!(LuksHeader::parse(&bytes).as_ref(), Ok(&header));
    assert_eq!((header.payload_offset(), header.slots()[7].material_offset()), (2_068_480, 1_810_432));
    assert_eq!(header.uuid().len(), 36);
    assert_eq!(header.material_range(SlotIndex::FIRST), 4096..260_096);
}

#[test]
fn short_headers_are_refused() {
    let bytes = header().serialize();
    for len in 0..bytes.len() {
        assert_eq!(LuksHeader::parse(&bytes[..len]), Err(CryptoError::LuksTruncated));
    }
}

#[test]
fn fields_out_of_range_are_refused() {
    let header = header();
    let long = [b'x'; 32];
    for (at, bytes, text) in [
        (0, &b"l"[..], "Volume is not in LUKS format"),
        (6, &[0, 2], "LUKS version 2 is not supported"),
        (8, &long, "LUKS header cipher name is not NUL terminated"),
        (8, b"aesx\0", "Algorithm 'aesx' with key size 32 bytes not supported"),
        (8, b"a\x1b[2J\0", "LUKS header cipher name is not text"),
        (40, &long, "LUKS header cipher mode is not NUL terminated"),
        (40, b"xts\0", "Unexpected cipher mode string format 'xts'"),
        (40, b"foo-plain\0", "Cipher mode 'foo' not supported"),
        (40, b"xts-foo\0", "IV generator 'foo' not supported"),
        (40, b"cbc-plain64\0", "Algorithm 'aes' with key size 64 bytes not supported"),
        (40, b"xts-essiv\0", "Missing IV generator hash specification"),
        (40, b"xts-essiv:foo\0", "Hash algorithm 'foo' not supported"),
        (40, b"xts-essiv:sha1\0", "No AES cipher with key size 20 available"),
        (72, &long, "LUKS header hash spec is not NUL terminated"),
        (72, b"foo\0", "Hash algorithm 'foo' not supported"),
        (104, &[0, 0, 0, 7], "LUKS payload is overlapping with the header"),
        (104, &[0, 0, 0, 8], "Keyslot 0 is overlapping with the encrypted payload"),
        (108, &[0, 0, 0, 0], "Algorithm 'aes' with key size 0 bytes not supported"),
        (108, &[0, 0, 0, 20], "Algorithm 'aes' with key size 10 bytes not supported"),
        (108, &[0, 0, 0, 65], "Keyslots 0 and 1 are overlapping in the header"),
        (108, &[0xff; 4], "Keyslot 0 is overlapping with the encrypted payload"),
        (164, &[0; 4], "LUKS key iteration count is zero"),
        (164, &[0xff; 4], "LUKS key iteration count 4294967295 is larger than 200000000"),
        (slot_at(0, 0), &[0; 4], "Keyslot 0 state (active/disable) is corrupted"),
        (slot_at(7, 0), &[1; 4], "Keyslot 7 state (active/disable) is corrupted"),
        (slot_at(0, 4), &[0; 4], "Keyslot 0 iteration count is zero"),
        (slot_at(0, 4), &[0xff; 4], "Keyslot 0 iteration count 4294967295 is larger than 200000000"),
        (slot_at(0, 40), &[0, 0, 0, 7], "Keyslot 0 is overlapping with the LUKS header"),
        (slot_at(0, 40), &[0, 0, 0, 9], "Keyslots 0 and 1 are overlapping in the header"),
        (slot_at(3, 40), &[0, 0, 0, 8], "Keyslots 0 and 3 are overlapping in the header"),
        (slot_at(7, 40), &[0xff; 4], "Keyslot 7 is overlapping with the encrypted payload"),
        (slot_at(5, 44), &[0, 0, 0x0f, 0x9f], "Keyslot 5 is corrupted (stripes 3999 != 4000)"),
        (slot_at(0, 44), &[0xff; 4], "Keyslot 0 is corrupted (stripes 4294967295 != 4000)"),
    ] {
        assert_eq!(refusal(&header, at, bytes), text);
    }
}

#[test]
fn any_single_byte_is_parsed_or_refused() {
    let bytes = header().serialize();
    for at in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut bytes = bytes;
            bytes[at] ^= change;
            if let Ok(parsed) = LuksHeader::parse(&bytes) {
                assert!(parsed.material_len() <= 256_000);
                assert_eq!(LuksHeader::parse(&parsed.serialize()), Ok(parsed));
            }
        }
    }
}
