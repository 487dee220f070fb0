//! `create`: what is said, and what `info` and `check` of the reference say about the result.

use super::check;

#[test]
fn created_images_are_the_same() {
    check(
        "
        create new 1M; reference info new
        create -f raw new 1G; reference info new
        create -f raw new 1000; reference info new
        create -f raw -o preallocation=falloc new 1M; reference info new
        create -f raw -o preallocation=full new 1M; reference info new
        create -f raw -o size=2M new; reference info new
        create -f qcow2 new 1G; reference info new; reference check new
        create -q -f qcow2 new 1G; reference info new
        create -f qcow2 new 0; reference info new; reference check new
        create -f qcow2 new 1T; reference info new; reference check new
        create -f qcow2 new 513; reference info new
        create -f qcow2 -o compat=0.10 new 1G; reference info new; reference check new
        create -f qcow2 -o compat=v3 new 1G; reference info new
        create -f qcow2 -o cluster_size=512 new 10M; reference info new; reference check new
        create -f qcow2 -o cluster_size=2M new 10G; reference info new; reference check new
        create -f qcow2 -o cluster_size=4k,refcount_bits=1 new 10M; reference info new; reference check new
        create -f qcow2 -o refcount_bits=64 new 10M; reference info new; reference check new
        create -f qcow2 -o lazy_refcounts=on new 10M; reference info new; reference check new
        create -f qcow2 -o compression_type=zstd new 10M; reference info new; reference check new
        create -f qcow2 -o preallocation=metadata new 10M; reference info new; reference check new
        create -f qcow2 -o preallocation=falloc new 3M; reference info new; reference check new
        create -f qcow2 -o preallocation=full new 3M; reference info new; reference check new
        create -f qcow2 -o cluster_size=1M -o compat=1.1 new 10M; reference info new
        create -f qcow2 -o extended_l2=on new 10M; reference info new; reference check new
        create -f qcow2 -o extended_l2=on,cluster_size=16k,refcount_bits=1 new 10M; reference info new; reference check new
        create -f qcow2 -o extended_l2=on,preallocation=metadata new 10M; reference info new; reference check new
        create -f qcow2 -o extended_l2=on,preallocation=metadata -b plain.qcow2 -F qcow2 new; reference map --output=json new
        create -f qcow2 -o extended_l2=on,preallocation=falloc -b plain.qcow2 -F qcow2 new; reference compare new plain.qcow2
        create -f qcow2 -b plain.qcow2 -F qcow2 new; reference info new; reference check new
        create -f qcow2 -b plain.qcow2 -F qcow2 new 10M; reference info new
        create -f qcow2 -b raw.img -F raw new; reference info new
        create -f qcow2 -o backing_file=plain.qcow2,backing_fmt=qcow2 new; reference info new
        create -u -f qcow2 -b nowhere -F qcow2 new 1M; reference info new
        create -f qcow2 plain.qcow2 2M; reference info plain.qcow2; reference check plain.qcow2
        ",
    );
}

#[test]
fn sizes_are_read_the_same() {
    check(
        "
        create -f raw new 10737418240b; reference info new
        create -f raw new 5242880K; reference info new
        create -f raw new 1.5G; reference info new
        create -f raw new 1k; reference info new
        create -f raw new 0x1000; reference info new
        create -f raw new 1X
        create -f raw new -1
        create -f raw new abc
        create -f raw new 1MM
        create -f raw new 99999999999999999999
        create -f qcow2 new 8E
        create -f raw new ''
        ",
    );
}

#[test]
fn wrong_creations_are_refused_the_same() {
    check(
        "
        create -f qcow2 -o backing_file= new 1M
        create -f qcow2 -F raw -b '' new 1M
        create
        create -f qcow2 new
        create -f nonsense new 1M
        create -f qcow2 new 1M extra
        create -f qcow2 -o nonsense=1 new 1M
        create -f qcow2 -o cluster_size=3k new 1M
        create -f qcow2 -o cluster_size=256 new 1M
        create -f qcow2 -o cluster_size=4M new 1M
        create -f qcow2 -o cluster_size=x new 1M
        create -f qcow2 -o refcount_bits=3 new 1M
        create -f qcow2 -o refcount_bits=128 new 1M
        create -f qcow2 -o refcount_bits=8,compat=0.10 new 1M
        create -f qcow2 -o compat=2 new 1M
        create -f qcow2 -o extended_l2=on,compat=0.10 new 1M
        create -f qcow2 -o extended_l2=on,cluster_size=8k new 1M
        create -f qcow2 -o extended_l2=maybe new 1M
        create -f qcow2 -o lazy_refcounts=on,compat=0.10 new 1M
        create -f qcow2 -o lazy_refcounts=maybe new 1M
        create -f qcow2 -o compression_type=lzo new 1M
        create -f qcow2 -o compression_type=zstd,compat=0.10 new 1M
        create -f qcow2 -o preallocation=some new 1M
        create -f raw -o preallocation=metadata new 1M
        create -f raw -o cluster_size=64k new 1M
        create -f raw -b plain.qcow2 -F qcow2 new
        create -f qcow2 -b plain.qcow2 new
        create -f qcow2 -b missing.qcow2 -F qcow2 new
        create -f qcow2 -b plain.qcow2 -F nonsense new
        create -f qcow2 -F qcow2 new 1M
        create -f qcow2 -b new -F qcow2 new 1M
        create -f qcow2 missing/new 1M
        create -Z new 1M
        ",
    );
}
