//! Commands that make an image, or read and write a whole one.

use crate::differential::table::Table;

pub(in crate::differential) const BENCH: Table = Table {
    command: "bench",
    needs: "-c 8 -d 2 -s 512",
    operands: "IMAGE",
    image: "plain.qcow2",
    options: "
        -f --format --fo | qcow2 raw | nonesuch ''
        -c --count --co | 3 0x4 | 0 -1 x '' 1.5 2147483648
        -d --depth | 1 3 | 0 -1 x '' 2147483648
        -o --offset | 512 64k | -1 x '' 9E 9223372036854775808
        -s --buffer-size --buf | 4096 1k | 0 -1 x '' 2147483648
        -S --step-size | 4096 0 512 | -1 x '' 2147483648
        -t --cache --ca | none writeback writethrough directsync unsafe | nonesuch ''
        -i --aio --ai | threads native | nonesuch ''
        -n --native
        -w --write --wr
        --pattern --pat | 7 255 | 256 -1 x ''
        --flush-interval --flush | 4 0 2 | -1 x '' 2147483648
        --no-drain --no
        -U --force-share --force
        -q
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret nonesuch,id=a
    ",
    images: "v2.qcow2 c512.qcow2 zlib.qcow2 ext-l2.qcow2 data-file.qcow2 orphan.qcow2 over-long.qcow2",
    lines: "
        -c 8 -d 2 -s 512 -w plain.qcow2
        -c 8 -d 2 -s 512 -w --pattern 65 plain.qcow2
        -c 8 -d 2 -s 512 -w --flush-interval 4 plain.qcow2
        -c 8 -d 2 -s 512 -w --flush-interval 2 --no-drain plain.qcow2
        -c 8 -d 2 -s 512 -w --flush-interval 1 plain.qcow2
        -c 8 -d 2 -s 512 -w -U plain.qcow2
        -c 8 -d 2 -s 512 -o 2M plain.qcow2
        -c 8 -d 2 -s 4M plain.qcow2
        -c 8 -d 2 -s 512 -w -o 1M -S 64k empty.qcow2
        -c 8 -d 2 -s 512 -w -t none -n plain.qcow2
        -c 8 -d 2 -s 512 -n -t writeback plain.qcow2
        -c 8 -d 2 -s 512 -i native -t none plain.qcow2
        ;protect plain.qcow2; bench -c 8 -d 2 -s 512 -w plain.qcow2
    ",
};

