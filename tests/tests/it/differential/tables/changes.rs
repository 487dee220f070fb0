//! Commands that change an image.

use crate::differential::table::Table;

pub(in crate::differential) const AMEND: Table = Table {
    command: "amend",
    needs: "-o lazy_refcounts=on",
    operands: "IMAGE",
    image: "plain.qcow2",
    options: "
        -q --quiet --qu
        -p --progress --pro
        -o --options --opt | refcount_bits=16 compat=1.1 size=4M | '' , nonesuch=1 cluster_size=4k compat=9 refcount_bits=3 \
            refcount_bits=128 lazy_refcounts=maybe lazy_refcounts size=x size=-1 size=1M size=9E data_file=x data_file_raw=on \
            extended_l2=on compression_type=zstd preallocation=full encrypt.format=luks encryption=on
        -f --format --form | qcow2 raw | nonesuch ''
        -t --cache --ca | none writeback writethrough directsync unsafe | nonesuch ''
        --force --forc
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret secret,id=a nonesuch,id=a id=a
    ",
    images: "v2.qcow2 c512.qcow2 r1.qcow2 lazy.qcow2 zstd.qcow2 snap.qcow2 bitmaps.qcow2 data-file.qcow2 orphan.qcow2 leak.qcow2",
    lines: "
        -o help
        -o ?
        -o help plain.qcow2
        -f qcow2 -o help
        -f raw -o help
        -f nonesuch -o help
        -f luks -o help
        -o lazy_refcounts=on,help plain.qcow2
        -o lazy_refcounts=on -o help plain.qcow2
        -o compat=0.10 lazy.qcow2
        -o compat=0.10 zstd.qcow2
        -o compat=0.10 ext-l2.qcow2
        -o compat=0.10 bitmaps.qcow2
        -o compat=0.10 r1.qcow2
        -o compat=0.10,refcount_bits=16 r1.qcow2
        -o compat=0.10 snap.qcow2
        -o compat=1.1 v2.qcow2
        -o lazy_refcounts=on v2.qcow2
        -o compat=1.1,lazy_refcounts=on,refcount_bits=64 v2.qcow2
        -o refcount_bits=64 -o lazy_refcounts=on c512.qcow2
        -o refcount_bits=1 snap.qcow2
        -o size=8M over.qcow2
        -o size=1M snap.qcow2
        -o backing_file=raw.img,backing_fmt=raw over-raw.qcow2
        -o backing_file=plain.qcow2 raw.img over.qcow2
        -o backing_fmt=raw over-raw.qcow2
        -o lazy_refcounts=on -o lazy_refcounts=off plain.qcow2
        -o 'lazy_refcounts=on, refcount_bits=8' plain.qcow2
    ",
};

