//! Images that we create are what the reference creates.

use crate::support::{Bench, oracle};

/// Option lists and sizes that both tools get.
const CASES: &[(&str, &str)] = &[
    ("", "1G"),
    ("", "0"),
    ("", "1000"),
    ("compat=0.10", "1G"),
    ("compat=v2,preallocation=metadata", "3M"),
    ("cluster_size=512,refcount_bits=1", "64M"),
    ("cluster_size=2M,refcount_bits=64", "64M"),
    ("cluster_size=512,preallocation=metadata,refcount_bits=64", "2M"),
    ("cluster_size=4k,preallocation=falloc,refcount_bits=2", "1000001"),
    ("preallocation=full", "1M"),
    ("compression_type=zstd,lazy_refcounts=on", "1G"),
    ("cluster_size=2M,preallocation=metadata", "1T"),
    ("", "2P"),
    ("extended_l2=on", "1G"),
    ("extended_l2=on,cluster_size=16k,preallocation=metadata,refcount_bits=1", "40M"),
    ("extended_l2=on,cluster_size=2M,preallocation=falloc", "5M"),
];

#[test]
fn the_reference_finds_the_same_image() {
    for (options, size) in CASES {
        let bench = Bench::new();
        bench.create("ours", options, size).expect("valid options");
        let mut args = vec!["create", "-q", "-f", "qcow2"];
        if !options.is_empty() {
            args.extend(["-o", options]);
        }
        let theirs = bench.path("theirs");
        args.extend([theirs.as_str(), size]);
        oracle(&args);
        for name in ["ours", "theirs"] {
            let (code, text) = oracle(&["check", "-f", "qcow2", &bench.path(name)]);
            assert_eq!(code, 0, "{options} {size}: {text}");
        }
        let info = |name: &str| {
            let (_, text) = oracle(&["info", "-f", "qcow2", &bench.path(name)]);
            // The name and the space on disk are the only lines that may differ.
            let same = |line: &&str| !line.starts_with("image:") && !line.starts_with("disk size:");
            text.lines().filter(same).take_while(|line| !line.starts_with("Child node")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(info("ours"), info("theirs"), "{options} {size}");
    }
}

#[test]
fn wrong_options_leave_nothing_behind() {
    let cases = [
        ("cluster_size=1000", "Cluster size must be a power of two between 512 and 2048k"),
        ("refcount_bits=3", "Refcount width must be a power of two and may not exceed 64 bits"),
        ("compat=9", "Parameter 'version' does not accept value '9'"),
        ("compression_type=foo", "Parameter 'compression-type' does not accept value 'foo'"),
        ("preallocation=foo", "Parameter 'preallocation' does not accept value 'foo'"),
        (
            "extended_l2=on,cluster_size=8k",
            "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes",
        ),
        (
            "extended_l2=on,compat=0.10,lazy_refcounts=on",
            "Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or greater)",
        ),
        ("data_file_raw=on", "data-file-raw requires data-file"),
        ("backing_fmt=qcow2", "Backing format cannot be used without backing file"),
    ];
    for (options, message) in cases {
        let bench = Bench::new();
        assert_eq!(bench.create("image", options, "1G"), Err(message.to_owned()));
        assert!(!std::path::Path::new(&bench.path("image")).exists());
    }
    let bench = Bench::new();
    let message = "The image size is too large for file format 'qcow2' (try using a larger cluster size)";
    assert_eq!(bench.create("image", "cluster_size=512", "129G"), Err(message.to_owned()));
}
