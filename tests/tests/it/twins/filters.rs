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
         snapshot {group} -a s {node},file.driver=qcow2,file.file.filename=plain.qcow2 ; check plain.qcow2
        convert {group} {node},file.driver=qcow2,file.file.filename=plain.qcow2 -O raw out.img ; \
         compare -f raw -F qcow2 out.img plain.qcow2
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