pub(in crate::differential) const BITMAP: Table = Table {
    command: "bitmap",
    needs: "--add",
    operands: "IMAGE bitmap",
    image: "plain.qcow2",
    options: "
        -f | qcow2 raw | nonesuch ''
        --add --ad
        -g --granularity --gran | 4k 1M 512 0 64K 2G | 1000 256 x '' -1 1.5 4G 16E
        --remove
        --clear
        --enable
        --disable
        --merge --mer | b0 nonesuch
        -b --source-file --source-fi | bitmaps.qcow2 snap.qcow2 | missing ''
        -F --source-format --source-fo | qcow2 raw | nonesuch ''
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret nonesuch,id=a
    ",
    images: "v2.qcow2 c512.qcow2 c2m.qcow2 r1.qcow2 lazy.qcow2 snap.qcow2 bitmaps.qcow2 data-file.qcow2 orphan.qcow2 leak.qcow2 zstd.qcow2",
    lines: "
        --add plain.qcow2
        --add plain.qcow2 ''
        --add bitmaps.qcow2 b0
        --add bitmaps.qcow2 b0 --remove
        --remove bitmaps.qcow2 b0
        --remove bitmaps.qcow2 b1
        --remove bitmaps.qcow2 b2
        --clear bitmaps.qcow2 b0
        --clear bitmaps.qcow2 b2
        --enable bitmaps.qcow2 b1
        --enable bitmaps.qcow2 b2
        --disable bitmaps.qcow2 b0
        --disable bitmaps.qcow2 b1
        --disable bitmaps.qcow2 b2
        --merge b1 bitmaps.qcow2 b0
        --merge b2 bitmaps.qcow2 b0
        --merge b1 bitmaps.qcow2 b2
        --merge b0 --merge b1 bitmaps.qcow2 b0
        --add --merge b0 --merge b1 --disable bitmaps.qcow2 b2
        --remove --add -g 4k bitmaps.qcow2 b0
        --add --merge b0 -b bitmaps.qcow2 plain.qcow2 b0
        --add --merge b0 -b bitmaps.qcow2 -F qcow2 plain.qcow2 b0
        --add --merge b0 -b bitmaps.qcow2 -F raw plain.qcow2 b0
        --add --merge b0 -b raw.img -F raw plain.qcow2 b0
        --add --merge b0 -b plain.qcow2 plain.qcow2 b0
        --merge b0 -b bitmaps.qcow2 bitmaps.qcow2 b1
        -g 4k --clear bitmaps.qcow2 b0
        --add -f raw raw.img b0
        --add -b bitmaps.qcow2 plain.qcow2 b0
        --clear -F qcow2 bitmaps.qcow2 b0
        --add plain.qcow2 b0 -g 4k
        bitmaps.qcow2 b0
        ;distrust bitmaps.qcow2 b0; bitmap --clear bitmaps.qcow2 b0
        ;distrust bitmaps.qcow2 b0; bitmap --remove bitmaps.qcow2 b0
        ;distrust bitmaps.qcow2 b0; bitmap --merge b0 bitmaps.qcow2 b1
        ;distrust bitmaps.qcow2 b0; bitmap --disable bitmaps.qcow2 b1
        ;lock bitmaps.qcow2; bitmap --clear bitmaps.qcow2 b0
        ;lock bitmaps.qcow2; bitmap --add --merge b0 -b bitmaps.qcow2 plain.qcow2 b0
    ",
};

pub(in crate::differential) const COMMIT: Table = Table {
    command: "commit",
    needs: "",
    operands: "IMAGE",
    image: "over.qcow2",
    options: "
        -q --quiet --qu
        -p --progress --pro
        -f --format --form | qcow2 raw | nonesuch ''
        -t --cache --ca | none writeback writethrough directsync unsafe | nonesuch ''
        -d --drop --dr
        -b --base --ba | plain.qcow2 ./plain.qcow2 | missing '' over.qcow2 raw.img
        -r --rate --ra | 100M 10G 0 | x '' -1 1.5x
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret nonesuch,id=a
    ",
    images: "plain.qcow2 over2.qcow2 over-raw.qcow2 over-long.qcow2 orphan.qcow2 empty.qcow2 snap.qcow2",
    lines: "
        -b plain.qcow2 over2.qcow2
        -b over.qcow2 over2.qcow2
        -d over2.qcow2
        -d -b plain.qcow2 over2.qcow2
        -p over2.qcow2
        -p -q over2.qcow2
        -q -p over2.qcow2
        over.qcow2 plain.qcow2
        ;lock over.qcow2; commit over.qcow2
        ;lock plain.qcow2; commit over.qcow2
        ;protect over.qcow2; commit over.qcow2
        ;protect plain.qcow2; commit over.qcow2
    ",
};

