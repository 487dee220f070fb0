//! `--strict` on the command line: what works, what is refused, and what the kernel knows of it.

use std::fs;
use std::io::Read;
use std::path::Path;

use test_support::programs::ours;
use test_support::run::Run;

use crate::fixture::{scratch, scratch_with_small_images};

/// Command lines that need nothing but what they name; a case is a few of them, separated by `;`.
const QUIET: &[&str] = &[
    "info plain.qcow2; info --output=json over.qcow2; info -f raw plain.qcow2",
    "info data-file.qcow2; info orphan.qcow2; info --backing-chain plain.qcow2",
    "convert -O raw plain.qcow2 out; convert -f raw -O qcow2 out out2; check out2",
    "convert -c -O qcow2 raw.img out; convert -p -O raw out out2; convert -n -O raw out out2",
    "convert -t none -T none -O qcow2 zlib.qcow2 out; convert -C -O raw raw.img out2",
    "convert -m 16 -W -O qcow2 -o compression_type=zstd -c raw.img out",
    "check plain.qcow2; check --output=json leak.qcow2; check -r all leak.qcow2",
    "map plain.qcow2; map --output=json zstd.qcow2; measure -O qcow2 plain.qcow2; measure --size 1G -O raw",
    "resize plain.qcow2 +1M; resize -f raw raw.img 3M; resize --shrink -f raw raw.img 1M",
    "snapshot -c one plain.qcow2; snapshot -l plain.qcow2; snapshot -a one plain.qcow2; snapshot -d one plain.qcow2",
    "create -f qcow2 new 1M; create -f qcow2 new 2M; create -f raw -o preallocation=full new2 64k",
    "create -f qcow2 -b plain.qcow2 -F qcow2 new; create -u -f qcow2 -b missing -F raw new2 1M",
    "create -f qcow2 -o data_file=new.data new 1M",
    "create -f qcow2 --object secret,id=s,data=x -o encrypt.format=luks,encrypt.iter-time=10,encrypt.key-secret=s new 1M",
    "bitmap --add plain.qcow2 b; bitmap --disable plain.qcow2 b; amend -o lazy_refcounts=on plain.qcow2",
    "rebase -u -b '' over.qcow2; rebase -u -b missing -F raw over2.qcow2",
    "bench -c 5 -f qcow2 plain.qcow2",
    "info --image-opts driver=qcow2,file.filename=plain.qcow2; info file:plain.qcow2",
    "info missing; convert missing out; check text; create -f qcow2 nowhere/new 1M",
];

fn strict(dir: &Path, line: &str) -> Run {
    ours().invoke(dir).words("--strict").words(line).run()
}

/// What a user sees of a run, without what another folder or another moment changes.
fn seen(run: &Run) -> (Option<i32>, String, String) {
    let lines = run.stdout.lines().filter(|line| {
        !["disk size", "actual-size", "Run completed", "uuid", "date", "DATE", "one "]
            .iter()
            .any(|word| line.contains(word))
    });
    (run.code(), lines.collect::<Vec<_>>().join("\n"), run.stderr.clone())
}

#[test]
fn what_needs_nothing_else_works_as_without() {
    for case in QUIET {
        let (free, confined) = (scratch_with_small_images(), scratch_with_small_images());
        for line in case.split(';').map(str::trim) {
            let (mut ours, expected) = (strict(confined.path(), line), ours().run(free.path(), line));
            // The object that only strict runs print has tests of its own.
            if line.contains("info") && line.contains("json") {
                ours.stdout.clone_from(&expected.stdout);
            }
            assert_eq!(seen(&ours), seen(&expected), "{case}: {line}");
        }
    }
}

#[test]
fn what_images_name_is_refused_unless_it_is_allowed() {
    for (line, allow) in [
        ("map over.qcow2", "plain.qcow2"),
        ("check over.qcow2", "plain.qcow2"),
        ("convert -O qcow2 over.qcow2 out", "plain.qcow2"),
        ("commit over.qcow2", "plain.qcow2"),
        ("rebase -b '' over.qcow2", "plain.qcow2"),
        ("resize over.qcow2 3M", "plain.qcow2"),
        ("snapshot -l over.qcow2", "plain.qcow2"),
        ("info --backing-chain over.qcow2", "plain.qcow2"),
        ("create -f qcow2 -b over.qcow2 -F qcow2 new", "plain.qcow2"),
        ("convert -O raw data-file.qcow2 out", "data.bin"),
        ("resize data-file.qcow2 3M", "data.bin"),
        ("check data-file.qcow2", "data.bin"),
    ] {
        let dir = scratch_with_small_images();
        let refused = strict(dir.path(), line).fails(1);
        let says = format!("{allow}' is not followed in strict mode ('--allow {allow}' would permit it)");
        assert!(refused.stderr.contains(&says), "{refused}");
        // `resize` takes the last word for the size, so that no option can stand behind it.
        strict(dir.path(), &format!("--allow {allow} {line}")).ok();
        let elsewhere = ours().invoke(dir.path()).words("--allow ./ --strict").words(line).run();
        assert_eq!(elsewhere.code(), Some(0), "{elsewhere}");
    }
}

