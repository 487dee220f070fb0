//! `cargo xtask litmus`: the protocols as litmus tests, judged by herd7 against the language and the architecture.

mod file;
mod herd;
mod install;
#[cfg(test)]
mod mutants;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::process::{root, say};
use file::{Arch, LitmusFile, Verdict};

const USAGE: &str = "\
usage: cargo xtask litmus [--install] [TEXT]

Runs the tests in docs/litmus whose name contains TEXT, and compares each verdict with the one that the file expects.

  --install  get herd7 if it is missing, with Debian's tools
";

/// Where the tests are.
fn folder() -> PathBuf {
    root().join("docs/litmus")
}

/// Runs the tests.
///
/// # Errors
/// If a file is not as it should be, if herd7 is missing, or if a verdict differs.
pub(crate) fn run(args: &[String]) -> io::Result<()> {
    let mut wanted = "";
    let mut may_install = false;
    for arg in args {
        match arg.as_str() {
            "--install" => may_install = true,
            text if !text.starts_with('-') && wanted.is_empty() => wanted = text,
            _ => return Err(io::Error::other(format!("unknown argument: {arg}\n{USAGE}"))),
        }
    }
    let files = load(&folder())?;
    let complaints = file::check_table(&files, &fs::read_to_string(folder().join("README.md"))?);
    if !complaints.is_empty() {
        return Err(io::Error::other(complaints.join("\n")));
    }
    let herd7 = match install::find() {
        Some(herd7) => herd7,
        None if may_install => install::install()?,
        None => return Err(io::Error::other(install::HOW_TO)),
    };
    let files: Vec<_> = files.into_iter().filter(|file| file.name.contains(wanted)).collect();
    judge(&herd7, &files)
}

/// All tests, by name.
fn load(folder: &Path) -> io::Result<Vec<LitmusFile>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "litmus"));
    paths.sort();
    paths.iter().map(|path| LitmusFile::parse(path, &fs::read_to_string(path)?)).collect()
}

fn judge(herd7: &Path, files: &[LitmusFile]) -> io::Result<()> {
    let mut verdicts = BTreeMap::new();
    for arch in [Arch::C11, Arch::Aarch64] {
        let paths: Vec<_> = files.iter().filter(|file| file.arch == arch).map(|file| file.path.as_path()).collect();
        if !paths.is_empty() {
            verdicts.extend(herd::run(herd7, arch, &paths)?);
        }
    }
    let mut n_wrong = 0;
    for file in files {
        let verdict = verdicts.get(&file.name).copied();
        let is_right = verdict == Some(file.expect);
        n_wrong += usize::from(!is_right);
        let shown = verdict.map_or("no verdict", Verdict::name);
        let remark = if is_right { String::new() } else { format!("  EXPECTED {}", file.expect.name()) };
        say(&format!("{shown:<10}  {}{remark}", file.name));
    }
    if files.is_empty() || n_wrong > 0 {
        return Err(io::Error::other(format!("{n_wrong} of {} litmus tests are not as expected", files.len())));
    }
    say(&format!("{} litmus tests are as expected.", files.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs no herd7: what the files say about themselves agrees with the table.
    #[test]
    fn the_table_lists_the_files() {
        let files = load(&folder()).unwrap();
        assert!(!files.is_empty());
        let complaints = file::check_table(&files, &fs::read_to_string(folder().join("README.md")).unwrap());
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}
