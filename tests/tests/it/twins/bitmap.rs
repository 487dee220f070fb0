//! `bitmap`, and `convert --bitmaps`: what is said, what `info` says of the result, and what the bitmaps mark.

use std::path::Path;
use std::process::{Command, Stdio};

use test_support::programs::{ours, qemu_io, reference};

use super::check;
use crate::fixture::scratch_with_small_images;

#[test]
fn bitmaps_are_changed_the_same() {
    check(
        "
        bitmap --add plain.qcow2 b; reference info plain.qcow2; reference check plain.qcow2
        bitmap --add -g 4k plain.qcow2 b; reference info plain.qcow2
        bitmap --add -g 2G plain.qcow2 b; reference info plain.qcow2
        bitmap --add c512.qcow2 b; reference info c512.qcow2; reference check c512.qcow2
        bitmap --add c2m.qcow2 b; reference info c2m.qcow2; reference check c2m.qcow2
        bitmap --add -g 0 r64.qcow2 b; reference info r64.qcow2
        bitmap --add --disable plain.qcow2 b; reference info plain.qcow2
        bitmap --add --disable --enable --clear --merge b plain.qcow2 b; reference info plain.qcow2
        bitmap --add plain.qcow2 b; bitmap --add plain.qcow2 c; bitmap --remove plain.qcow2 b; reference info plain.qcow2
        bitmap --add --remove plain.qcow2 b; reference info plain.qcow2; reference check plain.qcow2
        bitmap --remove --add plain.qcow2 b; reference info plain.qcow2
        reference bitmap --add plain.qcow2 b; bitmap --remove --add plain.qcow2 b; reference check plain.qcow2
        reference bitmap --add plain.qcow2 b; bitmap --disable plain.qcow2 b; info plain.qcow2; info --output=json plain.qcow2
        reference bitmap --add plain.qcow2 b; bitmap plain.qcow2 b --clear; reference check plain.qcow2
        bitmap --add over.qcow2 b; reference info over.qcow2; reference check over.qcow2
        bitmap --add --image-opts driver=qcow2,file.filename=plain.qcow2 b; info plain.qcow2
        bitmap --ad -f qcow2 plain.qcow2 b; info plain.qcow2
        bitmap --add plain.qcow2 b; bitmap --add c2m.qcow2 c; bitmap -b c2m.qcow2 -F qcow2 --merge c plain.qcow2 b
        bitmap --add plain.qcow2 b; bitmap --add snap.qcow2 c; bitmap --source-file snap.qcow2 --merge c plain.qcow2 b
        ",
    );
}

#[test]
fn wrong_changes_are_refused_the_same() {
    check(
        "
        bitmap
        bitmap plain.qcow2
        bitmap plain.qcow2 b
        bitmap --add plain.qcow2
        bitmap --add plain.qcow2 b c
        bitmap --add plain.qcow2 ''
        bitmap --remove plain.qcow2 b
        bitmap --clear plain.qcow2 b
        bitmap --enable plain.qcow2 b
        bitmap --disable plain.qcow2 b
        bitmap --merge c plain.qcow2 b
        bitmap --add --merge c plain.qcow2 b; reference info plain.qcow2
        bitmap --add plain.qcow2 b; bitmap --add plain.qcow2 b
        bitmap --add -g 1000 plain.qcow2 b
        bitmap --add -g 256 plain.qcow2 b
        bitmap --add -g x plain.qcow2 b
        bitmap --add -g 1.5 plain.qcow2 b
        bitmap --add -g 16E plain.qcow2 b
        bitmap --clear -g 4k plain.qcow2 b
        bitmap --add -b c2m.qcow2 plain.qcow2 b
        bitmap --merge c -F qcow2 plain.qcow2 b
        bitmap --add -b missing --merge c plain.qcow2 b; reference info plain.qcow2
        bitmap --add missing b
        bitmap --add -f nonsense plain.qcow2 b
        bitmap --add --image-opts -f qcow2 file.filename=plain.qcow2 b
        bitmap --add=1 plain.qcow2 b
        bitmap --merge
        bitmap -q --add plain.qcow2 b
        bitmap --clear -f raw raw.img b
        bitmap --remove v2.qcow2 b
        bitmap --add plain.qcow2 b; bitmap --add empty.qcow2 c; bitmap -b empty.qcow2 --merge c plain.qcow2 b
        ",
    );
}

