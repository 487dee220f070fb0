//! Replacing the header: what nobody here knows stays, what it must not trust is cleared, and the reference agrees.

use qcow2::format::extension::Extension;
use qcow2::format::features::{Autoclear, Compatible};
use qcow2::format::header::Header;
use qemu_block::manage::{AmendRequest, BackingLink};
use qemu_block::mem::{MemOp, When};
use qemu_block::node::Node;
use qemu_block::options::Options;
use qemu_block::types::{OpenFlags, PreallocMode};

use crate::mem::{MemBench, fill, is_filled};
use crate::support::{Bench, block_on, oracle};

const CLUSTER: usize = 65536;
const UNKNOWN_COMPATIBLE: u64 = 1 << 40;
const UNKNOWN_AUTOCLEAR: u64 = 1 << 41;
const UNKNOWN_EXTENSION: u32 = 0x7061_7261;

/// The header of the image `a`.
fn header(bench: &MemBench) -> Header {
    let mut bytes = vec![0; CLUSTER];
    bench.disk().read_at(0, &mut bytes);
    Header::parse(&bytes, 1 << 40).expect("valid")
}

/// An image whose header has fields, bits and extensions that nobody defined.
fn strange_image() -> MemBench {
    let bench = MemBench::with_image("", 64 << 20);
    let mut strange = header(&bench);
    strange.compatible |= Compatible::from_bits_retain(UNKNOWN_COMPATIBLE);
    strange.autoclear |= Autoclear::from_bits_retain(UNKNOWN_AUTOCLEAR);
    strange.unknown_fields = vec![7; 16];
    strange.header_length += 16;
    strange.extensions.insert(0, Extension { magic: UNKNOWN_EXTENSION, data: b"odd".to_vec() });
    strange.extensions.push(Extension { magic: UNKNOWN_EXTENSION + 1, data: vec![9; 100] });
    let bytes = strange.serialize().expect("fits");
    bench.disk().write_at(0, &bytes);
    bench
}

fn assert_strange(bench: &MemBench, autoclear: u64) {
    let found = header(bench);
    assert_eq!(found.compatible.bits() & UNKNOWN_COMPATIBLE, UNKNOWN_COMPATIBLE);
    assert_eq!(found.autoclear.bits() & UNKNOWN_AUTOCLEAR, autoclear);
    assert_eq!((found.unknown_fields, found.header_length), (vec![7; 16], 128));
    let unknown = |magic: u32| found.extensions.iter().find(|extension| extension.magic == magic);
    assert_eq!(unknown(UNKNOWN_EXTENSION).map(|extension| &extension.data[..]), Some(&b"odd"[..]));
    assert_eq!(unknown(UNKNOWN_EXTENSION + 1).map(|extension| extension.data.len()), Some(100));
}

fn link(name: &str) -> Option<BackingLink> {
    Some(BackingLink { name: name.to_owned(), format: Some("raw".to_owned()) })
}

fn amend(node: &Node, options: &str) -> Result<(), String> {
    let options = Options::parse_keyval(options, None).expect("options");
    let amending = node.amending().expect("possible");
    block_on(amending.amend(AmendRequest { options, ..AmendRequest::default() })).map_err(|error| error.chain())
}

#[test]
fn opening_for_writing_clears_unknown_autoclear_bits_alone() {
    let bench = strange_image();
    block_on(bench.open("a", OpenFlags::empty()).expect("readable").close()).expect("closed");
    assert_strange(&bench, UNKNOWN_AUTOCLEAR);
    block_on(bench.writable().close()).expect("closed");
    assert_strange(&bench, 0);
}

