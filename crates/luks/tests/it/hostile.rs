//! Headers that lie: refused, as by the reference, and never a panic.

use qemu_block::types::OpenFlags;

use super::vault::{QUICK, Vault};

/// Offsets of fields in the header: version, cipher, mode, hash, payload, key length, iterations, and slot 0's state,
/// iterations, place and stripes.
const FIELDS: [usize; 12] = [0, 6, 8, 40, 72, 104, 108, 164, 208, 212, 248, 252];

#[test]
fn what_the_reference_refuses_we_refuse() {
    let vault = Vault::new();
    vault.create("good", QUICK, "64K").expect("created");
    let good = vault.bytes("good");
    for field in FIELDS {
        for value in [[0; 4], [0xff; 4], [0, 0, 0, 1], [0x7f, 0xff, 0xff, 0xff], [0, 0, 0x10, 0]] {
            let mut bad = good.clone();
            bad[field..field + 4].copy_from_slice(&value);
            vault.write("a", &bad);
            let ours = vault.open("a", "", OpenFlags::NO_IO);
            // Iterations without a limit keep the reference busy for hours, and places of slots wrap around in it; both
            // are refused here.
            let is_huge = value[0] >= 0x7f;
            let theirs = vault.oracle("info", &["-f", "luks", "a"]).0 != Some(0);
            assert!(ours.is_err() == theirs || (ours.is_err() && is_huge), "{value:x?} at {field}: {ours:?}");
        }
    }
}

#[test]
fn images_that_are_cut_off_are_refused() {
    let vault = Vault::new();
    vault.create("good", QUICK, "64K").expect("created");
    let good = vault.bytes("good");
    for len in [0, 1, 511, 592, 4095, 4096, 100_000, 262_143, 1_000_000, 2_067_968] {
        vault.write("a", &good[..len]);
        let ours = vault.refusal("a", "key-secret=one", OpenFlags::empty());
        assert_eq!(ours, vault.refusal_by_oracle("a", "key-secret=one"), "{len}");
    }
    for len in [2_068_479, 2_068_480] {
        vault.write("a", &good[..len]);
        assert_eq!(vault.read_with("a", "key-secret=one"), vault.read_by_oracle("a", "key-secret=one"), "{len}");
    }
}
