//! Headers in a file of their own.

use qemu_block::types::{OpenFlags, PreallocMode};

use super::vault::{QUICK, Vault, block_on, close, write};

/// Where the header says that the payload starts, in sectors.
const PAYLOAD_SECTOR: std::ops::Range<usize> = 104..108;
const HEADER_LEN: usize = 2_068_480;

/// Divides the image `a` into the header `h` and the payload `p`.
fn split(vault: &Vault) {
    let bytes = vault.bytes("a");
    let mut header = bytes[..HEADER_LEN].to_vec();
    header[PAYLOAD_SECTOR].fill(0);
    vault.write("h", &header);
    vault.write("p", &bytes[HEADER_LEN..]);
}

#[test]
fn the_payload_is_the_same_with_its_header_elsewhere() {
    let vault = Vault::new();
    vault.create("a", QUICK, "64K").expect("created");
    let node = vault.open_rw("a");
    write(&node, 0, &[7; 65536]);
    close(&node);
    split(&vault);
    let options = format!("key-secret=one,header.filename={}", vault.path("h"));
    assert!(vault.read_with("p", &options) == [7; 65536]);
    let node = vault.open("p", &options, OpenFlags::WRITE | OpenFlags::RESIZE).expect("unlocked");
    write(&node, 512, &[8; 512]);
    block_on(node.truncate(4096, PreallocMode::Off)).expect("shorter");
    close(&node);
    assert_eq!((vault.bytes("p").len(), vault.bytes("h").len()), (4096, HEADER_LEN));
    let bytes = vault.read_by_oracle("p", "key-secret=one,header.filename=h");
    assert!(bytes[..512] == [7; 512] && bytes[512..1024] == [8; 512] && bytes.len() == 4096);
}

#[test]
fn it_is_not_a_header_for_the_front_of_a_payload() {
    let vault = Vault::new();
    vault.create("a", QUICK, "64K").expect("created");
    split(&vault);
    assert_eq!(
        vault.refusal("h", "key-secret=one", OpenFlags::empty()),
        vault.refusal_by_oracle("h", "key-secret=one")
    );
    for name in ["a", "p", "missing"] {
        let ours = format!("key-secret=one,header.filename={}", vault.path(name));
        let theirs = format!("key-secret=one,header.filename={name}");
        let refusal = vault.refusal("p", &ours, OpenFlags::empty()).replace(&vault.path(""), "");
        assert_eq!(refusal, vault.refusal_by_oracle("p", &theirs), "{name}");
    }
}
