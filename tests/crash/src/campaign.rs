//! Many sessions: the shapes that are tried, and what comes of it.

use crate::action::Action;
use crate::judge::{Count, Depth, judge_all};
use crate::sector::SECTOR;
use crate::session::{Plan, run};
use crate::shape::{SNAPSHOTS, Shape, V2_SNAPSHOTS};

/// How thoroughly the tests look.
pub const DEPTH: Depth = Depth { reference: 400, afterlife: 40 };

const K: u64 = 1 << 10;

/// The shapes of sessions in which one request follows the other.
#[must_use]
pub fn shapes() -> Vec<Shape> {
    vec![
        Shape::new("512", "", 512),
        Shape::new("512-r1", "refcount_bits=1", 512),
        Shape::new("512-r64", "refcount_bits=64", 512),
        Shape::new("512-base", "refcount_bits=64", 512).with_base("512-base"),
        Shape::new("4k", "", 4 * K),
        Shape::new("4k-r1", "refcount_bits=1", 4 * K),
        Shape::new("4k-r64-zstd", "refcount_bits=64,compression_type=zstd", 4 * K),
        Shape::new("4k-base", "", 4 * K).with_base("4k-base"),
        Shape::new("4k-v2", "compat=0.10", 4 * K),
        Shape::new("4k-v2-base", "compat=0.10", 4 * K).with_base("4k-v2-base"),
        Shape::new("64k", "", 64 * K),
        Shape::new("64k-r1", "refcount_bits=1", 64 * K),
        Shape::new("64k-base", "refcount_bits=64", 64 * K).with_base("64k-base"),
    ]
}

/// The shapes of sessions in which snapshots are made, applied and deleted.
#[must_use]
pub fn snapshot_shapes() -> Vec<Shape> {
    vec![
        Shape::new("", "", 512).with_mix("512-snap", SNAPSHOTS),
        Shape::new("", "refcount_bits=64", 512).with_mix("512-r64-snap", SNAPSHOTS),
        Shape::new("", "", 4 * K).with_mix("4k-snap", SNAPSHOTS),
        Shape::new("", "", 4 * K).with_base("").with_mix("4k-base-snap", SNAPSHOTS),
        Shape::new("", "", 4 * K).with_width("", 4).with_mix("4k-wide-snap", SNAPSHOTS),
        Shape::new("", "", 64 * K).with_mix("64k-snap", SNAPSHOTS),
        Shape::new("", "extended_l2=on", 16 * K).with_mix("16k-ext-snap", SNAPSHOTS),
        Shape::new("", "compat=0.10,refcount_bits=16", 4 * K).with_mix("4k-v2-snap", V2_SNAPSHOTS),
    ]
}

/// The shapes with extended L2 entries: clusters are divided into 32 parts.
#[must_use]
pub fn subcluster_shapes() -> Vec<Shape> {
    let shape = || Shape { size: 96 * K, size_max: 128 * K, ..Shape::new("16k-ext", "extended_l2=on", 16 * K) };
    vec![
        shape(),
        Shape { name: "16k-ext-r1", options: "extended_l2=on,refcount_bits=1", ..shape() },
        shape().with_base("16k-ext-base"),
        shape().with_base("").with_width("16k-ext-wide", 4),
    ]
}

/// The shapes whose refcounts are written when the image is closed, or rebuilt when it was not.
#[must_use]
pub fn lazy_shapes() -> Vec<Shape> {
    vec![
        Shape::new("512-lazy", "lazy_refcounts=on", 512),
        Shape::new("4k-lazy", "lazy_refcounts=on", 4 * K).with_mix("4k-lazy-snap", SNAPSHOTS),
        Shape::new("", "lazy_refcounts=on", 4 * K).with_base("").with_width("4k-lazy-wide", 4),
    ]
}

/// All shapes.
#[must_use]
pub fn all_shapes() -> Vec<Shape> {
    [shapes(), concurrent_shapes(), snapshot_shapes(), subcluster_shapes(), lazy_shapes()].concat()
}

/// The shapes of sessions with several requests at a time.
#[must_use]
pub fn concurrent_shapes() -> Vec<Shape> {
    vec![
        Shape::new("", "", 512).with_width("512-wide", 4),
        Shape::new("", "refcount_bits=64", 4 * K).with_width("4k-wide", 6),
        Shape::new("", "", 4 * K).with_base("").with_width("4k-base-wide", 3),
        Shape::new("", "", 64 * K).with_width("64k-wide", 4),
    ]
}

/// Runs a session and judges all that it could leave.
///
/// # Panics
/// At the first state that must not be.
#[must_use]
pub fn survive(plan: Plan, depth: Depth) -> Count {
    let trace = run(plan);
    judge_all(&trace, depth).unwrap_or_else(|violation| panic!("{}", violation.report()))
}

/// All sequences of three of eight requests, on a disk of four clusters: 512 of them.
#[must_use]
pub fn short_plans(shape: &Shape) -> Vec<Plan> {
    let per_cluster = shape.cluster / SECTOR;
    let actions = [
        Action::Write { at: 0, n: per_cluster, noise: true },
        Action::Write { at: per_cluster / 2, n: per_cluster, noise: false },
        Action::Zero { at: 0, n: 2 * per_cluster, unmap: true },
        Action::Discard { at: per_cluster, n: 2 * per_cluster },
        Action::Compressed { at: 0, n: 2 * per_cluster, noise: false },
        Action::Compressed { at: per_cluster, n: per_cluster, noise: true },
        Action::Flush,
        Action::Resize(shape.n_max()),
    ];
    let all = || actions.iter();
    let triples = all().flat_map(|a| all().flat_map(move |b| all().map(move |c| [a, b, c])));
    (0..)
        .zip(triples)
        .map(|(seed, triple)| {
            let actions = triple.into_iter().cloned().collect();
            Plan { shape: shape.clone(), seed, actions }
        })
        .collect()
}