/// CVE-2024-32498 and what came after it: the secret is not in what is written, and is not touched.
#[test]
fn a_data_file_that_leads_to_a_secret_is_not_opened() {
    let dir = scratch_with_small_images();
    let secret = dir.path().join("secret");
    fs::write(&secret, b"top secret".repeat(7000)).expect("a file");
    let path = secret.display();
    // The name lies in a header extension of the same length.
    let create = format!("create -q -f qcow2 -o data_file={path}x,data_file_raw=on bad.qcow2 64k");
    ours().run(dir.path(), &create).ok();
    fs::rename(dir.path().join("secretx"), dir.path().join("gone")).expect("renamed");
    fs::rename(&secret, dir.path().join("secretx")).expect("renamed");
    for line in [
        "convert -O raw bad.qcow2 out",
        "convert -n -O qcow2 raw.img bad.qcow2",
        "resize --shrink bad.qcow2 512",
        "map bad.qcow2",
        "check -r all bad.qcow2",
        "bench -w -c 1 -f qcow2 bad.qcow2",
    ] {
        strict(dir.path(), line).fails(1).saying("secretx' is not followed");
        assert!(!dir.path().join("out").exists(), "{line}");
    }
    let kept = fs::read(dir.path().join("secretx")).expect("readable");
    assert_eq!(kept, b"top secret".repeat(7000), "it was not touched");
}

#[test]
fn the_environment_turns_it_on() {
    let dir = scratch_with_small_images();
    let with = |value: &str| {
        let variable = format!("QEMU_IMG_STRICT={value}");
        ours().invoke(dir.path()).through(&["env", &variable]).words("map over.qcow2").run()
    };
    with("1").fails(1).saying("is not followed in strict mode");
    with("0").ok();
    with("").ok();
}

#[test]
fn json_texts_and_networks_have_to_be_allowed_even_where_the_user_names_them() {
    let dir = scratch_with_small_images();
    let json = r#"info 'json:{"driver":"qcow2","file":{"filename":"plain.qcow2"}}'"#;
    strict(dir.path(), json).fails_in_one_line(1).saying("'--allow json:' would permit it");
    strict(dir.path(), &format!("{json} --allow json:")).ok();
    strict(dir.path(), "info nbd://127.0.0.1:1/x").fails_in_one_line(1).saying("'--allow nbd:' would permit it");
}

#[test]
fn limits_can_be_given_and_wrong_ones_are_named() {
    let dir = scratch_with_small_images();
    strict(dir.path(), "info --limit-cpu 5 --limit-memory 256M plain.qcow2").ok();
    strict(dir.path(), "info --limit-cpu=0 --limit-memory=0 plain.qcow2").ok();
    strict(dir.path(), "info --limit-cpu x plain.qcow2").fails(1).saying("Invalid number of seconds");
    strict(dir.path(), "info --allow '' plain.qcow2").fails(1).saying("Invalid value of --allow");
}

/// Lines of the status of a task, such as `Seccomp: 2`.
fn status(task: &Path) -> Vec<String> {
    let text = fs::read_to_string(task.join("status")).unwrap_or_default();
    let wanted = text.lines().filter(|line| line.starts_with("Seccomp:") || line.starts_with("NoNewPrivs:"));
    wanted.map(|line| line.replace('\t', " ")).collect()
}

#[test]
fn every_thread_of_a_running_command_is_confined() {
    let dir = scratch();
    let line = "--strict bench -w -c 2147483647 -f raw source";
    fs::write(dir.path().join("source"), vec![7; 1 << 20]).expect("a file");
    let mut child = ours().invoke(dir.path()).words(line).start();
    // It says what it is about to do once the image is open, and so many requests take long; workers write.
    let mut first = [0; 1];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("it says what it does");
    let seen = loop {
        let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs");
        let seen = tasks.map(|task| status(&task.expect("a thread").path())).filter(|seen| !seen.is_empty());
        let seen: Vec<_> = seen.collect();
        if seen.len() > 1 {
            break seen;
        }
        std::thread::yield_now();
    };
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(seen.iter().all(|seen| seen == &["NoNewPrivs: 1", "Seccomp: 2"]), "{seen:?}");
}
