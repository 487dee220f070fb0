//! Encrypted images created by us and by the reference: what is in them, and what is refused.

use qemu_block::types::{OpenFlags, PreallocMode};

use super::vault::{AES, LUKS, Vault, close, write};
use crate::support::block_on;

const SIZE: &str = "4M";

/// Creates an image, writes to it, and lets the reference read and check it.
fn created_by_us(options: &str) {
    let vault = Vault::new();
    vault.create("a", options, SIZE).expect("created");
    vault.check_by_oracle("a");
    assert_eq!(vault.check("a"), (0, 0));
    let mut disk = vec![0; 4 << 20];
    let node = vault.open_rw("a");
    for (offset, len, byte) in [(0, 700, 1), (65_000, 2000, 2), (1 << 20, 1 << 20, 3), ((4 << 20) - 5, 5, 4)] {
        write(&node, offset as u64, &vec![byte; len]);
        disk[offset..offset + len].fill(byte);
    }
    close(&node);
    vault.check_by_oracle("a");
    assert_eq!(vault.check("a"), (0, 0));
    assert!(vault.read_by_oracle("a", "one") == disk, "{options}: the reference reads something else");
    assert!(vault.read_with("a", "one") == disk, "{options}: we read something else");
}

#[test]
fn luks_with_every_cipher() {
    for alg in ["aes-128", "aes-192", "aes-256"] {
        created_by_us(&format!("{LUKS},encrypt.cipher-alg={alg}"));
    }
    for options in [
        "encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv",
        "encrypt.cipher-mode=cbc,encrypt.cipher-alg=aes-128,encrypt.ivgen-alg=plain64,encrypt.hash-alg=sha1",
        "encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256,encrypt.hash-alg=sha512",
        "encrypt.cipher-mode=ctr,encrypt.ivgen-alg=plain",
    ] {
        created_by_us(&format!("{LUKS},{options}"));
    }
}

#[test]
fn luks_with_every_cluster_size() {
    for cluster_size in ["512", "4k", "2M"] {
        created_by_us(&format!("{LUKS},cluster_size={cluster_size}"));
    }
}

#[test]
fn luks_in_version_2() {
    created_by_us(&format!("{LUKS},compat=0.10"));
}

#[test]
fn legacy_aes() {
    created_by_us(AES);
    created_by_us(&format!("{AES},compat=0.10,cluster_size=4k"));
    created_by_us("encryption=on,encrypt.key-secret=one");
}

#[test]
fn preallocated_space_reads_as_zeros() {
    for mode in ["metadata", "falloc", "full"] {
        let vault = Vault::new();
        vault.create("a", &format!("{LUKS},preallocation={mode}"), SIZE).expect("created");
        assert!(vault.read_with("a", "one").iter().all(|byte| *byte == 0), "{mode}");
        assert!(vault.read_by_oracle("a", "one").iter().all(|byte| *byte == 0), "{mode}");
        created_by_us(&format!("{LUKS},preallocation={mode}"));
    }
}

#[test]
fn a_disk_that_grew_with_space_allocated_reads_as_zeros() {
    for (options, mode) in [
        ("compat=1.1", PreallocMode::Metadata),
        ("compat=1.1", PreallocMode::Full),
        ("compat=0.10", PreallocMode::Metadata),
    ] {
        let vault = Vault::new();
        vault.create("a", &format!("{LUKS},{options}"), "1M").expect("created");
        let node = vault.open_rw("a");
        block_on(node.truncate(4 << 20, mode)).expect("grown");
        write(&node, (2 << 20) + 700, &[9; 1000]);
        close(&node);
        let mut disk = vec![0; 4 << 20];
        disk[(2 << 20) + 700..(2 << 20) + 1700].fill(9);
        assert!(vault.read_with("a", "one") == disk, "{options} {mode:?}");
        assert!(vault.read_by_oracle("a", "one") == disk, "{options} {mode:?}");
        vault.check_by_oracle("a");
    }
}

#[test]
fn the_layout_is_the_reference_s() {
    let vault = Vault::new();
    for options in [LUKS, AES] {
        vault.create("ours", options, SIZE).expect("created");
        vault.create_by_oracle("theirs", options, SIZE);
        let (ours, theirs) = (vault.bytes("ours"), vault.bytes("theirs"));
        // The reference ends a file without a LUKS header after the L1 table, too.
        assert_eq!(ours.len(), theirs.len(), "{options}");
        let header_end = 0x70 + 8 + 16;
        assert_eq!(ours[..header_end], theirs[..header_end], "{options}");
    }
}

#[test]
fn refused_options_have_the_reference_s_words() {
    let vault = Vault::new();
    let with = |options: &str| format!("encrypt.format=luks,encrypt.key-secret=one,{options}");
    for options in [
        "encrypt.format=luks".to_owned(),
        "encrypt.format=aes".to_owned(),
        "encryption=on".to_owned(),
        "encryption=on,encrypt.format=luks,encrypt.key-secret=one".to_owned(),
        "encrypt.format=foo,encrypt.key-secret=one".to_owned(),
        "encrypt.key-secret=one".to_owned(),
        "encrypt.cipher-alg=aes-256".to_owned(),
        "encrypt.format=luks,encrypt.key-secret=nobody".to_owned(),
        "encrypt.format=aes,encrypt.key-secret=one,encrypt.cipher-alg=aes-256".to_owned(),
        with("encrypt.cipher-alg=foo"),
        with("encrypt.cipher-alg=des"),
        with("encrypt.cipher-mode=foo"),
        with("encrypt.ivgen-alg=foo"),
        with("encrypt.ivgen-hash-alg=foo"),
        with("encrypt.hash-alg=foo"),
        with("encrypt.iter-time=foo"),
        with("encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha1"),
    ] {
        let ours = vault.create("ours", &options, SIZE).expect_err("refused");
        let (code, theirs) = vault.oracle("create", &["-q", "-f", "qcow2", "-o", &options, "theirs", SIZE]);
        assert_eq!((code, theirs), (Some(1), format!("qemu-img: theirs: {ours}\n")), "{options}");
        assert!(!std::path::Path::new(&vault.path("ours")).exists(), "nothing is created");
    }
}

#[test]
fn what_is_stored_is_not_what_was_written() {
    let vault = Vault::new();
    for options in [LUKS, AES] {
        vault.create("a", options, SIZE).expect("created");
        let node = vault.open_rw("a");
        let text = b"a secret that nobody may find in the image file".repeat(100);
        write(&node, 0, &text);
        close(&node);
        let file = vault.bytes("a");
        assert!(!file.windows(40).any(|window| window == &text[..40]), "{options}");
    }
}

#[test]
fn an_iteration_takes_the_time_that_was_asked_for() {
    let vault = Vault::new();
    let iterations = |options: &str| {
        vault.create("a", options, SIZE).expect("created");
        let (_, info) = vault.oracle("info", &["a"]);
        let line =
            info.lines().find_map(|line| line.trim().strip_prefix("iters: ")).expect("an active slot").to_owned();
        line.parse::<u64>().expect("a number")
    };
    let least = iterations(LUKS);
    let more = iterations("encrypt.format=luks,encrypt.key-secret=one,encrypt.iter-time=200");
    assert!(more > least, "{more} > {least}");
    // Unlocking is still possible.
    assert!(vault.open("a", "encrypt.key-secret=one", OpenFlags::empty()).is_ok());
}
