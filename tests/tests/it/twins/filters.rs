//! Filters, as users reach them: `--object throttle-group` and `--image-opts`.

use super::check;

#[test]
fn throttle_groups_are_defined_and_refused_alike() {
    check(
        r#"
        info --object throttle-group raw.img
        info --object throttle-group,id=9 raw.img
        info --object throttle-group,id=g,foo=1 raw.img
        info --object throttle-group,id=g --object throttle-group,id=g raw.img
        info --object secret,id=g,data=x --object throttle-group,id=g raw.img
        info --object throttle-group,id=g --object secret,id=g,data=x raw.img
        info --object throttle-group,id=g,x-bps-total=-1 raw.img
        info --object throttle-group,id=g,x-bps-total=1G raw.img
        info --object throttle-group,id=g,x-bps-total=100,x-bps-read=1 raw.img
        info --object throttle-group,id=g,limits.bps-total=100,limits.bps-read=1 raw.img
        info --object throttle-group,id=g,limits.iops-total=100,limits.iops-write=1 raw.img
        info --object throttle-group,id=g,x-bps-total-max=1 raw.img
        info --object throttle-group,id=g,limits.bps-total-max=1 raw.img
        info --object throttle-group,id=g,limits.bps-total=-1 raw.img
        info --object throttle-group,id=g,limits.bps-total=1000000000000001 raw.img
        info --object throttle-group,id=g,limits.foo=1 raw.img
        info --object throttle-group,id=g,limits.bps-total=x raw.img
        info --object throttle-group,id=g,limits=x raw.img
        info --object throttle-group,id=g,x-iops-size=100 raw.img
        info --object throttle-group,id=g,limits.iops-size=100 raw.img
        info --object throttle-group,id=g,limits.iops-total=100,limits.iops-total-max-length=10 raw.img
        info --object throttle-group,id=g,limits.iops-total=100,limits.iops-total-max=10 raw.img
        info --object throttle-group,id=g,limits.iops-total-max-length=0 raw.img
        info --object throttle-group,id=g,limits.iops-total-max-length=99999999999 raw.img
        info --object throttle-group,id=g,x-iops-total-max-length=99999999999 raw.img
        info --object throttle-group,id=g,limits.bps-read=1000000,limits.bps-read-max=2000000,limits.bps-read-max-length=3 raw.img
        info --object {"qom-type":"throttle-group","id":"g","limits":{"bps-total":"1"}} raw.img
        info --object {"qom-type":"throttle-group","id":"g","limits":{"bps-total":1000}} raw.img
        "#,
    );
}

#[test]
fn throttled_images_look_alike() {
    let group = "--object throttle-group,id=g,x-bps-total=1000000000";
    let node = "--image-opts driver=throttle,throttle-group=g";
    check(&format!(
        "
        info {group} {node},file.filename=raw.img
        info {group} {node},file.driver=raw,file.file.filename=raw.img
        info {group} {node},file.driver=qcow2,file.file.filename=plain.qcow2
        info {group} --output=json {node},file.driver=qcow2,file.file.filename=plain.qcow2
        info {group} --output=json {node},file.filename=raw.img
        info {group} --image-opts driver=qcow2,file.driver=throttle,file.throttle-group=g,file.file.filename=plain.qcow2
        info {group} --image-opts file.driver=throttle,file.throttle-group=g,file.file.filename=plain.qcow2
        info {group} {node},file.driver=null-co
        info {group} {node}
        info {group} {node},file=raw.img
        info {group} {node},file.filename=missing.img
        info {group} {node},foo=bar,file.filename=raw.img
        info {node},file.filename=raw.img
        info --image-opts driver=throttle,file.filename=raw.img
        info -f throttle raw.img
        info --image-opts driver=raw,offset=512,file.filename=raw.img
        info --image-opts driver=null-co
        info --image-opts driver=null-co,size=1M,read-zeroes=on
        create -f qcow2 -b base.img -F raw top.qcow2 1M
        map {group} {node},file.driver=qcow2,file.file.filename=plain.qcow2
        map --output=json {group} {node},file.driver=qcow2,file.file.filename=plain.qcow2
        map --output=json {group} {node},file.filename=raw.img
        check {group} {node},file.driver=qcow2,file.file.filename=plain.qcow2
        create -f throttle b.raw 1M
        amend {group} -o compat=v2 {node},file.driver=qcow2,file.file.filename=plain.qcow2
        resize {group} {node},file.driver=qcow2,file.file.filename=plain.qcow2 64M ; info plain.qcow2
        snapshot {group} -c s {node},file.driver=qcow2,file.file.filename=plain.qcow2 ; \
         snapshot {group} -a s {node},file.driver=qcow2,file.file.filename=plain.qcow2 ; reference check -q plain.qcow2
        convert {group} {node},file.driver=qcow2,file.file.filename=plain.qcow2 -O raw out.img ; \
         reference compare -f raw -F qcow2 out.img plain.qcow2
        measure {group} -O qcow2 {node},file.driver=qcow2,file.file.filename=plain.qcow2
        measure -O throttle --size 1M
        create -q -f raw base.img 1M ; create -q -f qcow2 -b base.img -F raw top.qcow2 1M ; \
         info {group} {node},file.driver=qcow2,file.file.filename=top.qcow2 ; \
         info --output=json {group} {node},file.driver=qcow2,file.file.filename=top.qcow2 ; \
         info --backing-chain {group} {node},file.driver=qcow2,file.file.filename=top.qcow2 ; \
         map --output=json {group} {node},file.driver=qcow2,file.file.filename=top.qcow2
        create -q -f qcow2 target.qcow2 64M ; convert -n {group} -f raw raw.img \
         --target-image-opts driver=throttle,throttle-group=g,file.driver=qcow2,file.file.filename=target.qcow2
        "
    ));
}

