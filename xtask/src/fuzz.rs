//! `cargo xtask fuzz`: builds the fuzz targets with instrumentation, and runs them for a while.
//!
//! libFuzzer is driven directly. `cargo fuzz` would do the same with the same targets, but it is one more program to
//! install, and has no bounded default.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{root, run_shown, say};

const USAGE: &str = "\
usage: cargo xtask fuzz [target] [--seconds N] [--seed S]

  target       header (headers and entries of tables), image (open, check, read, write on arbitrary bytes) or model
               (operations on a valid image, compared with a vector of bytes); by default all three
  --seconds N  how long each of them; 60 by default
  --seed S     what the mutations follow from; by default from the clock

What was found to be worth keeping stays in target/fuzz/corpus, and is where the next run begins. An input that fails is
written to target/fuzz/found and repeated with target/fuzz/.../release/<target> <file>; once mended it becomes a test in
crates/qcow2/tests/it/fuzzed.rs.";

/// The targets, and the longest input of each in bytes.
const TARGETS: [(&str, u32); 3] = [("header", 8192), ("image", 32768), ("model", 2048)];

/// What makes libFuzzer see where the program goes, and what it compares.
const INSTRUMENTATION: &str = "\
-Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares \
-Ccodegen-units=1 \
--cfg fuzzing";

/// Build scripts and macros are not instrumented, which only a named target achieves.
const HOST: &str = if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

/// Seconds that one input may take. Work is bounded by requests, so this only ends what never ends.
const INPUT_SECONDS: u32 = 30;

#[derive(Debug)]
struct Options {
    targets: Vec<(&'static str, u32)>,
    seconds: u32,
    seed: Option<u32>,
}

/// Builds and runs.
///
/// # Errors
/// If the targets cannot be built, or an input fails.
pub(crate) fn run(words: &[String]) -> io::Result<()> {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        say(USAGE);
        return Ok(());
    }
    let options = parse(words)?;
    let programs = build()?;
    let folder = root().join("target/fuzz");
    fs::create_dir_all(folder.join("seeds"))?;
    for (target, len_max) in &options.targets {
        fuzz(&programs, &folder, target, *len_max, &options)?;
    }
    Ok(())
}

fn parse(words: &[String]) -> io::Result<Options> {
    let mut options = Options { targets: Vec::new(), seconds: 60, seed: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|value| value.parse().ok());
            value.ok_or_else(|| io::Error::other(format!("{word} takes a number\n{USAGE}")))
        };
        match word.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = Some(number()?),
            name => match TARGETS.into_iter().find(|(target, _)| *target == name) {
                Some(target) => options.targets.push(target),
                None => return Err(io::Error::other(format!("there is no target {name}\n{USAGE}"))),
            },
        }
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.to_vec();
    }
    Ok(options)
}

/// Builds all targets; returns the folder with the programs.
fn build() -> io::Result<PathBuf> {
    let target_dir = root().join("target/fuzz");
    let manifest = root().join("fuzz/Cargo.toml");
    let mut command = Command::new("cargo");
    // The toolchain that runs this task must not choose for the other one.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
    command.args(["+nightly", "build", "--release", "--quiet", "--target", HOST, "--manifest-path"]);
    command.arg(manifest).arg("--target-dir").arg(&target_dir).env("RUSTFLAGS", INSTRUMENTATION);
    run_shown(&mut command)?;
    Ok(target_dir.join(HOST).join("release"))
}

/// Runs one target at low priority.
fn fuzz(programs: &Path, folder: &Path, target: &str, len_max: u32, options: &Options) -> io::Result<()> {
    let corpus = folder.join("corpus").join(target);
    let found = folder.join("found");
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&found)?;
    say(&format!("fuzz: {target} for {} seconds", options.seconds));
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(programs.join(target));
    command.arg(format!("-max_total_time={}", options.seconds));
    command.arg(format!("-max_len={len_max}"));
    command.arg(format!("-timeout={INPUT_SECONDS}"));
    command.arg(format!("-artifact_prefix={}/{target}-", found.display()));
    if let Some(seed) = options.seed {
        command.arg(format!("-seed={seed}"));
    }
    command.env("QCOW2_FUZZ_SEEDS", folder.join("seeds"));
    // The last lines have the executions per second, and the first one has the seed.
    command.args(["-print_final_stats=1", "-verbosity=1"]).arg(&corpus);
    if target != "model" {
        command.arg(folder.join("seeds"));
    }
    run_shown(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed_and_bounded() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let options = parse(&[]).expect("nothing is needed");
        assert_eq!((options.targets.len(), options.seconds), (3, 60));
        let options = parse(&words("image --seconds 5 --seed 7")).expect("valid");
        assert_eq!((options.targets.len(), options.seconds, options.seed), (1, 5, Some(7)));
        assert!(parse(&words("nothing")).is_err());
        assert!(parse(&words("--seconds")).is_err());
        assert!(parse(&words("--seconds many")).is_err());
    }
}
