//! Every request to the storage fails in turn.

use crash::campaign::all_shapes;
use crash::faults::fail_everywhere;
use crash::session::Plan;
use crash::shape::Shape;
use qemu_block::mem::Fault;

// These numbers are the same on all Linux architectures that the workspace is built for.
const EINTR: i32 = 4;
const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

pub(crate) const FAULTS: [Fault; 7] = [
    Fault::Errno(EIO),
    Fault::Errno(ENOSPC),
    Fault::Short { bytes: 512, errno: EIO },
    Fault::Errno(EDQUOT),
    Fault::Errno(EINTR),
    Fault::Short { bytes: 1536, errno: ENOSPC },
    Fault::Errno(EAGAIN),
];

/// Points that each test tries at least.
const POINTS: [u64; 5] = [4_000, 3_000, 3_000, 2_000, 3_000];

const _: () = assert!(POINTS[0] + POINTS[1] + POINTS[2] + POINTS[3] >= 10_000);

#[expect(clippy::print_stderr, reason = "what a test has tried belongs into its output")]
fn survive_points(names: &[&str], n_points: u64) {
    let mut count = 0;
    for seed in 1.. {
        for name in names {
            let shape: Shape =
                all_shapes().into_iter().find(|shape| shape.name == *name).expect("a shape of that name");
            count += fail_everywhere(&Plan::random(&shape, seed, 14), &FAULTS);
        }
        if count >= n_points {
            eprintln!("{names:?}: {count} points, {seed} sessions each");
            return;
        }
    }
}

#[test]
fn small_clusters_survive_failing_storage() {
    survive_points(&["512", "512-r64", "512-base"], POINTS[0]);
}

#[test]
fn clusters_of_4_kib_survive_failing_storage() {
    survive_points(&["4k", "4k-r1", "4k-v2"], POINTS[1]);
}

#[test]
fn overlays_survive_failing_storage() {
    survive_points(&["4k-base", "4k-v2-base"], POINTS[2]);
}

#[test]
fn subclusters_survive_failing_storage() {
    survive_points(&["16k-ext", "16k-ext-base"], POINTS[3]);
}

#[test]
fn snapshots_survive_failing_storage() {
    survive_points(&["512-snap", "4k-snap", "4k-base-snap"], POINTS[4]);
}
