//! `convert`: the resulting images look the same to `info`, and nothing is said that the reference does not say.

use super::check;

#[test]
fn converted_images_look_the_same() {
    check(
        "
        convert raw.img new; reference info new
        convert plain.qcow2 new; reference info new
        convert -O qcow2 raw.img new; reference info new; reference check new
        convert -O qcow2 plain.qcow2 new; reference info new; reference check new
        convert -O qcow2 over2.qcow2 new; reference info new; reference check new
        convert -O qcow2 over-raw.qcow2 new; reference info new; reference check new
        convert -O qcow2 over-long.qcow2 new; reference info new; reference check new
        convert -O qcow2 empty.qcow2 new; reference info new; reference check new
        convert -O qcow2 zero-length new; reference info new; reference check new
        convert -O qcow2 -o compat=0.10 zstd.qcow2 new; reference info new; reference check new
        convert -O qcow2 -o cluster_size=4k,refcount_bits=8 zlib.qcow2 new; reference info new; reference check new
        convert -O qcow2 -o lazy_refcounts=on plain.qcow2 new; reference info new; reference check new
        convert -O qcow2 -o preallocation=metadata plain.qcow2 new; reference info new; reference check new
        convert -O qcow2 -o extended_l2=on plain.qcow2 new; reference info new; reference check new
        convert -O qcow2 -o extended_l2=on over.qcow2 new; reference info new; reference map --output=json new
        convert -O qcow2 -o extended_l2=on -B plain.qcow2 -F qcow2 over.qcow2 new; reference map --output=json new
        convert -O qcow2 ext-l2.qcow2 new; reference info new; reference check new
        convert -O qcow2 -S 0 plain.qcow2 new; reference info new; reference check new
        convert -O qcow2 -m 1 -t none -T none plain.qcow2 new; reference info new; reference check new
        convert -O qcow2 -B plain.qcow2 -F qcow2 over.qcow2 new; reference info new; reference check new
        convert -O qcow2 -o backing_file=plain.qcow2,backing_fmt=qcow2 over.qcow2 new; reference info new
        convert -O qcow2 plain.qcow2 over.qcow2 raw.img new; reference info new; reference check new
        convert -c -O qcow2 -o compression_type=zstd raw.img new; reference info new
        convert -p -O raw empty.qcow2 new
        convert -q -O raw plain.qcow2 new
        ",
    );
}

/// Images that existed before are not compared by `info`: clusters that are freed wait with us until what dropped them is
/// durable, so the file may become longer than the reference's.
#[test]
fn the_content_of_converted_images_is_the_same() {
    check(
        "
        convert -O qcow2 over2.qcow2 new; reference compare over2.qcow2 new
        convert -O raw over2.qcow2 new; reference compare -F raw over2.qcow2 new
        convert -O raw -S 64k c512.qcow2 new; reference compare -F raw c512.qcow2 new
        convert -c -W -O qcow2 r64.qcow2 new; reference compare r64.qcow2 new
        convert -c -O qcow2 -o extended_l2=on plain.qcow2 new; reference check -q new; reference compare plain.qcow2 new
        convert -O raw ext-l2.qcow2 new; reference compare -F raw ext-l2.qcow2 new
        convert -n -O qcow2 over.qcow2 ext-l2.qcow2; reference check -q ext-l2.qcow2
        convert -n -O qcow2 over.qcow2 ext-l2.qcow2; reference compare over.qcow2 ext-l2.qcow2
        convert -O raw snap.qcow2 new; reference compare -F raw snap.qcow2 new
        convert -n -O qcow2 plain.qcow2 over-long.qcow2; reference check -q over-long.qcow2
        convert -n -O qcow2 plain.qcow2 over-long.qcow2; reference compare plain.qcow2 over-long.qcow2
        convert -O raw prealloc.qcow2 new; reference compare -F raw prealloc.qcow2 new
        ",
    );
}
