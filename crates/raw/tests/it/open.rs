//! Names, options and their errors; the texts are those that `qemu-img info` 10.0 prints after "Could not open 'x': ".

use qemu_block::driver::FileIdentity;
use qemu_block::options::{Options, check_create_options, create_options_help};
use qemu_block::registry::OpenSpec;
use qemu_block::types::OpenFlags;

use crate::support::{Bench, OTHER_MAGIC, run};

fn keyval(text: &str) -> OpenSpec {
    OpenSpec::image_opts(text).unwrap()
}

#[test]
fn names_that_cannot_be_opened() {
    let bench = Bench::new();
    let missing = bench.path("missing");
    let error = bench.open_error(OpenSpec::file(&missing));
    assert_eq!(error, format!("Could not open '{missing}': No such file or directory"));
    let path = bench.file("r.raw", &[0; 4096]);
    assert_eq!(bench.open_error(OpenSpec::file("nope:x")), "Unknown protocol 'nope'");
    assert_eq!(bench.open_error(OpenSpec::file(&path).with_driver(Some("nope"))), "Unknown driver 'nope'");
    assert_eq!(bench.open_error(OpenSpec::file("json:[]")), "Invalid JSON object given");
    assert_eq!(bench.open_error(OpenSpec::file("json:{}")), "Must specify either driver or file");
    let json = OpenSpec::file(r#"json:{"driver":"raw"}"#);
    assert_eq!(bench.open_error(json), "A block device must be specified for \"file\"");
    let json = OpenSpec::file(r#"json:{"driver":"raw","file":{"driver":"file"}}"#);
    assert_eq!(bench.open_error(json), "The 'file' block driver requires a file name");
    assert_eq!(bench.open_error(keyval("x.raw")), "Cannot find device='x.raw' nor node-name='x.raw'");
}

#[test]
fn options_that_nobody_takes_are_reported() {
    let bench = Bench::new();
    let path = bench.file("r.raw", &[0; 4096]);
    let error = |options: &str| bench.open_error(keyval(&format!("file.filename={path},{options}")));
    assert_eq!(error("driver=raw,foo=1,bar=2"), "Block format 'raw' does not support the option 'bar'");
    assert_eq!(error("driver=raw,file.foo=1"), "Block protocol 'file' doesn't support the option 'foo'");
    assert_eq!(error("file.driver=nope"), "Unknown driver 'nope'");
    assert_eq!(error("read-only=maybe"), "Parameter 'read-only' expects 'on' or 'off'");
    assert_eq!(error("cache.direct=maybe"), "Parameter 'cache.direct' expects 'on' or 'off'");
    assert_eq!(error("discard=maybe"), "Invalid discard option");
    assert_eq!(error("detect-zeroes=maybe"), "invalid parameter value: maybe");
    assert_eq!(error("node-name=a b"), "Invalid node-name: 'a b'");
    assert_eq!(error("driver=raw,size=1000"), "Specified size is not multiple of 512");
    run(async {
        let spec = keyval(&format!("file.filename={path},read-only=on,discard=unmap,node-name=n0,force-share=on"));
        bench.context.open(spec).await.unwrap().close().await.unwrap();
    });
}

#[test]
fn colons_in_names() {
    let bench = Bench::new();
    let path = bench.file("a:b", &[1; 512]);
    run(async {
        for name in [path.clone(), format!("file:{path}")] {
            let node = bench.context.open(OpenSpec::file(name)).await.unwrap();
            assert_eq!((node.filename(), node.len()), (path.as_str(), 512));
            node.close().await.unwrap();
        }
    });
}

#[test]
fn probing_picks_raw_last() {
    let bench = Bench::new();
    let raw = bench.file("r", b"short");
    let empty = bench.file("empty", b"");
    let other = bench.file("o", OTHER_MAGIC);
    run(async {
        for path in [raw, empty] {
            let node = bench.context.open(OpenSpec::file(path)).await.unwrap();
            assert!(node.driver().name() == "raw" && node.is_probed_raw());
        }
        let node = bench.context.open(OpenSpec::file(&other).with_driver(Some("raw"))).await.unwrap();
        assert!(!node.is_probed_raw());
    });
    assert_eq!(bench.open_error(OpenSpec::file(other)), "not for tests");
}

#[test]
fn backing_files_resolve_and_never_loop() {
    let bench = Bench::new();
    let base = bench.file("base.raw", &[1; 512]);
    let overlay = bench.path("overlay");
    run(async {
        let open = |identity: Option<FileIdentity>, name: &'static str, format: Option<&'static str>| {
            let (context, overlay) = (&bench.context, &overlay);
            async move { context.open_backing(overlay, identity, name, format, Options::new(), OpenFlags::WRITE).await }
        };
        let node = open(None, "base.raw", Some("raw")).await.unwrap();
        assert!(node.is_read_only() && node.filename() == base);
        let missing = open(None, "gone", None).await.unwrap_err().chain();
        let text = format!("Could not open '{}': No such file or directory", bench.path("gone"));
        assert_eq!(missing, format!("Could not open backing file: {text}"));
        let unknown = open(None, "nope:x", None).await.unwrap_err().chain();
        assert_eq!(unknown, "Could not open backing file: Unknown protocol 'nope'");
        let file = node.children()[0].node.identity();
        assert!(file.is_some());
        let looped = open(file, "base.raw", None).await.unwrap_err().chain();
        assert!(looped.contains("infinite loop"), "{looped}");
    });
}

#[test]
fn creating_goes_through_the_protocol() {
    let bench = Bench::new();
    let schema = bench.context.create_schema("raw", None).unwrap();
    assert_eq!(create_options_help(&schema), ["  size=<size>            - Virtual disk size"]);
    let path = bench.path("new");
    let schema = bench.context.create_schema("raw", Some(&path)).unwrap();
    let lines = create_options_help(&schema);
    let preallocation = "  preallocation=<str>    - Preallocation mode (allowed values: off, falloc, full)";
    assert!(lines.iter().any(|line| line == preallocation), "{lines:?}");
    run(async {
        for (mode, size) in [("off", 1000), ("falloc", 1 << 20), ("full", 1 << 16)] {
            let options = Options::parse_keyval(&format!("size={size},preallocation={mode}"), None).unwrap();
            let options = check_create_options(&schema, &options).unwrap();
            bench.context.create("raw", &path, options).await.unwrap();
            let len = std::fs::metadata(&path).unwrap().len();
            assert_eq!(len, u64::next_multiple_of(size, 512), "{mode}");
        }
        let unknown = bench.context.create("foo", &path, Options::new()).await.unwrap_err();
        assert_eq!(unknown.chain(), "Unknown file format 'foo'");
        let null = bench.context.create("null-co", &path, Options::new()).await.unwrap_err();
        assert_eq!(null.chain(), "Format driver 'null-co' does not support image creation");
        let null = bench.context.create("raw", "null-co://", Options::new()).await.unwrap_err();
        assert_eq!(null.chain(), "Protocol driver 'null-co' does not support image creation");
    });
}
