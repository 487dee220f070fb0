//! `throttle`: requests arrive, later.

use std::time::{Duration, Instant};

use filters::throttle::Limits;
use qemu_block::types::OpenFlags;

use super::support::{Bench, block_on, close, read, write};

#[test]
fn data_passes_no_faster_than_allowed() {
    let bench = Bench::new();
    std::fs::write(bench.path("a"), [1; 65_536]).expect("writable");
    let mut limits = Limits::default();
    limits.set("bps-total", 655_360).expect("known");
    bench.groups.define("g", limits);
    let node = bench.open_rw("driver=throttle,throttle-group=g,file.filename=@a");
    let start = Instant::now();
    // A tenth of a second is free, twice that has to wait for the limit.
    for _ in 0..2 {
        write(&node, 0, &[2; 65_536]);
        assert!(read(&node, 0, 65_536) == [2; 65_536]);
    }
    assert!(start.elapsed() >= Duration::from_millis(190), "{:?}", start.elapsed());
    close(&node);
}

#[test]
fn the_group_must_exist() {
    let bench = Bench::new();
    std::fs::write(bench.path("a"), [1; 512]).expect("writable");
    for (options, text) in
        [("", "Please specify a throttle group"), ("throttle-group=g,", "Throttle group 'g' does not exist")]
    {
        let error = bench.open(&format!("driver=throttle,{options}file.filename=@a"), OpenFlags::empty());
        assert_eq!(error.expect_err("refused").chain(), text);
    }
}

#[test]
fn what_is_below_shows_through() {
    let bench = Bench::new();
    bench.groups.define("g", Limits::default());
    std::fs::write(bench.path("base"), [1; 65_536]).expect("writable");
    bench.run("create -q -f qcow2 -b base -F raw top.qcow2 128K");
    let options = "driver=throttle,throttle-group=g,file.driver=qcow2,file.file.filename=@top.qcow2";
    let node = bench.open(options, OpenFlags::empty()).expect("opened");
    let name = node.filename().replace(&bench.path(""), "");
    assert_eq!(
        name,
        "json:{\"throttle-group\": \"g\", \"driver\": \"throttle\", \"file\": {\"driver\": \"qcow2\", \"file\": \
         {\"driver\": \"file\", \"filename\": \"top.qcow2\"}}}"
    );
    let status = block_on(node.block_status(0, 128 << 10)).expect("known");
    assert!(!status.is_allocated() && status.len == 65_536);
    let chain = block_on(qemu_block::io::block_status_above(&node, None, 0, 128 << 10)).expect("known");
    assert_eq!((chain.depth, chain.status.is_data()), (1, true));
    close(&node);
}
