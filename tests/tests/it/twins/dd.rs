//! `dd`: the same bytes in the same places, and the same complaints.

use super::check;

#[test]
fn whole_images_are_copied_alike() {
    let mut cases = String::new();
    for source in ["raw.img", "plain.qcow2", "c512.qcow2", "zlib.qcow2", "over2.qcow2", "over-long.qcow2", "text"] {
        let copies = ["", "-O qcow2", "-O raw bs=64k", "-U -O qcow2 bs=1000000"].map(|options| {
            format!(
                "dd {options} if={source} of=copy; info copy; map --output=json copy; reference compare copy {source}"
            )
        });
        cases.push_str(&format!("{}\n", copies.join("; ")));
    }
    check(&cases);
}

#[test]
fn parts_of_images_are_copied_alike() {
    let parts = [
        "count=1",
        "count=0",
        "count=3 bs=100",
        "count=3073",
        "count=99999 bs=1M",
        "count=9223372036854775807",
        "count=9223372036854775807 bs=2147483647",
        "skip=1",
        "skip=3073",
        "skip=3074",
        "skip=1 count=3",
        "skip=5 count=3",
        "skip=3 count=3",
        "bs=1M skip=1",
        "bs=1M skip=2",
        "bs=1k skip=0x10 count=010",
        "bs=777 skip=3 count=99",
        "skip=9223372036854775807",
        "bs=2147483647 skip=9223372036854775807",
    ];
    let mut cases = String::new();
    for (source, format) in [("raw.img", "raw"), ("plain.qcow2", "qcow2"), ("plain.qcow2", "raw")] {
        let copies =
            parts.map(|part| format!("dd {part} -O {format} if={source} of=copy; info copy; reference check copy"));
        cases.push_str(&format!("{}\n", copies.join("; ")));
    }
    check(&cases);
}

#[test]
fn operands_and_complaints_of_dd_are_the_same() {
    check(
        "
        dd
        dd foo
        dd foo=1
        dd =x
        dd if=plain.qcow2 -O qcow2
        dd of=copy
        dd bs=x if=plain.qcow2 of=copy
        dd bs=0 if=plain.qcow2 of=copy
        dd bs=3G if=plain.qcow2 of=copy
        dd bs= if=plain.qcow2 of=copy
        dd bs=1.5k if=plain.qcow2 of=copy; info copy
        dd count=-1 if=plain.qcow2 of=copy
        dd count=1k if=plain.qcow2 of=copy
        dd count= if=plain.qcow2 of=copy
        dd skip=x if=plain.qcow2 of=copy
        dd skip=-5 if=plain.qcow2 of=copy
        dd skip=08 if=plain.qcow2 of=copy
        dd seek=1 if=plain.qcow2 of=copy
        dd conv=notrunc if=plain.qcow2 of=copy
        dd if=missing of=copy
        dd if= of=copy
        dd if=plain.qcow2 of=
        dd if=plain.qcow2 of=missing/copy
        dd if=plain.qcow2 of=copy -O nonesuch
        dd if=missing of=copy -O nonesuch
        dd if=plain.qcow2 of=copy -O null-co
        dd if=plain.qcow2 of=copy -f nonesuch
        dd if=plain.qcow2 of=copy -f raw; info -f raw copy
        dd if=raw.img of=copy -f qcow2
        dd if=orphan.qcow2 of=copy
        dd --image-opts -f raw if=plain.qcow2 of=copy
        dd --image-opts if=driver=raw,file.filename=raw.img of=copy; info copy
        dd --image-opts if=file.filename=plain.qcow2 of=copy
        dd if=plain.qcow2 if=raw.img of=other of=copy -O raw -f raw; info copy
        dd if=plain.qcow2 of=plain.qcow2 -O qcow2
        dd --output-f raw if=plain.qcow2 of=copy; info copy
        dd --force-share if=plain.qcow2 of=copy; info copy
        dd if=plain.qcow2 of=raw.img; info raw.img
        dd -q if=plain.qcow2 of=copy
        dd -f
        dd --object x if=plain.qcow2 of=copy
        dd --object secret,id=s,data=x if=plain.qcow2 of=copy; info copy
        dd if=zero-length of=copy; info copy
        ",
    );
}
