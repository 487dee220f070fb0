//! Encrypted images and `--object`: what is told about them, and what is refused.

use test_support::programs::{ours, reference};

use super::check;
use crate::fixture::scratch_with_small_images;

#[test]
fn luks_images_are_described_alike() {
    check(
        "
        create --object secret,id=s,data=pw -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1 \
         e.qcow2 1M ; info e.qcow2 ; info --output=json e.qcow2
        create -q --object secret,id=s,data=pw -f qcow2 \
         -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1,encrypt.ivgen-alg=essiv,compat=v2 \
         e.qcow2 1M ; info e.qcow2 ; info --output=json e.qcow2
        reference create -q --object secret,id=s,data=pw -f qcow2 \
         -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1,encrypt.hash-alg=sha1 e.qcow2 1M ; \
         info e.qcow2 ; info --output=json e.qcow2
        ",
    );
}

#[test]
fn aes_images_are_described_alike() {
    check(
        "
        create --object secret,id=s,data=pw -f qcow2 -o encrypt.format=aes,encrypt.key-secret=s e.qcow2 1M ; \
         info e.qcow2 ; info --output=json e.qcow2
        create --object secret,id=s,data=pw -f qcow2 -o encryption=on,encrypt.key-secret=s e.qcow2 1M ; info e.qcow2
        create -f qcow2 -o encryption=on e.qcow2 1M
        create -f qcow2 -o encryption=off e.qcow2 1M ; info e.qcow2
        create -f qcow2 -o encryption=on,encrypt.format=aes e.qcow2 1M
        create -f qcow2 -o encrypt.format=foo e.qcow2 1M
        ",
    );
}

#[test]
fn images_are_opened_with_their_secret_alone() {
    let make = "reference create -q --object secret,id=s,data=pw -f qcow2 \
                -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1 e.qcow2 1M";
    let image = "--image-opts driver=qcow2,encrypt.key-secret=s,file.filename=e.qcow2";
    check(&format!(
        "{make} ; check e.qcow2 ; check -f qcow2 e.qcow2 ; convert e.qcow2 -O raw out.img ; \
         check --object secret,id=s,data=pw {image} ; \
         check --object secret,id=s,data=wrong {image} ; \
         check --object secret,id=t,data=pw {image} ; \
         convert --object secret,id=s,data=wrong {image} -O raw out.img ; \
         convert --object secret,id=s,data=pw {image} -O qcow2 out.img ; info out.img"
    ));
}

#[test]
fn objects_are_refused_alike() {
    check(
        r#"
        info --object secret plain.qcow2
        info --object secret,id=s plain.qcow2
        info --object secret,data=x plain.qcow2
        info --object secret,id=9s,data=x plain.qcow2
        info --object secret,id=s,data=x,file=y plain.qcow2
        info --object secret,id=s,file=missing plain.qcow2
        info --object secret,id=s,data=x,format=foo plain.qcow2
        info --object secret,id=s,data=x_,format=base64 plain.qcow2
        info --object secret,id=s,data=x,foo=bar plain.qcow2
        info --object secret,id=s,data=x,keyid=m plain.qcow2
        info --object secrt,id=s,data=x plain.qcow2
        info --object id=s,data=x plain.qcow2
        info --object secret,id=s,data=x --object secret,id=s,data=y plain.qcow2
        info --object secret,id=s,data=x plain.qcow2
        check --object secret,id=s plain.qcow2
        convert --object secret,id=s plain.qcow2 out.img
        create --object secret,id=s -f qcow2 out.img 1M
        "#,
    );
}

/// A copy into an encrypted image is unlocked with the secret that it is made with.
#[test]
fn converting_encrypts_and_decrypts() {
    let dir = scratch_with_small_images();
    let run = |program: &test_support::programs::Program, line: &str| {
        let run = program.run(dir.path(), line);
        assert_eq!(run.code(), Some(0), "{line}: {run}");
    };
    let secret = "--object secret,id=s,data=pw";
    let luks = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1";
    let image = "--image-opts driver=qcow2,encrypt.key-secret=s,file.filename";
    run(reference(), "convert -O raw plain.qcow2 plain.img");
    for (there, back) in [(ours(), reference()), (reference(), ours()), (ours(), ours())] {
        run(there, &format!("convert {secret} -O qcow2 -o {luks} plain.qcow2 e.qcow2"));
        run(back, &format!("convert {secret} {image}=e.qcow2 -O raw e.img"));
        let content = |name: &str| std::fs::read(dir.path().join(name)).expect("readable");
        assert!(content("e.img") == content("plain.img"));
        run(reference(), &format!("check {secret} {image}=e.qcow2"));
    }
    let run = ours().run(dir.path(), &format!("convert -c {secret} -O qcow2 -o {luks} plain.qcow2 e.qcow2"));
    assert_eq!(run.stderr, "qemu-img: Compression and encryption not supported at the same time\n");
}
