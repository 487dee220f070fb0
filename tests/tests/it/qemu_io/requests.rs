//! Single requests: their options, what they print, what becomes of the image.

use super::check;

#[test]
fn reads() {
    check(
        "
        disk.qcow2 -c 'read 0 2147483136' -c 'read 0 2147483137' -c 'read 0 3G' -c 'read 2M 0' -c 'read 1M 0'
        disk.qcow2 -c 'read -P 256 0 1' -c 'read -P x 0 1' -c 'read -P 0x10 0 1' -c 'read -P 010 0 1' -c 'read -P -1 0 1'
        disk.qcow2 -c 'read -l 1 0 1' -c 'read -s 1 0 1' -c 'read -P 0 -s 1 -l 1k 0 1k' -c 'read -P 0 -s 1k -l 1k 0 2k'
        disk.qcow2 -c 'read -P 0 -s 4k 0 2k' -c 'read -P 1 -s 1k 0 2k' -c 'read -P 0 -l x 0 2k' -c 'read -P 0 -s -1 0 2k'
        disk.qcow2 -c 'read -v -P 1 0 17' -c 'read -q -v 0 16' -c 'read -Cv 1 17' -c 'read -rv 0 16' -c 'read -p 0 16'
        disk.qcow2 -c read -c 'read 0' -c 'read x 1' -c 'read 0 x' -c 'read 0 1 2' -c 'read 0 -1' -c 'read 0 8E'
        disk.qcow2 -c 'read 0 512 -v -q' -c 'read -- 0 512' -c 'read - 512' -c 'read --nonesuch 0 1' -c 'r -Z 0 1'
        disk.qcow2 -c 'read -P' -c 'read 1.5k 512' -c 'read 0x200 0x10' -c 'read 1M 1' -c 'read 1023k 1k'
        disk.qcow2 -c 'readv 0 3G' -c 'readv 0 1G 1G' -c 'readv 0 1G 2G' -c 'readv 0 x' -c 'readv 0' -c 'readv -q 0'
        over.qcow2 -c 'readv -v 0 16 5' -c 'readv -P 5 0 512 1k' -c 'readv -P 6 500 1 2 3' -c 'readv -C 0 1k' -c 'readv 1M 1'
        over.qcow2 -c 'read -P 5 0 128k' -c 'read -P 0 128k 896k' -c 'read -P 5 -l 1k 127k 2k' -c 'read -P 0 -s 1k 127k 2k'
        disk.qcow2 -c 'read -b 1 1' -c 'read -b 0 1' -c 'read -b -r 0 512'
        ",
    );
}

#[test]
fn writes() {
    check(
        "
        disk.qcow2 -c 'write -C 0 1k' -c 'write -q 0 1k' -c 'write 0 0' -c 'write -P 3 1k 2k' -c 'w 0 1' -c 'write -r 0 1'
        disk.qcow2 -c 'write 0 3G' -c 'write -z 0 3G' -c 'write -z -n 0 3G' -c 'write 1M 1' -c 'write 0' -c 'write 0 512 512'
        disk.qcow2 -c 'write -b -z 0 1' -c 'write -f -b 0 1' -c 'write -f -c 0 1' -c 'write -n 0 1' -c 'write -u 0 1'
        disk.qcow2 -c 'write -z -P 1 0 1' -c 'write -s f -P 1 0 1' -c 'write -z -r 0 1' -c 'write -P 256 0 1'
        disk.qcow2 -c 'write -s missing 0 1' -c 'write -s /dev/null 0 1' -c 'write -s abc 1 8' -c 'read -v 0 10'
        disk.qcow2 -c 'write -f 0 1k' -c 'write -p 0 1k' -c 'write -z 64k 64k' -c 'write -zu 64k 64k' -c 'read -P 0 64k 64k'
        disk.qcow2 -c 'write 0 128k' -c 'write -z 1k 1k' -c 'write -zn 64k 64k' -c 'write -zf 3k 1k' -c map
        disk.qcow2 -c 'writev -P 3 0 512 1k' -c 'writev 0 x' -c 'writev 0' -c 'writev -C 4k 512 512' -c 'writev -q 5k 1 2 3'
        disk.qcow2 -c 'write -c 1 1' -c 'write -c 0 1' -c 'write -c 0 512' -c 'write -c 0 64k' -c 'write -c 64k 512'
        disk.qcow2 -c 'write -c 65k 64k' -c 'write -c 0 0' -c 'write -c 0 1M' -c map -c 'read -P 205 0 1M'
        disk.qcow2 -c 'write -c 0 64k' -c 'write -c 0 64k'
        disk.qcow2 -c 'write 0 64k' -c 'write -c 0 64k' -c 'write -c 64k 64k' -c 'write -P 1 64k 4k' -c 'read -P 1 64k 4k'
        -f raw disk.raw -c 'write -c 0 64k' -c 'write -n -z 0 1k' -c 'write -zu 0 64k' -c 'write 1M 1' -c map -c 'alloc 0'
        -f raw disk.raw -c 'read -b 0 512' -c 'write -b 0 512' -c 'write -P 1 3 5' -c 'read -v 0 16'
        small.qcow2 -c 'write -P 1 0 12k' -c 'write -P 2 6k 1k' -c 'read -P 1 0 6k' -c 'read -P 2 6k 1k' -c 'read -P 1 7k 5k'
        ",
    );
}

