//! The expected outcome of each case: a text file for each structure, one paragraph a case.
//!
//! After a change on purpose, `HOSTILE_WRITE=1 cargo nextest run -p qcow2 hostile` writes them anew; what has changed is
//! then read as any other change is.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::observe::Observation;

/// The paragraph of a case.
pub(crate) fn paragraph(name: &str, seen: &Observation) -> String {
    let mut text = format!("{name}\n");
    for line in &seen.lines {
        let _infallible = writeln!(text, "    {}", format!("{}: {}", line.operation, line.text).trim_end());
    }
    text
}

/// Compares all paragraphs of a structure with its file.
pub(crate) fn compare(structure: &str, paragraphs: &[String]) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/hostile/expected");
    let path = folder.join(format!("{structure}.txt"));
    let found = paragraphs.join("\n");
    if std::env::var_os("HOSTILE_WRITE").is_some() {
        std::fs::write(&path, found).expect("the folder of this test can be written");
        return;
    }
    let expected = std::fs::read_to_string(&path).expect("each structure has a file");
    if found == expected {
        return;
    }
    let known: Vec<&str> = expected.split("\n\n").map(str::trim_end).collect();
    let differing = paragraphs.iter().filter(|paragraph| !known.contains(&paragraph.trim_end()));
    let differing: Vec<_> = differing.map(String::as_str).collect();
    panic!("{structure}: these are not as expected, or others are missing:\n{}", differing.join("\n"));
}
