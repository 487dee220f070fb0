//! `--error-format=json`: every failure is one object on one line, with a code that stays.

use std::path::Path;

use serde_json::Value;
use test_support::programs::{ours, reference, reference_speaks_our_version};
use test_support::run::Run;

use crate::fixture::{scratch, scratch_with_small_images};

/// The only line on standard error, as JSON.
#[track_caller]
fn only_error(run: &Run) -> Value {
    let lines: Vec<&str> = run.stderr.lines().collect();
    let [line] = lines[..] else { panic!("one line: {run}") };
    let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {run}"));
    object["error"].clone()
}

#[track_caller]
fn fails_with(dir: &Path, line: &str, code: &str) -> Value {
    let run = ours().run(dir, line);
    assert!(run.code().is_some_and(|status| status != 0), "{run}");
    let error = only_error(&run);
    assert_eq!(error["code"], code, "{run}");
    // The exit status is that of the failure in words.
    let plain = ours().run(dir, &line.replace("--error-format=json", ""));
    assert_eq!(plain.code(), run.code(), "{plain}");
    let message = error["message"].as_str().expect("a message");
    assert!(plain.stderr.contains(message), "{message:?} is not in: {plain}");
    error
}

#[test]
fn codes_say_what_happened() {
    let dir = scratch_with_small_images();
    for (line, code) in [
        ("info --error-format=json missing", "not-found"),
        ("convert --error-format=json -O qcow2 missing target", "not-found"),
        ("check --error-format=json -f qcow2 text", "not-this-format"),
        ("info --error-format=json -f nonesuch text", "invalid-argument"),
        ("info --error-format=json --nonsense text", "usage"),
        ("resize --error-format=json", "usage"),
        ("nonsense --error-format=json", "usage"),
        ("convert --error-format=json -O qcow2 -c --compression-level 15 raw.img target", "invalid-argument"),
        ("create --error-format=json -f qcow2 missing/target 1M", "not-found"),
        ("commit --error-format=json missing", "not-found"),
        ("rebase --error-format=json -b '' missing", "not-found"),
        ("amend --error-format=json -o compat=1.1 missing", "not-found"),
        ("map --error-format=json missing", "not-found"),
        ("measure --error-format=json -O qcow2 missing", "not-found"),
        ("snapshot --error-format=json -l missing", "not-found"),
        ("bitmap --error-format=json --add missing b", "not-found"),
        ("bench --error-format=json missing", "not-found"),
    ] {
        fails_with(dir.path(), line, code);
    }
}

#[test]
fn files_and_offsets_are_members() {
    let dir = scratch_with_small_images();
    for command in ["info", "check", "map", "commit", "resize --shrink", "snapshot -l"] {
        let operands = if command.starts_with("resize") { "missing 1M" } else { "missing" };
        let error = fails_with(dir.path(), &format!("{command} --error-format=json {operands}"), "not-found");
        assert_eq!(error["file"], "missing", "{command}: {error}");
    }
    let error = fails_with(dir.path(), "convert --error-format=json -m 1 outside.qcow2 target", "truncated");
    assert_eq!((error["offset"].as_u64(), error["file"].as_str()), (Some(0), Some("outside.qcow2")), "{error}");
}

#[test]
fn the_environment_asks_for_it_as_well() {
    let dir = scratch();
    for (line, code) in [("info missing", "not-found"), ("", "usage"), ("--nonsense", "usage")] {
        let invocation = ours().invoke(dir.path()).through(&["env", "QEMU_IMG_ERROR_FORMAT=json"]).words(line);
        assert_eq!(only_error(&invocation.run())["code"], code, "{line}");
    }
    // The command line counts more.
    let invocation = ours().invoke(dir.path()).through(&["env", "QEMU_IMG_ERROR_FORMAT=json"]);
    let run = invocation.words("info --error-format=human missing").run();
    assert!(run.stderr.starts_with("qemu-img: Could not open"), "{run}");
}

#[test]
fn warnings_are_objects_too() {
    let dir = scratch_with_small_images();
    let run = ours().run(dir.path(), "resize --error-format json raw.img 2M");
    assert_eq!(run.code(), Some(0), "{run}");
    let warning: Value = serde_json::from_str(run.stderr.trim_end()).unwrap_or_else(|error| panic!("{error}: {run}"));
    assert_eq!(
        (&warning["warning"]["code"], &warning["warning"]["file"]),
        (&"format-guessed".into(), &"raw.img".into())
    );
}

#[test]
fn what_a_check_finds_is_json_as_well() {
    let dir = scratch_with_small_images();
    let run = ours().run(dir.path(), "check --error-format=json overlap.qcow2");
    assert_eq!(run.code(), Some(2), "{run}");
    assert!(!run.stderr.is_empty(), "{run}");
    for line in run.stderr.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {run}"));
        assert!(object["note"]["message"].is_string(), "{run}");
    }
}

#[test]
fn a_wrong_form_is_refused_and_nothing_changes_without_it() {
    let dir = scratch();
    ours().run(dir.path(), "info --error-format=xml missing").fails(1).saying("expects 'human' or 'json' not 'xml'");
    let (a, b) = (ours().run(dir.path(), "info missing"), reference().run(dir.path(), "info missing"));
    if reference_speaks_our_version() {
        assert_eq!(a.stderr, b.stderr);
    }
}
