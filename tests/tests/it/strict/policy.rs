//! Names inside images, and the policy that decides whether they are followed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use qcow2::Qcow2Driver;
use qemu_block::aio::Services;
use qemu_block::error::{ErrorKind, Result};
use qemu_block::options::Options;
use qemu_block::registry::{AllowList, OpenContext, OpenSpec, Registry};
use tempfile::TempDir;
use test_support::programs::reference;

const SECRET: &[u8; 512] = &[b's'; 512];

/// A context that follows what `patterns` allow.
fn context(patterns: &[&str]) -> OpenContext {
    let mut registry = Registry::new(Services::new());
    registry.register(Arc::new(Qcow2Driver));
    registry.register(Arc::new(raw::RawDriver));
    let policy = AllowList::new(patterns.iter().copied()).expect("valid patterns");
    OpenContext::new(Arc::new(registry)).with_policy(Arc::new(policy))
}

/// Runs a future that only waits for worker threads.
fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn open(context: &OpenContext, spec: OpenSpec) -> Result<()> {
    block_on(async { context.open(spec).await?.close().await })
}

/// A temporary folder with a secret.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("secret"), SECRET).expect("a file");
    dir
}

fn at(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().expect("UTF-8").to_owned()
}

/// The refusal of an open, as the user reads it.
fn refusal(context: &OpenContext, spec: OpenSpec) -> String {
    let error = open(context, spec).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", error.chain());
    error.chain()
}

/// An image by the reference with a reference to `name`, made without looking at it.
fn overlay(dir: &TempDir, file: &str, name: &str, format: &str) -> OpenSpec {
    let create = reference().invoke(dir.path()).words("create -q -u -f qcow2 -b");
    create.arg(name).words(&format!("-F {format} {file} 1M")).run().ok();
    OpenSpec::file(at(dir, file))
}

#[test]
fn a_backing_file_is_followed_only_if_it_is_allowed() {
    let dir = folder();
    let spec = overlay(&dir, "a.qcow2", "secret", "raw");
    let text = refusal(&context(&[]), spec.clone());
    let name = at(&dir, "secret");
    assert_eq!(text, format!("Could not open backing file: The backing file '{name}' is not followed"));
    open(&context(&[&name]), spec.clone()).expect("allowed as a file");
    open(&context(&[&at(&dir, "")]), spec.clone()).expect("allowed as a folder");
    // A file that the caller names in its place is his own choice.
    let options = Options::parse_keyval(&format!("backing.driver=raw,backing.file.filename={name}"), None);
    open(&context(&[]), OpenSpec { options: options.expect("valid"), ..spec }).expect("the caller names it");
}

/// Nothing of it is looked at: the same refusal comes for names that do not exist, and for FIFOs.
#[test]
fn what_is_refused_is_not_looked_at() {
    let dir = folder();
    for name in ["/nonexistent/base", "/proc/self/mem", "/dev/stdin"] {
        let text = refusal(&context(&[]), overlay(&dir, "a.qcow2", name, "raw"));
        assert_eq!(text, format!("Could not open backing file: The backing file '{name}' is not followed"));
    }
}

#[test]
fn every_level_of_a_chain_is_asked_about() {
    let dir = folder();
    overlay(&dir, "middle.qcow2", "secret", "raw");
    let spec = overlay(&dir, "top.qcow2", "middle.qcow2", "qcow2");
    let text = refusal(&context(&[&at(&dir, "middle.qcow2")]), spec.clone());
    assert!(text.ends_with(&format!("The backing file '{}' is not followed", at(&dir, "secret"))), "{text}");
    open(&context(&[&at(&dir, "middle.qcow2"), &at(&dir, "secret")]), spec).expect("both are allowed");
}

#[test]
fn json_texts_are_refused_and_what_they_name_is_asked_about() {
    let dir = folder();
    let json = format!(r#"json:{{"driver":"raw","file":{{"driver":"file","filename":"{}"}}}}"#, at(&dir, "secret"));
    let spec = overlay(&dir, "a.qcow2", &json, "raw");
    let text = refusal(&context(&[]), spec.clone());
    assert!(text.contains("The backing file 'json:"), "{text}");
    let text = refusal(&context(&["json:"]), spec.clone());
    assert!(text.contains("secret' is not followed"), "{text}");
    open(&context(&["json:", &at(&dir, "secret")]), spec).expect("both are allowed");
    refusal(&context(&[]), OpenSpec::file(json.clone()));
    open(&context(&["json:"]), OpenSpec::file(json)).expect("the caller names the file");
}

#[test]
fn protocols_and_formats_that_lead_elsewhere_are_refused() {
    let dir = folder();
    let spec = overlay(&dir, "a.qcow2", "null-co://", "raw");
    let text = refusal(&context(&[]), spec.clone());
    assert_eq!(text, "Could not open backing file: The backing file 'null-co://' is not followed");
    open(&context(&["null-co:"]), spec).expect("allowed");
    // The prefix of a protocol whose names are paths hides nothing.
    let spec = overlay(&dir, "b.qcow2", "file:/etc/passwd", "raw");
    refusal(&context(&["file:"]), spec.clone());
    open(&context(&["/etc/passwd"]), spec).expect("allowed");
}

/// Rule R7: whoever controls a raw image decides what it is taken for.
#[test]
fn the_format_of_a_backing_file_is_not_guessed() {
    let dir = folder();
    reference().run(dir.path(), "create -q -f qcow2 a.qcow2 1M").ok();
    let path = at(&dir, "a.qcow2");
    // The reference refuses to leave the format out by now; older versions did not.
    let image = fs::OpenOptions::new().write(true).open(&path).expect("writable");
    let write = |offset: u64, bytes: &[u8]| image.write_all_at(bytes, offset).expect("written");
    write(4096, b"secret");
    write(8, &4096_u64.to_be_bytes());
    write(16, &6_u32.to_be_bytes());
    let text = refusal(&context(&[&at(&dir, "secret")]), OpenSpec::file(path));
    assert!(text.contains("guessing it is not allowed"), "{text}");
}

#[test]
fn a_data_file_is_followed_only_if_it_is_allowed() {
    let dir = folder();
    let data = at(&dir, "data.raw");
    reference().run(dir.path(), &format!("create -q -f qcow2 -o data_file={data},data_file_raw=on a.qcow2 1M")).ok();
    let spec = OpenSpec::file(at(&dir, "a.qcow2"));
    assert_eq!(refusal(&context(&[]), spec.clone()), format!("The data file '{data}' is not followed"));
    open(&context(&[&data]), spec.clone()).expect("allowed");
    let options = Options::parse_keyval(&format!("data-file.filename={data}"), None).expect("valid");
    open(&context(&[]), OpenSpec { options, ..spec }).expect("the caller names it");
}