pub(in crate::differential) const REBASE: Table = Table {
    command: "rebase",
    needs: "-b empty.qcow2 -F qcow2",
    operands: "IMAGE",
    image: "over.qcow2",
    options: "
        -q --quiet --qu
        -p --progress --pro
        -f --format --form | qcow2 raw | nonesuch ''
        -t --cache --ca | none writeback writethrough directsync unsafe | nonesuch ''
        -T --backing-cache --backing-c | none writeback writethrough directsync unsafe | nonesuch ''
        -b --backing --backing | plain.qcow2 empty.qcow2 ./empty.qcow2 '' | missing folder
        -F --backing-format --backing-f | qcow2 raw | nonesuch ''
        -u --backing-unsafe --backing-u
        -c --compress --com
        -U --force-share --force
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret nonesuch,id=a
    ",
    images: "plain.qcow2 over2.qcow2 over-raw.qcow2 over-long.qcow2 orphan.qcow2 v2.qcow2 c512.qcow2 snap.qcow2 ext-l2.qcow2",
    lines: "
        over.qcow2
        -u over.qcow2
        -b '' over.qcow2
        -b '' over2.qcow2
        -b '' -F qcow2 over.qcow2
        -b '' orphan.qcow2
        -u -b '' orphan.qcow2
        -u -b '' over.qcow2
        -u -b missing over.qcow2
        -u -b missing -F qcow2 over.qcow2
        -u -b missing -F nonesuch over.qcow2
        -u -F raw over.qcow2
        -b plain.qcow2 -F qcow2 over2.qcow2
        -b plain.qcow2 over2.qcow2
        -b raw.img -F raw over.qcow2
        -b raw.img over.qcow2
        -b raw.img -F qcow2 over.qcow2
        -b over.qcow2 -F qcow2 over.qcow2
        -b over2.qcow2 -F qcow2 over.qcow2
        -b empty.qcow2 -F qcow2 over-long.qcow2
        -c -b empty.qcow2 -F qcow2 over.qcow2
        -p -b empty.qcow2 -F qcow2 over2.qcow2
        -p -u -b plain.qcow2 -F qcow2 over2.qcow2
        -f raw -b plain.qcow2 -F qcow2 raw.img
        -b plain.qcow2 -F qcow2 data-file.qcow2
        over.qcow2 -b empty.qcow2 -F qcow2
        over.qcow2 -u -b empty.qcow2 -F qcow2
        ;lock over.qcow2; rebase -b empty.qcow2 -F qcow2 over.qcow2
        ;lock empty.qcow2; rebase -b empty.qcow2 -F qcow2 over.qcow2
        ;lock over.qcow2; rebase -u -b empty.qcow2 -F qcow2 over.qcow2
        ;protect over.qcow2; rebase -b empty.qcow2 -F qcow2 over.qcow2
        ;hide empty.qcow2; rebase -b empty.qcow2 -F qcow2 over.qcow2
    ",
};

pub(in crate::differential) const RESIZE: Table = Table {
    command: "resize",
    needs: "",
    operands: "IMAGE 4M",
    image: "plain.qcow2",
    options: "
        -q --quiet --qu
        -f --format --form | qcow2 raw | nonesuch ''
        --preallocation --pre | off metadata falloc full | nonesuch ''
        --shrink --sh
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret nonesuch,id=a
    ",
    images: "v2.qcow2 c512.qcow2 c2m.qcow2 r1.qcow2 lazy.qcow2 prealloc.qcow2 zlib.qcow2 ext-l2.qcow2 snap.qcow2 bitmaps.qcow2 leak.qcow2 \
        data-file.qcow2 over2.qcow2 over-long.qcow2 orphan.qcow2 empty.qcow2",
    lines: "
        plain.qcow2
        plain.qcow2 +1M
        plain.qcow2 -1M
        plain.qcow2 -- -1M
        plain.qcow2 -- +1M
        --shrink plain.qcow2 -1M
        --shrink plain.qcow2 -- -1M
        --shrink plain.qcow2 1M
        --shrink plain.qcow2 -100M
        --shrink plain.qcow2 0
        --shrink raw.img -f raw 1000
        --shrink c512.qcow2 100k
        --shrink snap.qcow2 600k
        --shrink bitmaps.qcow2 600k
        --shrink data-file.qcow2 600k
        --shrink over.qcow2 600k
        plain.qcow2 1M
        plain.qcow2 x
        plain.qcow2 ''
        plain.qcow2 +
        plain.qcow2 -
        plain.qcow2 +x
        plain.qcow2 +-1
        plain.qcow2 ++1
        plain.qcow2 +0
        plain.qcow2 1573376
        plain.qcow2 1573377
        plain.qcow2 8E
        plain.qcow2 +8E
        plain.qcow2 9223372036854775807
        plain.qcow2 9223372036854775808
        plain.qcow2 3P
        c512.qcow2 1T
        -f raw raw.img 8E
        -f raw raw.img 4M
        -f raw --preallocation=full raw.img 4M
        -f raw --preallocation=metadata raw.img 4M
        -f raw --preallocation=falloc --shrink raw.img 1M
        --preallocation=metadata --shrink plain.qcow2 1M
        --preallocation=full snap.qcow2 4M
        --preallocation=metadata bitmaps.qcow2 4M
        --preallocation=metadata over.qcow2 4M
        -q --shrink plain.qcow2 1M
        4M
        4M plain.qcow2
        plain.qcow2 4M -q
        -f qcow2 plain.qcow2 4M -f raw
        ;lock plain.qcow2; resize --shrink plain.qcow2 1M
        ;protect raw.img; resize -f raw raw.img 4M
    ",
};

