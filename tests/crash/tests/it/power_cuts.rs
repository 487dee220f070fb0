//! Sessions of all shapes, and every state that a power cut could leave of them.

use crash::campaign::{DEPTH, all_shapes, short_plans, survive};
use crash::judge::Count;
use crash::session::Plan;
use crash::shape::Shape;

/// States that each test judges at least. Together they are what the project promises.
const STATES_OF_512: u64 = 20_000;
const STATES_OF_4K: u64 = 24_000;
const STATES_OF_64K: u64 = 14_000;
const STATES_OF_64K_R1: u64 = 500;
const STATES_OVER_BASES: u64 = 20_000;
const STATES_OF_CROWDS: u64 = 20_000;
const STATES_OF_SUBCLUSTERS: u64 = 16_000;
const STATES_OF_SNAPSHOTS: u64 = 24_000;
const STATES_OF_LAZY: u64 = 12_000;
const STATES_OF_TRIPLES: u64 = 30_000;

const _: () = assert!(
    STATES_OF_512 + STATES_OF_4K + STATES_OF_64K + STATES_OVER_BASES + STATES_OF_CROWDS + STATES_OF_TRIPLES >= 100_000
);

/// Judges random sessions of some shapes in turns until there were `n_states`.
fn survive_states(names: &[&str], n_states: u64) {
    let all = all_shapes();
    let mut count = Count::default();
    let mut n_sessions = 0;
    for seed in 1.. {
        for name in names {
            let shape = all.iter().find(|shape| shape.name == *name).expect("a shape of that name");
            count += survive(Plan::random(shape, seed, 24), DEPTH);
            n_sessions += 1;
        }
        if count.states >= n_states {
            break;
        }
    }
    tell(&names.join(", "), n_sessions, count, n_states);
}

/// Says how much was judged, and that it was enough.
#[expect(clippy::print_stderr, reason = "what a test has judged belongs into its output")]
fn tell(what: &str, n_sessions: usize, count: Count, n_states: u64) {
    eprintln!("{what}: {n_sessions} sessions, {count:?}");
    assert!(count.states >= n_states, "{what}: only {count:?}");
}

#[test]
fn clusters_of_512_bytes_survive() {
    survive_states(&["512", "512-r1", "512-r64"], STATES_OF_512);
}

#[test]
fn clusters_of_4_kib_survive() {
    survive_states(&["4k", "4k-r1", "4k-r64-zstd", "4k-v2"], STATES_OF_4K);
}

#[test]
fn clusters_of_64_kib_survive() {
    survive_states(&["64k"], STATES_OF_64K);
}

#[test]
fn half_a_million_counts_a_block_survive() {
    survive_states(&["64k-r1"], STATES_OF_64K_R1);
}

#[test]
fn overlays_survive() {
    survive_states(&["512-base", "4k-base", "4k-v2-base", "64k-base"], STATES_OVER_BASES);
}

#[test]
fn several_requests_at_a_time_survive() {
    survive_states(&["512-wide", "4k-wide", "4k-base-wide", "64k-wide"], STATES_OF_CROWDS);
}

#[test]
fn subclusters_survive() {
    survive_states(&["16k-ext", "16k-ext-r1", "16k-ext-base", "16k-ext-wide"], STATES_OF_SUBCLUSTERS);
}

#[test]
fn snapshots_survive() {
    survive_states(
        &[
            "512-snap",
            "512-r64-snap",
            "4k-snap",
            "4k-base-snap",
            "4k-wide-snap",
            "64k-snap",
            "16k-ext-snap",
            "4k-v2-snap",
        ],
        STATES_OF_SNAPSHOTS,
    );
}

#[test]
fn lazy_refcounts_survive() {
    survive_states(&["512-lazy", "4k-lazy-snap", "4k-lazy-wide"], STATES_OF_LAZY);
}

#[test]
fn all_sequences_of_three_requests_survive() {
    let mut count = Count::default();
    let mut n_sessions = 0;
    for cluster in [512, 4096] {
        let shape = Shape { size: 4 * cluster, size_max: 6 * cluster, ..Shape::new("four clusters", "", cluster) };
        for plan in short_plans(&shape) {
            count += survive(plan, DEPTH);
            n_sessions += 1;
        }
    }
    assert_eq!(n_sessions, 2 * 512);
    tell("sequences of three", n_sessions, count, STATES_OF_TRIPLES);
}