#[test]
fn requests_in_the_background() {
    check(
        "
        disk.qcow2 -c 'aio_write -P 1 0 64k' -c aio_flush -c 'aio_read -P 1 0 64k' -c aio_flush -c 'aio_read -v 64k 16'
        disk.qcow2 -c 'aio_write -P 1 0 64k' -c close -c length
        disk.qcow2 -c 'aio_write -q -P 1 0 64k' -c 'aio_write -q -P 2 64k 64k' -c aio_flush -c 'read -P 2 64k 64k'
        disk.qcow2 -c 'aio_write -z 0 64k' -c aio_flush -c 'aio_write -zu 0 64k' -c aio_flush -c 'aio_write -C 0 1k 512'
        disk.qcow2 -c 'aio_write -z 0 1 2' -c 'aio_write -u 0 1' -c 'aio_write -z -r 0 1' -c 'aio_write -z 0 x'
        disk.qcow2 -c 'aio_read 2M 1k'
        disk.qcow2 -c 'aio_write 2M 1k'
        disk.qcow2 -c 'aio_write -i 0 1' -c 'aio_read -i 0 1' -c 'aio_read 0' -c 'aio_read -Z 0 1' -c 'aio_read x 1'
        disk.qcow2 -c 'aio_read -P 1 0 512' -c 'aio_flush'
        disk.qcow2 -c 'aio_flush 1' -c 'aio_write -P x 0 1' -c 'aio_read -C 0 1k'
        ",
    );
}

#[test]
fn what_is_there_and_what_is_not() {
    check(
        "
        disk.qcow2 -c length -c l -c info -c i -c map
        small.qcow2 -c 'write 0 4k' -c 'write 12k 8k' -c map -c 'alloc 0' -c 'alloc 0 64k' -c 'alloc 16k 64M' -c info
        disk.qcow2 -c 'alloc 0' -c 'alloc 900k 1M' -c 'alloc 2M' -c alloc -c 'alloc x' -c 'alloc 0 x' -c 'a 1 2 3'
        over.qcow2 -c map -c 'write 64k 1k' -c map -c 'alloc 0 1M'
        disk.qcow2 -c 'truncate 2M' -c length -c 'truncate -m nonesuch 3M' -c 'truncate 1k' -c length -c 'truncate -m full 1M'
        disk.qcow2 -c truncate -c 'truncate -m off' -c 'truncate x' -c 'truncate -Z 1' -c 'truncate 1 2 3 4' -c 't 3M' -c l
        disk.qcow2 -c 'truncate 3M -m full' -c 'truncate -mfull x'
        -f raw disk.raw -c 'truncate -m metadata 2M' -c 'truncate -m falloc 2M' -c length
        disk.qcow2 -c flush -c f -c 'write 0 128k' -c 'discard -C 0 64k' -c 'discard 64k 64k' -c 'd -q 0 64k' -c 'discard 2M 1'
        disk.qcow2 -c 'discard 0 0' -c 'discard 0 3G' -c 'discard 0' -c 'discard 0 1 2' -c 'discard x 1' -c 'discard -Z 0 1'
        over.qcow2 -c 'discard 0 64k' -c 'read -P 0 0 64k' -c 'read -P 5 64k 64k' -c map
        img create -q -f qcow2 -o extended_l2=on disk.qcow2 1M; disk.qcow2 -c info -c 'write 2k 2k' -c map -c 'alloc 0 64k'
        img create -q -f qcow2 -o compat=0.10 disk.qcow2 1M; disk.qcow2 -c info -c 'write -z 0 64k' -c map
        ",
    );
}
