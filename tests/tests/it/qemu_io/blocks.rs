//! The filter `blkdebug`: requests that fail and requests that stop, with both programs.

use super::check;

#[test]
fn requests_stop_and_go_on() {
    check(
        "
        -c 'break write_aio A' -c 'aio_write 0 64k' -c 'wait_break A' -c length -c 'resume A' -c aio_flush blkdebug::disk.qcow2
        -c 'break pwritev A' -c 'aio_write -P 1 0 64k' -c 'wait_break A' -c 'resume A' -c aio_flush blkdebug::disk.qcow2
        -c 'break cluster_alloc A' -c 'aio_write 0 64k' -c 'wait_break A' -c 'resume A' -c aio_flush blkdebug::disk.qcow2
        -c 'break cow_read A' -c 'aio_write 0 1k' -c 'wait_break A' -c 'resume A' -c aio_flush blkdebug::over.qcow2
        -c 'write -q 0 64k' -c 'break read_aio A' -c 'aio_read -P 205 0 64k' -c 'wait_break A' -c 'remove_break A' \
         -c aio_flush blkdebug::disk.qcow2
        -c 'break nonesuch A' -c 'resume A' -c 'remove_break A' -c 'break l2_load A' -c 'remove_break A' \
         -c 'remove_break A' blkdebug::disk.qcow2
        -c 'break l2_load' -c resume -c wait_break -c remove_break blkdebug::disk.qcow2
        ",
    );
}

#[test]
fn requests_fail() {
    check(
        "
        -c 'open -o file.driver=blkdebug,file.inject-error.0.event=write_aio,file.inject-error.0.once=on,\
        file.inject-error.0.errno=28 disk.qcow2' -c 'write 0 64k' -c 'write 0 64k' -c 'read -P 205 0 64k'
        -c 'open -o file.driver=blkdebug,file.inject-error.event=none,file.inject-error.iotype=read,\
        file.inject-error.sector=640,file.inject-error.once=on disk.qcow2' -c 'write 0 64k' -c 'read 0 64k' -c 'read 0 64k'
        -c 'open -o driver=raw,file.driver=blkdebug,file.inject-error.0.event=read_aio,file.inject-error.0.sector=0 disk.raw' \
         -c 'read 0 64k' -c 'read 1k 1k'
        -c 'open -o driver=raw,file.driver=blkdebug,file.inject-error.0.event=write_aio,file.inject-error.0.state=2,\
        file.inject-error.0.iotype=write,file.set-state.0.event=write_aio,file.set-state.0.state=1,file.set-state.0.new_state=2 disk.raw' \
         -c 'write 0 64k' -c 'write 0 64k' -c 'write 0 64k'
        -c 'open -n -o file.driver=blkdebug,file.inject-error.0.event=flush_to_os,file.inject-error.0.once=on disk.qcow2' \
         -c 'write 0 64k' -c flush -c flush
        -c 'open -o driver=raw,file.driver=blkdebug,file.inject-error.0.event=none,\
        file.inject-error.0.iotype=block-status disk.raw' -c map -c 'alloc 0' -c 'read 0 512'
        -c 'open -o file.driver=blkdebug,file.inject-error.0.event=read_backing_aio,\
        file.inject-error.0.iotype=read over.qcow2' -c 'read 0 64k'
        -c 'open -o driver=qcow2,file.filename=over.qcow2,backing.driver=raw,backing.file.driver=blkdebug,\
        backing.file.image.filename=base.raw,backing.file.inject-error.event=read_aio,\
        backing.file.inject-error.errno=28' -c 'read 0 64k' -c 'write -P 1 0 1k' -c 'write -P 1 0 64k' -c 'read -P 1 0 64k'
        ",
    );
}

#[test]
fn sizes_and_alignments_are_pretended() {
    check(
        "
        -c 'open -o driver=raw,file.driver=blkdebug,file.align=4k,file.max-transfer=64k disk.raw' -c 'write -P 1 1000 3000' \
         -c 'write -P 2 100k 200k' -c 'read -P 1 1000 3000' -c 'read -P 2 100k 200k' -c 'write -z 5k 100k' -c 'discard 64k 64k'
        -c 'open -o driver=raw,file.driver=blkdebug,file.opt-write-zero=64k,file.max-write-zero=128k disk.raw' \
         -c 'write -P 1 0 1M' -c 'write -z 5k 500k' -c 'read -P 0 5k 500k' -c 'read -P 1 505k 1k'
        -c 'open -o driver=blkdebug,image.driver=qcow2,image.file.filename=disk.qcow2' -c info -c 'write 0 64k' -c map
        ",
    );
}

#[test]
fn wrong_rules_are_refused() {
    check(
        "
        -c 'open -o file.driver=blkdebug,file.inject-error.0.event=nonesuch disk.qcow2'
        -c 'open -o file.driver=blkdebug,file.inject-error.0.errno=5 disk.qcow2'
        -c 'open -o file.driver=blkdebug,file.inject-error.0.event=none,file.inject-error.0.iotype=nonesuch disk.qcow2'
        -c 'open -o file.driver=blkdebug,file.inject-error.0.event=l2_load,file.inject-error.0.errno=x disk.qcow2'
        -c 'open -o file.driver=blkdebug,file.inject-error.nonesuch=1 disk.qcow2'
        -c 'open -o file.driver=blkdebug,file.align=3 disk.qcow2'
        -c 'open -o file.driver=blkdebug,file.max-transfer=3,file.align=512 disk.qcow2'
        -c 'open -o file.driver=blkdebug,file.take-child-perms.0=nonesuch disk.qcow2'
        -c 'open -o file.driver=blkdebug,file.nonesuch=3 disk.qcow2' -c 'open -o driver=blkdebug'
        -c 'open -o file.driver=blkdebug,file.config=missing disk.qcow2'
        -c 'open blkdebug:missing' -c 'open blkdebug::missing' -c 'open blkdebug:missing:disk.qcow2'
        ",
    );
}

#[test]
fn rules_are_read_from_files() {
    let files = [
        "[inject-error]\nevent = \"write_aio\"\nerrno = \"28\"\nonce = \"on\"\n",
        "# no rules\n\n",
        "[set-state]\nevent = \"write_aio\"\nstate = \"1\"\nnew_state = \"2\"\n[inject-error \"x\"]\n\
         event = \"read_aio\"\nstate = \"2\"\niotype = \"read\"\n",
        "[inject-error]\nevent = \"nonesuch\"\n",
        "[nonesuch]\nevent = \"none\"\n",
        "[inject-error]\nnonesuch=\"1\"\n",
        "event = \"none\"\n",
        "[inject-error]\nevent\n",
    ];
    for text in files {
        let difference = super::difference_with(
            "-c 'write 0 64k' -c 'read 0 64k' -c 'write 0 64k' -c 'read 0 64k' blkdebug:rules:disk.qcow2",
            |dir| std::fs::write(dir.join("rules"), text).expect("a file can be written"),
        );
        assert_eq!(difference, None, "{text}");
    }
}
