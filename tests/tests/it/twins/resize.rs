//! `resize`: sizes, refusals, and what is left of the content.

use super::check;

#[test]
fn growing_is_the_same() {
    check(
        "
        resize plain.qcow2 4M; info plain.qcow2; check -q plain.qcow2; convert -O raw plain.qcow2 out.raw
        resize plain.qcow2 +1M; info --output=json plain.qcow2
        resize -q plain.qcow2 +1M
        resize v2.qcow2 10M; check -q v2.qcow2
        resize c512.qcow2 40M; check -q c512.qcow2
        resize over.qcow2 8M; check -q over.qcow2
        resize plain.qcow2 +0
        resize plain.qcow2 -- +512
        resize -f raw raw.img 3M; info raw.img
        resize raw.img +100
        resize -f raw raw.img +100
        resize --preallocation=off plain.qcow2 4M
        resize --preallocation metadata plain.qcow2 4M; check -q plain.qcow2
        resize --preallocation=falloc plain.qcow2 4M; check -q plain.qcow2
        resize --preallocation=full plain.qcow2 4M; check -q plain.qcow2
        resize --preallocation=full -f raw raw.img 4M; info raw.img
        resize --image-opts driver=qcow2,file.filename=plain.qcow2 4M
        resize snap.qcow2 4M; check -q snap.qcow2
        ",
    );
}

#[test]
fn shrinking_is_the_same() {
    check(
        "
        resize --shrink plain.qcow2 1M; info plain.qcow2; check -q plain.qcow2; convert -O raw plain.qcow2 out.raw
        resize --shrink plain.qcow2 -512; check -q plain.qcow2
        resize --shrink c512.qcow2 100k; check -q c512.qcow2
        resize --shrink c2m.qcow2 512; check -q c2m.qcow2
        resize --shrink zlib.qcow2 700k; check -q zlib.qcow2
        resize --shrink snap.qcow2 600k; check -q snap.qcow2
        resize --shrink prealloc.qcow2 600k; check -q prealloc.qcow2
        resize --shrink over.qcow2 600k; check -q over.qcow2
        resize --shrink -f raw raw.img 1000; info raw.img
        ",
    );
}

#[test]
fn refusals_are_the_same() {
    check(
        "
        resize plain.qcow2 1M
        resize plain.qcow2 -1M
        resize -f raw raw.img 1M
        resize --shrink plain.qcow2 -100M
        resize --shrink plain.qcow2 0
        resize plain.qcow2
        resize
        resize plain.qcow2 1M 2M
        resize plain.qcow2 x
        resize plain.qcow2 +
        resize plain.qcow2 17179869184G
        resize plain.qcow2 1000001
        resize plain.qcow2 4P
        resize -f raw raw.img 8E
        resize --preallocation=nonesuch plain.qcow2 4M
        resize --preallocation=metadata -f raw raw.img 4M
        resize --preallocation=full --shrink plain.qcow2 1M
        resize --output=json plain.qcow2 4M
        resize missing 1M
        resize -f nonesuch plain.qcow2 4M
        resize --image-opts -f qcow2 plain.qcow2 4M
        snapshot -c s v2.qcow2; resize v2.qcow2 4M
        snapshot -c s v2.qcow2; resize --shrink v2.qcow2 1M
        ",
    );
}
