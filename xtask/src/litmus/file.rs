//! A litmus test as far as we read it ourselves: its name, what it weakens, and the verdict that it expects.
//!
//! | line | meaning |
//! |---|---|
//! | `C name` or `AArch64 name` | the first line; the name is that of the file |
//! | `Source=` | the files, below `crates/qemu-util/src`, and functions that the test shows |
//! | `Mutant=` | the mutant of `qemu_util::mutant` that the test shows; absent when nothing is weakened |
//! | `Defect=` | the same for a weakening that the code has no mutant for |
//! | `Expect=` | `Never`, `Sometimes` or `Race` |

use std::io;
use std::path::{Path, PathBuf};

/// Whose rules judge the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arch {
    C11,
    Aarch64,
}

/// Whether the bad outcome can be observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Never,
    Sometimes,
    /// The program has a data race, so that the language promises nothing.
    Race,
}

impl Verdict {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Never => "Never",
            Self::Sometimes => "Sometimes",
            Self::Race => "Race",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Never, Self::Sometimes, Self::Race].into_iter().find(|verdict| verdict.name() == name)
    }
}

/// One file of docs/litmus.
#[derive(Debug)]
pub(super) struct LitmusFile {
    pub(super) path: PathBuf,
    pub(super) arch: Arch,
    pub(super) name: String,
    pub(super) mutant: Option<String>,
    pub(super) defect: Option<String>,
    pub(super) expect: Verdict,
}

impl LitmusFile {
    /// Reads the head of `text`, which is that of the file at `path`.
    pub(super) fn parse(path: &Path, text: &str) -> io::Result<Self> {
        let bad = |what: &str| io::Error::other(format!("{}: {what}", path.display()));
        let first = text.lines().next().unwrap_or_default();
        let (arch, suffix, name) = match first.split_once(' ') {
            Some(("C", name)) => (Arch::C11, ".c11", name),
            Some(("AArch64", name)) => (Arch::Aarch64, ".aarch64", name),
            _ => return Err(bad("the first line is not `C name` or `AArch64 name`")),
        };
        if path.file_stem().is_none_or(|stem| stem != name) || !name.ends_with(suffix) {
            return Err(bad(&format!(
                "the file is not called after its test, {name}, or that does not end in {suffix}"
            )));
        }
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        if value("Source=").is_none() {
            return Err(bad("no line says `Source=`"));
        }
        let expect = value("Expect=").and_then(|name| Verdict::parse(&name));
        let expect = expect.ok_or_else(|| bad("no line says `Expect=` Never, Sometimes or Race"))?;
        let (mutant, defect) = (value("Mutant="), value("Defect="));
        Ok(Self { path: path.to_owned(), arch, name: name.to_owned(), mutant, defect, expect })
    }

    /// The file's row in the table of README.md, as far as it is prescribed.
    fn row(&self) -> String {
        let mutant = self.mutant.as_ref().or(self.defect.as_ref());
        let mutant = mutant.map_or_else(|| "none".to_owned(), |mutant| format!("`{mutant}`"));
        format!("| [{0}]({0}.litmus) | {1} | {mutant} |", self.name, self.expect.name())
    }
}

/// Files that the table in `readme` lacks or describes differently, and rows without a file.
pub(super) fn check_table(files: &[LitmusFile], readme: &str) -> Vec<String> {
    let rows = files.iter().map(|file| (&file.name, file.row()));
    let missing = rows.filter(|(_, row)| !readme.lines().any(|line| line == row));
    let mut complaints: Vec<_> = missing.map(|(name, row)| format!("{name}: README.md lacks the row {row}")).collect();
    let n_rows = readme.lines().filter(|line| line.starts_with("| [")).count();
    if n_rows > files.len() {
        complaints.push(format!("README.md lists {n_rows} tests, there are {}", files.len()));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "C a.c11\n(* why *)\nSource=a.rs: f\nMutant=no-fence\nExpect=Sometimes\n{}\n";

    fn parse(name: &str, text: &str) -> io::Result<LitmusFile> {
        LitmusFile::parse(Path::new(name), text)
    }

    #[test]
    fn a_head_is_read() {
        let file = parse("x/a.c11.litmus", TEXT).unwrap();
        assert_eq!((file.arch, file.name.as_str(), file.expect), (Arch::C11, "a.c11", Verdict::Sometimes));
        assert_eq!(file.row(), "| [a.c11](a.c11.litmus) | Sometimes | `no-fence` |");
    }

    #[test]
    fn a_bad_head_is_refused() {
        assert!(parse("x/b.c11.litmus", TEXT).is_err());
        assert!(parse("x/a.c11.litmus", &TEXT.replace("Expect=", "Expects=")).is_err());
        assert!(parse("x/a.c11.litmus", &TEXT.replace("C a", "X a")).is_err());
    }

    #[test]
    fn rows_and_mutants_are_compared() {
        let files = [parse("x/a.c11.litmus", TEXT).unwrap()];
        let row = files[0].row();
        assert_eq!(check_table(&files, &row), [""; 0]);
        assert_eq!(check_table(&files, "").len(), 1);
        assert_eq!(check_table(&[], &row).len(), 1);
    }
}
