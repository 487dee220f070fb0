//! The `safety` object of `info --strict --output=json`.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};
use test_support::programs::{ours, reference};

use crate::fixture::scratch_with_small_images;

/// What `info` prints of an image, with these options.
fn info(dir: &Path, options: &str, image: &str) -> (Option<i32>, Value) {
    let run = ours().run(dir, &format!("info --strict --output=json {options} {image}"));
    let value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"));
    (run.code(), value)
}

/// The object of an image that can be opened.
fn safety(dir: &Path, options: &str, image: &str) -> Value {
    let (code, value) = info(dir, options, image);
    assert_eq!(code, Some(0), "{value}");
    value["safety"].clone()
}

fn patch(dir: &Path, image: &str, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(dir.join(image)).expect("the image can be opened");
    file.write_all_at(bytes, at).expect("it can be written");
}

#[test]
fn ordinary_images_are_safe() {
    let dir = scratch_with_small_images();
    for image in [
        "plain.qcow2",
        "v2.qcow2",
        "c512.qcow2",
        "c2m.qcow2",
        "zstd.qcow2",
        "ext-l2.qcow2",
        "snap.qcow2",
        "raw.img",
        "text",
    ] {
        let safety = safety(dir.path(), "", image);
        assert_eq!((&safety["safe"], &safety["reasons"]), (&json!(true), &json!([])), "{image}: {safety}");
        assert_eq!(safety["confinement"]["seccomp"], json!(true));
        assert_eq!(safety["complete"], json!(true));
    }
    assert_eq!(safety(dir.path(), "", "snap.qcow2")["snapshots"], json!(1));
    assert_eq!(safety(dir.path(), "-f qcow2", "plain.qcow2")["probed"], json!(false));
}

#[test]
fn only_strict_runs_tell() {
    let dir = scratch_with_small_images();
    let run = ours().run(dir.path(), "info --output=json over.qcow2").ok();
    assert!(!run.stdout.contains("safety"));
    let text = ours().run(dir.path(), "info --strict over.qcow2").ok();
    assert_eq!(text.stdout, ours().run(dir.path(), "info over.qcow2").ok().stdout);
}

#[test]
fn references_are_told_and_not_followed() {
    let dir = scratch_with_small_images();
    for (name, kind, location) in [
        ("plain.qcow2", "path", json!("relative")),
        ("../plain.qcow2", "path", json!("escaping")),
        ("/etc/passwd", "path", json!("absolute")),
        ("json:{}", "json", Value::Null),
        ("nbd://host/x", "protocol", Value::Null),
    ] {
        reference().run(dir.path(), &format!("create -q -u -f qcow2 -b {name} -F raw o 1M")).ok();
        let found = safety(dir.path(), "", "o");
        let named = &found["references"][0];
        assert_eq!((&named["name"], &named["kind"]), (&json!(name), &json!(kind)), "{found}");
        assert_eq!((&named["location"], &named["allowed"]), (&location, &json!(false)), "{found}");
        assert_eq!(found["reasons"], json!([format!("backing-file that is not allowed: {name}")]));
    }
    let allowed = safety(dir.path(), "--allow plain.qcow2", "over.qcow2");
    assert_eq!((&allowed["safe"], &allowed["references"][0]["allowed"]), (&json!(true), &json!(true)));
    let data = safety(dir.path(), "", "data-file.qcow2");
    assert_eq!(data["references"][0]["role"], json!("data-file"));
    assert_eq!(data["safe"], json!(false));
}

#[test]
fn an_image_over_itself_is_a_loop() {
    let dir = scratch_with_small_images();
    reference().run(dir.path(), "create -q -u -f qcow2 -b x/../self -F qcow2 other 1M").ok();
    fs::rename(dir.path().join("other"), dir.path().join("self")).expect("renamed");
    let found = safety(dir.path(), "", "self");
    assert_eq!((&found["loop"], &found["safe"]), (&json!(true), &json!(false)), "{found}");
}

#[test]
fn unknown_features_are_told_of_images_that_cannot_be_opened() {
    let dir = scratch_with_small_images();
    patch(dir.path(), "plain.qcow2", 72, &[0x80]);
    patch(dir.path(), "plain.qcow2", 80, &[0x40]);
    patch(dir.path(), "plain.qcow2", 88, &[0x20]);
    let (code, value) = info(dir.path(), "", "plain.qcow2");
    assert_eq!(code, Some(1));
    let found = &value["safety"];
    assert_eq!(found["unknown-features"], json!({"incompatible": [63], "compatible": [62], "autoclear": [61]}));
    assert_eq!(found["reasons"], json!(["unknown incompatible features"]));
}

#[test]
fn marks_and_missing_data_are_told() {
    let dir = scratch_with_small_images();
    patch(dir.path(), "plain.qcow2", 79, &[3]);
    let found = safety(dir.path(), "", "plain.qcow2");
    assert_eq!((&found["dirty"], &found["corrupt"], &found["safe"]), (&json!(true), &json!(true), &json!(false)));
    for image in ["c512.qcow2", "zlib.qcow2", "c2m.qcow2"] {
        let file = OpenOptions::new().write(true).open(dir.path().join(image)).expect("the image can be opened");
        let len = file.metadata().expect("a file").len();
        file.set_len(len / 2).expect("it can be cut off");
        let (_, value) = info(dir.path(), "", image);
        assert_eq!(value["safety"]["truncated"], json!(true), "{image}: {value}");
        assert_eq!(value["safety"]["safe"], json!(false), "{image}");
    }
}

/// CVE-2024-40767: a disk is declared raw, and another program takes it for what its content says.
#[test]
fn content_that_is_not_what_was_declared_is_told() {
    let dir = scratch_with_small_images();
    let found = safety(dir.path(), "-f raw", "plain.qcow2");
    assert_eq!((&found["content"], &found["safe"]), (&json!("qcow2"), &json!(false)));
    reference().run(dir.path(), "create -q -f vmdk disk.vmdk 1M").ok();
    let found = safety(dir.path(), "", "disk.vmdk");
    assert_eq!(found["reasons"], json!(["format is raw, content is vmdk"]));
}
