//! How consumers read what `qemu-img` says.

use std::path::Path;

use regex::Regex;
use serde_json::Value;
use test_support::programs::{ours, reference};
use test_support::run::Run;

use crate::fixture::{SMALL_BYTES, scratch_with_small_images};

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect(pattern)
}

fn run(dir: &Path, line: &str) -> Run {
    ours().run(dir, line)
}

/// cinder reads the version and concludes which options there are.
#[test]
fn the_version_is_found() {
    let dir = scratch_with_small_images();
    let said = run(dir.path(), "--version").ok().stdout;
    let version = regex(r"qemu-img version ([0-9\.]*)").captures(&said).expect("a version")[1].to_owned();
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().expect("a number")).collect();
    assert!(parts.as_slice() >= [10, 0, 2].as_slice(), "{version}");
}

/// libguestfs, oVirt and CloudStack look for options in the program's help; libvirt did in that of a format.
#[test]
fn options_are_found_in_the_help() {
    let dir = scratch_with_small_images();
    let help = run(dir.path(), "--help").ok().stdout;
    let has = |pattern: &str| help.lines().any(|line| regex(pattern).is_match(line));
    assert!(has(r"\binfo\b.*-U\b"), "libguestfs: {help}");
    let bitmap = regex(r"^\s+bitmap (.+) filename bitmap");
    let options = help.lines().find_map(|line| bitmap.captures(line)).expect("oVirt")[1].to_owned();
    assert!(options.contains("--merge") && help.contains("--target-is-zero"), "{help}");
    assert!(regex(r"(?m)^Supported image formats:$").is_match(&help) && help.contains(" qcow2 "), "{help}");
    let options = run(dir.path(), "create -o ? -f qcow2 /dev/null").ok().stdout;
    assert!(options.contains("\n  compat=<str>") && options.contains("lazy_refcounts"), "{options}");
}

/// CDI, oVirt, Proxmox and Incus follow the progress. oVirt gives up at anything that it does not know.
#[test]
fn progress_is_followed() {
    let dir = scratch_with_small_images();
    let (cdi, proxmox) = (regex(r"\((\d?\d\.\d\d)/100%\)"), regex(r"\((\S+)/100%\)"));
    let ovirt = regex(r"^\s*\(([\d.]+)/100%\)\s*$");
    for line in [
        "convert -p -t none -T none -f qcow2 plain.qcow2 -O raw out",
        "convert -p -O qcow2 -c raw.img out",
        "commit -p -t none -f qcow2 over.qcow2",
        "rebase -p -u -F qcow2 -b plain.qcow2 over2.qcow2",
        "rebase -p -F raw -b raw.img over2.qcow2",
        "amend -p -o compat=1.1 v2.qcow2",
        "compare -p -s plain.qcow2 plain.qcow2",
    ] {
        let run = run(dir.path(), line).ok();
        assert_eq!(run.stderr, "", "{line}");
        // What follows the last line of progress is the result.
        let shown: Vec<&str> = run.stdout.split('\r').filter(|shown| shown.contains("/100%")).collect();
        let percents: Vec<f64> = shown
            .iter()
            .map(|shown| {
                let percent = ovirt.captures(shown).unwrap_or_else(|| panic!("{line}: {shown:?}"))[1].to_owned();
                assert_eq!(proxmox.captures(shown).expect("Proxmox")[1], percent);
                let incus = shown.split('/').next().expect("Incus").trim_start_matches([' ', '(']);
                assert_eq!(incus, percent);
                let percent: f64 = percent.parse().expect("a number");
                assert!(percent >= 100.0 || cdi.is_match(shown), "{line}: {shown}");
                percent
            })
            .collect();
        assert_eq!((percents.first(), percents.last()), (Some(&0.0), Some(&100.0)), "{line}: {percents:?}");
        assert!(percents.is_sorted(), "{line}: {percents:?}");
    }
}

/// The keys that consumers read from JSON, and the lines that scripts cut apart.
#[test]
fn results_are_read() {
    let dir = scratch_with_small_images();
    let json = |line: &str| -> Value { serde_json::from_str(&run(dir.path(), line).stdout).expect(line) };
    let info = json("info --force-share --output=json over.qcow2");
    assert_eq!(info["virtual-size"], SMALL_BYTES);
    assert_eq!((&info["format"], &info["backing-filename"]), (&"qcow2".into(), &"plain.qcow2".into()));
    assert!(info["actual-size"].is_u64() && info["cluster-size"] == 65536);
    assert_eq!(info["format-specific"]["data"]["compat"], "1.1");
    let check = json("check --output json leak.qcow2");
    assert!(check["image-end-offset"].is_u64() && check["leaks"] == 1, "oVirt: {check}");
    let measure = json("measure --output=json -O qcow2 raw.img");
    assert!(measure["required"].is_u64() && measure["fully-allocated"].is_u64());
    for extent in json("map --output json plain.qcow2").as_array().expect("a list") {
        assert!(extent["start"].is_u64() && extent["length"].is_u64() && extent["zero"].is_boolean());
    }
    let text = run(dir.path(), "info over.qcow2").ok().stdout;
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).expect(start);
    // vagrant-libvirt: `cut -d: -f2` and `awk '{print $3}'`; fi-backup: `awk '/^backing file: /'`.
    assert_eq!(line("backing file: ").split(':').nth(1).map(str::trim), Some("plain.qcow2"));
    assert_eq!(line("virtual size").split_whitespace().nth(2), Some("1.5"));
}

/// The texts and statuses by which failures are told apart.
#[test]
fn failures_are_told_apart() {
    let dir = scratch_with_small_images();
    for (line, status, text) in [
        ("info --output=json missing", 1, "No such file or directory"),
        ("resize --preallocation=metadata -f raw raw.img 4M", 1, "Unsupported preallocation mode"),
        ("check raw.img", 63, "does not support checks"),
        ("compare plain.qcow2 empty.qcow2", 1, ""),
    ] {
        let run = run(dir.path(), line);
        assert_eq!(run.code(), Some(status), "{line}");
        assert!(run.stderr.contains(text), "{line}: {}", run.stderr);
    }
    // glance takes any word on standard error for a failure.
    for line in ["info --output=json plain.qcow2", "convert -f qcow2 -O raw plain.qcow2 out", "check plain.qcow2"] {
        assert_eq!(run(dir.path(), line).ok().stderr, "", "{line}");
    }
}

/// Proxmox restores from a pipe into an image that exists, and stores images through a pipe.
#[test]
fn proxmox_moves_disks_through_pipes() {
    let dir = scratch_with_small_images();
    reference().run(dir.path(), "create -q -f qcow2 restored 4M").ok();
    let out = std::fs::File::create(dir.path().join("stream")).expect("a file can be made");
    ours().invoke(dir.path()).words("dd bs=64k -f qcow2 -O raw -l before if=snap.qcow2").stdout(out).run().ok();
    let stream = std::fs::read(dir.path().join("stream")).expect("readable");
    let restore = "dd -n -f raw -O qcow2 bs=64k osize=4194304 isize=0 of=restored";
    ours().invoke(dir.path()).words(restore).input(stream).run().ok();
    assert_eq!(reference().run(dir.path(), "compare restored raw.img").code(), Some(0));
}