#[test]
fn bitmaps_that_cannot_be_relied_on_are_treated_the_same() {
    check(
        "
        bitmap --add plain.qcow2 b1; distrust plain.qcow2 b1; info plain.qcow2; info --output=json plain.qcow2
        bitmap --add plain.qcow2 b1; distrust plain.qcow2 b1; bitmap --clear plain.qcow2 b1; info plain.qcow2
        bitmap --add plain.qcow2 b1; distrust plain.qcow2 b1; bitmap --enable plain.qcow2 b1
        bitmap --add plain.qcow2 b1; distrust plain.qcow2 b1; bitmap --disable plain.qcow2 b1
        bitmap --add plain.qcow2 b1; distrust plain.qcow2 b1; bitmap --add plain.qcow2 b1
        bitmap --add plain.qcow2 b1; distrust plain.qcow2 b1; bitmap --add --merge b1 plain.qcow2 b2
        bitmap --add plain.qcow2 b1; distrust plain.qcow2 b1; bitmap --remove plain.qcow2 b1; reference check plain.qcow2
        bitmap --add plain.qcow2 b1; distrust plain.qcow2 b1; bitmap --add plain.qcow2 b2; info plain.qcow2
        ",
    );
}

#[test]
fn bitmaps_are_converted_the_same() {
    check(
        "
        bitmap --add plain.qcow2 b1; bitmap --add -g 4k --disable plain.qcow2 b2; convert --bitmaps -O qcow2 plain.qcow2 new; reference info new; reference check new
        bitmap --add plain.qcow2 b1; convert -O qcow2 plain.qcow2 new; reference info new
        convert --bitmaps -O qcow2 plain.qcow2 new; reference info new
        bitmap --add plain.qcow2 b1; convert --bitmaps -c -O qcow2 -o cluster_size=4k plain.qcow2 new; reference info new; reference check new
        bitmap --add plain.qcow2 b1; bitmap --add plain.qcow2 b2; distrust plain.qcow2 b2; convert --bitmaps -O qcow2 plain.qcow2 new
        bitmap --add plain.qcow2 b1; bitmap --add plain.qcow2 b2; distrust plain.qcow2 b1 b2; convert --bitmaps --skip-broken-bitmaps -O qcow2 plain.qcow2 new; reference info new
        bitmap --add plain.qcow2 b1; bitmap --add c2m.qcow2 b1; convert --bitmaps -n -O qcow2 plain.qcow2 c2m.qcow2
        bitmap --add plain.qcow2 b1; convert --bitmaps -n -O qcow2 plain.qcow2 over-long.qcow2; reference info over-long.qcow2
        convert --skip-broken-bitmaps -O qcow2 plain.qcow2 new
        convert --bitmaps -O qcow2 plain.qcow2 c2m.qcow2 new
        convert --bitmaps -O qcow2 raw.img new
        convert --bitmaps -O qcow2 v2.qcow2 new
        ",
    );
}

/// What a bitmap marks, as the reference's server shows it to a backup program.
fn marked(dir: &Path, image: &str, bitmap: &str) -> String {
    let socket = dir.join(format!("socket-{image}-{bitmap}"));
    let mut server = Command::new("qemu-nbd");
    server.current_dir(dir).args(["--fork", "-r", "-f", "qcow2", "-B", bitmap, image]).arg("-k").arg(&socket);
    let status = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("qemu-nbd is installed").success(), "{image} {bitmap}");
    // The server ends when its only client leaves.
    let target = format!(
        "driver=nbd,export=,server.type=unix,server.path={},x-dirty-bitmap=qemu:dirty-bitmap:{bitmap}",
        socket.display()
    );
    reference().run(dir, &format!("map --output=json --image-opts {target}")).ok().stdout
}

#[test]
fn what_bitmaps_mark_survives_every_command() {
    let (dir_a, dir_b) = (scratch_with_small_images(), scratch_with_small_images());
    let writes = "write -q 70k 4k\nwrite -q 1M 128k\ndiscard -q 512k 64k\n";
    for (program, dir) in [(ours(), dir_a.path()), (reference(), dir_b.path())] {
        let run = |line: &str| drop(program.run(dir, line).ok());
        run("bitmap --add -g 4k plain.qcow2 fine");
        run("bitmap --add plain.qcow2 coarse");
        qemu_io().invoke(dir).words("-f qcow2 plain.qcow2").input(writes).run().ok();
        run("bitmap --add --disable -g 1k --merge fine plain.qcow2 kept");
        run("bitmap --clear plain.qcow2 fine");
        qemu_io().invoke(dir).words("-f qcow2 plain.qcow2").input("write -q 300k 1\n").run().ok();
        run("convert --bitmaps -O qcow2 -o cluster_size=512 plain.qcow2 copy.qcow2");
        run("bitmap --add -g 2k copy.qcow2 all");
        run("bitmap --merge kept -b plain.qcow2 copy.qcow2 all");
        run("bitmap --merge coarse copy.qcow2 all");
    }
    for (image, bitmap) in [
        ("plain.qcow2", "coarse"),
        ("plain.qcow2", "kept"),
        ("copy.qcow2", "fine"),
        ("copy.qcow2", "coarse"),
        ("copy.qcow2", "kept"),
        ("copy.qcow2", "all"),
    ] {
        let (a, b) = (marked(dir_a.path(), image, bitmap), marked(dir_b.path(), image, bitmap));
        assert!(a.contains("\"data\": false"), "{image} {bitmap}: {a}");
        assert_eq!(a, b, "{image} {bitmap}");
    }
}
