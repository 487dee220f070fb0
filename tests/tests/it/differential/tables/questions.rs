//! Commands that ask: they change nothing.

use crate::differential::table::Table;

pub(in crate::differential) const CHECK: Table = Table {
    command: "check",
    needs: "",
    operands: "IMAGE",
    image: "plain.qcow2",
    options: "
        -q --quiet --qu
        -f --format --form | qcow2 raw | nonesuch ''
        -r --repair --rep | leaks all | nonesuch '' none
        --output --ou | json human | nonesuch ''
        -T --cache --ca | none writeback writethrough directsync unsafe | nonesuch ''
        -U --force-share --force
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret secret,id=a nonesuch,id=a
    ",
    images: "v2.qcow2 c512.qcow2 c2m.qcow2 r1.qcow2 r64.qcow2 lazy.qcow2 prealloc.qcow2 zlib.qcow2 zstd.qcow2 ext-l2.qcow2 \
        snap.qcow2 bitmaps.qcow2 leak.qcow2 outside.qcow2 overlap.qcow2 data-file.qcow2 over2.qcow2 over-raw.qcow2 orphan.qcow2 empty.qcow2",
    lines: "
        -r leaks leak.qcow2
        -r all leak.qcow2
        -r all -q leak.qcow2
        -r leaks --output=json leak.qcow2
        --output=json leak.qcow2
        --output=json outside.qcow2
        --output=json overlap.qcow2
        --output=json raw.img
        --output=json bitmaps.qcow2
        --output=json zlib.qcow2
        --output=json missing
        -q leak.qcow2
        -q raw.img
        -q missing
        -r all -U leak.qcow2
        -U -r leaks leak.qcow2
        -r all raw.img
        -r all -f raw raw.img
        -r all text
        -r leaks overlap.qcow2
        -r leaks outside.qcow2
        -r all lazy.qcow2
        -r all bitmaps.qcow2
        -r all snap.qcow2
        -r all over.qcow2
        -r all orphan.qcow2
        ;lock plain.qcow2; check -r all plain.qcow2
        ;protect leak.qcow2; check -r all leak.qcow2
        ;distrust bitmaps.qcow2 b0; check bitmaps.qcow2
        ;distrust bitmaps.qcow2 b0; check -r all bitmaps.qcow2
    ",
};

pub(in crate::differential) const COMPARE: Table = Table {
    command: "compare",
    needs: "",
    operands: "IMAGE zlib.qcow2",
    image: "plain.qcow2",
    options: "
        -q --quiet --qu
        -p --progress --pro
        -f --a-format --left-format --a --le | qcow2 raw | nonesuch ''
        -F --b-format --right-format --b --ri | qcow2 raw | nonesuch ''
        -s --strict --st
        -T --cache --ca | none writeback writethrough directsync unsafe | nonesuch ''
        -U --force-share --force
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret nonesuch,id=a
    ",
    images: "plain.qcow2 raw.img v2.qcow2 c512.qcow2 c2m.qcow2 r1.qcow2 prealloc.qcow2 zstd.qcow2 ext-l2.qcow2 snap.qcow2 over.qcow2 \
        over-raw.qcow2 over-long.qcow2 empty.qcow2 orphan.qcow2 leak.qcow2 outside.qcow2 data-file.qcow2",
    lines: "
        plain.qcow2
        -s plain.qcow2 over-long.qcow2
        -s over-long.qcow2 plain.qcow2
        over-long.qcow2 plain.qcow2
        -s plain.qcow2 raw.img
        -s -f qcow2 -F raw plain.qcow2 raw.img
        -s plain.qcow2 prealloc.qcow2
        -s empty.qcow2 prealloc.qcow2
        -s over.qcow2 plain.qcow2
        -q plain.qcow2 over.qcow2
        -p plain.qcow2 over.qcow2
        -p -q plain.qcow2 over.qcow2
        -p plain.qcow2 empty.qcow2
        empty.qcow2 zero-length
        plain.qcow2 missing
        missing plain.qcow2
        plain.qcow2 folder
        plain.qcow2 plain.qcow2
        -f raw -F raw plain.qcow2 plain.qcow2
        --image-opts driver=qcow2,file.filename=plain.qcow2 driver=raw,file.filename=raw.img
        --image-opts driver=qcow2,file.filename=plain.qcow2 driver=null-co,size=1M
        --image-opts -f qcow2 driver=qcow2,file.filename=plain.qcow2 driver=raw,file.filename=raw.img
        --image-opts -F qcow2 driver=qcow2,file.filename=plain.qcow2 driver=raw,file.filename=raw.img
        ;lock zlib.qcow2; compare plain.qcow2 zlib.qcow2
        ;lock zlib.qcow2; compare -U plain.qcow2 zlib.qcow2
        ;hide zlib.qcow2; compare plain.qcow2 zlib.qcow2
    ",
};

