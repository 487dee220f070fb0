//! `rebase`.

use super::check;

#[test]
fn chains_change_in_the_same_way() {
    check(
        "
        rebase -b empty.qcow2 -F qcow2 over.qcow2; reference info over.qcow2; compare over.qcow2 plain.qcow2
        rebase -b plain.qcow2 -F qcow2 over2.qcow2; reference info over2.qcow2; reference check over2.qcow2
        rebase -f qcow2 -b raw.img -F raw over.qcow2; reference info over.qcow2
        rebase -c -b empty.qcow2 -F qcow2 over.qcow2; reference info over.qcow2
        rebase -u -b nowhere -F qcow2 over.qcow2; reference info over.qcow2
        rebase -u -b '' over.qcow2; reference info over.qcow2
        rebase -u over.qcow2; reference info over.qcow2
        rebase -q -b '' empty.qcow2; reference info empty.qcow2
        "
        .replace("compare over.qcow2 plain.qcow2", "reference compare over.qcow2 plain.qcow2")
        .replace("-b ''", "--backing=")
        .as_str(),
    );
}

#[test]
fn mistakes_are_told_in_the_same_words() {
    check(
        "
        rebase
        rebase over.qcow2
        rebase -F qcow2 over.qcow2
        rebase -b plain.qcow2 over.qcow2 over2.qcow2
        rebase -b empty.qcow2 over.qcow2
        rebase -b nope -F qcow2 over.qcow2
        rebase -b plain.qcow2 -F nope over.qcow2
        rebase -u -b plain.qcow2 -F nope over.qcow2
        rebase -t foo -b plain.qcow2 over.qcow2
        rebase -T foo -b plain.qcow2 over.qcow2
        rebase -f raw -b plain.qcow2 -F qcow2 raw.img
        rebase --image-opts -f qcow2 -b x over.qcow2
        rebase -b plain.qcow2 -F qcow2 nope
        ",
    );
}

#[test]
fn sharing_compression_and_early_failures_are_the_same() {
    check(
        "
        rebase -U -b raw.img -F raw over.qcow2; reference compare over.qcow2 over2.qcow2
        rebase -U -u -b raw.img -F raw over.qcow2; info over.qcow2
        rebase -p -b raw.img -F raw nope
        rebase -p -b nope -F raw over.qcow2
        rebase -p -b raw.img -F nope over.qcow2
        rebase -c -b empty.qcow2 -F qcow2 over.qcow2; reference check --output=json over.qcow2; reference check plain.qcow2
        rebase -c -b '' over2.qcow2; reference check --output=json over2.qcow2
        ",
    );
}
