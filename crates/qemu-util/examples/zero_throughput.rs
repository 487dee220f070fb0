//! Prints how fast zeros are recognised, for buffers that fit the caches and for one that does not.
//!
//! Run with `cargo run --release -p qemu-util --example zero_throughput`.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use qemu_util::zero::{is_zero, run_length};

const MEASURE_FOR: Duration = Duration::from_millis(300);

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:>12} {:>14} {:>22}", "buffer", "is_zero", "run_length of 4096")?;
    for len in [4096, 64 << 10, 2 << 20, 256 << 20] {
        let buffer = vec![0_u8; len];
        // Writing through `black_box` maps the pages, which the allocator left to the shared zero page.
        let mut buffer = black_box(buffer);
        buffer.fill(black_box(0));
        let scan = gigabytes_per_second(len, || is_zero(black_box(&buffer)));
        let runs = gigabytes_per_second(len, || run_length(black_box(&buffer), 4096) == (true, len));
        writeln!(out, "{:>8} KiB {scan:>9.1} GB/s {runs:>17.1} GB/s", len >> 10)?;
    }
    Ok(())
}

fn gigabytes_per_second(len: usize, mut scan: impl FnMut() -> bool) -> f64 {
    let start = Instant::now();
    let mut n_bytes = 0.0;
    while start.elapsed() < MEASURE_FOR {
        for _ in 0..(1_usize << 20).div_ceil(len) {
            assert!(scan(), "the buffer holds only zeros");
            n_bytes += len as f64;
        }
    }
    n_bytes / start.elapsed().as_secs_f64() / 1e9
}
