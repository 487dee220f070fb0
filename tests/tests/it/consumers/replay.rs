//! The command lines of consumers, as they stand in their sources, with small images in place of theirs.

use crate::twins::check;

#[test]
fn nova() {
    check(
        "
        info plain.qcow2 --force-share --output=json -f qcow2; info raw.img --force-share --output=json -f raw
        info over.qcow2 --force-share --output=json
        convert -t writeback -O raw -f qcow2 over.qcow2 out; reference compare -f raw out over.qcow2
        convert -t none -O qcow2 -f raw -c raw.img out; reference compare -F raw out raw.img
        create -f qcow2 -o backing_file=plain.qcow2,backing_fmt=qcow2 new; info --output=json new
        create -f qcow2 -o backing_file=plain.qcow2 -o backing_fmt=qcow2 -o cluster_size=65536 -o compat=1.1 new; info new
        resize -f qcow2 plain.qcow2 10485760; info plain.qcow2
        rebase -b '' over.qcow2; reference compare over.qcow2 over2.qcow2
        rebase -b '' -F raw over-raw.qcow2; reference compare over-raw.qcow2 raw.img
        convert -t none -O raw -f qcow2 missing out
        ",
    );
}

#[test]
fn cinder_glance_and_ironic() {
    check(
        "
        info -f qcow2 --output=json --force-share plain.qcow2; info -f qcow2 --output=json raw.img
        convert -O raw -S 0 -f qcow2 plain.qcow2 out; reference compare -f raw out plain.qcow2
        convert -O qcow2 -c -f raw raw.img out; reference check out
        commit -d over.qcow2; reference check plain.qcow2
        rebase -u -b plain.qcow2 over.qcow2 -F qcow2; info over.qcow2
        create -f qcow2 -o cluster_size=4096 new 1G; info --output=json new
        convert -f qcow2 -O raw plain.qcow2 out; reference compare -f raw out plain.qcow2
        convert -f raw -O raw raw.img out; reference compare -f raw out raw.img
        info --output=json text; info --output=json zero-length
        convert -O raw -t directsync -S 0 -W plain.qcow2 out; reference compare -f raw out plain.qcow2
        ",
    );
}

#[test]
fn cdi_and_libvirt() {
    check(
        "
        info --output=json plain.qcow2; info --output=json missing
        convert -o preallocation=falloc -t writeback -O raw plain.qcow2 out; resize -f raw out 4M; reference compare -f raw out plain.qcow2
        convert -S 0 -t none -O raw plain.qcow2 out; resize --preallocation=falloc -f raw out 4M
        resize --preallocation=metadata -f raw raw.img 4M
        create -f raw -o preallocation=falloc new 1M
        rebase -u -F raw -b raw.img over-raw.qcow2; commit over-raw.qcow2; reference compare raw.img plain.qcow2
        create -f qcow2 -o preallocation=metadata,compat=1.1,lazy_refcounts=on new 5242880K; info new
        create -f qcow2 -b plain.qcow2 -F qcow2 -o nocow=on new; info new
        create -o ? -f qcow2 /dev/null
        snapshot -c s1 plain.qcow2; snapshot -a s1 plain.qcow2; snapshot -d s1 plain.qcow2; reference check -q plain.qcow2; reference compare plain.qcow2 raw.img
        convert -f qcow2 -O qcow2 -o compat=0.10 plain.qcow2 out; info out
        resize plain.qcow2 10485760; info plain.qcow2
        ",
    );
}

#[test]
fn proxmox_packer_and_lima() {
    check(
        "
        create -f raw out 4M; convert -n -f qcow2 -O raw plain.qcow2 out; reference compare -f raw out plain.qcow2
        create -f qcow2 out 4M; convert -n -T none -t none -f raw -O qcow2 raw.img out; reference compare out raw.img
        convert -l snapshot.name=before -f qcow2 -O qcow2 snap.qcow2 out; reference compare out raw.img
        create -f qcow2 -b plain.qcow2 -F qcow2 new; resize -f qcow2 new 40M; info new
        convert -c -O qcow2 plain.qcow2 out; reference compare out plain.qcow2
        info --output=json --force-share plain.qcow2; convert -O raw plain.qcow2 out
        snapshot -c tag plain.qcow2; snapshot -a tag plain.qcow2; snapshot -d tag plain.qcow2; snapshot -l plain.qcow2
        create -f qcow2 new 107374182400; resize -f qcow2 new 214748364800; reference check -q new
        ",
    );
}

#[test]
fn incus_and_cloudstack() {
    check(
        "
        info -f qcow2 --output=json plain.qcow2
        convert -f qcow2 -O raw -t writeback -T none -W plain.qcow2 out; reference compare -f raw out plain.qcow2
        create -f raw out 4M; convert -f qcow2 -O raw -n --target-is-zero plain.qcow2 out; reference compare -f raw out plain.qcow2
        measure --output=json -O qcow2 --size 10737418240b
        rebase -u -b raw.img -F raw over.qcow2; commit -f qcow2 over-raw.qcow2
        info -U --backing-chain --output=json over2.qcow2
        create -f qcow2 -o data_file=data.raw,data_file_raw=on,preallocation=metadata new 4M; info new; reference check new
        convert -n --target-is-zero -W -S 1M -O raw plain.qcow2 raw.img
        convert -O qcow2 -o compat=0.10 -l snapshot.name=before -t none -U --image-opts driver=qcow2,file.filename=snap.qcow2 out; info out
        check -r all leak.qcow2; check -r leaks plain.qcow2
        ",
    );
}

#[test]
fn ovirt_and_virt_v2v() {
    check(
        r#"
        info --output json plain.qcow2; info --output json over2.qcow2 --backing-chain
        measure --output json -O qcow2 'json:{"driver":"qcow2","file":{"driver":"file","filename":"over.qcow2"},"backing":null}'
        create -f qcow2 -u -o compat=1.1 -b missing -F raw new 1M; info new
        check --output json -f qcow2 leak.qcow2; check --output json -f qcow2 plain.qcow2
        convert -t none -T none -f qcow2 plain.qcow2 -O qcow2 -o compat=1.1 out -W; reference compare out plain.qcow2
        reference bitmap --add plain.qcow2 b0; convert --bitmaps -f qcow2 plain.qcow2 -O qcow2 -o compat=1.1 out; info out
        create -q -f qcow2 -u -b plain.qcow2 -F qcow2 out 1573376; convert -n -B plain.qcow2 -F qcow2 -f qcow2 over.qcow2 -O qcow2 out; reference compare out over.qcow2
        commit -t none -f qcow2 -b plain.qcow2 over2.qcow2; commit -t none -d -f qcow2 over.qcow2
        map --output json plain.qcow2; amend -o compat=1.1 v2.qcow2
        rebase -t none -T none -f qcow2 -b plain.qcow2 -F qcow2 over2.qcow2; reference compare over2.qcow2 over.qcow2
        compare -p -f qcow2 -F qcow2 plain.qcow2 v2.qcow2; compare -p -s -f qcow2 -F raw plain.qcow2 raw.img
        bitmap --add plain.qcow2 b1 -g 65536; bitmap --add plain.qcow2 b2; bitmap --merge b1 plain.qcow2 b2; bitmap --remove plain.qcow2 b1; info plain.qcow2
        info --output=json 'json:{"file.driver":"file","file.filename":"raw.img","driver":"raw"}'
        measure -f raw --output=human -O qcow2 raw.img
        "#,
    );
}
