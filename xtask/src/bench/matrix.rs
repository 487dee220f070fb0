//! What is measured: images, targets, cache modes, start-up, random reads.

use test_support::cloud::IMAGES;
use test_support::words;

/// The name of every target, in the folder of the images.
pub(super) const TARGET: &str = "bench-target";

/// Targets of a conversion: how the cell calls it, its format, the options that make it.
const TARGETS: [(&str, &str, &str); 4] = [
    ("raw", "raw", ""),
    ("qcow2", "qcow2", ""),
    ("qcow2 -c zlib", "qcow2", "-c -o compression_type=zlib"),
    ("qcow2 -c zstd", "qcow2", "-c -o compression_type=zstd"),
];

/// Cache modes: how the cell calls it, its options.
const CACHES: [(&str, &str); 2] = [("warm", ""), ("direct", "-t none -T none")];

/// How a cell's output is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// There is none.
    Nothing,
    /// [`TARGET`] must hold what this image holds.
    SameAs(&'static str),
}

/// A cell of the table.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) check: Check,
    /// The format of [`TARGET`]; empty when there is none.
    pub(super) target_format: &'static str,
}

/// All cells for a disk of that size in bytes; `quick` leaves out most.
pub(super) fn cases(quick: bool, disk_bytes: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    let images = if quick { &IMAGES[1..3] } else { &IMAGES[..] };
    let caches = if quick { &CACHES[..1] } else { &CACHES[..] };
    for (cache, cache_options) in caches {
        for image in images {
            cases.extend(TARGETS.map(|target| convert(image, target, cache, cache_options)));
        }
    }
    cases.extend(["info", "info --output=json"].map(startup));
    for (image, format) in [(IMAGES[0], "raw"), (IMAGES[1], "qcow2"), (IMAGES[2], "qcow2")] {
        cases.extend([1, 32].map(|depth| random_reads(image, format, depth, quick, disk_bytes)));
    }
    cases
}

fn convert(
    image: &'static str,
    (target, target_format, options): (&str, &'static str, &str),
    cache: &str,
    cache_options: &str,
) -> Case {
    let format = if image.ends_with(".raw") { "raw" } else { "qcow2" };
    let line = format!("convert -f {format} -O {target_format} {options} {cache_options} {image} {TARGET}");
    let name = format!("{cache}: {image} -> {target}");
    Case { name, args: words::split(&line), check: Check::SameAs(image), target_format }
}

fn startup(command: &str) -> Case {
    let line = format!("{command} {}", IMAGES[1]);
    Case {
        name: format!("{command} {}", IMAGES[1]),
        args: words::split(&line),
        check: Check::Nothing,
        target_format: "",
    }
}

/// Reads of 4 KiB all over the disk: every offset is far from the one before.
fn random_reads(image: &str, format: &str, depth: u32, quick: bool, disk_bytes: u64) -> Case {
    let count = if quick { 2_000 } else { 20_000 };
    let line = format!("bench -f {format} -c {count} -d {depth} -s 4096 -S {} {image}", scatter_step(disk_bytes));
    let name = format!("4 KiB reads, depth {depth}: {image}");
    Case { name, args: words::split(&line), check: Check::Nothing, target_format: "" }
}

/// A step near the golden section of the disk, so that no region is read twice before all have been read once. Both
/// programs wrap at the end of the image. The reference takes no step over 2 GiB.
fn scatter_step(disk_bytes: u64) -> u64 {
    let golden = disk_bytes / 1000 * 382;
    let pages = golden.min(1 << 30) / 4096;
    (pages | 1) * 4096
}
