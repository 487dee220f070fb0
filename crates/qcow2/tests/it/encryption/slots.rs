//! Key slots: passphrases added and erased, by us and by the reference.

use qemu_block::types::OpenFlags;

use super::vault::{AES, LUKS, Vault, close, spec, write};

const WRONG: &str = "Invalid password, cannot unlock any keyslot";

fn image() -> Vault {
    let vault = Vault::new();
    vault.create("a", LUKS, "1M").expect("created");
    let node = vault.open_rw("a");
    write(&node, 0, &[1; 70_000]);
    close(&node);
    vault
}

#[test]
fn what_we_add_and_erase_the_reference_sees() {
    let vault = image();
    let disk = vault.read_with("a", "one");
    vault.amend("a", "encrypt.state=active,encrypt.new-secret=two,encrypt.iter-time=1", false).expect("a free slot");
    let third = "encrypt.state=active,encrypt.new-secret=three,encrypt.keyslot=7,encrypt.iter-time=1";
    vault.amend("a", third, false).expect("a free slot");
    for secret in ["one", "two", "three"] {
        assert!(vault.read_by_oracle("a", secret) == disk, "{secret}");
        assert!(vault.read_with("a", secret) == disk, "{secret}");
    }
    vault.amend("a", "encrypt.state=inactive,encrypt.old-secret=two", false).expect("others are left");
    assert_eq!(vault.refusal("a", "encrypt.key-secret=two", OpenFlags::empty()), WRONG);
    vault.amend("a", "encrypt.state=inactive,encrypt.keyslot=0", false).expect("another is left");
    assert_eq!(vault.refusal("a", "encrypt.key-secret=one", OpenFlags::empty()), WRONG);
    assert!(vault.read_by_oracle("a", "three") == disk);
    vault.run("check", &["--image-opts", &spec("a", "three")]);
}

#[test]
fn what_the_reference_adds_and_erases_we_see() {
    let vault = image();
    let disk = vault.read_with("a", "one");
    let add = "encrypt.state=active,encrypt.new-secret=two,encrypt.iter-time=1,encrypt.keyslot=4";
    vault.run("amend", &["--image-opts", "-o", add, &spec("a", "one")]);
    assert!(vault.read_with("a", "two") == disk);
    vault.run("amend", &["--image-opts", "-o", "encrypt.state=inactive,encrypt.old-secret=one", &spec("a", "two")]);
    assert_eq!(vault.refusal("a", "encrypt.key-secret=one", OpenFlags::empty()), WRONG);
    assert!(vault.read_with("a", "two") == disk);
}

#[test]
fn refused_changes_have_the_reference_s_words() {
    let vault = image();
    let before = vault.bytes("a");
    for options in [
        "encrypt.state=foo,encrypt.new-secret=two",
        "encrypt.new-secret=two",
        "encrypt.state=active",
        "encrypt.state=active,encrypt.new-secret=nobody",
        "encrypt.state=active,encrypt.new-secret=two,encrypt.keyslot=9",
        "encrypt.state=active,encrypt.new-secret=two,encrypt.keyslot=0",
        "encrypt.state=active,encrypt.new-secret=two,encrypt.old-secret=one",
        "encrypt.state=inactive",
        "encrypt.state=inactive,encrypt.keyslot=0",
        "encrypt.state=inactive,encrypt.keyslot=3",
        "encrypt.state=inactive,encrypt.new-secret=two",
        "encrypt.state=inactive,encrypt.old-secret=two",
        "encrypt.state=inactive,encrypt.old-secret=one",
        "encrypt.state=inactive,encrypt.old-secret=two,encrypt.keyslot=0",
        "encrypt.state=inactive,encrypt.keyslot=0,encrypt.iter-time=1",
    ] {
        let ours = vault.amend("a", options, false).expect_err("refused");
        let (code, theirs) = vault.oracle("amend", &["--image-opts", "-o", options, &spec("a", "one")]);
        assert_eq!((code, theirs), (Some(1), format!("qemu-img: {ours}\n")), "{options}");
    }
    assert!(vault.bytes("a") == before, "nothing was changed");
    // By force even the last one goes, and with it the data.
    vault.amend("a", "encrypt.state=inactive,encrypt.keyslot=0", true).expect("forced");
    assert_eq!(vault.refusal("a", "encrypt.key-secret=one", OpenFlags::empty()), WRONG);
}

#[test]
fn images_without_slots_have_none_to_change() {
    let vault = Vault::new();
    let change = "encrypt.state=active,encrypt.new-secret=two";
    for (create, text) in [
        (AES, "Only LUKS encryption options can be amended"),
        ("compat=1.1", "Can't amend encryption options - encryption not present"),
    ] {
        vault.create("a", create, "1M").expect("created");
        assert_eq!(vault.amend("a", change, false), Err(text.to_owned()));
        let (_, theirs) = vault.oracle("amend", &["--image-opts", "-o", change, &spec("a", "one")]);
        assert_eq!(theirs, format!("qemu-img: {text}\n"));
    }
}

#[test]
fn an_erased_slot_is_overwritten() {
    let vault = image();
    vault.amend("a", "encrypt.state=active,encrypt.new-secret=two,encrypt.iter-time=1", false).expect("a free slot");
    let before = vault.bytes("a");
    vault.amend("a", "encrypt.state=inactive,encrypt.old-secret=two", false).expect("another is left");
    let after = vault.bytes("a");
    // Slot 1 of the header of LUKS, which follows the one cluster each of header, tables and refcounts.
    let slot = 4 * 65_536 + 262_144;
    let same = before[slot..slot + 256_000].iter().zip(&after[slot..]).filter(|(old, new)| old == new).count();
    assert!(same < 256_000 / 64, "{same} bytes are as they were");
}
