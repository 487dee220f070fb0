//! `amend`.

use super::check;

#[test]
fn properties_change_in_the_same_way() {
    check(
        "
        amend -o compat=1.1 v2.qcow2; info v2.qcow2; reference check v2.qcow2
        amend -o compat=0.10 plain.qcow2; info plain.qcow2; reference check plain.qcow2
        amend -f qcow2 -o refcount_bits=64 plain.qcow2; info plain.qcow2
        amend -q -o refcount_bits=8 -o lazy_refcounts=on plain.qcow2; info plain.qcow2
        amend -o size=8M empty.qcow2; info empty.qcow2
        amend --image-opts -o lazy_refcounts=off driver=qcow2,file.filename=lazy.qcow2; info lazy.qcow2
        amend -o data_file=other data-file.qcow2; info data-file.qcow2
        ",
    );
}

#[test]
fn mistakes_are_told_in_the_same_words() {
    check(
        "
        amend
        amend plain.qcow2
        amend -o help
        amend -o size=2M
        amend -o size=2M plain.qcow2 empty.qcow2
        amend -o , plain.qcow2
        amend -f raw -o help
        amend -f raw -o size=1M raw.img
        amend -f nope -o size=1M plain.qcow2
        amend -o size=1M nope
        amend -t foo -o size=1M plain.qcow2
        amend --image-opts -f qcow2 -o size=1M plain.qcow2
        amend -o foo=1 plain.qcow2
        amend -o cluster_size=4k plain.qcow2
        amend -o compat=9 plain.qcow2
        amend -o refcount_bits=3 plain.qcow2
        amend -o data_file_raw=on plain.qcow2
        amend -o backing_file=x plain.qcow2
        amend -o compat=0.10 data-file.qcow2
        amend -o compat=0.10 zstd.qcow2
        ",
    );
}

#[test]
fn progress_and_snapshots_are_the_same() {
    check(
        "
        amend -p -o size=2M nope
        amend -p -o size=foo plain.qcow2
        amend -p -o compat=foo plain.qcow2
        amend -p -o lazy_refcounts=on plain.qcow2
        amend -p -q -o lazy_refcounts=on plain.qcow2
        amend -o compat=0.10 snap.qcow2; info snap.qcow2; reference check snap.qcow2; reference snapshot -a before snap.qcow2; reference compare snap.qcow2 raw.img
        amend -o compat=1.1 snap.qcow2
        amend -o size=9E plain.qcow2
        amend -o size=8E plain.qcow2
        ",
    );
}
