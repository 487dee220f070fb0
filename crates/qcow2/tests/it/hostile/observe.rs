//! Runs the operations of our driver on a case and writes down what came of them.
//!
//! Whatever an image says, these hold, and are asserted for each operation:
//! - the requests to the disks, and the bytes read, are bounded by what is really there;
//! - messages are bounded in number and length, and hold no control characters;
//! - after corruption was found while writing, reads go on as before, writes are refused, and the header says so;
//! - an image that was consistent is consistent after it was written.

use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::Arc;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::mem::{MemDisk, MemOp};
use qemu_block::node::Node;
use qemu_block::types::{CheckFixes, CheckReport, OpenFlags, PreallocMode, ZeroFlags};

use super::case::Case;
use super::image::header;
use crate::mem::{MemBench, fill};
use crate::support::block_on;

/// Clusters that are read and shown; an image can claim more than anybody can read.
const SHOWN_CLUSTERS: u64 = 64;
/// Extents that are asked for at most.
const EXTENTS_MAX: u64 = 2000;
/// Longest text of an error or message, in characters: file names and offsets, but no tables.
const TEXT_CHARS_MAX: usize = 600;
/// Messages of a check: a hundred for each of a few classes, and one line for what was left out.
const MESSAGES_MAX: usize = 1500;

/// Requests that any operation may need, and those for each 512 bytes that are there.
const REQUESTS_FIXED: u64 = 1000;
/// Bytes that any operation may read, and how often it may read what is there.
const BYTES_FIXED: u64 = 4 << 20;
const BYTES_FACTOR: u64 = 12;

/// Bytes by which a few small writes may make the file longer: clusters that count as used are skipped.
const GROWTH_MAX: u64 = 16 << 20;

/// What an operation came to, as one line of the expectation.
pub(crate) struct Line {
    pub(crate) operation: &'static str,
    pub(crate) text: String,
}

/// Everything that was seen.
pub(crate) struct Observation {
    pub(crate) lines: Vec<Line>,
    /// The exit code that `check` has for it.
    pub(crate) check_code: i32,
    pub(crate) opens: bool,
    pub(crate) reads: bool,
    pub(crate) writes: bool,
}

/// A case with disks that are as new.
struct Fresh<'a> {
    case: &'a Case,
    bench: MemBench,
    disks: Vec<MemDisk>,
}

impl<'a> Fresh<'a> {
    fn new(case: &'a Case) -> Self {
        let bench = MemBench::new();
        let mut disks = Vec::new();
        for (name, disk) in case.disks() {
            bench.insert(&name, disk.clone());
            disks.push(disk);
        }
        Self { case, bench, disks }
    }

    fn open(&self, flags: OpenFlags) -> Result<Arc<Node>> {
        let opened = self.bench.open("a", flags);
        opened.inspect_err(|error| check_text(&self.case.name, &error.chain()))
    }

    /// Fails if the work since the disks were made is out of proportion to what is on them.
    fn assert_bounded(&self, operation: &str, present: u64) {
        let count = |op| self.disks.iter().map(|disk| disk.control().count(op)).sum::<u64>();
        let requests: u64 = [MemOp::Read, MemOp::Write, MemOp::Zero, MemOp::Discard, MemOp::Flush, MemOp::Status]
            .into_iter()
            .map(count)
            .sum();
        let read: u64 = self.disks.iter().map(|disk| disk.control().bytes(MemOp::Read)).sum();
        let name = &self.case.name;
        let requests_max = REQUESTS_FIXED + present / 512;
        assert!(requests <= requests_max, "{name}: {operation}: {requests} requests, {requests_max} allowed");
        let read_max = BYTES_FIXED + BYTES_FACTOR * present;
        assert!(read <= read_max, "{name}: {operation}: {read} bytes read, {read_max} allowed");
    }

    fn present(&self) -> u64 {
        self.disks.iter().map(MemDisk::allocated_bytes).sum()
    }
}

/// Runs everything.
pub(crate) fn observe(case: &Case) -> Observation {
    let mut lines = Vec::new();
    let mut note = |operation, text| lines.push(Line { operation, text });
    note("info", info(case));
    let (check, before) = check(case);
    note("check", check);
    let read = read(case);
    note("read", read.clone());
    note("map", map(case));
    let (write, wrote) = write(case, before.as_ref());
    note("write", write);
    note("resize", resize(case, before.as_ref()));
    note("repair", repair(case));
    let opens = Fresh::new(case).open(OpenFlags::empty()).is_ok();
    let reads = opens && !read.contains('!');
    let check_code = before.map_or(1, |report| exit_code(&report));
    Observation { lines: join_equal(lines), check_code, opens, reads, writes: wrote }
}

