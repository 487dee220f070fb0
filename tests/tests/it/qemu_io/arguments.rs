//! The command line of the program, and commands that are no requests.

use test_support::programs::{our_qemu_io, qemu_io, reference_speaks_our_version};

use super::{check, converse, folder, seen};

#[test]
fn images_are_opened_as_told() {
    check(
        "
        disk.qcow2 -c length
        --cmd=length disk.qcow2
        -f raw disk.raw -c length -c info
        -f file disk.raw -c info
        -f qcow2 disk.raw -c length
        disk.raw -c 'write 0 1'
        -f nonesuch disk.qcow2
        missing -c length
        -c length
        -r disk.qcow2 -c 'write 0 512' -c 'discard 0 512' -c 'truncate 2M' -c 'aio_write 0 512'
        -U disk.qcow2 -c length
        -U -r disk.qcow2 -c length
        --image-opts driver=qcow2,file.filename=disk.qcow2 -c 'write 0 1k' -c 'open -o a=b x'
        --image-opts disk.qcow2
        --image-opts -f raw disk.qcow2
        --image-opts driver=null-co,size=1M -c info -c map -c length -c 'read -P 0 0 1k' -c 'discard 0 512'
        --image-opts driver=null-co,size=1M,read-zeroes=on -c 'read -P 0 0 1k' -c 'alloc 0 1M'
        -d nonesuch disk.qcow2
        -d ignore disk.qcow2 -c 'write 0 64k' -c 'discard 0 64k' -c 'read -P 205 0 64k'
        -t nonesuch disk.qcow2
        -t unsafe disk.qcow2 -c 'write 0 64k'
        -t directsync disk.qcow2 -c 'write 0 64k'
        -n disk.qcow2 -c 'write 0 64k'
        -m -f raw -n disk.raw -c 'write -P 9 0 4k' -c 'read -P 9 0 4k' -c 'read -v 100 20'
        -i nonesuch disk.qcow2
        -i threads disk.qcow2 -c 'read 0 512'
        -i native disk.qcow2 -c length
        -k disk.qcow2 -c length
        -C -r over.qcow2 -c 'read 0 512'
        -C over.qcow2 -c 'read 0 512' -c map -c 'read 192k 64k' -c map
        -s disk.qcow2 -c 'write 0 64k' -c map -c info
        -s -f raw disk.raw -c 'write 0 64k' -c info -c map -c 'read -P 205 0 64k' -c 'read -P 0 64k 64k'
        -s over.qcow2 -c 'write 0 1k' -c 'read -P 5 1k 127k' -c map
        -c 'open -s -o driver=raw disk.raw' -c 'write 0 64k' -c map
        --object nonesuch disk.qcow2
        --object secret,id=x disk.qcow2
        -T nonesuch disk.qcow2 -c length
        ",
    );
}

#[test]
fn commands_that_are_no_requests() {
    check(
        "
        -c nonesuch -c length disk.qcow2
        -c '  length   ' -c '' -c ' ' disk.qcow2
        -c quit -c nonesuch
        -c 'q 1 2'
        -c close
        -c help
        -c 'help help' -c '? map' -c 'help c' -c 'help zrp' -c 'help q' -c 'help resume' -c 'help nonesuch' -c 'help a b'
        -c length -c abort disk.qcow2
        -c length -c 'sigraise 15' -c length disk.qcow2
        -c 'sigraise 0' -c 'sigraise 66' -c 'sigraise x' -c sigraise
        -c 'sleep 1' -c 'sleep x' -c 'sleep -1' -c 'sleep 0x1'
        disk.qcow2 -c 'zone_report 0 1' -c 'zone_open 0 1' -c 'zone_close 0 1' -c 'zone_finish 0 1' -c 'zone_reset 0 1'
        disk.qcow2 -c 'zone_append 0 512' -c 'zone_append 0 512 512' -c 'zone_append 0 1 2 3 4' -c 'zone_report -1 1'
        disk.qcow2 -c 'zone_report 0 8G' -c 'zone_open x 1' -c 'zrp 0 1' -c 'zo 0 1' -c 'zc 0 1' -c 'zf 0 1' -c 'zrs 0 1'
        disk.qcow2 -c 'break a b' -c 'break l2_load b' -c 'resume x' -c 'remove_break x' -c 'break x'
        ",
    );
}

