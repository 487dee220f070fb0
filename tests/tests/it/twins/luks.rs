//! LUKS images: created, described, resized, copied and amended, by both programs.

use super::check;

/// A secret, and options under which a new image takes little time to unlock.
const SECRETS: &str = "--object secret,id=s,data=pw --object secret,id=n,data=new";
const IMAGE: &str = "--image-opts driver=luks,key-secret=s,file.filename=l.luks";

/// Runs cases in which `S` stands for the secrets, `L` for the image, `C` for making it with our program, and `R` for
/// making it with the reference.
fn check_short(table: &str) {
    let make = format!("create -q {SECRETS} -f luks -o key-secret=s,iter-time=10 l.luks 1M");
    let reference = format!("reference {make}");
    let long = |word: &str| match word {
        "S" => SECRETS.to_owned(),
        "L" => IMAGE.to_owned(),
        "C" => make.clone(),
        "R" => reference.clone(),
        word => word.to_owned(),
    };
    let line = |line: &str| line.split_whitespace().map(long).collect::<Vec<_>>().join(" ");
    check(&table.lines().map(line).collect::<Vec<_>>().join("\n"));
}

#[test]
fn images_are_created_and_described_alike() {
    check_short(
        "
        create -f luks -o help
        create -f luks -o help l.luks
        create S -f luks -o key-secret=s,iter-time=10 l.luks 1M ; info l.luks ; info --output=json l.luks ; \
         info S L ; info S --output=json L ; info -f luks l.luks ; reference info l.luks
        create S -f luks -o key-secret=s,iter-time=10,cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha1 l.luks 1M ; info l.luks
        create S -f luks -o key-secret=s,iter-time=10,preallocation=metadata l.luks 1000 ; info l.luks
        create S -f luks -o key-secret=s,iter-time=0,preallocation=full,size=1M l.luks ; info l.luks
        ",
    );
}

#[test]
fn refusals_have_the_same_words() {
    check_short(
        "
        create -f luks l.luks 1M
        create S -f luks -o key-secret=t,iter-time=10 l.luks 1M
        create S -f luks -o key-secret=s,iter-time=x l.luks 1M
        create S -f luks -o key-secret=s,cipher-alg=foo l.luks 1M
        create S -f luks -o key-secret=s,cipher-mode=foo l.luks 1M
        create S -f luks -o key-secret=s,ivgen-alg=foo l.luks 1M
        create S -f luks -o key-secret=s,hash-alg=foo l.luks 1M
        create S -f luks -o key-secret=s,foo=bar l.luks 1M
        create S -f luks -o key-secret=s,detached-header=on l.luks 1M
        create S -f luks -o key-secret=s,preallocation=foo l.luks 1M
        create S -f luks -o key-secret=s,iter-time=10 l.luks
        create S -f luks -o key-secret=s,iter-time=10 -b plain.qcow2 -F qcow2 l.luks
        create S -f luks -o key-secret=s,iter-time=10 missing/l.luks 1M
        info -f luks raw.img
        info -f luks missing.luks
        R ; check l.luks ; map l.luks ; resize l.luks 2M ; amend -o help l.luks ; convert -O raw l.luks out.img ; \
         check S L ; map S L ; map --output=json S L ; snapshot -l S L ; snapshot -c x S L ; commit S L ; \
         convert --object secret,id=s,data=bad L -O raw out.img ; convert L -O raw out.img ; \
         info --image-opts driver=luks,key-secret=s,foo=bar,file.filename=l.luks ; \
         info --image-opts driver=luks,file.filename=raw.img,header.filename=missing.luks ; \
         info --image-opts driver=luks,file.filename=raw.img,header=l.luks ; \
         info --image-opts driver=luks,file.filename=plain.qcow2,header.filename=raw.img
        ",
    );
}

#[test]
fn images_are_measured_and_resized_alike() {
    check_short(
        "
        measure -O luks --size 1M
        measure -O luks --size 1M -o key-secret=s
        measure -O luks --size 1M S -o key-secret=s
        measure -O luks --size 1000 S -o key-secret=s,cipher-alg=aes-128 --output=json
        measure -O luks S -o key-secret=s plain.qcow2
        measure -O luks --size 1M S -o key-secret=s,detached-header=on
        measure -O luks --size 1M S -o key-secret=s,cipher-alg=foo
        measure -O luks --size 1M S -o key-secret=s,preallocation=full
        measure -O luks --size 1M S -o key-secret=s,iter-time=x
        R ; measure -O raw S L ; resize S L 2M ; info l.luks ; resize S L 1M ; resize --shrink S L 1M ; info l.luks ; \
         resize S --preallocation=full L 2M ; resize S --preallocation=falloc L 3M ; info l.luks ; \
         resize S --preallocation=metadata L 4M
        ",
    );
}

#[test]
fn images_are_copied_alike() {
    check_short(
        "
        convert S -O luks -o key-secret=s,iter-time=10 plain.qcow2 l.luks ; reference convert S L -O raw out.img ; \
         reference compare -f raw -F qcow2 out.img plain.qcow2
        reference convert S -O luks -o key-secret=s,iter-time=10 raw.img l.luks ; convert S L -O raw out.img ; \
         reference compare -f raw -F raw out.img raw.img
        C ; convert S -n -f qcow2 --target-image-opts plain.qcow2 driver=luks,key-secret=s,file.filename=l.luks ; \
         reference resize -q S L 8M ; convert S -n --target-image-opts --image-opts \
         driver=qcow2,file.filename=plain.qcow2 driver=luks,key-secret=s,file.filename=l.luks ; \
         reference convert S L -O raw out.img
        convert S -O luks -o iter-time=10 raw.img l.luks
        convert S -c -O luks -o key-secret=s,iter-time=10 raw.img l.luks
        ",
    );
}

#[test]
fn key_slots_are_changed_alike() {
    check_short(
        "
        amend -o help -f luks
        R ; amend S -o help L ; amend S -o state=foo L ; amend S -o new-secret=n L ; amend S -o foo=1 L ; \
         amend S -o hash-alg=sha1 L ; amend S -o state=active L ; amend S -o state=active,new-secret=t L ; \
         amend S -o state=active,new-secret=n,keyslot=9 L ; amend S -o state=active,new-secret=n,keyslot=x L ; \
         amend S -o state=inactive L ; amend S -o state=inactive,new-secret=n L ; \
         amend S -o state=inactive,keyslot=7 L ; amend S -o state=inactive,keyslot=0 L ; \
         amend S -o state=inactive,old-secret=s L ; amend S -o state=inactive,old-secret=n L ; \
         amend S -o state=active,new-secret=n,iter-time=10,keyslot=2 L ; info l.luks ; reference info S L ; \
         amend S -o state=inactive,old-secret=s L ; info l.luks ; convert S L -O raw out.img ; \
         convert S --image-opts driver=luks,key-secret=n,file.filename=l.luks -O raw out.img
        C ; reference amend S -o state=active,new-secret=n,iter-time=10 L ; \
         convert S --image-opts driver=luks,key-secret=n,file.filename=l.luks -O raw out.img ; \
         amend S --force -o state=inactive,old-secret=s L ; info l.luks
        ",
    );
}
