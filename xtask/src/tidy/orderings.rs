//! Rules about docs/memory-ordering.md: every atomic access is in its tables, every row is about code that exists, and
//! every mutant is named.

use std::collections::{BTreeMap, BTreeSet};

use super::SourceFile;
use super::lexer::code_only;

/// The document.
const DOCUMENT: &str = "docs/memory-ordering.md";

/// Where the mutants are declared.
const MUTANTS: &str = "crates/qemu-util/src/mutant.rs";

/// What shows that a line of code takes part in the ordering of memory.
const SIGNS: [&str; 8] = [
    "Ordering::Relaxed",
    "Ordering::Acquire",
    "Ordering::Release",
    "Ordering::AcqRel",
    "Ordering::SeqCst",
    "fence_unless(",
    "fence::light(",
    "fence::heavy(",
];

/// The names that a table of the document speaks of, by file, and whether they are what a row is about.
type Rows = BTreeMap<String, BTreeMap<String, bool>>;

/// Compares the code with the document.
pub(super) fn check(files: &[SourceFile]) -> Vec<String> {
    let Some(document) = files.iter().find(|file| file.path == DOCUMENT) else {
        return vec![format!("{DOCUMENT}: missing")];
    };
    let rows = rows(&document.text);
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| is_shipped(&file.path)) {
        let none = BTreeMap::new();
        let described = rows.get(&file.path).unwrap_or(&none);
        let found = functions_with_orderings(&file.text);
        let missing = found.iter().filter(|name| !described.contains_key(*name));
        complaints.extend(missing.map(|name| format!("{DOCUMENT}: no row about `{name}` of {}", file.path)));
        // Rows about steps that are ordered by a lock, or by their place, are welcome, as long as there is such a function.
        let subjects = described.iter().filter(|(_, is_subject)| **is_subject).map(|(name, _)| name);
        let stale = subjects.filter(|name| !file.text.contains(&format!("fn {name}")));
        complaints.extend(stale.map(|name| format!("{DOCUMENT}: there is no `{name}` in {}", file.path)));
    }
    let unknown = rows.keys().filter(|path| !files.iter().any(|file| file.path == **path));
    complaints.extend(unknown.map(|path| format!("{DOCUMENT}: a section about {path}, which does not exist")));
    let mutants = files.iter().filter(|file| file.path == MUTANTS).flat_map(|file| mutant_names(&file.text));
    let unnamed = mutants.filter(|name| !document.text.contains(&format!("`{name}`")));
    complaints.extend(unnamed.map(|name| format!("{DOCUMENT}: the mutant `{name}` is not named")));
    complaints
}

/// Whether the file is code that ships: not a test, nor a part of a model, nor the mutants.
fn is_shipped(path: &str) -> bool {
    let is_source = path.starts_with("crates/") && path.contains("/src/") && path.ends_with(".rs");
    let is_test = path.ends_with("tests.rs") || path.contains("tests/") || path.ends_with("/model.rs");
    is_source && !is_test && !path.contains("/src/mutant")
}

/// The functions of a file that name an ordering, or use a fence. Functions for tests and the unit tests at the end of
/// the file do not count.
fn functions_with_orderings(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let (mut function, mut for_tests, mut attribute) = (None, false, false);
    for line in code_only(text).lines() {
        if line.trim_start().starts_with("mod tests {") {
            break;
        }
        if let Some(name) = function_name(line) {
            (function, for_tests, attribute) = (Some(name), attribute, false);
        }
        attribute |= line.trim_start().starts_with("#[cfg(all(test");
        if for_tests {
            continue;
        }
        if SIGNS.iter().any(|sign| line.contains(sign)) && !line.trim_start().starts_with("use ") {
            // Before the first function there are only constants, which their users speak of.
            found.extend(function.clone());
        }
    }
    found
}

/// The name of the function that a line declares.
fn function_name(line: &str) -> Option<String> {
    let (before, after) = line.split_once("fn ")?;
    if !before.is_empty() && !before.ends_with(' ') {
        return None;
    }
    let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// The rows of the document's tables, each under the heading of its file. What stands before the colon of the first cell
/// is what the row is about.
fn rows(document: &str) -> Rows {
    let mut rows = Rows::new();
    let mut file = None;
    for line in document.lines() {
        if line.starts_with('#') {
            file = line.split('`').nth(1).filter(|path| path.ends_with(".rs")).map(str::to_owned);
            if let Some(path) = &file {
                rows.entry(path.clone()).or_default();
            }
        } else if let (Some(path), Some(first)) = (&file, first_cell(line)) {
            let row = rows.entry(path.clone()).or_default();
            let subjects = first.split(": ").next().unwrap_or(first).len();
            for (at, name) in quoted_names(first) {
                *row.entry(name).or_default() |= at < subjects;
            }
        }
    }
    rows
}

/// The last parts of the paths in backticks, each with its place.
fn quoted_names(cell: &str) -> Vec<(usize, String)> {
    let mut at = 0;
    let mut names = Vec::new();
    for (n, part) in cell.split('`').enumerate() {
        if n % 2 == 1 {
            names.push((at, part.rsplit("::").next().unwrap_or(part).to_owned()));
        }
        at += part.len() + 1;
    }
    names
}

/// The first cell of a row of a table.
fn first_cell(line: &str) -> Option<&str> {
    line.strip_prefix('|')?.split('|').next()
}

/// The names in the declaration of the mutants.
fn mutant_names(text: &str) -> Vec<String> {
    let declared = text.lines().skip_while(|line| *line != "mutants! {").take_while(|line| *line != "}");
    declared.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned() }
    }

    const CODE: &str = "use a::Ordering::Relaxed;\nimpl A {\n    pub fn get(&self) -> u32 {\n        \
                        self.0.load(Ordering::Relaxed)\n    }\n    fn plain() {}\n}\n";

    #[test]
    fn a_complete_document_is_accepted() {
        let document = "### `crates/a/src/lib.rs`\n\n| access | why |\n|---|---|\n| `get`: load | x |\n\n`no-fence`\n";
        let mutants = "mutants! {\n    A = \"no-fence\",\n}\n\"other\"\n";
        let files = [file(DOCUMENT, document), file("crates/a/src/lib.rs", CODE), file(MUTANTS, mutants)];
        assert_eq!(check(&files), [""; 0]);
    }

    #[test]
    fn what_is_missing_and_what_is_stale_is_found() {
        let document = "### `crates/a/src/lib.rs`\n| `put`: store | x |\n### `crates/a/src/gone.rs`\n";
        let files = [file(DOCUMENT, document), file("crates/a/src/lib.rs", CODE)];
        let complaints = check(&files);
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        assert!(complaints[0].contains("no row about `get`"));
        assert!(complaints[1].contains("`put`"));
        assert!(complaints[2].contains("gone.rs"));
    }
}