/// Operations that fail alike share a line.
fn join_equal(lines: Vec<Line>) -> Vec<Line> {
    let first = lines[0].text.clone();
    if lines.iter().all(|line| line.text == first) {
        return vec![Line { operation: "all", text: first }];
    }
    lines
}

fn describe(error: &BlockError) -> String {
    // The numbers of disks in memory depend on what else the process has done.
    let text = error.chain();
    format!("{:?}: {}", error.kind(), text.split(" (FileIdentity").next().unwrap_or_default())
}

#[track_caller]
fn check_text(name: &str, text: &str) {
    assert!(text.chars().count() <= TEXT_CHARS_MAX, "{name}: too long: {text}");
    let harmful = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(harmful, None, "{name}: a control character: {text:?}");
}

fn info(case: &Case) -> String {
    let fresh = Fresh::new(case);
    let present = fresh.present();
    let flags = OpenFlags::NO_IO | OpenFlags::NO_BACKING;
    let result = fresh.open(flags).and_then(|node| {
        let info = block_on(node.info());
        block_on(node.close()).expect("reading leaves nothing to be written");
        info
    });
    fresh.assert_bounded("info", present);
    match result {
        Ok(info) => format!("ok, {} snapshots", info.snapshots.len()),
        Err(error) => describe(&error),
    }
}

fn check(case: &Case) -> (String, Option<CheckReport>) {
    let fresh = Fresh::new(case);
    let present = fresh.present();
    fresh.disks[0].start_log();
    let result = fresh.open(OpenFlags::CHECK).and_then(|node| {
        let report = block_on(node.check(CheckFixes::Nothing));
        block_on(node.close()).expect("reading leaves nothing to be written");
        report
    });
    fresh.assert_bounded("check", present);
    assert_eq!(fresh.disks[0].take_log(), [], "{}: a check changed the image", case.name);
    match result {
        Ok(report) => {
            check_messages(&case.name, &report);
            (summary(&report), Some(report))
        }
        Err(error) => (describe(&error), None),
    }
}

fn check_messages(name: &str, report: &CheckReport) {
    assert!(report.messages.len() <= MESSAGES_MAX, "{name}: {} messages", report.messages.len());
    report.messages.iter().for_each(|message| check_text(name, message));
    let bad = report.corruptions + report.leaks + report.check_errors > 0;
    assert_eq!(bad, !report.messages.is_empty(), "{name}: what was found is said: {report:?}");
}

/// The totals and the first message.
fn summary(report: &CheckReport) -> String {
    if report.messages.is_empty() {
        return "clean".to_owned();
    }
    let (corruptions, leaks, errors) = (report.corruptions, report.leaks, report.check_errors);
    let mut text = format!("{corruptions} corruptions, {leaks} leaks, {errors} errors");
    for message in report.messages.iter().take(1) {
        let _infallible = write!(text, " | {}", message.replace('\n', " "));
    }
    text
}

/// The exit code of `check`.
fn exit_code(report: &CheckReport) -> i32 {
    match report {
        CheckReport { check_errors: 1.., .. } => 1,
        CheckReport { corruptions: 1.., .. } => 2,
        CheckReport { leaks: 1.., .. } => 3,
        _ => 0,
    }
}

/// What the first clusters and the last one read as: runs of one byte, `?` for mixed ones, `!` for errors.
fn read(case: &Case) -> String {
    let fresh = Fresh::new(case);
    let present = fresh.present();
    let node = match fresh.open(OpenFlags::empty()) {
        Ok(node) => node,
        Err(error) => return describe(&error),
    };
    let (shown, errors) = read_clusters(case, &node);
    block_on(node.close()).expect("reading leaves nothing to be written");
    fresh.assert_bounded("read", present);
    let mut text = String::new();
    for run in shown.chunk_by(|a, b| a == b) {
        let _infallible = write!(text, "{}*{} ", run[0], run.len());
    }
    if let Some(error) = errors.first() {
        text.push_str(error);
    }
    text.trim_end().to_owned()
}

