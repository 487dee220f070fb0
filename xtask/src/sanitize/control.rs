//! Programs with a defect that the sanitizer has to report.

use std::fs;
use std::io;

use super::Sanitizer;
use super::reports::Reports;
use super::toolchain::Toolchain;
use crate::process::say;

/// Two threads write the same word.
const RACE: &str = "\
fn main() {
    static mut WORD: u64 = 0;
    let write = || (0..1000).for_each(|n| unsafe { (&raw mut WORD).write_volatile(n) });
    let thread = std::thread::spawn(write);
    write();
    thread.join().unwrap();
}
";

/// Memory is read that was freed.
const DANGLING: &str = "\
fn main() {
    let word = Box::into_raw(Box::new(7_u64));
    drop(unsafe { Box::from_raw(word) });
    std::hint::black_box(unsafe { word.read_volatile() });
}
";

/// Makes sure that the sanitizer works and that we see its reports.
pub(super) fn check(sanitizer: &Sanitizer, toolchain: &Toolchain, reports: &Reports) -> io::Result<()> {
    let source = if sanitizer.name == "thread" { RACE } else { DANGLING };
    let dir = tempfile::Builder::new().prefix("control").tempdir()?;
    let [file, binary] = ["control.rs", "control"].map(|name| dir.path().join(name));
    fs::write(&file, source)?;
    // The ready-made standard library will do: its own reports, true or false, do not matter here.
    let mut compile = toolchain.rustc();
    compile.arg(format!("-Zsanitizer={}", sanitizer.name)).args(super::MIXED_STD.split_whitespace());
    crate::process::run(compile.args(["-Copt-level=1", "-g", "-o"]).arg(&binary).arg(&file))?;
    let mut run = std::process::Command::new(&binary);
    sanitizer.equip(&mut run, reports, false);
    let status = run.output()?.status;
    if status.success() || !reports.take()? {
        return Err(io::Error::other(format!("-Zsanitizer={} does not find a seeded defect", sanitizer.name)));
    }
    say("A seeded defect is reported.");
    Ok(())
}