#[test]
fn other_filters_look_alike() {
    check(
        "
        info --image-opts driver=copy-on-read,file.filename=raw.img
        info --image-opts driver=copy-on-read,bottom=x,file.driver=qcow2,file.file.filename=plain.qcow2
        info --image-opts driver=compress,file.filename=raw.img
        info --image-opts driver=compress,file.driver=raw,file.file.filename=raw.img
        info --image-opts driver=compress,file.driver=qcow2,file.file.filename=plain.qcow2
        info --image-opts driver=preallocate,file.filename=raw.img,prealloc-size=1M
        info --image-opts driver=preallocate,file.filename=raw.img,prealloc-align=100
        info --image-opts driver=preallocate,file.filename=raw.img,prealloc-align=x
        info --image-opts driver=preallocate,file.filename=raw.img,prealloc-align=0
        info --image-opts driver=preallocate,file.filename=raw.img,foo=bar
        resize --image-opts driver=copy-on-read,file.driver=qcow2,file.file.filename=plain.qcow2 64M ; info plain.qcow2
        resize --image-opts driver=copy-on-read,bottom=x,file.driver=qcow2,file.file.filename=plain.qcow2 64M
        resize --image-opts driver=compress,file.driver=qcow2,file.file.filename=plain.qcow2 64M ; info plain.qcow2
        resize --image-opts driver=preallocate,file.driver=file,file.filename=raw.img 64M ; info -f raw raw.img
        resize --image-opts driver=raw,file.driver=preallocate,file.file.filename=raw.img 64M ; info -f raw raw.img
        create -q -f qcow2 out.qcow2 64M ; convert -n --target-image-opts -f raw raw.img \
         driver=qcow2,file.driver=preallocate,file.prealloc-size=32M,file.file.filename=out.qcow2 ; \
         reference compare -f raw -F qcow2 raw.img out.qcow2 ; info out.qcow2
        ",
    );
}

#[test]
fn null_disks_are_described_alike() {
    check(
        "
        info --image-opts driver=null-co
        info --image-opts driver=null-aio,size=1M
        info --image-opts driver=null-co,size=1M,read-zeroes=on
        info null-co://
        info --image-opts driver=null-co,filename=x
        info --image-opts driver=raw,file.driver=null-co
        create -f qcow2 -b null-co:// -F raw n.qcow2 ; info n.qcow2 ; info --backing-chain n.qcow2 ; map n.qcow2
        create -f qcow2 -b null-co:// -F null-co n.qcow2 1M ; info --backing-chain n.qcow2 ; map n.qcow2
        create -q -f qcow2 -b raw.img -F raw n.qcow2 ; \
         map --image-opts driver=qcow2,file.filename=n.qcow2,backing.driver=null-co,backing.size=1M ; \
         info --image-opts driver=qcow2,file.filename=n.qcow2,backing.driver=null-co,backing.size=1M
        convert -O raw --image-opts driver=qcow2,file.filename=plain.qcow2,backing.driver=null-co,backing.size=1M o.img
        create -q -f qcow2 -b raw.img -F raw n.qcow2 ; \
         map --image-opts driver=qcow2,file.filename=n.qcow2,backing.driver=qcow2,backing.file.filename=plain.qcow2
        ",
    );
}
