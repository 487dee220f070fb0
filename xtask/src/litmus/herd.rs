//! Running herd7 and reading what it says.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;

use super::file::{Arch, Verdict};

/// The verdicts on the tests at `paths`, by name. A test that herd7 cannot read has none.
pub(super) fn run(herd7: &Path, arch: Arch, paths: &[&Path]) -> io::Result<BTreeMap<String, Verdict>> {
    let mut command = Command::new(herd7);
    // RC11 is the repaired model of the language; for the architecture the default is Arm's own.
    if arch == Arch::C11 {
        command.args(["-model", "rc11.cat"]);
    }
    let output = command.args(paths).output()?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !complaints.trim().is_empty() {
        return Err(io::Error::other(format!("herd7: {}\n{complaints}", output.status)));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

fn parse(output: &str) -> BTreeMap<String, Verdict> {
    let mut verdicts = BTreeMap::new();
    let mut is_race = false;
    for line in output.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["Test", ..] => is_race = false,
            ["Flag", "*undef*"] => is_race = true,
            ["Observation", name, verdict, ..] => {
                let verdict = if is_race { Some(Verdict::Race) } else { Verdict::parse(verdict) };
                verdicts.extend(verdict.map(|verdict| (name.to_owned(), verdict)));
            }
            _ => {}
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read() {
        let text = "Test a Allowed\nStates 1\n0:r0=0;\nUndef\nFlag *undef*\nObservation a Never 0 3\n\
                    Test b Allowed\nOk\nObservation b Sometimes 1 3\n\nTest c Allowed\nObservation c Always 3 0\n";
        let expected = [("a", Verdict::Race), ("b", Verdict::Sometimes)].map(|(name, v)| (name.to_owned(), v));
        assert_eq!(parse(text), BTreeMap::from(expected));
    }
}
