//! `cargo xtask tidy`: the rules of this repository that no other tool knows. It also runs as a test.
//!
//! A rule looks at one file and returns its complaints; only the rule about tags needs to see all files at once.

mod layers;
mod layout;
mod lexer;
mod orderings;
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::process::{root, say};

/// Folders that hold nothing of ours.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// A text file of the repository.
#[derive(Debug)]
struct SourceFile {
    /// Its path below the root, with `/` between the parts.
    path: String,
    text: String,
}

impl SourceFile {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Checks the whole repository.
///
/// # Errors
/// If a rule is broken; every complaint is in the message.
pub(crate) fn run() -> io::Result<()> {
    let complaints = check(root())?;
    if complaints.is_empty() {
        say("tidy: no complaints");
        return Ok(());
    }
    Err(io::Error::other(format!("tidy has complaints\n{}", complaints.join("\n"))))
}

fn check(root: &Path) -> io::Result<Vec<String>> {
    let mut complaints = Vec::new();
    let mut files = Vec::new();
    for path in walk(root)? {
        let shown = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        match layout::read_text(&path, &shown)? {
            Ok(text) => files.push(SourceFile { path: shown, text }),
            Err(complaint) => complaints.push(complaint),
        }
    }
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    for file in &files {
        complaints.extend(layout::check(file));
        complaints.extend(layers::check(file));
        if file.is_rust() {
            complaints.extend(source::check(file));
        }
    }
    complaints.extend(layout::dead_files(&files, &paths));
    complaints.extend(lonely_tags(&files));
    complaints.extend(orderings::check(&files));
    Ok(complaints)
}

fn walk(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_file() {
                files.push(entry.path());
            } else if kind.is_dir() && !SKIPPED.iter().any(|name| entry.file_name() == *name) {
                folders.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Both sides of an ordering carry the same `[pair: name]` tag; a tag that occurs once has lost its other side.
fn lonely_tags(files: &[SourceFile]) -> Vec<String> {
    let mut seen: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.path.starts_with("xtask/")) {
        for (_, rest) in file.text.match_indices(source::PAIR_TAG).map(|(at, tag)| file.text.split_at(at + tag.len())) {
            let end = rest.find([',', ']']).unwrap_or(rest.len());
            seen.entry(rest[..end].trim()).or_insert((0, &file.path)).0 += 1;
        }
    }
    // `name` is how documentation writes the tag.
    let lonely = seen.into_iter().filter(|(tag, (count, _))| *count < 2 && *tag != "name");
    lonely.map(|(tag, (_, path))| format!("{path}: the tag [pair: {tag}] occurs only once")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let complaints = check(root()).expect("the repository can be read");
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn a_tag_without_its_other_side_is_found() {
        let file = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
        let files = [file("a.rs", "[pair: one] [pair: two, other side: b]"), file("b.rs", "// [pair: one]")];
        assert_eq!(lonely_tags(&files), ["a.rs: the tag [pair: two] occurs only once"]);
    }
}
