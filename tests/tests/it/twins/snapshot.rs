//! `snapshot`: what is made, shown and refused.

use test_support::programs::{ours, reference, reference_speaks_our_version};
use test_support::run::Run;

use super::check;
use crate::fixture::scratch_with_small_images;

/// What a list says besides the time of creation.
fn without_dates(run: &Run) -> String {
    let is_date =
        |word: &&str| word.len() == 10 && word.as_bytes()[4] == b'-' || word.len() == 8 && word.as_bytes()[2] == b':';
    let line = |line: &str| line.split_whitespace().filter(|word| !is_date(word)).collect::<Vec<_>>().join(" ");
    run.stdout.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn lists_are_the_same() {
    check(
        "
        snapshot -l snap.qcow2
        snapshot snap.qcow2
        snapshot -q -l snap.qcow2
        snapshot --list -U snap.qcow2
        snapshot -l -f qcow2 snap.qcow2
        snapshot -l --image-opts driver=qcow2,file.driver=file,file.filename=snap.qcow2
        snapshot -l plain.qcow2
        snapshot -l raw.img
        snapshot -l -f raw raw.img
        info snap.qcow2
        info --output=json snap.qcow2
        ",
    );
}

#[test]
fn changes_are_the_same() {
    check(
        "
        snapshot -c one plain.qcow2; check -q plain.qcow2
        snapshot -a before snap.qcow2; check -q snap.qcow2; convert -O raw snap.qcow2 out.raw
        snapshot -a 1 snap.qcow2; snapshot -d before snap.qcow2; check -q snap.qcow2; snapshot -l snap.qcow2
        snapshot -d before snap.qcow2; check -q snap.qcow2
        snapshot -c a v2.qcow2; snapshot -c b v2.qcow2; snapshot -d a v2.qcow2; check -q v2.qcow2
        snapshot -c a c512.qcow2; snapshot -a a c512.qcow2; check -q c512.qcow2
        snapshot -c a c2m.qcow2; snapshot -a a c2m.qcow2; check -q c2m.qcow2
        snapshot -c a zlib.qcow2; snapshot -a a zlib.qcow2; snapshot -d a zlib.qcow2; check -q zlib.qcow2
        snapshot -c a prealloc.qcow2; snapshot -d a prealloc.qcow2; check -q prealloc.qcow2
        snapshot -c a over.qcow2; snapshot -a a over.qcow2; check -q over.qcow2
        snapshot -c a plain.qcow2; resize plain.qcow2 +1M; snapshot -a a plain.qcow2; check -q plain.qcow2
        snapshot -c a snap.qcow2; reference snapshot -a before snap.qcow2; reference check -q snap.qcow2
        reference snapshot -c a plain.qcow2; reference snapshot -d a plain.qcow2; snapshot -c b plain.qcow2
        ",
    );
}

#[test]
fn conversions_from_snapshots_are_the_same() {
    check(
        "
        convert -l before -O raw snap.qcow2 out; reference compare -f raw -F qcow2 out plain.qcow2
        convert -l 1 -O raw snap.qcow2 out; reference compare -f raw -F raw out raw.img
        convert -l snapshot.id=1 -O qcow2 snap.qcow2 out; reference compare out plain.qcow2
        convert -l snapshot.name=before,snapshot.id=1 -O raw snap.qcow2 out; reference compare -f raw -F raw out raw.img
        convert --snapshot before -c -O qcow2 snap.qcow2 out; reference compare out plain.qcow2
        convert -l zz -l before -O raw snap.qcow2 out
        convert -l nonesuch -O raw snap.qcow2 out
        convert -l snapshot.name=nonesuch -O raw snap.qcow2 out
        convert -l snapshot.id=1,snapshot.name=nonesuch -O raw snap.qcow2 out
        convert -l snapshot.id= -O raw snap.qcow2 out
        convert -l snapshot.foo=1 -O raw snap.qcow2 out
        convert -l snapshot.id -O raw snap.qcow2 out
        convert -l before -O raw raw.img out
        convert -l before -O raw snap.qcow2 snap.qcow2 out
        convert -l nonesuch -O raw missing out
        resize snap.qcow2 4M; convert -l before -O raw snap.qcow2 out; info out
        resize --shrink snap.qcow2 1M; convert -l before -O raw snap.qcow2 out; info out
        ",
    );
}

#[test]
fn refusals_are_the_same() {
    check(
        "
        snapshot -a nonesuch snap.qcow2
        snapshot -d nonesuch snap.qcow2
        snapshot -d 1 snap.qcow2
        snapshot -c s raw.img
        snapshot -a s -f raw raw.img
        snapshot -d s -f raw raw.img
        snapshot -c s -f raw raw.img
        snapshot -c s r1.qcow2
        snapshot -l -c x snap.qcow2
        snapshot -l -l snap.qcow2
        snapshot -c x
        snapshot -c
        snapshot -Z
        snapshot a b
        snapshot -l missing
        snapshot -U -c s plain.qcow2
        snapshot --image-opts -f qcow2 -l snap.qcow2
        snapshot -l -f nonesuch snap.qcow2
        ",
    );
}

#[test]
fn what_is_made_is_listed_the_same() {
    let dir = scratch_with_small_images();
    for (image, program) in [("plain.qcow2", ours()), ("v2.qcow2", reference())] {
        program.run(dir.path(), &format!("snapshot -c first {image}")).ok();
        program.run(dir.path(), &format!("snapshot -c second {image}")).ok();
    }
    let list = |image: &str| {
        let line = format!("snapshot -l {image}");
        let (a, b) = (ours().run(dir.path(), &line).ok(), reference().run(dir.path(), &line).ok());
        if reference_speaks_our_version() {
            assert_eq!(a.stdout, b.stdout, "{line}");
        }
        without_dates(&a)
    };
    assert_eq!(list("plain.qcow2"), list("v2.qcow2"));
}

#[test]
fn the_list_as_json_is_the_array_that_info_has() {
    let dir = scratch_with_small_images();
    let json = |line: &str| -> serde_json::Value {
        serde_json::from_str(&ours().run(dir.path(), line).ok().stdout).expect("JSON")
    };
    reference().run(dir.path(), "snapshot -c second snap.qcow2").ok();
    let info: serde_json::Value =
        serde_json::from_str(&reference().run(dir.path(), "info --output=json snap.qcow2").ok().stdout).expect("JSON");
    let list = json("snapshot -l --output=json snap.qcow2");
    assert_eq!(list, info["snapshots"]);
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    assert_eq!(json("snapshot --output json raw.img"), serde_json::json!([]));
    assert_eq!(ours().run(dir.path(), "snapshot -l --output=json plain.qcow2").ok().stdout, "[\n]\n");
    let run = ours().run(dir.path(), "snapshot -c x --output=json plain.qcow2").fails(1);
    run.saying("for the list of snapshots");
}