pub(in crate::differential) const SNAPSHOT: Table = Table {
    command: "snapshot",
    needs: "",
    operands: "IMAGE",
    image: "snap.qcow2",
    options: "
        -q --quiet --qu
        -f --format --form | qcow2 raw | nonesuch ''
        -l --list --li
        -c | new before | ''
        -a | before 1 | nonesuch ''
        -d | before 1 | nonesuch ''
        -U --force-share --force
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret nonesuch,id=a
    ",
    images: "plain.qcow2 v2.qcow2 c512.qcow2 c2m.qcow2 r1.qcow2 lazy.qcow2 bitmaps.qcow2 data-file.qcow2 orphan.qcow2 leak.qcow2 outside.qcow2",
    lines: "
        -c s plain.qcow2
        -c s v2.qcow2
        -c s c512.qcow2
        -c s c2m.qcow2
        -c s r1.qcow2
        -c s lazy.qcow2
        -c s zlib.qcow2
        -c s ext-l2.qcow2
        -c s bitmaps.qcow2
        -c s data-file.qcow2
        -c s over.qcow2
        -c s leak.qcow2
        -c s raw.img
        -c s -f raw raw.img
        -c s missing
        -c s folder
        -a s plain.qcow2
        -d s plain.qcow2
        -a s raw.img
        -d s raw.img
        -l raw.img
        -l -f raw raw.img
        -l missing
        -l plain.qcow2 snap.qcow2
        -c a -c b plain.qcow2
        -c a -l plain.qcow2
        -c s -q plain.qcow2
        -U -c s plain.qcow2
        -U -a before snap.qcow2
        -U -d before snap.qcow2
        -c averyveryverylongnameofasnapshotthatgoesonandonandonandonandonandonandonandonandonandonandonandonandonandonandonandonandon plain.qcow2
        ;snapshot -c s plain.qcow2; snapshot -l plain.qcow2
        ;snapshot -c before snap.qcow2; snapshot -l snap.qcow2; snapshot -d before snap.qcow2; snapshot -l snap.qcow2
        ;snapshot -c 1 snap.qcow2; snapshot -a 1 snap.qcow2; snapshot -d 1 snap.qcow2
        ;snapshot -c a plain.qcow2; snapshot -c b plain.qcow2; snapshot -d a plain.qcow2; snapshot -c c plain.qcow2; snapshot -l plain.qcow2
        ;lock snap.qcow2; snapshot -c s snap.qcow2
        ;lock snap.qcow2; snapshot -l snap.qcow2
        ;lock snap.qcow2; snapshot -U -l snap.qcow2
        ;protect snap.qcow2; snapshot -c s snap.qcow2
        ;protect snap.qcow2; snapshot -l snap.qcow2
    ",
};
