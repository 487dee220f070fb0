//! Development tasks: `cargo xtask <task>`. Run without arguments for the list.

#![forbid(unsafe_code)]

mod bench;
mod bench_util;
mod ci;
mod crash;
mod demo;
mod dist;
mod fuzz;
mod litmus;
mod loom;
mod process;
mod sanitize;
mod shuttle;
mod soak;
mod stress;
mod test;
mod tidy;

use std::io;
use std::process::ExitCode;

use process::say;

const USAGE: &str = "\
usage: cargo xtask <task>

  demo    build the release binary and show it converting a sample image
  test    install what the tests need, then run all of them
  tidy    check the rules of this repository that no other tool knows
  dist    release archives, static and dynamic, and a Debian package, in target/dist
  manual DIR
          write the manual page and the completions for bash, zsh and fish into a folder
  ci      everything that a change must pass

these take --help:
  loom    the models of the wake-up protocols, and their mutants
  shuttle the locks for tasks in random schedules
  litmus  the protocols against the language and the architecture, with herd7
  tsan, asan, miri
          the concurrency tests and conversions under a tool that watches each access
  stress-aarch64
          convert again and again on arm64, and analyse what hangs
  disassemble
          see that the fences are in arm64's machine code
  crash   power cuts in random work on qcow2 images
  fuzz    damaged images, and random work on good ones
  soak    random work on event loops, tasks and RCU objects
  bench   compare the release binary with the reference
  bench-util
          compare the primitives of qemu-util with those of other crates
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            process::complain(&format!("xtask: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> io::Result<ExitCode> {
    let (task, rest) = args.split_first().map_or(("help", args), |(task, rest)| (task.as_str(), rest));
    match (task, rest) {
        ("bench", options) => return bench::run(options),
        (bench::MEASURE, command) => return bench::measure(command),
        ("litmus", options) => litmus::run(options)?,
        ("loom", options) => loom::run(options)?,
        ("shuttle", options) => shuttle::run(options)?,
        ("tsan", options) => sanitize::tsan(options)?,
        ("asan", options) => sanitize::asan(options)?,
        ("miri", options) => sanitize::miri(options)?,
        ("bench-util", options) => bench_util::run(options)?,
        ("stress-aarch64", options) => return stress::run(options),
        ("disassemble", options) => return stress::disassemble(options),
        ("demo", []) => demo::run()?,
        ("test", []) => test::run()?,
        ("crash", options) => crash::run(options)?,
        ("fuzz", options) => fuzz::run(options)?,
        ("soak", options) => soak::run(options)?,
        ("dist", []) => dist::run_task()?,
        ("manual", [dir]) => dist::write_manual(std::path::Path::new(dir))?,
        ("tidy", []) => tidy::run()?,
        ("ci", []) => ci::run()?,
        ("help" | "--help" | "-h", []) => say(USAGE.trim_end()),
        _ => return Err(io::Error::other(format!("unknown task or arguments: {}\n{USAGE}", args.join(" ")))),
    }
    Ok(ExitCode::SUCCESS)
}
