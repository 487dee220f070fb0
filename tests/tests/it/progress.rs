//! `--progress=json`, and what `-p` and SIGUSR1 show without it.

use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::programs::ours;

use crate::fixture::{cloud_images, scratch, scratch_with_small_images};

/// The lines, each of which is an object with the four members in their order.
#[track_caller]
fn objects(text: &str) -> Vec<Value> {
    let object = |line: &str| -> Value {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let names: Vec<&String> = object.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["phase", "bytes", "total", "rate"], "{line}");
        object
    };
    text.lines().map(object).collect()
}

fn begins_and_ends(lines: &[Value], phase: &str, end: &str) {
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    assert_eq!((&first["phase"], &first["bytes"]), (&phase.into(), &0.into()));
    assert_eq!(last["phase"], end);
    assert!(lines[..lines.len() - 1].iter().all(|line| line["phase"] == phase));
    let bytes: Vec<u64> = lines.iter().map(|line| line["bytes"].as_u64().expect("a number")).collect();
    assert!(bytes.is_sorted(), "{bytes:?}");
}

#[test]
fn conversions_tell_how_far_they_are() {
    let dir = scratch();
    let began = Instant::now();
    let convert = ours().invoke(dir.path()).words("convert --progress=json -c -O qcow2");
    let run = convert.arg(cloud_images().join("cloud.raw")).arg("target").run().ok();
    let lines = objects(&run.stdout);
    begins_and_ends(&lines, "copy", "done");
    let last = &lines[lines.len() - 1];
    assert!(last["bytes"] == last["total"] && last["bytes"].as_u64() > Some(16 << 20), "{last}");
    // Between the first and the last there is one for every tenth of a second.
    let tenths = usize::try_from(began.elapsed().as_millis() / 100).expect("small");
    assert!(
        lines.len() <= tenths + 3,
        "{} lines in {:?}",
        lines.len(),
        Duration::from_millis(100) * u32::try_from(tenths).expect("small")
    );
}

#[test]
fn every_command_with_progress_has_it() {
    let dir = scratch_with_small_images();
    let run = |line: &str, phase: &str| {
        let run = ours().run(dir.path(), line);
        assert_eq!(run.code(), Some(0), "{run}");
        begins_and_ends(&objects(&run.stdout), phase, "done");
    };
    run("rebase --progress=json -b raw.img -F raw over-raw.qcow2", "rebase");
    run("amend --progress=json -o compat=0.10 plain.qcow2", "amend");
    let run = ours().run(dir.path(), "commit --progress=json over.qcow2").ok();
    let (lines, said) = run.stdout.split_at(run.stdout.len() - "Image committed.\n".len());
    begins_and_ends(&objects(lines), "commit", "done");
    assert_eq!(said, "Image committed.\n");
}

#[test]
fn a_failure_has_a_last_line_as_well() {
    let dir = scratch_with_small_images();
    let run = ours().run(dir.path(), "convert --progress=json -m 1 outside.qcow2 target").fails(1);
    begins_and_ends(&objects(&run.stdout), "copy", "failed");
}

#[test]
fn standard_output_that_is_data_stays_data() {
    let dir = scratch_with_small_images();
    let file = std::fs::File::create(dir.path().join("target")).expect("made");
    let run = ours().invoke(dir.path()).words("convert --progress=json -O raw raw.img -").stdout(file).run();
    begins_and_ends(&objects(&run.stderr), "copy", "done");
    let difference = test_support::files::first_difference(&dir.path().join("raw.img"), &dir.path().join("target"));
    assert_eq!(difference.expect("both can be read"), None);
}

#[test]
fn streams_have_no_total_until_they_end() {
    let dir = scratch();
    let convert = ours().invoke(dir.path()).words("convert --progress=json -O qcow2 - target");
    let lines = objects(&convert.input(vec![1; 3 << 20]).run().ok().stdout);
    begins_and_ends(&lines, "copy", "done");
    assert_eq!(lines[0]["total"], Value::Null);
    assert_eq!(lines[lines.len() - 1]["total"], 3 << 20);
}

#[test]
fn quiet_beats_it_and_other_forms_are_refused() {
    let dir = scratch_with_small_images();
    assert_eq!(ours().run(dir.path(), "convert -q --progress=json raw.img target").ok().stdout, "");
    let run = ours().run(dir.path(), "commit --progress=xml over.qcow2").fails(1);
    run.saying("option '--progress' doesn't allow an argument");
    let run = ours().run(dir.path(), "convert --progress=human raw.img target").ok();
    assert!(run.stdout.starts_with("    (0.00/100%)\r") && run.stdout.ends_with("    (100.00/100%)\r\n"), "{run}");
}

#[test]
fn a_terminal_sees_a_bar_and_a_pipe_does_not() {
    let dir = scratch_with_small_images();
    let binary = std::path::absolute(ours().path()).expect("the binary has a path");
    let line = format!("'{}' convert -p -O qcow2 raw.img target", binary.display());
    let script = ["script", "-qec", &line, "/dev/null"];
    let output = std::process::Command::new(script[0]).args(&script[1..]).current_dir(dir.path()).output();
    let output = output.expect("script runs");
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && seen.contains("[####") && seen.contains("100.00%"), "{seen:?}");
    let piped = ours().run(dir.path(), "convert -p -O qcow2 raw.img target").ok().stdout;
    assert!(!piped.contains('[') && piped.ends_with("    (100.00/100%)\r\n"), "{piped:?}");
}
