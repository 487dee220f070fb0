//! How fast the primitives are beside those that other crates offer for the same job.
//!
//! ```text
//! cargo bench -p qemu-util --bench compare -- [--sample-ms N] [--rounds N] [--json FILE] [--list] [FILTER]
//! ```
//!
//! Contenders are measured in turns: in each round everybody once, beginning with another one each time, and what is
//! compared are the times of the same round. So whatever else the machine does, it does to all of them. What happens in
//! one thread is measured in processor time, what happens between two on the clock. The numbers are medians over the
//! rounds. The benchmark `criterion` has the same cases with more statistics, one after the other.

#[cfg(not(qemu_loom))]
mod cases;
#[cfg(not(qemu_loom))]
mod measure;
#[cfg(not(qemu_loom))]
mod options;
#[cfg(not(qemu_loom))]
mod report;

#[cfg(not(qemu_loom))]
fn main() -> std::io::Result<()> {
    use std::io::Write;

    let Some(options) = options::parse(std::env::args().skip(1))? else { return Ok(()) };
    let mut out = std::io::stdout().lock();
    let mut results = Vec::new();
    writeln!(out, "{}", report::HEADING)?;
    for group in cases::all().into_iter().filter(|group| options.wants(group.name)) {
        if options.list {
            writeln!(out, "{}", group.name)?;
            continue;
        }
        let result = measure::run(group, &options);
        write!(out, "{}", report::table(&result))?;
        out.flush()?;
        results.push(result);
    }
    if !options.list {
        write!(out, "{}", report::summary(&results))?;
    }
    match &options.json {
        Some(file) => std::fs::write(file, report::json(&results)),
        None => Ok(()),
    }
}

/// In a model there is nothing to measure.
#[cfg(qemu_loom)]
fn main() {}
