//! `info`, for people and for programs.

use super::check;

#[test]
fn info_of_every_image_is_the_same_for_people() {
    check(
        "
        info raw.img
        info -f raw raw.img
        info -f raw plain.qcow2
        info plain.qcow2
        info -f qcow2 plain.qcow2
        info v2.qcow2
        info c512.qcow2
        info c2m.qcow2
        info r1.qcow2
        info r64.qcow2
        info lazy.qcow2
        info prealloc.qcow2
        info zlib.qcow2
        info zstd.qcow2
        info snap.qcow2
        info over.qcow2
        info over2.qcow2
        info over-raw.qcow2
        info over-long.qcow2
        info orphan.qcow2
        info empty.qcow2
        info leak.qcow2
        info zero-length
        info text
        info -U plain.qcow2
        info --force-share plain.qcow2
        info ./plain.qcow2
        info file:plain.qcow2
        ",
    );
}

#[test]
fn info_of_every_image_is_the_same_for_programs() {
    check(
        "
        info --output=json raw.img
        info --output=json plain.qcow2
        info --output json v2.qcow2
        info --output=json c512.qcow2
        info --output=json r64.qcow2
        info --output=json lazy.qcow2
        info --output=json zstd.qcow2
        info --output=json snap.qcow2
        info --output=json over.qcow2
        info --output=json over-raw.qcow2
        info --output=json over-long.qcow2
        info --output=json orphan.qcow2
        info --output=json empty.qcow2
        info plain.qcow2 --force-share --output=json
        info --output=human plain.qcow2
        ",
    );
}

#[test]
fn info_of_a_backing_chain_is_the_same() {
    check(
        "
        info --backing-chain plain.qcow2
        info --backing-chain over.qcow2
        info --backing-chain over2.qcow2
        info --backing-chain over-raw.qcow2
        info --backing-chain --output=json over2.qcow2
        info --backing-chain --output=json over-raw.qcow2
        info --backing-chain --output=json plain.qcow2
        ",
    );
}

/// A raw image with `offset` or `size` is missing: the reference names it by a `json:` text whose members have the order of
/// its hash table; we name the file.
#[test]
fn images_named_by_options_are_the_same() {
    check(
        r#"
        info --image-opts driver=qcow2,file.driver=file,file.filename=plain.qcow2
        info --image-opts driver=raw,file.filename=raw.img
        info 'json:{"driver":"qcow2","file":{"driver":"file","filename":"plain.qcow2"}}'
        info --output=json 'json:{"driver":"raw","file.driver":"file","file.filename":"raw.img"}'
        "#,
    );
}
