//! What the reference gets wrong when the power goes or the storage fails, each as a test of ours. That failing targets
//! reach the exit status is in `commands`.

use crash::action::Action;
use crash::bench::{Bench, IMAGE};
use crash::campaign::{DEPTH, survive};
use crash::commands::make_source;
use crash::session::Plan;
use crash::shape::Shape;
use qemu_block::mem::MemDisk;

/// The reference hands out clusters that were freed before the tables that dropped them are durable: what was flushed
/// there is lost when the process is killed.
#[test]
fn freed_clusters_are_not_used_again_before_that_is_durable() {
    let compressed = |at, noise| Action::Compressed { at, n: 8, noise };
    let write = |at| Action::Write { at, n: 8, noise: true };
    let overwrite_compressed = vec![
        compressed(0, false),
        compressed(8, false),
        Action::Flush,
        write(0),
        compressed(0, false),
        compressed(16, false),
        write(8),
        compressed(24, true),
        Action::Flush,
        write(0),
    ];
    let discard = vec![
        write(0),
        write(8),
        Action::Flush,
        Action::Discard { at: 0, n: 8 },
        write(16),
        Action::Zero { at: 8, n: 8, unmap: true },
        write(24),
        write(32),
        Action::Flush,
        write(40),
    ];
    for cluster in [512, 4096] {
        for (seed, actions) in (0..).zip([&overwrite_compressed, &discard]) {
            let shape = Shape::new("freed clusters", "", cluster);
            let shape = Shape { size: 64 << 10, size_max: 64 << 10, ..shape };
            assert!(survive(Plan { shape, seed, actions: actions.clone() }, DEPTH).states > 50);
        }
    }
}

/// The reference converts a source that was cut with zeros for what is missing, and succeeds.
#[test]
fn a_source_that_was_cut_anywhere_is_an_error() {
    let cases = [("cluster_size=4k", 4096), ("cluster_size=512,compat=0.10", 512), ("cluster_size=64k", 64 << 10)];
    for (options, cluster) in cases {
        let bench = Bench::new();
        make_source(&bench, "source", options);
        bench.insert(IMAGE, MemDisk::growable(0));
        for compressed in [false, true] {
            if compressed {
                assert!(bench.command(&format!("convert -c -O qcow2 -o {options} mem:source mem:packed")));
                bench.insert("source", bench.disk("packed"));
            }
            let whole = bench.disk("source").to_vec();
            let n_used = whole.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
            for len in (0..n_used).step_by(512) {
                bench.insert("cut", MemDisk::from_bytes(&whole[..len]));
                let what = format!("{options}, compressed: {compressed}, cut to {len} of {}", whole.len());
                assert!(!bench.command("convert -f qcow2 -O raw mem:cut mem:image"), "convert: {what}");
                // Data may end inside the file's last cluster, as far as the check is concerned.
                let is_last_cluster = n_used - len < cluster;
                assert!(is_last_cluster || !bench.command("check -q -f qcow2 mem:cut"), "check: {what}");
            }
        }
    }
}
