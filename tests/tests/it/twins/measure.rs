//! `measure`: the same numbers for the same options and sources.

use super::check;

#[test]
fn sizes_of_new_images_are_the_same() {
    let mut cases = String::new();
    for size in ["0", "1", "1000000", "1G", "5T", "12345678k"] {
        for options in [
            "",
            "-o cluster_size=512",
            "-o cluster_size=2M",
            "-o refcount_bits=1",
            "-o refcount_bits=64,cluster_size=4k",
            "-o compat=0.10",
            "-o extended_l2=on",
            "-o extended_l2=on,cluster_size=16k",
            "-o preallocation=metadata",
            "-o preallocation=falloc",
            "-o preallocation=full",
            "-o lazy_refcounts=on",
            "-o backing_file=x,backing_fmt=raw",
            "-o compression_type=zstd",
        ] {
            cases.push_str(&format!("measure -O qcow2 {options} --size {size}\n"));
        }
        cases.push_str(&format!("measure --size {size}\nmeasure -O raw --output=json --size {size}\n"));
    }
    check(&cases);
}

#[test]
fn sizes_of_copies_are_the_same() {
    let mut cases = String::new();
    for source in [
        "raw.img",
        "plain.qcow2",
        "v2.qcow2",
        "c512.qcow2",
        "c2m.qcow2",
        "prealloc.qcow2",
        "zlib.qcow2",
        "over.qcow2",
        "over2.qcow2",
        "over-raw.qcow2",
        "over-long.qcow2",
        "empty.qcow2",
        "snap.qcow2",
    ] {
        for options in [
            "",
            "-O raw",
            "-O qcow2",
            "-O qcow2 -o cluster_size=512",
            "-O qcow2 -o cluster_size=2M,refcount_bits=64",
            "-O qcow2 -o compat=0.10",
            "-O qcow2 -o preallocation=full",
            "-O qcow2 -o preallocation=metadata",
            "-O qcow2 -o backing_file=x",
            "-O qcow2 -o extended_l2=on",
            "-O qcow2 -o size=10M",
        ] {
            cases.push_str(&format!("measure {options} {source}\n"));
        }
        cases.push_str(&format!("measure --output=json -O qcow2 -U {source}\n"));
    }
    check(&cases);
}

#[test]
fn bitmaps_are_measured() {
    check(
        "
        reference bitmap --add plain.qcow2 b0; measure -O qcow2 plain.qcow2
        reference bitmap --add -g 512 plain.qcow2 b0; reference bitmap --add plain.qcow2 a-longer-name; measure --output=json -O qcow2 -o cluster_size=512 plain.qcow2
        reference bitmap --add plain.qcow2 b0; measure -O qcow2 -o compat=0.10 plain.qcow2
        reference bitmap --add plain.qcow2 b0; measure plain.qcow2
        ",
    );
}

#[test]
fn complaints_of_measure_are_the_same() {
    check(
        "
        measure
        measure a b
        measure missing
        measure --size 1G plain.qcow2
        measure -f qcow2 --size 1G
        measure -l x --size 1G
        measure -l snapshot.foo=x plain.qcow2
        measure -O nonesuch plain.qcow2
        measure -O null-co plain.qcow2
        measure -O qcow2 -o foo=bar plain.qcow2
        measure -O qcow2 -o help plain.qcow2
        measure -O raw -o foo=bar plain.qcow2
        measure -O qcow2 -o cluster_size=1 plain.qcow2
        measure -O qcow2 -o cluster_size=3000 plain.qcow2
        measure -O qcow2 -o cluster_size=512 --size 1E
        measure -O qcow2 --size 7E
        measure -O qcow2 --size 8E
        measure --size x
        measure --size -1
        measure --output=x --size 1
        measure -O qcow2 -o preallocation=foo plain.qcow2
        measure -O qcow2 -o compat=foo plain.qcow2
        measure -O qcow2 -o compat=0.10,refcount_bits=1 plain.qcow2
        measure -O qcow2 -o refcount_bits=3 plain.qcow2
        measure -O qcow2 -o refcount_bits=128 plain.qcow2
        measure -O qcow2 -o extended_l2=on,cluster_size=4k plain.qcow2
        measure -O qcow2 -o encrypt.format=luks plain.qcow2
        measure -O qcow2 -o encrypt.format=aes plain.qcow2
        measure -o , plain.qcow2
        measure --image-opts -f qcow2 plain.qcow2
        ",
    );
}
