//! `map`, for people and for programs.

use super::check;

#[test]
fn maps_for_programs_are_the_same() {
    check(
        "
        map --output=json raw.img
        map --output=json -f raw raw.img
        map --output=json plain.qcow2
        map --output=json v2.qcow2
        map --output=json c512.qcow2
        map --output=json c2m.qcow2
        map --output=json prealloc.qcow2
        map --output=json zlib.qcow2
        map --output=json zstd.qcow2
        map --output=json snap.qcow2
        map --output=json over.qcow2
        map --output=json over2.qcow2
        map --output=json over-raw.qcow2
        map --output=json over-long.qcow2
        map --output=json empty.qcow2
        map --output json -U over2.qcow2
        map --output=json -s 100k over.qcow2
        map --output=json -l 100000 over.qcow2
        map --output=json --start-offset=66000 --max-length=1 over.qcow2
        map --output=json -s 300k -l 500k over2.qcow2
        map --output=json -s 1G over2.qcow2
        map --output=json -l 0 over2.qcow2
        map --output=json --image-opts driver=qcow2,file.filename=over.qcow2
        map --output=json --image-opts driver=raw,file.filename=raw.img
        ",
    );
}

#[test]
fn maps_for_people_are_the_same() {
    check(
        "
        map raw.img
        map plain.qcow2
        map -f qcow2 v2.qcow2
        map c512.qcow2
        map prealloc.qcow2
        map zlib.qcow2
        map over.qcow2
        map over2.qcow2
        map over-raw.qcow2
        map over-long.qcow2
        map empty.qcow2
        map snap.qcow2
        map -s 1G plain.qcow2
        map -s 64k -l 64k plain.qcow2
        ",
    );
}

#[test]
fn complaints_of_map_are_the_same() {
    check(
        "
        map
        map a b
        map missing
        map orphan.qcow2
        map text
        map -f qcow2 text
        map -s x plain.qcow2
        map -s -1 plain.qcow2
        map -l 9E plain.qcow2
        map --output=x plain.qcow2
        map --image-opts -f qcow2 plain.qcow2
        map -Z plain.qcow2
        ",
    );
}