pub(in crate::differential) const CONVERT: Table = Table {
    command: "convert",
    needs: "-O qcow2",
    operands: "IMAGE new",
    image: "plain.qcow2",
    options: "
        -q --quiet --qu
        -p
        -f --source-format --source-f | qcow2 raw | nonesuch ''
        --image-opts --source-image-opts --im --source-i
        -T --source-cache --source-c | none writeback writethrough directsync unsafe | nonesuch ''
        -l --snapshot --sn | snapshot.name=nonesuch snapshot.id=1 | '' snapshot.nonesuch=1
        -O --output-format --output-f | qcow2 raw | nonesuch '' null-co
        -o --options --opt | cluster_size=4k lazy_refcounts=on preallocation=metadata refcount_bits=1 extended_l2=on \
            compat=0.10 compression_type=zstd | '' , nonesuch=1 cluster_size=3 cluster_size=4M compat=9 refcount_bits=3 \
            lazy_refcounts=maybe lazy_refcounts preallocation=some compression_type=lzo size=1M backing_fmt=qcow2 data_file_raw=on
        -c
        -t --output-cache --output-c | none writeback writethrough directsync unsafe | nonesuch ''
        -n
        --target-is-zero --target-is
        --target-image-opts --target-im
        -S --sparse-size --sp | 0 4k 1M | x '' -1 100 1G 32M
        -m --parallel --par | 1 16 | 0 17 -1 x ''
        -W --oob-writes --oo
        -C --copy-range-offloading --co
        --salvage --sa
        -U --force-share --force
        -r --rate --ra | 100M 10G 0 | x '' -1
        -B --backing --backing | empty.qcow2 plain.qcow2 | missing ''
        -F --backing-format --backing-f | qcow2 raw | nonesuch ''
        --bitmaps --bit
        --skip-broken-bitmaps --sk
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret nonesuch,id=a
    ",
    images: "v2.qcow2 c512.qcow2 c2m.qcow2 r1.qcow2 r64.qcow2 lazy.qcow2 prealloc.qcow2 zlib.qcow2 zstd.qcow2 ext-l2.qcow2 snap.qcow2 \
        bitmaps.qcow2 leak.qcow2 data-file.qcow2 over2.qcow2 over-raw.qcow2 over-long.qcow2 orphan.qcow2 empty.qcow2",
    lines: "
        plain.qcow2
        plain.qcow2 raw.img new
        plain.qcow2 new
        -O raw plain.qcow2 new
        -O raw -S 0 plain.qcow2 new
        -O raw -S 64k prealloc.qcow2 new
        -O raw -o preallocation=falloc plain.qcow2 new
        -O raw -o preallocation=full plain.qcow2 new
        -O raw -o preallocation=metadata plain.qcow2 new
        -O raw -c plain.qcow2 new
        -O raw over2.qcow2 new
        -O raw plain.qcow2 raw.img empty.qcow2 new
        -c -O qcow2 -o cluster_size=2M over.qcow2 new
        -c -W -m 16 -O qcow2 plain.qcow2 new
        -c -O qcow2 -o compression_type=zstd plain.qcow2 new
        -c -O qcow2 -o preallocation=metadata plain.qcow2 new
        -c -O qcow2 -o compat=0.10,compression_type=zstd plain.qcow2 new
        -c -S 4k -O qcow2 plain.qcow2 new
        -n -O qcow2 plain.qcow2 over-long.qcow2
        -n -O qcow2 plain.qcow2 empty.qcow2
        -n -O qcow2 -o cluster_size=4k plain.qcow2 over-long.qcow2
        -n -O raw plain.qcow2 raw.img
        -n plain.qcow2 text
        -n -O raw plain.qcow2 missing
        -n --target-is-zero -O qcow2 plain.qcow2 over-long.qcow2
        -n --target-is-zero -O qcow2 empty.qcow2 over-long.qcow2
        -n --target-is-zero -S 0 -O raw plain.qcow2 raw.img
        -n --target-image-opts plain.qcow2 driver=qcow2,file.filename=over-long.qcow2
        -n --target-image-opts plain.qcow2 driver=raw,file.filename=raw.img
        -n --target-image-opts -O qcow2 plain.qcow2 driver=qcow2,file.filename=over-long.qcow2
        -n --target-image-opts plain.qcow2 driver=qcow2
        -n --target-image-opts plain.qcow2 plain.qcow2
        -n --target-image-opts plain.qcow2 driver=null-co,size=4M
        -n --target-image-opts plain.qcow2 driver=null-co
        --target-image-opts plain.qcow2 driver=raw,file.filename=new
        -B plain.qcow2 -O qcow2 over.qcow2 new
        -B plain.qcow2 -F qcow2 -O qcow2 over.qcow2 new
        -B plain.qcow2 -F raw -O qcow2 over.qcow2 new
        -B raw.img -F raw -O qcow2 over-raw.qcow2 new
        -B plain.qcow2 -F qcow2 -O qcow2 plain.qcow2 over.qcow2 new
        -B plain.qcow2 -F qcow2 -O raw over.qcow2 new
        -B plain.qcow2 -F qcow2 -c -O qcow2 over.qcow2 new
        -o backing_file=plain.qcow2,backing_fmt=qcow2 -O qcow2 over.qcow2 new
        -o backing_file=plain.qcow2 -O qcow2 over.qcow2 new
        -B plain.qcow2 -F qcow2 -n -O qcow2 over.qcow2 empty.qcow2
        -F qcow2 -O qcow2 over.qcow2 new
        --bitmaps -O qcow2 bitmaps.qcow2 new
        --bitmaps --skip-broken-bitmaps -O qcow2 bitmaps.qcow2 new
        --bitmaps -O raw bitmaps.qcow2 new
        --bitmaps -O qcow2 bitmaps.qcow2 plain.qcow2 new
        --bitmaps -O qcow2 -o compat=0.10 bitmaps.qcow2 new
        --bitmaps -l before -O qcow2 snap.qcow2 new
        ;distrust bitmaps.qcow2 b0; convert --bitmaps -O qcow2 bitmaps.qcow2 new
        ;distrust bitmaps.qcow2 b0; convert --bitmaps --skip-broken-bitmaps -O qcow2 bitmaps.qcow2 new
        -l before -O qcow2 snap.qcow2 new
        -l 1 -O raw snap.qcow2 new
        -l snapshot.name=before -O raw snap.qcow2 new
        -l snapshot.id=1 -O raw snap.qcow2 new
        -l snapshot.id=2 -O raw snap.qcow2 new
        -l nonesuch -O raw snap.qcow2 new
        -l before -O raw raw.img new
        -l before -O raw snap.qcow2 snap.qcow2 new
        -l before -f raw -O raw snap.qcow2 new
        -C -S 0 -O raw raw.img new
        -C -c -O qcow2 raw.img new
        -C --salvage -O raw raw.img new
        -C -r 1M -O raw raw.img new
        --salvage -O raw raw.img new
        -p -O raw over2.qcow2 new
        -p -q -O raw over2.qcow2 new
        -q -p -O raw over2.qcow2 new
        -o help
        -o ?
        -O qcow2 -o help
        -O qcow2 -o help plain.qcow2 new
        -O raw -o help plain.qcow2 new
        -O raw -o help
        -O luks -o help
        -O nonesuch -o help
        -O qcow2 -o cluster_size=4k,help plain.qcow2 new
        -O qcow2 -o cluster_size=4k -o lazy_refcounts=on -o compat=1.1 -o refcount_bits=8 plain.qcow2 new
        -O qcow2 plain.qcow2 missing/new
        -O qcow2 plain.qcow2 folder
        -O qcow2 plain.qcow2 ''
        -O qcow2 plain.qcow2 nonesuch:new
        -O qcow2 plain.qcow2 json:{\"driver\":\"file\",\"filename\":\"new\"}
        -O qcow2 plain.qcow2 plain.qcow2
        -O qcow2 missing missing/new
        -O nonesuch missing new
        -O qcow2 plain.qcow2 missing new
        -O qcow2 plain.qcow2 text
        -O raw --image-opts driver=null-co,size=1M new
        -O raw --image-opts driver=qcow2,file.filename=plain.qcow2 driver=raw,file.filename=raw.img new
        -m 2 -W -O qcow2 over2.qcow2 new
        -m1 -O qcow2 over2.qcow2 new
        -cO qcow2 plain.qcow2 new
        -cpO qcow2 plain.qcow2 new
        -O qcow2 plain.qcow2 new -c
        ;lock over-long.qcow2; convert -n -O qcow2 plain.qcow2 over-long.qcow2
        ;lock empty.qcow2; convert -O qcow2 plain.qcow2 empty.qcow2
        ;lock empty.qcow2; convert -U -O qcow2 plain.qcow2 empty.qcow2
        ;protect empty.qcow2; convert -O qcow2 plain.qcow2 empty.qcow2
        ;protect empty.qcow2; convert -n -O qcow2 plain.qcow2 empty.qcow2
        ;protect over-long.qcow2; convert -n -O qcow2 plain.qcow2 over-long.qcow2
    ",
};

pub(in crate::differential) const CREATE: Table = Table {
    command: "create",
    needs: "-f qcow2",
    operands: "IMAGE 4M",
    image: "new",
    options: "
        -q --quiet --qu
        -f --format --form | qcow2 raw | nonesuch '' null-co file
        -o --options --opt | cluster_size=4k lazy_refcounts=on preallocation=metadata preallocation=falloc preallocation=full \
            refcount_bits=1 refcount_bits=64 extended_l2=on compat=0.10 compat=1.1 compat=v2 compat=v3 compression_type=zstd \
            cluster_size=2M nocow=on extent_size_hint=1M data_file=d data_file=d,data_file_raw=on encryption=off | \
            '' , nonesuch=1 nonesuch cluster_size=3 cluster_size=4M cluster_size=x cluster_size=-1 cluster_size= compat=9 refcount_bits=3 \
            refcount_bits=0 refcount_bits=128 lazy_refcounts=maybe lazy_refcounts preallocation=some compression_type=lzo \
            size=1M size=x backing_fmt=qcow2 backing_fmt=nonesuch backing_file= data_file= data_file_raw=on \
            extended_l2=on,cluster_size=8k extended_l2=on,compat=0.10 compression_type=zstd,compat=0.10 \
            encrypt.format=nonesuch encrypt.format=luks encrypt.format=luks,encrypt.key-secret=nonesuch encrypt.nonesuch=1 \
            encryption=on encrypt.cipher-alg=aes-256 extent_size_hint=x nocow=maybe =1
        -b --backing --backing | plain.qcow2 raw.img | missing '' new folder
        -F --backing-format --backing-f | qcow2 raw | nonesuch ''
        -u --backing-unsafe --backing-u
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret secret,id=a nonesuch,id=a id=a secret,id=a,data=x,nonesuch=1
    ",
    images: "plain.qcow2 r1.qcow2 data-file.qcow2 leak.qcow2",
    lines: "
        new
        new 1M
        new 0
        new 1
        new 513
        new 1k
        new 1K
        new 1b
        new 1.5G
        new 1.0000000001M
        new 0x1000
        new 0x1k
        new 010
        new 1e3
        new 1T
        new 1P
        new 7E
        new 8E
        new 9223372036854775807
        new 9223372036854775808
        new 18446744073709551615
        new 18446744073709551616
        new 1X
        new 1kk
        new 1kB
        new 1KiB
        new -1
        new -- -1
        new +1
        new x
        new ''
        new ' 1'
        new '1 '
        new 1,5G
        new .5G
        new 5.G
        new inf
        new nan
        new 1M 2M
        -f qcow2 new
        -f qcow2 new 0
        -f qcow2 new 1
        -f qcow2 new 10T
        -f qcow2 new 3P
        -f qcow2 new 8E
        -f qcow2 -o cluster_size=512 new 1T
        -f qcow2 -o cluster_size=512 new 1G
        -f qcow2 -o cluster_size=2M new 10T
        -f qcow2 -o cluster_size=64k,cluster_size=4k new 1M
        -f qcow2 -o cluster_size=64k -o cluster_size=4k new 1M
        -f qcow2 -o 'cluster_size=64k, compat=1.1' new 1M
        -f qcow2 -o size=2M new
        -f qcow2 -o size=2M new 2M
        -f raw -o size=2M new
        -f raw -o preallocation=off new 1M
        -f raw -o preallocation=falloc new 1M
        -f raw -o preallocation=full new 1M
        -f raw -o preallocation=metadata new 1M
        -f raw -o preallocation=some new 1M
        -f raw -o cluster_size=4k new 1M
        -f raw -o nocow=on new 1M
        -f raw -b plain.qcow2 -F qcow2 new
        -f raw -b plain.qcow2 new 1M
        -f raw -u -b plain.qcow2 -F qcow2 new 1M
        -f qcow2 -b plain.qcow2 new
        -f qcow2 -b plain.qcow2 -F qcow2 new
        -f qcow2 -b plain.qcow2 -F qcow2 new 1M
        -f qcow2 -b plain.qcow2 -F qcow2 new 10M
        -f qcow2 -b plain.qcow2 -F raw new
        -f qcow2 -b raw.img -F raw new
        -f qcow2 -b raw.img -F qcow2 new
        -f qcow2 -b raw.img new
        -f qcow2 -b text new
        -f qcow2 -b missing -F qcow2 new
        -f qcow2 -b missing -F qcow2 new 1M
        -f qcow2 -b missing new 1M
        -f qcow2 -u -b missing -F qcow2 new 1M
        -f qcow2 -u -b missing -F qcow2 new
        -f qcow2 -u -b missing new 1M
        -f qcow2 -u -F qcow2 new 1M
        -f qcow2 -u -b missing -F nonesuch new 1M
        -f qcow2 -b over2.qcow2 -F qcow2 new
        -f qcow2 -b ./plain.qcow2 -F qcow2 new
        -f qcow2 -b orphan.qcow2 -F qcow2 new
        -f qcow2 -b empty.qcow2 -F qcow2 -o preallocation=metadata new
        -f qcow2 -b plain.qcow2 -F qcow2 -o preallocation=full new
        -f qcow2 -b plain.qcow2 -F qcow2 -o data_file=d new
        -f qcow2 -b plain.qcow2 -F qcow2 -o data_file=d,data_file_raw=on new
        -f qcow2 -o backing_file=plain.qcow2 new
        -f qcow2 -o backing_file=plain.qcow2,backing_fmt=qcow2 new
        -f qcow2 -o backing_file=raw.img -b plain.qcow2 -F qcow2 new
        -f qcow2 -o backing_file=plain.qcow2 -F qcow2 new
        -f qcow2 -o backing_fmt=raw -b plain.qcow2 -F qcow2 new
        -f qcow2 -b json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"plain.qcow2\"}} -F qcow2 new
        -f qcow2 -b file:plain.qcow2 -F qcow2 new
        -f qcow2 -b nonesuch:plain.qcow2 -F qcow2 new
        -f qcow2 new -b plain.qcow2 -F qcow2
        -f qcow2 plain.qcow2 -b plain.qcow2 -F qcow2
        -f qcow2 -o preallocation=metadata,extended_l2=on new 4M
        -f qcow2 -o preallocation=falloc,cluster_size=4k new 1M
        -f qcow2 -o preallocation=full,lazy_refcounts=on new 1M
        -f qcow2 -o lazy_refcounts=on,compat=0.10 new 1M
        -f qcow2 -o refcount_bits=8,compat=0.10 new 1M
        -f qcow2 -o data_file=d,compat=0.10 new 1M
        -f qcow2 -o data_file=missing/d new 1M
        -f qcow2 -o data_file=d,preallocation=metadata new 1M
        -f qcow2 -o data_file=d,data_file_raw=on,preallocation=full new 1M
        -f qcow2 -o compression_type=zlib,compat=0.10 new 1M
        -f qcow2 -o help
        -f qcow2 -o ?
        -f qcow2 -o help new
        -f qcow2 -o cluster_size=4k,help new
        -f raw -o help
        -f raw -o help new
        -f luks -o help
        -f file -o help
        -f nonesuch -o help
        -f nonesuch new 1M
        -f null-co -o help
        -o help nonesuch:new
        -f qcow2 missing/new 1M
        -f qcow2 folder 1M
        -f qcow2 '' 1M
        -f qcow2 nonesuch:new 1M
        -f qcow2 file:new 1M
        -f qcow2 json:{\"driver\":\"file\",\"filename\":\"new\"} 1M
        -f qcow2 data-file.qcow2 1M
        -fqcow2 new 1M -q
        -qf qcow2 new 1M
        -f raw -f qcow2 new 1M
        --object secret,id=s,data=pw -f qcow2 -o encrypt.format=aes,encrypt.key-secret=s new 1M
        --object secret,id=s,data=pw -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 new 1M
        --object secret,id=s,data=pw -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-alg=nonesuch new 1M
        --object secret,id=s,data=pw -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=0 new 1M
        --object secret,id=s,data=pw -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.hash-alg=nonesuch new 1M
        --object secret,id=s,data=pw -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,compat=0.10,encrypt.iter-time=10 new 1M
        --object secret,id=s,data=pw -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,data_file=d,encrypt.iter-time=10 new 1M
        ;lock plain.qcow2; create -f qcow2 plain.qcow2 1M
        ;lock plain.qcow2; create -f raw plain.qcow2 1M
        ;lock plain.qcow2; create -f qcow2 -b plain.qcow2 -F qcow2 new
        ;protect plain.qcow2; create -f qcow2 plain.qcow2 1M
        ;hide plain.qcow2; create -f qcow2 -b plain.qcow2 -F qcow2 new
    ",
};

pub(in crate::differential) const DD: Table = Table {
    command: "dd",
    needs: "-O qcow2",
    operands: "if=IMAGE of=new",
    image: "plain.qcow2",
    options: "
        -f --format --form | qcow2 raw | nonesuch ''
        -O --output-format --out | qcow2 raw | nonesuch '' null-co
        -U --force-share --force
        --image-opts --im
        --object --ob | secret,id=a,data=x secret,id=b,data=y | '' secret nonesuch,id=a
    ",
    images: "v2.qcow2 c512.qcow2 zlib.qcow2 prealloc.qcow2 over2.qcow2 over-long.qcow2 empty.qcow2 orphan.qcow2",
    lines: "
        if=plain.qcow2 of=new
        of=new if=plain.qcow2
        if=plain.qcow2
        of=new
        if=plain.qcow2 of=new bs=4k
        if=plain.qcow2 of=new bs=1M
        if=plain.qcow2 of=new bs=1 count=100
        if=plain.qcow2 of=new bs=10000
        if=plain.qcow2 of=new bs=0
        if=plain.qcow2 of=new bs=-1
        if=plain.qcow2 of=new bs=x
        if=plain.qcow2 of=new bs=
        if=plain.qcow2 of=new bs=2G
        if=plain.qcow2 of=new bs=4k count=3
        if=plain.qcow2 of=new bs=4k count=0
        if=plain.qcow2 of=new bs=4k count=x
        if=plain.qcow2 of=new bs=4k count=-1
        if=plain.qcow2 of=new bs=4k count=100000
        if=plain.qcow2 of=new count=9223372036854775807
        if=plain.qcow2 of=new bs=4k skip=3
        if=plain.qcow2 of=new bs=4k skip=0
        if=plain.qcow2 of=new bs=1M skip=1
        if=plain.qcow2 of=new bs=1M skip=100
        if=plain.qcow2 of=new bs=4k skip=x
        if=plain.qcow2 of=new bs=4k skip=-1
        if=plain.qcow2 of=new bs=4k skip=2 count=4
        -O raw if=plain.qcow2 of=new bs=64k skip=2 count=4
        -f raw -O raw if=raw.img of=new
        -f raw -O raw if=raw.img of=new count=3
        -f raw -O raw if=raw.img of=new bs=3000
        -f raw if=raw.img of=raw.img
        if=plain.qcow2 of=new nonesuch=1
        if=plain.qcow2 of=new nonesuch
        if=plain.qcow2 of=new bs
        if=plain.qcow2 of=new =1
        if=plain.qcow2 if=empty.qcow2 of=new
        if= of=new
        if=plain.qcow2 of=
        plain.qcow2 new
        -O qcow2 if=plain.qcow2 of=empty.qcow2
        -O raw if=plain.qcow2 of=text
        -O qcow2 if=plain.qcow2 of=folder
        -O qcow2 if=plain.qcow2 of=missing/new
        -O qcow2 if=plain.qcow2 of=nonesuch:new
        -O qcow2 -U if=plain.qcow2 of=new bs=4k
        ;lock empty.qcow2; dd -O qcow2 if=plain.qcow2 of=empty.qcow2
        ;protect empty.qcow2; dd -O qcow2 if=plain.qcow2 of=empty.qcow2
    ",
};
