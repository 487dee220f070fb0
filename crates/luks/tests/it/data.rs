//! Data that goes through the format, in both directions.

use qemu_block::error::ErrorKind;
use qemu_block::types::{OpenFlags, PreallocMode, ZeroFlags};

use super::vault::{QUICK, Vault, block_on, close, write};

/// Bytes that repeat nowhere near a sector.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).expect("small")).collect()
}

/// Creation options, and whether the reference creates the image.
const CIPHERS: [(&str, bool); 4] = [
    ("", false),
    (",cipher-alg=aes-128,cipher-mode=xts", true),
    (",cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256", false),
    (",cipher-alg=aes-192,cipher-mode=xts,ivgen-alg=plain,hash-alg=sha1", true),
];

#[test]
fn each_reads_what_the_other_wrote() {
    for (cipher, by_oracle) in CIPHERS {
        let vault = Vault::new();
        let options = format!("{QUICK}{cipher}");
        if by_oracle {
            vault.create_by_oracle("a", &options, "1M");
        } else {
            vault.create("a", &options, "1M").expect("created");
        }
        let node = vault.open_rw("a");
        assert_eq!(node.len(), 1 << 20);
        // What was never written decrypts to noise, so all of it is written first.
        block_on(node.write_zeroes(0, 1 << 20, ZeroFlags::empty())).expect("zeros");
        let mut disk = vec![0; 1 << 20];
        for (offset, len) in [(0, 512), (4096, 40_000), (100_001, 70_000), (1 << 19, 300_000), ((1 << 20) - 7, 7)] {
            let bytes = pattern(len);
            write(&node, offset, &bytes);
            let start = usize::try_from(offset).expect("small");
            disk[start..start + len].copy_from_slice(&bytes);
        }
        close(&node);
        assert!(vault.read_with("a", "key-secret=one") == disk, "{cipher}");
        assert!(vault.read_by_oracle("a", "key-secret=one") == disk, "{cipher}");
        vault.write("plain", &pattern(1 << 20));
        let target = "driver=luks,key-secret=one,file.filename=a";
        vault.run("convert", &["-n", "--target-image-opts", "-f", "raw", "plain", target]);
        assert!(vault.read_with("a", "key-secret=one") == pattern(1 << 20), "{cipher}");
    }
}

#[test]
fn the_disk_grows_and_shrinks() {
    let vault = Vault::new();
    vault.create("a", QUICK, "1M").expect("created");
    let before = vault.bytes("a").len();
    let node = vault.open_rw("a");
    write(&node, 0, &pattern(4096));
    block_on(node.truncate(2 << 20, PreallocMode::Falloc)).expect("longer");
    assert_eq!(node.len(), 2 << 20);
    write(&node, (2 << 20) - 512, &pattern(512));
    block_on(node.truncate(4096, PreallocMode::Off)).expect("shorter");
    let metadata = block_on(node.truncate(1 << 20, PreallocMode::Metadata)).expect_err("there is no metadata");
    assert_eq!(metadata.chain(), "Unsupported preallocation mode: metadata");
    close(&node);
    assert_eq!(vault.bytes("a").len(), before - (1 << 20) + 4096);
    assert!(vault.read_by_oracle("a", "key-secret=one") == pattern(4096));
}

#[test]
fn a_sector_that_is_cut_off_is_the_same_noise_for_both() {
    let vault = Vault::new();
    vault.create("a", QUICK, "4K").expect("created");
    let node = vault.open_rw("a");
    write(&node, 0, &pattern(4096));
    close(&node);
    let bytes = vault.bytes("a");
    for cut in [1, 511, 512, 513, 4095, 4096] {
        vault.write("a", &bytes[..bytes.len() - cut]);
        assert!(vault.read_with("a", "key-secret=one") == vault.read_by_oracle("a", "key-secret=one"), "{cut}");
    }
}

#[test]
fn without_the_key_there_is_no_data() {
    let vault = Vault::new();
    vault.create("a", QUICK, "1M").expect("created");
    for flags in [OpenFlags::empty(), OpenFlags::WRITE, OpenFlags::CHECK] {
        assert_eq!(vault.refusal("a", "", flags), "Parameter 'key-secret' is required for cipher");
    }
    for options in ["key-secret=two", "key-secret=nobody", "key-secret=one,foo=bar"] {
        assert_eq!(vault.refusal("a", options, OpenFlags::empty()), vault.refusal_by_oracle("a", options), "{options}");
    }
    let node = vault.open("a", "", OpenFlags::NO_IO).expect("needs no passphrase");
    let read = block_on(node.read_bytes(0, 512)).expect_err("locked");
    assert_eq!(read.kind(), ErrorKind::PermissionDenied);
    let info = block_on(node.info()).expect("known");
    assert!(info.encrypted);
    close(&node);
}