#[test]
fn images_are_opened_closed_and_reopened_by_commands() {
    check(
        "
        -c open -c 'open -r' -c 'open a b' -c 'open -o' -c 'open missing'
        -c 'open -o driver=qcow2 disk.qcow2' -c info -c close -c 'read 0 1'
        -c 'open -o driver=qcow2,file.filename=disk.qcow2' -c length
        -c 'open -o nonesuch=1 disk.qcow2' -c 'open -t nonesuch a' -c 'open -d nonesuch a' -c 'open -i nonesuch a'
        -c 'open -o nononesuch disk.qcow2'
        -c 'open -U disk.qcow2' -c 'open -U -o force-share=off disk.qcow2' -c 'open -rU disk.qcow2' -c length
        -c 'open -n disk.qcow2' -c 'write 0 1k' -c 'read -P 205 0 1k' -c 'open disk.qcow2'
        -c 'open -r disk.qcow2' -c 'write 0 512' -c 'reopen -w' -c 'write 0 1k' -c 'reopen -r' -c 'write 0 1k'
        disk.qcow2 -c 'reopen -r -w' -c 'reopen -Z' -c 'reopen x' -c 'reopen -c nonesuch' -c 'reopen -c none'
        disk.qcow2 -c 'reopen -o nonesuch=1' -c 'reopen -o lazy-refcounts=on' -c 'write 0 64k' -c 'read -P 205 0 64k'
        disk.qcow2 -c 'reopen -o cache.direct=on -c none' -c 'reopen -o read-only=on -r' -c 'reopen -o read-only=on'
        ",
    );
}

#[test]
fn wrong_command_lines_end_with_the_same_status() {
    let dir = folder();
    for line in ["-Z disk.qcow2", "--nonesuch", "disk.qcow2 disk.raw", "--c length disk.qcow2", "-c", "-h", "-V"] {
        let (a, b) = (our_qemu_io().run(dir.path(), line), qemu_io().run(dir.path(), line));
        assert_eq!(a.code(), b.code(), "{a}{b}");
        assert_eq!(a.stdout.lines().next().map(version_less), b.stdout.lines().next().map(version_less), "{a}{b}");
        if reference_speaks_our_version() {
            assert_eq!(a.stderr, b.stderr, "{line}");
        }
    }
}

/// A line up to the number of the version.
fn version_less(line: &str) -> &str {
    line.split(" (").next().unwrap_or_default()
}

#[test]
fn commands_come_from_standard_input() {
    let scripts = [
        "length\nread 0 512\nwrite -P 1 0 1k\n\n  \nnonesuch\nquit\nread 0 1\n",
        "length",
        "",
        "aio_write -P 7 0 64k\nlength\naio_flush\nread -P 7 0 64k\n",
        "aio_write -P 7 0 64k\n",
    ];
    for script in scripts {
        let (ours, theirs) = (folder(), folder());
        let a = converse(our_qemu_io(), ours.path(), "disk.qcow2", script);
        let b = converse(qemu_io(), theirs.path(), "disk.qcow2", script);
        if reference_speaks_our_version() {
            // When the report of a request in the background comes is a matter of luck.
            let (seen_a, seen_b) = (seen(&a), seen(&b));
            let sorted = |text: &str| {
                let text = text.replace("qemu-io> ", "qemu-io>\n");
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            assert_eq!(sorted(&seen_a), sorted(&seen_b), "{seen_a}{seen_b}");
        }
        // A line of 2000 characters is two, and neither is a command.
        let long = format!("{}\n", "x".repeat(2000));
        let a = converse(our_qemu_io(), ours.path(), "disk.qcow2", &long);
        let b = converse(qemu_io(), theirs.path(), "disk.qcow2", &long);
        assert_eq!((a.stderr, a.stdout), (b.stderr, b.stdout));
    }
}