#[test]
fn a_refused_open_changes_nothing() {
    let bench = strange_image();
    let before = bench.disk().to_vec();
    // An incompatible bit that nobody knows, and then a backing file that is not there.
    for (offset, value) in [(72, 1 << 50), (8, 1024)] {
        let good = bench.number_at(offset);
        bench.patch(offset, value);
        let name = bench.number_at(1024);
        if offset == 8 {
            bench.patch(16, 7 << 32 | 16);
            bench.patch(1024, u64::from_be_bytes(*b"missing\0"));
        }
        let patched = bench.disk().to_vec();
        bench.open("a", OpenFlags::WRITE).expect_err("refused");
        assert!(bench.disk().to_vec() == patched, "nothing is written before the image is accepted");
        bench.patch(offset, good);
        bench.patch(16, 16);
        bench.patch(1024, name);
    }
    assert!(bench.disk().to_vec() == before);
}

#[test]
fn every_rewrite_keeps_what_is_unknown() {
    let bench = strange_image();
    let node = bench.writable();
    block_on(fill(&node, 0, 100_000, 5)).expect("written");
    let change = |backing| block_on(node.amending().expect("possible").change_backing(backing)).expect("changed");
    change(link("base"));
    assert_strange(&bench, 0);
    assert_eq!(header(&bench).backing_name_text(), Ok(Some("base")));
    change(link(&"long".repeat(200)));
    assert_strange(&bench, 0);
    assert_eq!(header(&bench).backing_format().as_deref(), Some("raw"));
    change(None);
    assert_eq!((header(&bench).backing_name, header(&bench).backing_format()), (None, None));
    for lazy in ["on", "off"] {
        amend(&node, &format!("lazy_refcounts={lazy}")).expect("possible");
        assert_eq!(header(&bench).compatible.contains(Compatible::LAZY_REFCOUNTS), lazy == "on");
        assert_strange(&bench, 0);
    }
    block_on(node.truncate(1 << 40, PreallocMode::Off)).expect("grown");
    assert_strange(&bench, 0);
    block_on(node.close()).expect("closed");
    bench.assert_clean();
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    assert!(is_filled(&node, 0, 100_000, 5));
}

#[test]
fn the_reference_reads_what_we_rewrote() {
    let bench = Bench::new();
    let path = bench.path("image");
    let files = MemBench::from_reference(&[&["create", "-q", "-f", "qcow2", "IMAGE", "1G"]]);
    let node = files.writable();
    block_on(node.amending().expect("possible").change_backing(link("somewhere/base.raw"))).expect("changed");
    block_on(node.close()).expect("closed");
    std::fs::write(&path, files.disk().to_vec()).expect("written");
    let (code, text) = oracle(&["info", "-f", "qcow2", &path]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("backing file: somewhere/base.raw (actual path:"), "{text}");
    assert!(text.contains("backing file format: raw"), "{text}");
}

#[test]
fn a_name_that_does_not_fit_changes_nothing() {
    let bench = MemBench::with_image("cluster_size=512", 1 << 20);
    let before = bench.disk().to_vec();
    let node = bench.writable();
    let amending = node.amending().expect("possible");
    block_on(amending.change_backing(link(&"x".repeat(1024)))).expect_err("too long for any image");
    block_on(amending.change_backing(link(&"x".repeat(500)))).expect_err("too long for this one");
    block_on(amending.change_backing(link(&"x".repeat(300)))).expect("fits without the feature names");
    block_on(amending.change_backing(None)).expect("changed");
    block_on(node.close()).expect("closed");
    let mut after = header(&bench);
    after.set_extension(0x6803_f857, Some(Extension::feature_names().data));
    assert_eq!(after.serialize().expect("fits"), before[..512]);
}

#[test]
fn a_failed_rewrite_stops_all_writing() {
    let bench = strange_image();
    let node = bench.writable();
    bench.disk().control().fail(MemOp::Write, When::Nth(1), libc::EIO);
    block_on(node.amending().expect("possible").change_backing(link("base"))).expect_err("the header's write failed");
    block_on(fill(&node, 0, 512, 1)).expect_err("nobody knows what the header says");
    block_on(node.close()).expect_err("so does the close");
    bench.assert_clean();
}
