//! `commit`.

use super::check;

#[test]
fn images_are_committed_in_the_same_way() {
    check(
        "
        reference convert -O raw over.qcow2 before; commit over.qcow2; reference compare -F raw plain.qcow2 before
        reference convert -O raw over.qcow2 before; commit -d over.qcow2; reference compare -F raw plain.qcow2 before
        commit -q over2.qcow2; reference check over.qcow2; reference check over2.qcow2
        reference convert -O raw over2.qcow2 before; commit -b plain.qcow2 over2.qcow2; reference compare -F raw plain.qcow2 before
        commit -f qcow2 over-raw.qcow2
        commit over-long.qcow2; reference info plain.qcow2
        ",
    );
}

#[test]
fn mistakes_are_told_in_the_same_words() {
    check(
        "
        commit
        commit plain.qcow2
        commit over.qcow2 over2.qcow2
        commit nope
        commit -b nope over.qcow2
        commit -b over.qcow2 over.qcow2
        commit -t foo over.qcow2
        commit -f raw raw.img
        commit --image-opts -f qcow2 over.qcow2
        ",
    );
}

#[test]
fn files_are_recognised_by_where_their_paths_lead() {
    check(
        "
        commit -b ./plain.qcow2 over2.qcow2; reference check over2.qcow2
        commit -b file:plain.qcow2 over2.qcow2
        commit -b over2.qcow2 over2.qcow2
        commit -b ./over.qcow2 over2.qcow2
        commit -r 100M over.qcow2
        commit -r 0 over.qcow2
        commit -r x over.qcow2
        commit --rate=-1 over.qcow2
        commit -p nope
        commit -p plain.qcow2
        commit raw.img
        commit text
        ",
    );
}