fn read_clusters(case: &Case, node: &Node) -> (Vec<String>, Vec<String>) {
    let cluster_size = case.image.cluster_size();
    let size = node.len();
    let n = size.div_ceil(cluster_size).min(SHOWN_CLUSTERS);
    let last = (size > n * cluster_size).then(|| (size - 1) / cluster_size * cluster_size);
    let (mut shown, mut errors) = (Vec::new(), Vec::new());
    for offset in (0..n).map(|i| i * cluster_size).chain(last) {
        let len = usize::try_from(cluster_size.min(size - offset)).expect("a cluster");
        match block_on(node.read_bytes(offset, len)) {
            Ok(bytes) if bytes.iter().all(|byte| *byte == bytes[0]) => shown.push(format!("{:02x}", bytes[0])),
            Ok(_) => shown.push("?".to_owned()),
            Err(error) => {
                check_text(&case.name, &error.chain());
                errors.push(describe(&error));
                shown.push("!".to_owned());
            }
        }
    }
    (shown, errors)
}

fn map(case: &Case) -> String {
    let fresh = Fresh::new(case);
    let present = fresh.present();
    let node = match fresh.open(OpenFlags::empty()) {
        Ok(node) => node,
        Err(error) => return describe(&error),
    };
    let (mut at, mut n) = (0, 0);
    let mut failed = None;
    while at < node.len() && n < EXTENTS_MAX && failed.is_none() {
        match block_on(node.block_status(at, node.len() - at)) {
            Ok(status) => {
                assert!(status.len > 0 && status.len <= node.len() - at, "{}: {status:?} at {at:#x}", case.name);
                at += status.len;
                n += 1;
            }
            Err(error) => failed = Some(error),
        }
    }
    block_on(node.close()).expect("reading leaves nothing to be written");
    fresh.assert_bounded("map", present);
    match failed {
        None => format!("{n} extents"),
        Some(error) => {
            check_text(&case.name, &error.chain());
            describe(&error)
        }
    }
}

