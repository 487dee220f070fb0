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

#[test]
fn repairs_are_the_same() {
    check(
        "
        check -r leaks leak.qcow2; check leak.qcow2; reference check leak.qcow2
        check -r all leak.qcow2; check leak.qcow2
        check -r all --output=json leak.qcow2
        check -r leaks --output=json leak.qcow2
        check -q -r all leak.qcow2
        check -q -r all --output=json leak.qcow2
        check -r all plain.qcow2
        check -r leaks --output=json plain.qcow2
        check -r all outside.qcow2
        check -r leaks outside.qcow2
        check -r all overlap.qcow2; reference check overlap.qcow2
        check -r leaks overlap.qcow2
        check -r all --output=json overlap.qcow2
        check -r all snap.qcow2; check snap.qcow2
        check -r all lazy.qcow2
        check -r all -T none leak.qcow2
        check -r all --image-opts driver=qcow2,file.filename=leak.qcow2
        ",
    );
}

#[test]
fn complaints_of_repairs_are_the_same() {
    check(
        "
        check -r foo plain.qcow2
        check -r
        check -r all -U plain.qcow2
        check -r all missing
        check -r all -f raw raw.img
        check -r all -f qcow2 text
        ",
    );
}
