//! The cases of the benchmark `compare` with criterion's statistics: distributions, outliers, and what has changed since
//! the last run. Contenders run one after the other here; to compare them, use `compare`.

#[cfg(not(qemu_loom))]
#[path = "compare/cases/mod.rs"]
mod cases;

#[cfg(not(qemu_loom))]
fn main() {
    use std::cell::RefCell;
    use std::time::Duration;

    let mut criterion = criterion::Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    for group in cases::all() {
        let mut benchmarks = criterion.benchmark_group(format!("{}: {}", group.name, group.what));
        for contender in group.contenders {
            let run = RefCell::new(contender.run);
            let name = format!("{} ({})", contender.name, contender.role.name());
            benchmarks.bench_function(name, |bencher| bencher.iter_custom(|iterations| run.borrow_mut()(iterations)));
        }
        benchmarks.finish();
    }
    criterion.final_summary();
}

/// In a model there is nothing to measure.
#[cfg(qemu_loom)]
fn main() {}