pub(in crate::differential) const INFO: Table = Table {
    command: "info",
    needs: "",
    operands: "IMAGE",
    image: "plain.qcow2",
    options: "
        -f --format --form | qcow2 raw | nonesuch '' file
        --output --ou | json human | nonesuch ''
        -b --backing-chain --back
        -U --force-share --force
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret secret,id=a nonesuch,id=a id=a
    ",
    images: "v2.qcow2 c512.qcow2 c2m.qcow2 r1.qcow2 r64.qcow2 lazy.qcow2 prealloc.qcow2 zlib.qcow2 zstd.qcow2 ext-l2.qcow2 snap.qcow2 \
        bitmaps.qcow2 leak.qcow2 outside.qcow2 overlap.qcow2 data-file.qcow2 over2.qcow2 over-raw.qcow2 over-long.qcow2 orphan.qcow2 empty.qcow2",
    lines: "
        --output=json v2.qcow2
        --output=json bitmaps.qcow2
        --output=json snap.qcow2
        --output=json ext-l2.qcow2
        --output=json data-file.qcow2
        --output=json over2.qcow2
        --output=json --backing-chain over2.qcow2
        --output=json --backing-chain orphan.qcow2
        --output=json zero-length
        --output=json text
        --output=json missing
        --backing-chain over2.qcow2
        --backing-chain over-raw.qcow2
        --backing-chain data-file.qcow2
        --backing-chain orphan.qcow2
        over2.qcow2 --backing-chain --output json
        -U --backing-chain over2.qcow2
        -f raw over2.qcow2
        -f raw -b over2.qcow2
        json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"raw.img\"}}
        json:{\"driver\":\"raw\",\"offset\":512,\"size\":1024,\"file\":{\"driver\":\"file\",\"filename\":\"raw.img\"}}
        json:{\"driver\":\"raw\",\"offset\":1000,\"file\":{\"driver\":\"file\",\"filename\":\"raw.img\"}}
        json:{\"driver\":\"raw\",\"size\":1048576000,\"file\":{\"driver\":\"file\",\"filename\":\"raw.img\"}}
        json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"over.qcow2\"},\"backing\":null}
        json:{\"driver\":\"qcow2\",\"backing\":null,\"file.filename\":\"over.qcow2\"}
        --output=json json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"over.qcow2\"},\"backing\":null}
        --backing-chain json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"over2.qcow2\"}}
        json:{\"driver\":\"qcow2\",\"backing\":{\"driver\":\"raw\",\"file.filename\":\"raw.img\"},\"file.filename\":\"over.qcow2\"}
        --image-opts driver=qcow2,file.filename=over.qcow2,backing.driver=raw,backing.file.filename=raw.img
        --image-opts driver=raw,file.filename=raw.img,offset=512
        --image-opts driver=raw,file.filename=raw.img,offset=512,size=512
        --image-opts driver=raw,file.filename=raw.img,size=100M
        --image-opts driver=raw,file.filename=raw.img,offset=x
        --image-opts driver=null-co,size=1M
        --image-opts driver=null-co
        --image-opts driver=null-co,size=x
        --image-opts driver=null-co,read-zeroes=on
        --image-opts driver=file,filename=raw.img
        --image-opts driver=file
        --image-opts --output=json driver=null-co,size=1M
        --image-opts driver=qcow2,file.driver=qcow2,file.file.filename=plain.qcow2
        --image-opts driver=raw,file.driver=qcow2,file.file.filename=plain.qcow2
        --image-opts driver=qcow2,file.driver=raw,file.file.filename=plain.qcow2
        --image-opts driver=qcow2,file.filename=plain.qcow2,read-only=on
        --image-opts driver=qcow2,file.filename=plain.qcow2,read-only=maybe
        --image-opts driver=qcow2,file.filename=plain.qcow2,node-name=n
        --image-opts driver=qcow2,file.filename=plain.qcow2,node-name=9n
        --image-opts driver=qcow2,file.filename=plain.qcow2,discard=unmap,cache.direct=on,cache.no-flush=on
        --image-opts driver=qcow2,file.filename=plain.qcow2,discard=maybe
        --image-opts driver=qcow2,file.filename=plain.qcow2,detect-zeroes=on
        --image-opts driver=qcow2,file.filename=plain.qcow2,detect-zeroes=unmap
        --image-opts driver=qcow2,file.filename=plain.qcow2,lazy-refcounts=on
        --image-opts driver=qcow2,file.filename=plain.qcow2,l2-cache-size=1M
        --image-opts driver=qcow2,file.filename=plain.qcow2,l2-cache-size=x
        --image-opts driver=qcow2,file.filename=plain.qcow2,overlap-check=all
        --image-opts driver=qcow2,file.filename=plain.qcow2,overlap-check=nonesuch
        --image-opts driver=qcow2,file.filename=plain.qcow2,pass-discard-request=maybe
        --image-opts driver=qcow2,file.filename=plain.qcow2,data-file.filename=x
        --image-opts driver=qcow2,file.filename=data-file.qcow2,data-file.filename=data.bin
        --image-opts driver=qcow2,file.filename=data-file.qcow2,data-file.filename=missing
        --image-opts driver=qcow2,file.filename=plain.qcow2,file.locking=off
        --image-opts driver=qcow2,file.filename=plain.qcow2,file.locking=maybe
        --image-opts driver=qcow2,file.filename=plain.qcow2,file.aio=threads
        --image-opts driver=qcow2,file.filename=plain.qcow2,file.aio=nonesuch
        --image-opts driver=qcow2,file.filename=plain.qcow2,encrypt.format=luks
        --image-opts driver=qcow2,file.filename=plain.qcow2,encrypt.key-secret=s
        ;lock plain.qcow2; info -U --backing-chain over.qcow2
        ;lock plain.qcow2; info --backing-chain over.qcow2
        ;lock over.qcow2; info over.qcow2
        ;hide plain.qcow2; info over.qcow2
        ;hide plain.qcow2; info --backing-chain over.qcow2
        ;distrust bitmaps.qcow2 b0; info --output=json bitmaps.qcow2
    ",
};

pub(in crate::differential) const MAP: Table = Table {
    command: "map",
    needs: "",
    operands: "IMAGE",
    image: "plain.qcow2",
    options: "
        -f --format --form | qcow2 raw | nonesuch ''
        --output --ou | json human | nonesuch ''
        -s --start-offset --st | 64k 1M 0 100 1G | x '' -1 9E 8E 1.5 9223372036854775808
        -l --max-length --max | 64k 1M 0 100 1G | x '' -1 9E 1.5
        -U --force-share --force
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret nonesuch,id=a
    ",
    images: "v2.qcow2 c512.qcow2 c2m.qcow2 r1.qcow2 r64.qcow2 lazy.qcow2 prealloc.qcow2 zlib.qcow2 zstd.qcow2 ext-l2.qcow2 snap.qcow2 \
        leak.qcow2 outside.qcow2 overlap.qcow2 data-file.qcow2 over2.qcow2 over-raw.qcow2 over-long.qcow2 orphan.qcow2 empty.qcow2",
    lines: "
        --output=json zlib.qcow2
        --output=json ext-l2.qcow2
        --output=json data-file.qcow2
        --output=json over2.qcow2
        --output=json over-long.qcow2
        --output=json over-raw.qcow2
        --output=json outside.qcow2
        --output=json raw.img
        --output=json zero-length
        --output=json -s 100k -l 100k over2.qcow2
        --output=json -s 1M -l 100G over2.qcow2
        --output=json --image-opts driver=null-co,size=1M
        --output=json --image-opts driver=null-co,size=1M,read-zeroes=on
        --image-opts driver=null-co,size=1M
        --output=json --image-opts driver=raw,file.filename=raw.img,offset=512
        --output=json --image-opts driver=raw,file.driver=qcow2,file.file.filename=plain.qcow2
        --output=json json:{\"driver\":\"qcow2\",\"backing\":null,\"file.filename\":\"over.qcow2\"}
        over2.qcow2 -s 64k --output json
        -s64k -l64k over2.qcow2
    ",
};

pub(in crate::differential) const MEASURE: Table = Table {
    command: "measure",
    needs: "-O qcow2",
    operands: "IMAGE",
    image: "plain.qcow2",
    options: "
        -f --format --form | qcow2 raw | nonesuch ''
        -O --target-format --tar | qcow2 raw | nonesuch '' null-co file
        -o --options --opt | cluster_size=4k lazy_refcounts=on preallocation=metadata refcount_bits=1 extended_l2=on compat=0.10 size=4M | \
            '' , nonesuch=1 cluster_size=3 cluster_size=4M cluster_size=x compat=9 refcount_bits=3 lazy_refcounts=maybe preallocation=some size=x \
            encrypt.format=nonesuch encrypt.format=luks data_file=d backing_file=plain.qcow2 help
        -l --snapshot --sn | snapshot.name=nonesuch snapshot.id=1 | '' nonesuch snapshot.nonesuch=1
        --output --ou | json human | nonesuch ''
        --size --si | 1G 1M | x '' -1 8E 1.5x
        -U --force-share --force
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret nonesuch,id=a
    ",
    images: "v2.qcow2 c512.qcow2 c2m.qcow2 r1.qcow2 prealloc.qcow2 zlib.qcow2 ext-l2.qcow2 snap.qcow2 bitmaps.qcow2 leak.qcow2 outside.qcow2 \
        data-file.qcow2 over2.qcow2 over-raw.qcow2 over-long.qcow2 orphan.qcow2 empty.qcow2",
    lines: "
        --size 1G
        --size 0
        --size 1.5G
        --size=1G -O raw
        -O qcow2 --size 1G
        -O qcow2 --size 1G --output=json
        -O qcow2 --size 7E
        -O qcow2 --size 1G plain.qcow2
        -O qcow2 --size 1G -f qcow2
        -O qcow2 --size 1G -U
        -O qcow2 --size 1G -l before
        -O qcow2 --size 1G --image-opts
        -O qcow2 --size 1G -o preallocation=full
        -O qcow2 --size 1G -o extended_l2=on
        -O qcow2 --size 1G -o size=2G
        -O raw -o nonesuch=1 --size 1G
        -O luks --size 1G
        -l before -O qcow2 snap.qcow2
        -l 1 -O qcow2 snap.qcow2
        -l snapshot.id=1 -O qcow2 snap.qcow2
        -l snapshot.name=before -O raw --output=json snap.qcow2
        -l before plain.qcow2
        -l before raw.img
        -O qcow2 --image-opts driver=null-co,size=1M
        plain.qcow2
        raw.img
        -O raw --output=json plain.qcow2
    ",
};
