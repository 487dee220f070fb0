//! Changing key slots.

use qemu_block::types::OpenFlags;

use super::vault::{QUICK, Vault, close, write};

#[test]
fn passphrases_come_and_go() {
    let vault = Vault::new();
    vault.create("a", QUICK, "64K").expect("created");
    let node = vault.open_rw("a");
    write(&node, 0, &[7; 65536]);
    close(&node);
    vault.amend("a", "state=active,new-secret=two,iter-time=1", false).expect("a second one");
    assert!(vault.read_by_oracle("a", "key-secret=two") == [7; 65536]);
    let image = "driver=luks,key-secret=two,file.filename=a";
    let third = "state=active,new-secret=three,iter-time=1,keyslot=5";
    vault.run("amend", &["-o", third, "--image-opts", image]);
    assert!(vault.read_with("a", "key-secret=three") == [7; 65536]);
    vault.amend("a", "state=inactive,old-secret=two", false).expect("erased");
    assert_eq!(
        vault.refusal("a", "key-secret=two", OpenFlags::empty()),
        vault.refusal_by_oracle("a", "key-secret=two")
    );
    vault.amend("a", "state=inactive,keyslot=5", false).expect("erased");
    let last = vault.amend("a", "state=inactive,keyslot=0", false).expect_err("the last one");
    assert!(last.contains("only active keyslot 0"), "{last}");
    vault.amend("a", "state=inactive,keyslot=0", true).expect("forced");
    assert_eq!(
        vault.refusal("a", "key-secret=one", OpenFlags::empty()),
        vault.refusal_by_oracle("a", "key-secret=one")
    );
}
