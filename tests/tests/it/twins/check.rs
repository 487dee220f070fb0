//! `check`: what is found, and how it is told.

use super::check;

#[test]
fn checks_of_sound_images_are_the_same() {
    check(
        "
        check plain.qcow2
        check -f qcow2 plain.qcow2
        check v2.qcow2
        check c512.qcow2
        check c2m.qcow2
        check r1.qcow2
        check r64.qcow2
        check lazy.qcow2
        check prealloc.qcow2
        check zlib.qcow2
        check zstd.qcow2
        check snap.qcow2
        check over.qcow2
        check over2.qcow2
        check empty.qcow2
        check -q plain.qcow2
        check -U plain.qcow2
        check -T none plain.qcow2
        check --output=json plain.qcow2
        check --output=json zlib.qcow2
        check --output=json snap.qcow2
        check --output=json over.qcow2
        check --output=json empty.qcow2
        ",
    );
}

#[test]
fn checks_of_damaged_images_are_the_same() {
    check(
        "
        check leak.qcow2
        check --output=json leak.qcow2
        check -q leak.qcow2
        check outside.qcow2
        check --output=json outside.qcow2
        check overlap.qcow2
        check raw.img
        check --output=json raw.img
        check text
        check -f qcow2 text
        check missing
        check
        ",
    );
}