/// Names of the steps of a session, and how each of them ended.
type Steps = Vec<(&'static str, Result<()>)>;

fn write(case: &Case, before: Option<&CheckReport>) -> (String, bool) {
    let fresh = Fresh::new(case);
    let present = fresh.present();
    let node = match fresh.open(OpenFlags::WRITE | OpenFlags::UNMAP) {
        Ok(node) => node,
        Err(error) => return (describe(&error), false),
    };
    let mut steps = write_steps(case, &node);
    // Errors with a cause come from a backing file, which is damaged on its own account.
    let ours = |error: &BlockError| error.kind() == ErrorKind::Corrupt && error.source().is_none();
    let corrupt = steps.iter().any(|(_, result)| result.as_ref().is_err_and(ours));
    if corrupt {
        assert_survives(case, &fresh, &node);
    }
    steps.push(("close", block_on(node.close())));
    fresh.assert_bounded("write", present + (64 << 10));
    let wrote = steps.iter().all(|(_, result)| result.is_ok());
    (finish(case, &fresh, steps, before), wrote)
}

fn write_steps(case: &Case, node: &Node) -> Steps {
    let cluster_size = case.image.cluster_size();
    let size = node.len();
    let part = usize::try_from(512.min(size)).expect("small");
    let whole = usize::try_from(cluster_size.min(size)).expect("a cluster");
    let mut steps = Vec::new();
    if size >= 8 * cluster_size {
        steps.push(("write 0", block_on(fill(node, 0, part, 0x5a))));
        steps.push(("write 2", block_on(fill(node, 2 * cluster_size, part, 0x5a))));
        steps.push(("write 3", block_on(fill(node, 3 * cluster_size, part, 0x5a))));
        steps.push(("write 4", block_on(fill(node, 4 * cluster_size, whole, 0x5a))));
        steps.push(("zero 1", block_on(node.write_zeroes(cluster_size, cluster_size, ZeroFlags::MAY_UNMAP))));
        steps.push(("flush", block_on(node.flush())));
        steps.push(("discard 4", block_on(node.discard(4 * cluster_size, cluster_size))));
    } else if size > 0 {
        steps.push(("write 0", block_on(fill(node, 0, part, 0x5a))));
    }
    if size > 2 * cluster_size {
        let last = (size - 1) / 512 * 512;
        let rest = usize::try_from(size - last).expect("a sector");
        steps.push(("write the end", block_on(fill(node, last, rest, 0x5a))));
    }
    steps.push(("flush", block_on(node.flush())));
    steps
}

/// The driver lives on after it has found corruption.
fn assert_survives(case: &Case, fresh: &Fresh<'_>, node: &Node) {
    let name = &case.name;
    let refused = block_on(fill(node, 0, 512, 0x5b)).expect_err("a corrupt image is not written");
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{name}: {refused}");
    assert_eq!(block_on(node.flush()).expect_err("unwritten metadata").kind(), ErrorKind::Corrupt, "{name}");
    // What was written before may have been shared by mistake, so that the bytes can be anything.
    let (_, errors) = read_clusters(case, node);
    assert!(!errors.iter().any(|error| error.contains("refuses")), "{name}: reads go on: {errors:?}");
    let mut word = [0; 8];
    fresh.disks[0].read_at(header::INCOMPATIBLE, &mut word);
    let version_3 = case.image.get8(header::VERSION + 3) == 3;
    assert!(!version_3 || word[7] & 2 != 0, "{name}: the corrupt bit is set");
}

fn resize(case: &Case, before: Option<&CheckReport>) -> String {
    let fresh = Fresh::new(case);
    let present = fresh.present();
    let node = match fresh.open(OpenFlags::WRITE | OpenFlags::RESIZE) {
        Ok(node) => node,
        Err(error) => return describe(&error),
    };
    let new = node.len().saturating_add(600 * case.image.l2_coverage()) / 512 * 512;
    let steps = vec![("grow", block_on(node.truncate(new, PreallocMode::Off))), ("close", block_on(node.close()))];
    fresh.assert_bounded("resize", present + (64 << 10));
    finish(case, &fresh, steps, before)
}

/// What a repair leaves. A second one finds nothing to do, and the file does not grow beyond reason.
fn repair(case: &Case) -> String {
    let fresh = Fresh::new(case);
    let first = match repair_once(case, &fresh) {
        Ok(report) => report,
        Err(error) => return describe(&error),
    };
    let (old_len, len) = (case.disks()[0].1.len(), fresh.disks[0].len());
    assert!(len <= old_len + GROWTH_MAX, "{}: the file grew from {old_len} to {len} bytes", case.name);
    let left = first.corruptions + first.leaks + first.check_errors;
    if left == 0 {
        let second = repair_once(case, &fresh).expect("what was repaired can be opened");
        let found = (second.corruptions_fixed, second.leaks_fixed, second.corruptions, second.leaks);
        assert_eq!(found, (0, 0, 0, 0), "{}: there is nothing left to repair: {:?}", case.name, second.messages);
    }
    let (corruptions, leaks) = (first.corruptions_fixed, first.leaks_fixed);
    format!("{corruptions} corruptions and {leaks} leaks fixed, {left} left")
}

fn repair_once(case: &Case, fresh: &Fresh<'_>) -> Result<CheckReport> {
    let node = fresh.open(OpenFlags::CHECK | OpenFlags::WRITE | OpenFlags::RESIZE)?;
    let report = block_on(node.check(CheckFixes::All));
    let closed = block_on(node.close());
    let report = report?;
    assert!(report.messages.len() <= MESSAGES_MAX, "{}: {} messages", case.name, report.messages.len());
    report.messages.iter().for_each(|message| check_text(&case.name, message));
    closed.map(|()| report)
}

/// What failed first, and what a check says afterwards.
fn finish(case: &Case, fresh: &Fresh<'_>, steps: Steps, before: Option<&CheckReport>) -> String {
    let failed: Vec<_> = steps.iter().filter_map(|(step, result)| Some((step, result.as_ref().err()?))).collect();
    failed.iter().for_each(|(_, error)| check_text(&case.name, &error.chain()));
    let said = match &failed[..] {
        [] => "ok".to_owned(),
        [(step, error)] => format!("{step}: {}", describe(error)),
        [(step, error), rest @ ..] => format!("{step}: {}, and {} more", describe(error), rest.len()),
    };
    let (old_len, len) = (case.disks()[0].1.len(), fresh.disks[0].len());
    assert!(len <= old_len + GROWTH_MAX, "{}: the file grew from {old_len} to {len} bytes", case.name);
    let after = fresh.bench.check();
    check_messages(&case.name, &after);
    if before.is_some_and(|before| before.corruptions + before.check_errors == 0) {
        let bad = after.corruptions + after.check_errors;
        assert_eq!(bad, 0, "{}: it was consistent: {said}: {:?}", case.name, after.messages);
    }
    format!("{said}; then {} corruptions", after.corruptions)
}
