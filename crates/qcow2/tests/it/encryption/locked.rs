//! Images without the right passphrase: what can be done with them, and what is said.

use std::sync::Arc;

use qemu_block::error::ErrorKind;
use qemu_block::types::OpenFlags;

use super::vault::{AES, LUKS, Vault, close, spec, write};
use crate::support::block_on;

/// What the reference says when it opens an image with these options.
fn refusal_by_oracle(vault: &Vault, options: &str) -> String {
    let image = format!("driver=qcow2,{options}file.filename=a");
    let (code, text) = vault.oracle("convert", &["--image-opts", &image, "-O", "raw", "out"]);
    assert_eq!(code, Some(1), "{text}");
    text.trim_end().strip_prefix(&format!("qemu-img: Could not open '{image}': ")).expect(&text).to_owned()
}

/// The three rivals that open encrypted images read them as if they were plain.
#[test]
fn ciphertext_is_never_taken_for_data() {
    let vault = Vault::new();
    for options in [LUKS, AES] {
        vault.create("a", options, "1M").expect("created");
        let node = vault.open_rw("a");
        write(&node, 0, &[1; 4096]);
        close(&node);
        for flags in [OpenFlags::empty(), OpenFlags::WRITE, OpenFlags::CHECK] {
            let text = vault.refusal("a", "", flags);
            assert_eq!(text, "Parameter 'encrypt.key-secret' is required for cipher", "{options}");
        }
        assert_eq!(vault.refusal("a", "", OpenFlags::empty()), refusal_by_oracle(&vault, ""));
        // Opened for its metadata only, it has no data to show, and takes none.
        let node = vault.open("a", "", OpenFlags::NO_IO).expect("needs no passphrase");
        let read = block_on(node.read_bytes(0, 512)).expect_err("locked");
        assert_eq!(read.kind(), ErrorKind::PermissionDenied);
        let info = block_on(node.info()).expect("known");
        assert!(info.encrypted);
        close(&node);
    }
}

#[test]
fn refused_opens_have_the_reference_s_words() {
    let vault = Vault::new();
    let cases = [
        (LUKS, "encrypt.key-secret=two,"),
        (LUKS, "encrypt.key-secret=nobody,"),
        (LUKS, "encrypt.format=luks,"),
        (LUKS, "encrypt.format=aes,encrypt.key-secret=one,"),
        (LUKS, "encrypt.format=foo,encrypt.key-secret=one,"),
        (LUKS, "encrypt.foo=1,encrypt.key-secret=one,"),
        (AES, "encrypt.format=luks,encrypt.key-secret=one,"),
        (AES, "encrypt.key-secret=nobody,"),
        ("compat=1.1", "encrypt.format=luks,encrypt.key-secret=one,"),
    ];
    let mut last = "";
    for (create, options) in cases {
        if create != last {
            vault.create("a", create, "1M").expect("created");
            last = create;
        }
        let ours = vault.refusal("a", options.trim_end_matches(','), OpenFlags::empty());
        assert_eq!(ours, refusal_by_oracle(&vault, options), "{create}, opened with {options}");
    }
}

/// Legacy AES has nothing to compare a passphrase with.
#[test]
fn a_wrong_passphrase_of_legacy_aes_reads_noise() {
    let vault = Vault::new();
    vault.create("a", AES, "1M").expect("created");
    let node = vault.open_rw("a");
    write(&node, 0, &[1; 4096]);
    close(&node);
    let noise = vault.read_with("a", "two");
    assert!(noise == vault.read_by_oracle("a", "two"), "the same noise");
    assert_ne!(noise[..4096], [1; 4096]);
}

#[test]
fn plain_images_ignore_a_secret() {
    let vault = Vault::new();
    vault.create("a", "", "1M").expect("created");
    let node = vault.open("a", "encrypt.key-secret=nobody", OpenFlags::empty()).expect("as the reference");
    close(&node);
    vault.run("convert", &["--image-opts", &spec("a", "nobody"), "-O", "raw", "out"]);
}

#[test]
fn legacy_passphrases_are_cut_and_padded() {
    use qemu_crypto::bytes::SecretBytes;
    use qemu_crypto::secret::SecretStore;

    let mut vault = Vault::new();
    let long = "0123456789abcdef and more";
    let mut store = SecretStore::new();
    store.insert("one", SecretBytes::new(long.as_bytes().to_vec())).expect("new");
    vault.context = vault.context.with_secrets(Arc::new(store));
    vault.create("a", AES, "1M").expect("created");
    let node = vault.open_rw("a");
    write(&node, 0, &[1; 4096]);
    close(&node);
    let long = format!("secret,id=long,data={long}");
    vault.run("convert", &["--object", &long, "--image-opts", &spec("a", "long"), "-O", "raw", "out"]);
    assert_eq!(vault.bytes("out")[..4096], [1; 4096]);
}
